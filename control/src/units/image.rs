//! Whether the image of the engines is there.

use std::time::Duration;

use millrace_boundary::Monotonic;
use tokio::sync::watch;

use crate::fleet::docker::Progress;

/// First pause before an image that cannot be had is tried again; doubles.
const RETRY_FIRST: Duration = Duration::from_secs(10);
/// Longest such pause.
const RETRY_LONGEST: Duration = Duration::from_secs(300);

/// The image, as far as is known.
#[derive(Debug, Default)]
pub(crate) struct Image {
    state: State,
    pause: Option<Duration>,
}

#[derive(Debug, Default)]
enum State {
    /// Nobody has asked.
    #[default]
    Unknown,
    /// It is being looked for, or pulled.
    Coming(watch::Receiver<Progress>),
    /// It is there.
    There,
    /// It cannot be had.
    Missing { until: Monotonic },
}

impl Image {
    /// Whether containers can be made from it.
    pub(crate) fn is_there(&self) -> bool {
        matches!(self.state, State::There)
    }

    /// Whether somebody has to look for it now.
    pub(crate) fn is_due(&self, now: Monotonic) -> bool {
        match self.state {
            State::Unknown => true,
            State::Missing { until } => until <= now,
            State::Coming(_) | State::There => false,
        }
    }

    /// Whether it may yet come, or is there.
    pub(crate) fn may_come(&self) -> bool {
        !matches!(self.state, State::Missing { .. })
    }

    /// It is being looked for.
    pub(crate) fn begun(&mut self) -> watch::Sender<Progress> {
        let (tell, progress) = watch::channel(Progress::default());
        self.state = State::Coming(progress);
        tell
    }

    /// The search is over.
    pub(crate) fn ended(&mut self, found: bool, now: Monotonic) {
        if found {
            self.pause = None;
            self.state = State::There;
        } else {
            let pause = self.pause.map_or(RETRY_FIRST, |pause| (pause * 2).min(RETRY_LONGEST));
            self.pause = Some(pause);
            self.state = State::Missing { until: now + pause };
        }
    }

    /// Docker did not answer: nothing is known.
    pub(crate) fn forget(&mut self) {
        self.state = State::Unknown;
    }

    /// How far a pull is.
    pub(crate) fn progress(&self) -> Option<Progress> {
        match &self.state {
            State::Coming(progress) => Some(*progress.borrow()),
            State::Unknown | State::There | State::Missing { .. } => None,
        }
    }

    /// In a word.
    pub(crate) fn as_str(&self) -> &'static str {
        match self.state {
            State::Unknown => "unknown",
            State::Coming(_) => "pulling",
            State::There => "present",
            State::Missing { .. } => "missing",
        }
    }
}
