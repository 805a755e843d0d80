//! When the packets of a broadcast are on the air.

use std::time::Duration;

/// Bits of a packet: a packet of a broadcast at `r` bit/s lasts `1504 / r` s.
pub(super) const PACKET_BITS: u64 = 1504;

/// Rates of a varying broadcast in bit/s, one window after the other, for ever:
/// 4 Mbit/s in the mean, 1.7 at the least and 10 at the most.
const WINDOW_RATES: [u64; 8] =
    [1_700_000, 3_100_000, 4_600_000, 2_400_000, 10_000_000, 3_800_000, 2_000_000, 4_400_000];
/// Length of a window in seconds.
const WINDOW_SECONDS: u64 = 10;
/// Seconds after which the rates begin again.
const CYCLE_SECONDS: u64 = WINDOW_SECONDS * 8;
/// Number of the first packet of each window in a cycle, and of the next cycle.
const STARTS: [u64; 9] = {
    let mut starts = [0; 9];
    let mut i = 0;
    while i < 8 {
        starts[i + 1] = starts[i] + WINDOW_RATES[i] * WINDOW_SECONDS / PACKET_BITS;
        i += 1;
    }
    starts
};

/// The rate of a broadcast over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    /// So many bit/s.
    Constant(u64),
    /// [`WINDOW_RATES`].
    Varying,
}

impl Pace {
    /// The mean rate in bit/s.
    pub(super) fn mean_bps(self) -> u64 {
        match self {
            Self::Constant(rate) => rate,
            Self::Varying => STARTS[8] * PACKET_BITS / CYCLE_SECONDS,
        }
    }

    /// The lowest rate in bit/s.
    pub(super) fn least_bps(self) -> u64 {
        match self {
            Self::Constant(rate) => rate,
            Self::Varying => WINDOW_RATES[0],
        }
    }

    /// Number of the packet on the air `since_epoch`.
    pub(super) fn packet_at(self, since_epoch: Duration) -> u64 {
        let nanos = since_epoch.as_nanos();
        let n = match self {
            Self::Constant(rate) => nanos * u128::from(rate) / (u128::from(PACKET_BITS) * 1_000_000_000),
            Self::Varying => {
                let cycle = u128::from(CYCLE_SECONDS) * 1_000_000_000;
                let window = cycle / 8;
                let at = usize::try_from(nanos % cycle / window).unwrap_or(0);
                let width = u128::from(STARTS[at + 1] - STARTS[at]);
                nanos / cycle * u128::from(STARTS[8])
                    + u128::from(STARTS[at])
                    + nanos % window * width / window
            }
        };
        u64::try_from(n).unwrap_or(u64::MAX)
    }

    /// Time of packet `n` in units of `1 / hertz` seconds, `hertz` at most
    /// 27,000,000: no product exceeds 64 bits.
    pub(super) fn ticks(self, n: u64, hertz: u64) -> u64 {
        match self {
            Self::Constant(rate) => {
                // Every `rate` packets last exactly 1504 s.
                let (laps, rest) = (n / rate, (n % rate) * PACKET_BITS);
                let (seconds, rest) = (rest / rate, rest % rate);
                (laps * PACKET_BITS + seconds) * hertz + rest * hertz / rate
            }
            Self::Varying => {
                let (cycle, rest) = (n / STARTS[8], n % STARTS[8]);
                let at = STARTS.partition_point(|&start| start <= rest).clamp(1, 8) - 1;
                let width = STARTS[at + 1] - STARTS[at];
                let windows = (0u64..).nth(at).unwrap_or(0);
                (cycle * CYCLE_SECONDS + windows * WINDOW_SECONDS) * hertz
                    + (rest - STARTS[at]) * WINDOW_SECONDS * hertz / width
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_varying_broadcast_has_its_rates_and_its_clock_agrees() {
        let second = |s: u64| Duration::from_secs(1_000_000_000 / 80 * 80 + s);
        for (window, rate) in (0..).zip(WINDOW_RATES) {
            let sent = Pace::Varying.packet_at(second(window * 10 + 10))
                - Pace::Varying.packet_at(second(window * 10));
            assert_eq!(sent, rate * 10 / PACKET_BITS, "window {window}");
        }
        for millis in (0..200_000).step_by(7) {
            let time = second(0) + Duration::from_millis(millis);
            let n = Pace::Varying.packet_at(time);
            let ticks = |n| Duration::from_micros(Pace::Varying.ticks(n, 1_000_000));
            assert!(ticks(n) <= time && time <= ticks(n + 1) + Duration::from_micros(1), "{millis}");
        }
        assert!((3_990_000..4_010_000).contains(&Pace::Varying.mean_bps()));
    }
}
