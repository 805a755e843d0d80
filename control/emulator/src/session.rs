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

use tokio::{sync::watch, time::Instant};

use crate::{
    Behaviour, Content, Timing,
    behaviour::{HlsFault, Ready, StatFault},
    source::Source,
};

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
    pub(crate) content: Content,
    /// Index of its engine.
    pub(crate) engine: usize,
    /// It was started with a transcode parameter.
    pub(crate) transcodes: bool,
    pub(crate) behaviour: Behaviour,
    pub(crate) started: Instant,
    pub(crate) last_active: Instant,
    /// Requests and readers that keep it alive now.
    pub(crate) holders: u32,
    pub(crate) has_reader: bool,
    /// Reads so far.
    pub(crate) reads: u32,
    /// When the reader's stream began, if there is one.
    pub(crate) reading: Option<Instant>,
    /// Where the player wants to be, since the epoch of broadcasts, and when it
    /// said so.
    pub(crate) seek: watch::Sender<Option<(Duration, Instant)>>,
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
    /// What it plays, as it is now set to.
    pub(crate) fn source(&self) -> Source {
        Source::new(self.content, &self.infohash, &self.behaviour, self.engine)
    }

    /// What its playback address does while it is not ready.
    pub(crate) fn ready(&self) -> Ready {
        match self.behaviour.transcode_timeout {
            Some(time) if self.transcodes => Ready::TimesOutAfter(time),
            _ => self.behaviour.ready,
        }
    }

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
        match self.ready() {
            Ready::Hold => Some(self.started + timing.idle + timing.prebuffer),
            Ready::HoldFor(time) | Ready::ErrorsFor(time) => Some(self.started + time),
            Ready::FailsAfter(_) | Ready::TimesOutAfter(_) | Ready::Never => None,
        }
    }

    pub(crate) fn phase(&self, now: Instant, timing: &Timing) -> Phase {
        let age = now - self.started;
        if let Ready::FailsAfter(time) = self.ready()
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
}
