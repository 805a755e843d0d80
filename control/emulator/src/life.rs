//! An engine as a whole: its boot, its fate, and what both mean for those it
//! serves at a moment.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep};

use crate::{
    Timing,
    behaviour::Fate,
    engine::{Engine, State},
    fleet::Fleet,
    source,
};

/// Exit status of a process that the kernel killed for its memory.
const KILLED: i32 = 137;
/// Exit status of a process that ended by a fault of its own.
const CRASHED: i32 = 139;
/// Memory of an engine without sessions, in MiB.
const BASE_MEMORY: u64 = 300;
/// Memory of an open session, in MiB.
const SESSION_MEMORY: u64 = 100;
/// Between the writes of a stream that has caught up.
const TICK: Duration = Duration::from_millis(100);
/// The same on an engine without CPU.
const STARVED_TICK: Duration = Duration::from_millis(500);
/// Start failures of a worn engine rise to this, in percent.
const WORN_FAILURES: u64 = 30;
/// A worn engine's rate sags by up to this, in thousandths.
const WORN_SAG: u64 = 100;

/// Since when a fresh engine does what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Boot {
    /// `get_version` is answered.
    pub(crate) version_at: Instant,
    /// All is answered.
    pub(crate) api_at: Instant,
    /// `playlist_loaded` is true.
    pub(crate) playlist_at: Instant,
}

impl Boot {
    /// An engine that has been running for long.
    pub(crate) fn done(now: Instant) -> Self {
        Self { version_at: now, api_at: now, playlist_at: now }
    }

    /// An engine whose port opens now.
    pub(crate) fn begin(now: Instant, fate: Fate, timing: &Timing) -> Self {
        let fails = match fate {
            Fate::BootSlow { fails, .. } => fails,
            _ => timing.boot_api.saturating_sub(timing.boot_port),
        };
        let playlist = timing.boot_playlist.saturating_sub(timing.boot_port);
        Self { version_at: now + fails / 2, api_at: now + fails, playlist_at: now + playlist.max(fails) }
    }
}

/// What an engine's fate means for a stream at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Weather {
    /// Nothing comes from the swarm, for so long already.
    pub(crate) stalled: Option<Duration>,
    /// Between the writes of a stream that has caught up.
    pub(crate) tick: Duration,
    /// Of real time, in thousandths.
    pub(crate) rate: u64,
}

/// Of the engine's fate, what a start meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StartFate {
    Usual,
    /// Status 500.
    Error,
    /// `failed to load content` after this.
    Fails(Duration),
}

impl State {
    /// How far a worn engine is beyond its good sessions: zero to one hundred
    /// hundredths.
    fn wear(&self) -> u64 {
        match self.fate {
            Fate::Degrade { sessions, .. } => {
                let n = u64::from(sessions);
                (self.served.saturating_sub(n) * 100 / (2 * n)).min(100)
            }
            _ => 0,
        }
    }

    /// Whether the API of a worn engine hangs.
    pub(crate) fn is_worn_out(&self) -> bool {
        matches!(self.fate, Fate::Degrade { sessions, .. } if u64::from(sessions) * 5 <= self.served)
    }

    /// Whether the engine's network is there.
    pub(crate) fn is_connected(&self, now: Instant) -> bool {
        match self.fate {
            Fate::NetworkLost { lasting, .. } => lasting.is_some_and(|l| self.fate_since + l <= now),
            _ => true,
        }
    }

    /// A latency as long as the engine's fate makes it.
    pub(crate) fn slowed(&self, time: Duration) -> Duration {
        match self.fate {
            Fate::CpuStarved(factor) => time.saturating_mul(factor),
            Fate::Degrade { sessions, .. } if u64::from(sessions) <= self.served => {
                let times = u32::try_from(self.served / u64::from(sessions)).unwrap_or(u32::MAX - 1);
                time.saturating_mul(1 + times)
            }
            _ => time,
        }
    }

    /// What session `number` gets at `now`.
    pub(crate) fn weather(&self, number: u64, now: Instant) -> Weather {
        let since = now.saturating_duration_since(self.fate_since);
        let stalled = match self.fate {
            Fate::NetworkLost { .. } if !self.is_connected(now) => Some(since),
            Fate::DiskFull(apart) => {
                // The oldest session is the first to stall.
                let rank = self.sessions.iter().position(|s| s.number == number).unwrap_or(0);
                let at = apart.saturating_mul(u32::try_from(rank + 1).unwrap_or(u32::MAX));
                since.checked_sub(at)
            }
            _ => None,
        };
        let tick = if matches!(self.fate, Fate::CpuStarved(_)) { STARVED_TICK } else { TICK };
        Weather { stalled, tick, rate: 1000 - self.wear() * WORN_SAG / 100 }
    }

    /// What a start meets at `now`.
    pub(crate) fn start_fate(&mut self, now: Instant, timing: &Timing) -> StartFate {
        match self.fate {
            Fate::DiskFull(_) => StartFate::Error,
            Fate::NetworkLost { start_fails, .. } if !self.is_connected(now) => StartFate::Fails(start_fails),
            Fate::Degrade { .. } if self.rng.below(100) < self.wear() * WORN_FAILURES / 100 => {
                StartFate::Fails(self.slowed(timing.start_failure))
            }
            _ => StartFate::Usual,
        }
    }

    /// Memory that the engine's container is said to use, in MiB.
    pub(crate) fn memory_mib(&self) -> u64 {
        let open = u64::try_from(self.sessions.len()).unwrap_or(u64::MAX >> 32);
        let leaked = match self.fate {
            Fate::Degrade { megabytes, .. } => u64::from(megabytes) * self.served,
            _ => 0,
        };
        BASE_MEMORY + SESSION_MEMORY * open + leaked
    }

    /// Whether the engine has more on its hands than its memory holds.
    pub(crate) fn is_exhausted(&self) -> bool {
        let Fate::Oom { sessions, bytes } = self.fate else { return false };
        let too_many = |most: u32| usize::try_from(most).is_ok_and(|most| most < self.sessions.len());
        sessions.is_some_and(too_many)
            || bytes.is_some_and(|most| most <= self.counters.bytes - self.bytes_before)
    }
}

impl Engine {
    /// A latency as long as the engine's fate makes it.
    pub(crate) fn slowed(&self, time: Duration) -> Duration {
        self.state().slowed(time)
    }

    /// Tells the engine's fate when its memory is used up.
    pub(crate) fn feel(&self) {
        if self.state().is_exhausted() {
            self.exhausted.notify_one();
        }
    }

    /// Time of the broadcast up to which session `number` has it, since the
    /// epoch of all broadcasts.
    pub(crate) fn edge(&self, number: u64) -> Duration {
        let mut state = self.state();
        let stalled = state.weather(number, Instant::now()).stalled.unwrap_or_default();
        let lag = state.session(number).and_then(|s| s.behaviour.lag).unwrap_or(self.lag);
        source::now().saturating_sub(lag + stalled)
    }
}

/// Carries out a fate that has its own course. Ends with it, or when dropped.
pub(crate) async fn drive(fleet: Arc<Fleet>, engine: Arc<Engine>, fate: Fate) {
    let index = engine.index;
    match fate {
        Fate::BootSlow { .. } | Fate::BootNever => {
            fleet.kill(index, 0).await;
            fleet.revive(index).await;
        }
        Fate::Crash { after, down } => {
            sleep(after).await;
            fleet.kill(index, CRASHED).await;
            sleep(down).await;
            fleet.open_door(index).await;
        }
        Fate::CrashLoop { up, down } => loop {
            sleep(up).await;
            fleet.kill(index, CRASHED).await;
            sleep(down).await;
            fleet.open_door(index).await;
        },
        Fate::Oom { .. } => loop {
            engine.exhausted.notified().await;
            fleet.kill(index, KILLED).await;
            sleep(engine.timing.restart).await;
            fleet.open_door(index).await;
        },
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Content, Profile, Timing};

    #[test]
    fn an_engine_wears_out_from_its_good_sessions_on() {
        let timing = Timing::fast();
        let engine = Engine::new(0, Profile::default(), timing, Content::Clip, 1);
        engine.set_scenario(None, "degrade(10,30)".parse().unwrap());
        let now = Instant::now();
        let ms = Duration::from_millis;
        for (served, latency, rate, failures, hangs) in [
            (9, ms(10), 1000, 0..=0, false),
            (10, ms(20), 1000, 0..=0, false),
            (20, ms(30), 950, 100..=200, false),
            (30, ms(40), 900, 250..=350, false),
            (49, ms(50), 900, 250..=350, false),
            (50, ms(60), 900, 250..=350, true),
        ] {
            let mut state = engine.state();
            state.served = served;
            let failed = (0..1000).filter(|_| state.start_fate(now, &timing) != StartFate::Usual).count();
            let told = (state.slowed(ms(10)), state.weather(0, now).rate, state.is_worn_out());
            assert_eq!(told, (latency, rate, hangs), "{served}");
            assert!(failures.contains(&failed), "{served}: {failed} of 1000");
            assert_eq!(state.memory_mib(), BASE_MEMORY + 30 * served);
        }
    }

    #[test]
    fn a_network_is_lost_for_its_time_or_for_ever() {
        let engine = Engine::new(0, Profile::default(), Timing::fast(), Content::Clip, 1);
        for (scenario, seconds, connected) in [
            ("healthy-live", 0, true),
            ("network-lost(5s)", 4, false),
            ("network-lost(5s)", 6, true),
            ("network-lost", 100_000, false),
        ] {
            engine.set_scenario(None, scenario.parse().unwrap());
            let state = engine.state();
            let at = state.fate_since + Duration::from_secs(seconds);
            assert_eq!(state.is_connected(at), connected, "{scenario} {seconds}");
            assert_eq!(state.weather(0, at).stalled.is_none(), connected, "{scenario} {seconds}");
        }
    }
}
