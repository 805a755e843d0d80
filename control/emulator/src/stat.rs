//! What a session's stat address says.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    behaviour::Swarm,
    engine::Engine,
    session::{Phase, Session},
    signed::EPOCH_UNIX_SECONDS,
    source,
};

/// Swarm chunks, which `downloaded` counts, have this size in bytes.
const CHUNK: u64 = 16_384;
/// Seconds of the time-shift window.
pub(crate) const WINDOW: u64 = 1800;
/// Peers of a healthy swarm.
const PEERS: u64 = 11;

/// How much a session has loaded.
struct Loaded {
    bytes: u64,
    /// Bytes per second.
    rate: u64,
    /// In percent of what it takes to play.
    progress: u64,
}

impl Session {
    /// The answer of its stat address. `playback_id` is that of the newest
    /// session of the content.
    pub(crate) fn stat(&self, now: Instant, engine: &Engine, playback_id: &str) -> Value {
        let phase = self.phase(now, &engine.timing);
        let status = match phase {
            Phase::Idle => "idle",
            Phase::Prebuffering => "prebuf",
            Phase::Downloading => "dl",
            Phase::Failed | Phase::Over => "err",
        };
        let mut stat = json!({
            "status": status,
            "playback_session_id": playback_id, "client_session_id": -1,
            "infohash": self.infohash, "is_live": u8::from(self.behaviour.vod.is_none()),
            "is_encrypted": u8::from(self.behaviour.encrypted),
            "selected_stream_index": 0, "selected_file_index": -1, "stream_status": -1,
            "manifest_access_mode": -1, "network_monitor_started": false,
            "network_monitor_status": 0, "debug_level": 0, "total_progress": 0,
        });
        match phase {
            Phase::Idle => {}
            Phase::Failed | Phase::Over => stat["error_message"] = json!("failed to start"),
            Phase::Prebuffering | Phase::Downloading => self.transfer(now, engine, phase, &mut stat),
        }
        stat
    }

    /// Adds what only a session that loads has.
    fn transfer(&self, now: Instant, engine: &Engine, phase: Phase, stat: &mut Value) {
        let loaded = self.loaded(now, engine);
        let starved = self.stalled.map(|at| (now - at).as_secs());
        let age = now - self.started;
        let full = (PEERS * millis(age) / 3000).min(PEERS);
        let peers = match self.behaviour.swarm {
            Swarm::Empty => 0,
            // Every second another number, each of one to nine in nine seconds.
            Swarm::Useless => 1 + age.as_secs() * 4 % 9,
            Swarm::Usual => match starved {
                Some(seconds) => u64::from(seconds < 10),
                None => (full * self.pace(now)).div_ceil(1000).min(full),
            },
        };
        let speed = match (self.behaviour.swarm, starved) {
            (Swarm::Empty | Swarm::Useless, _) => 0,
            (Swarm::Usual, Some(seconds)) => 19u64.saturating_sub(4 * seconds).max(2),
            (Swarm::Usual, None) => loaded.rate / 1024,
        };
        let downloaded = loaded.bytes - loaded.bytes % CHUNK;
        stat["peers"] = json!(peers);
        stat["speed_down"] = json!(speed);
        stat["speed_up"] = json!(if peers == 0 { 0 } else { 96 });
        stat["downloaded"] = json!(downloaded);
        stat["uploaded"] = json!(downloaded / 20 / CHUNK * CHUNK);
        stat["disk_cache_stats"] = json!({
            "avail": 5_368_709_120u64, "disk_cache_limit": 2_147_483_648u64,
            "inactive_inuse": 0, "active_inuse": downloaded,
        });
        if phase != Phase::Downloading {
            stat["progress"] = json!(loaded.progress);
        } else if let Some(length) = self.behaviour.vod {
            let size = self.source().file_bytes(length);
            stat["total_progress"] = json!((100 * loaded.bytes / u64::from(size).max(1)).min(100));
        } else {
            stat["livepos"] = self.livepos(now, engine);
        }
    }

    fn loaded(&self, now: Instant, engine: &Engine) -> Loaded {
        if self.behaviour.swarm != Swarm::Usual {
            return Loaded { bytes: 0, rate: 0, progress: 0 };
        }
        let source = self.source();
        let rate = source.bytes_per_second();
        let buffered = rate * self.burst(engine).as_secs();
        let age = now - self.started;
        let Some(ready) = self.ready_at(&engine.timing) else {
            let progress = (millis(age) / 1000).min(99);
            return Loaded { bytes: rate * millis(age) / 4000, rate, progress };
        };
        let filling = millis(ready - self.started).max(1);
        let progress = (100 * millis(age) / filling).min(100);
        if now < ready {
            return Loaded { bytes: buffered * millis(age) / filling, rate, progress };
        }
        // A starved session stands still where it was, and still says `dl`.
        let until = self.stalled.map_or(now, |at| at.min(now));
        let since = |from: Instant| until.saturating_duration_since(from);
        let played = match self.reading {
            None => since(ready),
            Some(began) => {
                let pace = self.behaviour.delivery.pace;
                let time = pace.programme_time(since(began)).unwrap_or(since(began) * 10);
                began.saturating_duration_since(ready) + time
            }
        };
        let bytes = buffered + rate * millis(played) / 1000;
        let most = self.behaviour.vod.map(|length| u64::from(source.file_bytes(length)));
        Loaded { bytes: bytes.min(most.unwrap_or(bytes)), rate: rate * self.pace(now) / 1000, progress }
    }

    /// Its rate now, in thousandths of the programme's.
    fn pace(&self, now: Instant) -> u64 {
        self.reading.map_or(1000, |began| self.behaviour.delivery.pace.thousandths(now - began))
    }

    fn burst(&self, engine: &Engine) -> Duration {
        self.behaviour.delivery.burst.unwrap_or(engine.timing.burst)
    }

    fn livepos(&self, now: Instant, engine: &Engine) -> Value {
        let starved = self.stalled.map_or(0, |at| (now - at).as_secs());
        let on_air = source::now();
        let source = self.source();
        // Where the source does not run straight on, the window shows it.
        let (behind, since_first) = source.window(source.place_at(on_air));
        let per_second = source.packets_in(Duration::from_secs(1));
        let last = EPOCH_UNIX_SECONDS + on_air.as_secs() - starved - behind / per_second;
        let first = last - since_first.map_or(WINDOW, |since| (since / per_second).min(WINDOW));
        let position = match *self.seek.borrow() {
            Some((position, at)) => EPOCH_UNIX_SECONDS + (position + (now - at)).as_secs(),
            None => {
                let lag = self.behaviour.lag.unwrap_or(engine.lag);
                last.saturating_sub((lag + self.burst(engine)).as_secs())
            }
        };
        let (first, last) = (first.to_string(), last.to_string());
        json!({
            "pos": position.clamp(first.parse().unwrap_or(0), last.parse().unwrap_or(u64::MAX)).to_string(),
            "live_first": first, "live_last": last, "first_ts": first, "last_ts": last,
            "last": last, "is_live": "1", "buffer_pieces": "15",
        })
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX >> 40)
}
