//! When the bytes of a stream come, and where they end.

use std::time::Duration;

/// A point in a stream's delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// After so many bytes of the body.
    Bytes(u32),
    /// So long after the head was sent.
    Time(Duration),
}

/// When the bytes come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delivery {
    /// Stream time at line speed; `None` is what [`crate::Timing`] says.
    pub burst: Option<Duration>,
    /// Silence after the burst.
    pub quiet: Duration,
    /// How fast it goes on after the burst.
    pub pace: Pace,
    /// So many bytes at a time, this far apart, instead of the broadcast's pace.
    pub trickle: Option<(u32, Duration)>,
    /// Silence from here on for so long, or for ever; then the rest at line
    /// speed. The stat shows a starved session.
    pub stall: Option<(At, Option<Duration>)>,
    /// Short silences again and again.
    pub gaps: Option<Gaps>,
    /// A silence after which the stream goes on with what is on the air then.
    pub leap: Option<Leap>,
    /// Writes of a stream that has caught up are up to this apart.
    pub jitter: Option<Duration>,
    /// The end.
    pub cut: Option<Cut>,
    /// Bytes are written in pieces of odd sizes, one segment each.
    pub odd_writes: bool,
}

/// How fast a stream goes on after its burst.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pace {
    /// As the programme is on the air.
    #[default]
    Live,
    /// At so many thousandths of that; at line speed for `None`.
    Factor(Option<u32>),
    /// As on the air for one step, at 80 % and 50 % of that for a step each, and
    /// at 20 % from then on.
    Decay {
        /// How long a step lasts.
        step: Duration,
    },
}

impl Pace {
    /// Programme time that passes in `elapsed`; `None` is no limit.
    pub(crate) fn programme_time(self, elapsed: Duration) -> Option<Duration> {
        match self {
            Self::Live => Some(elapsed),
            Self::Factor(factor) => factor.map(|thousandths| elapsed * thousandths / 1000),
            Self::Decay { step } => {
                let part = |i: u32| elapsed.saturating_sub(step * i);
                let whole = |i: u32| part(i).min(step);
                Some(whole(0) + whole(1) * 4 / 5 + whole(2) / 2 + part(3) / 5)
            }
        }
    }

    /// Its rate after `elapsed`, in thousandths of the programme's.
    pub(crate) fn thousandths(self, elapsed: Duration) -> u64 {
        match self {
            Self::Live => 1000,
            Self::Factor(factor) => u64::from(factor.unwrap_or(10_000)),
            Self::Decay { step } => match elapsed.as_millis() / step.as_millis().max(1) {
                0 => 1000,
                1 => 800,
                2 => 500,
                _ => 200,
            },
        }
    }
}

/// Short silences again and again; after each the rest comes at line speed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gaps {
    /// From the end of one to the beginning of the next.
    pub every: Duration,
    /// Length of each; `None` is 1 to 5 s at random.
    pub lasting: Option<Duration>,
}

/// One silence, after which what has been missed is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leap {
    /// So long after the head.
    pub after: Duration,
    /// Its length; `None` is 30 to 80 s at random.
    pub lasting: Option<Duration>,
}

/// The end of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Where.
    pub at: At,
    /// How.
    pub end: End,
}

/// How a stream ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// In an orderly way.
    Fin,
    /// With RST.
    Reset,
    /// In an orderly way, with 100 bytes of a packet as the last.
    InPacket,
    /// With FIN where in chunked framing the last chunk should be.
    NoLastChunk,
    /// With a chunk whose size is no number.
    BadChunk,
    /// In an orderly way, and the session with it.
    Expired,
    /// The same, since another player has taken the content over.
    Replaced,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decaying_stream_falls_behind_step_by_step() {
        let pace = Pace::Decay { step: Duration::from_secs(10) };
        for (elapsed, sent, rate) in [
            (0, 0, 1000),
            (10, 10_000, 800),
            (15, 14_000, 800),
            (20, 18_000, 500),
            (30, 23_000, 200),
            (80, 33_000, 200),
        ] {
            let elapsed = Duration::from_secs(elapsed);
            assert_eq!(pace.programme_time(elapsed), Some(Duration::from_millis(sent)), "{elapsed:?}");
            assert_eq!(pace.thousandths(elapsed), rate, "{elapsed:?}");
        }
    }
}
