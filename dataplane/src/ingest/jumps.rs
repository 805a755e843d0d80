//! Where the clock of a source jumps and nothing signals it.

use std::time::Duration;

use millrace_media::ts::{ContinuityChecker, PACKET_LEN, Packet, Pcr, Pid, Verdict};

/// A clock that goes on by more than this, or back by more than [`BACKWARDS`],
/// without saying so has jumped; less is jitter, or lost packets.
const FORWARDS: Duration = Duration::from_secs(8);
const BACKWARDS: Duration = Duration::from_secs(1);
/// Held back at most until the clock tells: more than a PCR interval of any
/// stream that keeps to the 100 ms of ISO/IEC 13818-1 §2.7.2.
const MOST_HELD: usize = 256 << 10;

/// What follows a clock at once goes on by at most this: several times what ISO/IEC
/// 13818-1 §2.7.2 has between two of its values, and less than a media segment
/// lasts.
const NEXT_CLOCK: Duration = Duration::from_millis(500);
/// Counters that go on by chance do so in one of sixteen cases on each PID: in one
/// of 4,096 on as many as PAT, PMT and one stream are.
const TELLING_PIDS: usize = 3;

/// Where packets belong, by the clock and by the continuity counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cut {
    /// So many bytes go on as before.
    pub(super) goes_on: usize,
    /// What follows them comes behind a jump. Else its place shows with the
    /// next PCR, and it is to be given again, before what comes then.
    pub(super) has_jumped: bool,
}

/// Looks at all packets of a source, in order.
///
/// Nobody can say on which side of a jump packets without a clock are that came
/// between two that have one: they are left out. Where a jump may have been, as
/// counters that break or repeat betray, they are held back until the clock
/// tells.
#[derive(Debug)]
pub(super) struct Jumps {
    counters: ContinuityChecker,
    clock: Option<(Pid, Pcr)>,
    /// Bytes given again that were looked at already.
    looked_at: usize,
}

impl Jumps {
    pub(super) fn new() -> Self {
        Self { counters: ContinuityChecker::new(), clock: None, looked_at: 0 }
    }

    /// What was to be given again will not be.
    pub(super) fn forget_held(&mut self) {
        self.looked_at = 0;
    }

    /// Whether `packets` follow those that were looked at: by the first counter of
    /// [`TELLING_PIDS`] at least and all others up to there, and by the first clock
    /// on `pid`. No, while there is less than that in their first [`MOST_HELD`]
    /// bytes.
    pub(super) fn is_next(&self, packets: &[u8], pid: Pid) -> bool {
        let mut counters = self.counters.clone();
        let mut told_by: Vec<Pid> = Vec::new();
        let mut clock_follows = false;
        for bytes in packets.as_chunks::<PACKET_LEN>().0.iter().take(MOST_HELD / PACKET_LEN) {
            let packet = Packet::new(bytes);
            let is_known = counters.last(packet.pid()).is_some();
            if counters.check(packet) != Verdict::Ok {
                return false;
            }
            if is_known && !told_by.contains(&packet.pid()) {
                told_by.push(packet.pid());
            }
            if !clock_follows && let Some(pcr) = packet.pcr().filter(|_| packet.pid() == pid) {
                clock_follows =
                    self.clock.is_some_and(|(its, last)| its == pid && pcr.since(last) <= NEXT_CLOCK);
                if !clock_follows {
                    return false;
                }
            }
            if clock_follows && told_by.len() >= TELLING_PIDS {
                return true;
            }
        }
        false
    }

    /// Looks at `packets`, whose clock is on `pid`.
    pub(super) fn look(&mut self, packets: &[u8], pid: Option<Pid>) -> Cut {
        let Some(pid) = pid else { return Cut { goes_on: packets.len(), has_jumped: false } };
        // What is given again was doubtful.
        let mut is_doubtful = self.looked_at > 0;
        let seen = std::mem::take(&mut self.looked_at) / PACKET_LEN;
        let mut behind_clock = 0;
        for (i, bytes) in packets.as_chunks::<PACKET_LEN>().0.iter().enumerate().skip(seen) {
            let packet = Packet::new(bytes);
            if !packet.has_sync() || packet.transport_error() {
                continue;
            }
            is_doubtful |= self.counters.check(packet) != Verdict::Ok;
            let Some(pcr) = packet.pcr().filter(|_| packet.pid() == pid) else { continue };
            let last = self.clock.replace((pid, pcr));
            if has_jumped(last, packet, pid, pcr) {
                *self = Self::new();
                return Cut { goes_on: behind_clock, has_jumped: true };
            }
            is_doubtful = false;
            behind_clock = (i + 1) * PACKET_LEN;
        }
        let doubtful = packets.len() - behind_clock;
        if !is_doubtful || doubtful > MOST_HELD {
            return Cut { goes_on: packets.len(), has_jumped: false };
        }
        self.looked_at = doubtful;
        Cut { goes_on: behind_clock, has_jumped: false }
    }
}

fn has_jumped(last: Option<(Pid, Pcr)>, packet: Packet<'_>, pid: Pid, pcr: Pcr) -> bool {
    let Some((_, last)) = last.filter(|(its, _)| *its == pid && !packet.discontinuity()) else {
        return false;
    };
    let (forwards, backwards) = (pcr.since(last), last.since(pcr));
    if forwards <= backwards { forwards > FORWARDS } else { backwards > BACKWARDS }
}
