//! How much of the time engines ought to serve, and how much of it they do: the
//! rate of healthy engine-seconds is the measure of all mending.

use std::time::Duration;

use millrace_boundary::Monotonic;

use crate::unit::{Life, Stage, Then};

/// Between two looks.
const INTERVAL: Duration = Duration::from_secs(1);
/// After a longer pause of the whole process nothing is known of the time between.
const LONGEST: Duration = Duration::from_secs(10);

/// Engine-seconds since start; neither ever falls.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Served {
    /// Of engines that ought to serve.
    pub(crate) seconds: f64,
    /// Of those that did.
    pub(crate) healthy_seconds: f64,
    looked_at: Option<Monotonic>,
}

impl Served {
    /// Counts the time since the last look once a second is over: `all` ought to
    /// serve, `healthy` of them do.
    pub(super) fn look(&mut self, now: Monotonic, count: impl FnOnce() -> (u32, u32)) {
        let since = now.since(*self.looked_at.get_or_insert(now));
        if since < INTERVAL {
            return;
        }
        self.looked_at = Some(now);
        let (all, healthy) = count();
        let seconds = since.min(LONGEST).as_secs_f64();
        self.seconds += f64::from(all) * seconds;
        self.healthy_seconds += f64::from(healthy) * seconds;
    }
}

/// Whether an engine ought to serve: it has done so, and nobody wants it empty.
pub(super) fn ought_to_serve(life: &Life) -> bool {
    match life.stage() {
        Stage::Ready
        | Stage::Ailing(_)
        | Stage::Emptying(_, Then::Restart | Then::Remake)
        | Stage::Mending
        | Stage::Burying(_)
        | Stage::Quarantined(_) => true,
        // At first it is awaited; after a mend it is missed.
        Stage::Booting => life.mends() > 0,
        Stage::Making
        | Stage::Emptying(_, Then::Remove | Then::Hold)
        | Stage::Pausing
        | Stage::Paused
        | Stage::Waking
        | Stage::Leaving
        | Stage::Gone => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_counts_once_a_second_and_a_stall_of_the_process_does_not() {
        let at = |millis: u64| Monotonic(Duration::from_millis(5_000 + millis));
        let mut served = Served::default();
        for (millis, all, healthy, sum) in [
            (0, 4, 4, (0.0, 0.0)),
            (999, 4, 4, (0.0, 0.0)),
            (1_000, 4, 3, (4.0, 3.0)),
            (2_500, 2, 0, (7.0, 3.0)),
            (3_000, 9, 9, (7.0, 3.0)),
            (3_500, 0, 0, (7.0, 3.0)),
            (103_500, 1, 1, (17.0, 13.0)),
        ] {
            served.look(at(millis), || (all, healthy));
            assert_eq!((served.seconds, served.healthy_seconds), sum, "at {millis} ms");
        }
    }
}
