//! Cutting a byte stream into packets, in place.
//!
//! ```text
//!             sync byte where one is due
//!              ┌─────┐
//!              ▼     │
//!   start ──▶ Synced ┴── none due ──▶ gap: is the last packet whole? ──┐
//!              ▲                                                       ▼
//!              └────────── a run of sync bytes, 188 apart ──────── Searching
//! ```
//!
//! - *Synced.* A packet is given out when the byte behind it is a sync byte
//!   too. So the last packet before a pause of the input waits for one further
//!   byte, and no longer.
//! - *Gap.* No sync byte follows the packet in hand. It was whole and foreign
//!   bytes follow it, or some of its own bytes are missing. It is given up when
//!   a run of [`RUN_MAX`] sync bytes starts inside it, or when its header is
//!   one that no decoder accepts; else it is given out.
//! - *Searching.* The first position with a run of at least two sync bytes is a
//!   packet, unless a longer run starts inside that packet. A run of just two
//!   has to show legal headers as well.
//!
//! Each decision is a function of the stream's bytes alone, and waits until the
//! bytes it looks at are there: at most [`MAX_PENDING`] are held back. How the
//! input was split into calls therefore changes nothing in what comes out.
//!
//! What can still go wrong, with random foreign bytes:
//! - A gap's first byte is 0x47 (1/256), the gap is longer than a packet and
//!   the bytes there pass as a header (0.43): one false packet is given out. It
//!   costs no good one.
//! - Two sync bytes in step and legal headers within n foreign bytes
//!   (about n × 3·10⁻⁶): the same.
//! - A run of four starts by chance inside the good packet before a gap
//!   (4·10⁻⁸): that packet is lost.
//! - A single packet between two gaps cannot be told from chance: it is lost.
//! - A first byte of 0x47 is believed: a stream that starts in mid-packet gives
//!   out one false packet in 65,536.

use super::{PACKET_LEN, SYNC_BYTE};

/// The longest run of sync bytes that is looked for.
const RUN_MAX: usize = 4;

/// The most bytes ever held back: a run of `RUN_MAX` sync bytes that starts
/// at the last byte of the packet in hand ends here.
pub const MAX_PENDING: usize = PACKET_LEN - 1 + (RUN_MAX - 1) * PACKET_LEN;

/// What a buffer holds after a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Aligned {
    /// Bytes of whole packets at the front; a multiple of 188, each packet
    /// starting with the sync byte.
    pub packets: usize,
    /// Bytes behind them that may yet become packets; at most [`MAX_PENDING`].
    pub pending: usize,
    /// Bytes dropped by this call: what the buffer held, less the other two.
    pub skipped: u64,
}

/// Finds the packets in a stream of bytes. See the module for how.
#[derive(Clone, Debug)]
pub struct Aligner {
    synced: bool,
    skipped: u64,
    resyncs: u64,
}

impl Default for Aligner {
    fn default() -> Self {
        Self::new()
    }
}

impl Aligner {
    /// Believes that the stream starts with a packet, until shown otherwise.
    #[must_use]
    pub const fn new() -> Self {
        Self { synced: true, skipped: 0, resyncs: 0 }
    }

    /// Brings whole packets to the front of `buf`.
    ///
    /// `buf` begins where the last call's pending bytes began: the caller keeps
    /// those in front and appends new ones. Bytes move only when there was a
    /// gap; in sync the cost is one look at one byte per packet.
    pub fn align(&mut self, buf: &mut [u8]) -> Aligned {
        self.advance(buf, Rest::MayFollow)
    }

    /// The same at the end of the input: nothing stays pending, a partial
    /// packet is dropped and counted, and a last whole packet need not be
    /// followed by a sync byte. The next call starts a new stream; the totals
    /// go on.
    pub fn finish(&mut self, buf: &mut [u8]) -> Aligned {
        let aligned = self.advance(buf, Rest::None);
        self.synced = true;
        aligned
    }

    /// Bytes dropped since the start.
    #[must_use]
    pub const fn skipped(&self) -> u64 {
        self.skipped
    }

    /// How often packets were found again after bytes that were not.
    #[must_use]
    pub const fn resyncs(&self) -> u64 {
        self.resyncs
    }

    fn advance(&mut self, buf: &mut [u8], rest: Rest) -> Aligned {
        let mut kept = Kept { to: 0, from: 0 };
        let mut at = 0;
        if buf.first().is_some_and(|&b| b != SYNC_BYTE) {
            self.synced = false;
        }
        loop {
            if self.synced {
                while buf.get(at + PACKET_LEN) == Some(&SYNC_BYTE) {
                    at += PACKET_LEN;
                }
                match judge_last(&buf[at..], rest) {
                    None => break,
                    Some(Last::Whole) => at += PACKET_LEN,
                    Some(Last::Broken) => {
                        kept.drop_bytes(buf, at, 1);
                        at += 1;
                    }
                }
                self.synced = false;
                if at == buf.len() {
                    break;
                }
            } else {
                let (foreign, found) = search(&buf[at..], rest);
                kept.drop_bytes(buf, at, foreign);
                at += foreign;
                if !found {
                    break;
                }
                self.synced = true;
                self.resyncs += 1;
            }
        }
        let end = match rest {
            Rest::MayFollow => buf.len(),
            Rest::None => at,
        };
        let packets = kept.to + (at - kept.from);
        let pending = end - at;
        kept.close(buf, end);
        let skipped = (buf.len() - packets - pending) as u64;
        self.skipped += skipped;
        Aligned { packets, pending, skipped }
    }
}

/// Whether more input may come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rest {
    MayFollow,
    None,
}

/// Closes gaps: the bytes from `from` on are kept and belong at `to`.
struct Kept {
    to: usize,
    from: usize,
}

impl Kept {
    fn drop_bytes(&mut self, buf: &mut [u8], at: usize, count: usize) {
        self.close(buf, at);
        self.from = at + count;
    }

    fn close(&mut self, buf: &mut [u8], end: usize) {
        if self.from != self.to {
            buf.copy_within(self.from..end, self.to);
        }
        self.to += end - self.from;
        self.from = end;
    }
}

/// The packet before a gap.
enum Last {
    Whole,
    Broken,
}

/// Judges the packet at the front of `bytes` when no sync byte stands behind
/// it. None while that cannot be told.
fn judge_last(bytes: &[u8], rest: Rest) -> Option<Last> {
    if bytes.len() <= PACKET_LEN {
        return match rest {
            Rest::MayFollow => None,
            Rest::None if bytes.len() == PACKET_LEN => Some(Last::Whole),
            Rest::None if bytes.is_empty() => None,
            Rest::None => Some(Last::Broken),
        };
    }
    if !has_legal_header(bytes) {
        return Some(Last::Broken);
    }
    let mut undecided = false;
    for start in 1..PACKET_LEN {
        match run(&bytes[start..], rest) {
            Some(RUN_MAX) => return Some(Last::Broken),
            Some(_) => {}
            None => undecided = true,
        }
    }
    (!undecided).then_some(Last::Whole)
}

/// How many bytes at the front are foreign, and whether a packet follows them;
/// if not, the rest has to wait for more input.
fn search(bytes: &[u8], rest: Rest) -> (usize, bool) {
    let mut at = 0;
    'candidate: loop {
        let Some(next) = bytes[at..].iter().position(|&b| b == SYNC_BYTE) else {
            return (bytes.len(), false);
        };
        at += next;
        let Some(len) = run(&bytes[at..], rest) else { return (at, false) };
        let believed = match len {
            0 | 1 => false,
            2 => has_legal_header(&bytes[at..]) && has_legal_header(&bytes[at + PACKET_LEN..]),
            _ => true,
        };
        if !believed {
            at += 1;
            continue;
        }
        if len < RUN_MAX {
            for start in at + 1..bytes.len().min(at + PACKET_LEN) {
                match run(&bytes[start..], rest) {
                    Some(rival) if rival > len => {
                        at = start;
                        continue 'candidate;
                    }
                    Some(_) => {}
                    None => return (at, false),
                }
            }
        }
        return (at, true);
    }
}

/// How many sync bytes, 188 apart, `bytes` starts with; at most [`RUN_MAX`].
/// None while the input does not tell.
fn run(bytes: &[u8], rest: Rest) -> Option<usize> {
    for count in 0..RUN_MAX {
        match bytes.get(count * PACKET_LEN) {
            Some(&SYNC_BYTE) => {}
            None if rest == Rest::MayFollow => return None,
            Some(_) | None => return Some(count),
        }
    }
    Some(RUN_MAX)
}

/// Whether a decoder would accept the header at the front of `bytes`: an
/// adaptation_field_control of zero is reserved and such packets are discarded
/// (ISO/IEC 13818-1 §2.4.3.3); an adaptation field alone has 183 bytes, beside
/// payload at most 182 (§2.4.3.5).
fn has_legal_header(bytes: &[u8]) -> bool {
    match bytes {
        [_, _, _, control, length, ..] => match control & 0x30 {
            0x00 => false,
            0x10 => true,
            0x20 => *length == 183,
            _ => *length <= 182,
        },
        _ => false,
    }
}

#[cfg(test)]
#[path = "align_tests.rs"]
mod tests;
