//! One session: a player that watches a content on an engine.
//!
//! ```text
//! start → idle → prebuf → dl ─────────────→ ended (gone from the engine)
//!                   └──→ err (failed) ──────↗
//! ```
//!
//! The state follows from the time since the start; nothing runs for a session
//! that nobody reads.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::{sync::watch, time::Instant};

use crate::{
    Behaviour, Content, Timing,
    behaviour::{HlsFault, Ready, StatFault},
    signed::EPOCH_UNIX_SECONDS,
    source::{self, Source},
};

/// Swarm chunks, which `downloaded` counts, have this size in bytes.
const CHUNK: u64 = 16_384;
/// Seconds of the time-shift window.
const WINDOW: u64 = 1800;

/// Why a session is over, as its readers are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    Not,
    /// Stopped, replaced or expired: readers see an orderly end.
    Closed,
}

/// What a session was started for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    Ts,
    Hls,
}

pub(crate) struct Session {
    pub(crate) number: u64,
    /// The id it was started with.
    pub(crate) asked: String,
    pub(crate) infohash: String,
    pub(crate) key: String,
    /// Last part of the content address.
    pub(crate) ticket: String,
    pub(crate) playback_id: String,
    pub(crate) source: Source,
    pub(crate) content: Content,
    pub(crate) behaviour: Behaviour,
    pub(crate) started: Instant,
    pub(crate) last_active: Instant,
    /// Requests and readers that keep it alive now.
    pub(crate) holders: u32,
    pub(crate) has_reader: bool,
    /// Reads so far.
    pub(crate) reads: u32,
    /// When the reader's stream was silenced, if it is.
    pub(crate) stalled: Option<Instant>,
    pub(crate) ended: watch::Sender<Ended>,
    /// The player, as counters name it.
    pub(crate) player: String,
    pub(crate) output: Output,
    /// Edge of the broadcast at the start, since the epoch of all broadcasts.
    pub(crate) began: Duration,
    /// When the head of its stream was first sent.
    pub(crate) reading_since: Option<Instant>,
    /// Polls of its events so far.
    pub(crate) polls: u32,
}

/// Where a session is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Idle,
    Prebuffering,
    Downloading,
    Failed,
    /// To be forgotten.
    Over,
}

impl Session {
    /// Whether playlists and stat keep it alive.
    pub(crate) fn lives_by_stat(&self) -> bool {
        self.behaviour.hls != HlsFault::IdleExpiry
    }

    /// When it is unknown to stat, and when its bytes end too.
    fn gone_at(&self) -> Option<(Instant, Instant)> {
        let StatFault::Gone { after, lasting } = self.behaviour.stat else { return None };
        self.reading_since.map(|at| (at + after, at + after + lasting))
    }

    /// Whether stat and commands still know it.
    pub(crate) fn is_known(&self, now: Instant) -> bool {
        self.gone_at().is_none_or(|(gone, _)| now < gone)
    }

    /// When its playback address redirects; none when it never does.
    pub(crate) fn ready_at(&self, timing: &Timing) -> Option<Instant> {
        match self.behaviour.ready {
            Ready::Hold => Some(self.started + timing.idle + timing.prebuffer),
            Ready::HoldFor(time) | Ready::ErrorsFor(time) => Some(self.started + time),
            Ready::FailsAfter(_) | Ready::Never => None,
        }
    }

    pub(crate) fn phase(&self, now: Instant, timing: &Timing) -> Phase {
        let age = now - self.started;
        if let Ready::FailsAfter(time) = self.behaviour.ready
            && age >= time
        {
            return if age < time + Duration::from_secs(2) { Phase::Failed } else { Phase::Over };
        }
        if self.gone_at().is_some_and(|(_, over)| over <= now) {
            return Phase::Over;
        }
        if self.holders == 0 && now - self.last_active >= timing.expiry {
            return Phase::Over;
        }
        match self.ready_at(timing) {
            _ if age < timing.idle => Phase::Idle,
            Some(ready) if ready <= now => Phase::Downloading,
            _ => Phase::Prebuffering,
        }
    }

    /// The answer of its stat address. `playback_id` is that of the newest
    /// session of the content.
    pub(crate) fn stat(&self, now: Instant, timing: &Timing, playback_id: &str) -> Value {
        let phase = self.phase(now, timing);
        let status = match phase {
            Phase::Idle => "idle",
            Phase::Prebuffering => "prebuf",
            Phase::Downloading => "dl",
            Phase::Failed | Phase::Over => "err",
        };
        let mut stat = json!({
            "status": status,
            "playback_session_id": playback_id, "client_session_id": -1,
            "infohash": self.infohash, "is_live": 1, "is_encrypted": 0,
            "selected_stream_index": 0, "selected_file_index": -1, "stream_status": -1,
            "manifest_access_mode": -1, "network_monitor_started": false,
            "network_monitor_status": 0, "debug_level": 0, "total_progress": 0,
        });
        match phase {
            Phase::Idle => {}
            Phase::Failed | Phase::Over => stat["error_message"] = json!("failed to start"),
            Phase::Prebuffering | Phase::Downloading => self.transfer(now, timing, &mut stat),
        }
        stat
    }

    /// Adds what only a session that loads has.
    fn transfer(&self, now: Instant, timing: &Timing, stat: &mut Value) {
        let rate = self.source.bytes_per_second();
        let burst = self.behaviour.delivery.burst.unwrap_or(timing.burst);
        let buffered = rate * burst.as_secs();
        let age = now - self.started;
        let ready = self.ready_at(timing);
        // A starved session stands still where it was, and still says `dl`.
        let until = self.stalled.map_or(now, |at| at.min(now));
        let downloaded = match ready {
            Some(ready) if ready <= now => {
                buffered + rate * millis(until.saturating_duration_since(ready)) / 1000
            }
            Some(ready) => buffered * millis(age) / millis(ready - self.started).max(1),
            None => rate * millis(age) / 4000,
        };
        let progress = match ready {
            Some(ready) => (100 * millis(age) / millis(ready - self.started).max(1)).min(100),
            None => (millis(age) / 1000).min(99),
        };
        let starved = self.stalled.map(|at| (now - at).as_secs());
        let peers = (11 * millis(age) / 3000).min(11);
        stat["peers"] = json!(starved.map_or(peers, |s| u64::from(s < 10)));
        stat["speed_down"] = json!(starved.map_or(rate / 1024, |s| 19u64.saturating_sub(4 * s).max(2)));
        stat["speed_up"] = json!(96);
        stat["downloaded"] = json!(downloaded - downloaded % CHUNK);
        stat["uploaded"] = json!(downloaded / 20 / CHUNK * CHUNK);
        stat["disk_cache_stats"] = json!({
            "avail": 5_368_709_120u64, "disk_cache_limit": 2_147_483_648u64,
            "inactive_inuse": 0, "active_inuse": downloaded - downloaded % CHUNK,
        });
        if ready.is_some_and(|r| r <= now) {
            let unix = EPOCH_UNIX_SECONDS + source::now().as_secs() - starved.unwrap_or(0);
            let (first, last) = ((unix - WINDOW).to_string(), unix.to_string());
            stat["livepos"] = json!({
                "pos": (unix - burst.as_secs().min(WINDOW)).to_string(),
                "live_first": first, "live_last": last, "first_ts": first, "last_ts": last,
                "last": last, "is_live": "1", "buffer_pieces": "15",
            });
        } else {
            stat["progress"] = json!(progress);
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX >> 40)
}
