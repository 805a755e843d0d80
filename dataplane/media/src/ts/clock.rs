//! How much of a stream has passed, by its own clock.

use super::Pcr;

/// A longer step than this between two PCRs is a jump and not time that passed;
/// they are due every 100 ms (ISO/IEC 13818-1 §2.7.2).
const STEP_MAX_TICKS: u64 = 5 * Pcr::HZ;

/// Adds up time by the PCR, and bytes where the PCR does not tell.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct StreamClock {
    last: Option<Pcr>,
    ticks: u64,
    untimed_bytes: u64,
    /// From here on bytes are not yet known to be timed.
    counted_until: u64,
}

/// A point on a [`StreamClock`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    ticks: u64,
    untimed_bytes: u64,
}

/// A time, with the bytes that stand for it where there is no PCR.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub(super) ticks: u64,
    pub(super) bytes: u64,
}

impl StreamClock {
    /// The PCR of the programme's PCR PID, in the packet at `offset`.
    pub(super) fn on_pcr(&mut self, pcr: Pcr, offset: u64) {
        let step = self.last.replace(pcr).map(|last| pcr.ticks_since(last));
        match step.filter(|&step| step <= STEP_MAX_TICKS) {
            Some(step) => self.ticks += step,
            None => self.untimed_bytes = self.untimed_bytes_at(offset),
        }
        self.counted_until = offset;
    }

    /// The last PCR.
    pub(super) fn pcr(&self) -> Option<Pcr> {
        self.last
    }

    /// Follows another PCR PID from `offset` on.
    pub(super) fn change_pid(&mut self, offset: u64) {
        self.untimed_bytes = self.untimed_bytes_at(offset);
        self.counted_until = offset;
        self.last = None;
    }

    /// Now, at `offset`.
    pub(super) fn mark(&self, offset: u64) -> Mark {
        Mark { ticks: self.ticks, untimed_bytes: self.untimed_bytes_at(offset) }
    }

    /// Whether at least `span` passed between `mark` and `offset`, give or take
    /// the bytes between two PCRs.
    pub(super) fn has_passed(&self, span: Span, mark: Mark, offset: u64) -> bool {
        // Bytes behind the last PCR may turn out to be timed: so saturating.
        let untimed = self.untimed_bytes_at(offset).saturating_sub(mark.untimed_bytes);
        self.ticks - mark.ticks >= span.ticks || untimed >= span.bytes
    }

    fn untimed_bytes_at(&self, offset: u64) -> u64 {
        self.untimed_bytes + (offset - self.counted_until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPAN: Span = Span { ticks: 10 * Pcr::HZ, bytes: 1000 };

    #[test]
    fn time_passes_by_the_pcr_and_by_bytes_without_one() {
        let s = Pcr::HZ;
        // PCRs as (seconds, offset); when 10 s or 1,000 bytes have passed at the last offset.
        for (name, pcrs, at, passed) in [
            ("no PCR, few bytes", &[][..], 999, false),
            ("no PCR, enough bytes", &[], 1000, true),
            ("bytes between PCRs do not count", &[(0, 0), (4, 900), (8, 1800)], 1900, false),
            ("ten seconds", &[(0, 0), (4, 100), (8, 200), (10, 300)], 300, true),
            ("a jump is no time", &[(0, 0), (1, 100), (90, 200)], 300, false),
            ("bytes across a jump count", &[(0, 0), (90, 600), (0, 1100)], 1100, true),
            ("the PCR ceases", &[(0, 0), (1, 900)], 1900, true),
            ("a wrap is no jump", &[(95_440, 0), (95_443, 10), (0, 20), (4, 30), (8, 40)], 40, true),
        ] {
            let mut clock = StreamClock::default();
            let mark = clock.mark(0);
            for &(seconds, offset) in pcrs {
                clock.on_pcr(Pcr::from_ticks(seconds * s), offset);
            }
            assert_eq!(clock.has_passed(SPAN, mark, at), passed, "{name}");
        }
    }
}
