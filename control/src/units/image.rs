//! Whether the image of the engines is there.

use std::time::Duration;

use millrace_boundary::Monotonic;
use tokio::sync::watch;

use crate::fleet::docker::Progress;

/// First pause before an image that cannot be had is tried again; doubles.
const RETRY_FIRST: Duration = Duration::from_secs(10);
/// Longest such pause.
const RETRY_LONGEST: Duration = Duration::from_secs(300);

/// Between two words to the log on how far a pull is.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// The image, as far as is known.
#[derive(Debug, Default)]
pub(crate) struct Image {
    state: State,
    pause: Option<Duration>,
    /// When the log was told last how far a pull is.
    told: Option<Monotonic>,
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

    /// How far a pull is, every five seconds while it is under way.
    pub(crate) fn tidings(&mut self, now: Monotonic) -> Option<Progress> {
        let progress = self.progress().filter(|progress| progress.layers_total > 0)?;
        if self.told.is_some_and(|told| now.since(told) < TELL_EVERY) {
            return None;
        }
        self.told = Some(now);
        Some(progress)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Monotonic {
        Monotonic(Duration::from_secs(1_000 + seconds))
    }

    #[test]
    fn one_that_cannot_be_had_is_looked_for_with_growing_pauses() {
        let mut image = Image::default();
        assert!(image.is_due(at(0)) && image.may_come() && !image.is_there());
        let mut now = 0;
        for pause in [10, 20, 40, 80, 160, 300, 300] {
            drop(image.begun());
            assert!(!image.is_due(at(now)) && image.may_come());
            image.ended(false, at(now));
            assert!(!image.may_come() && !image.is_due(at(now + pause - 1)), "{pause}");
            now += pause;
            assert!(image.is_due(at(now)), "{pause}");
        }
        drop(image.begun());
        image.ended(true, at(now));
        assert!(image.is_there() && !image.is_due(at(now + 10_000)));
        image.forget();
        drop(image.begun());
        image.ended(false, at(now));
        assert!(image.is_due(at(now + 10)), "from the first pause on again");
    }

    #[test]
    fn the_log_is_told_every_five_seconds_how_far_a_pull_is() {
        let mut image = Image::default();
        let tell = image.begun();
        assert_eq!(image.tidings(at(0)), None, "it is only being looked for");
        let progress = |bytes_done| Progress { bytes_done, bytes_total: 9, layers_done: 0, layers_total: 1 };
        let mut told = Vec::new();
        for second in 0..12 {
            tell.send_replace(progress(second));
            told.extend(image.tidings(at(second)).map(|progress| progress.bytes_done));
        }
        assert_eq!(told, [0, 5, 10]);
    }
}
