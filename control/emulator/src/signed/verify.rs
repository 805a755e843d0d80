//! The verifier: reads what a player received and finds every damage.
//!
//! It shares nothing with the code under test: alignment and continuity are
//! checked here anew.

use std::{
    collections::VecDeque,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::{AUDIO_PID, Broadcast, EPOCH_UNIX_SECONDS, Edit, NULL_PID, PACKET_BYTES, Report, VIDEO_PID};

/// Sync bytes in a row, one packet apart, that make an alignment.
const SYNCS: usize = 3;
/// Gaps remembered to tell late packets from repeated ones.
const GAPS: usize = 64;
/// Table packets remembered until the next signed packet.
const TABLES: usize = 64;
/// A packet so far before the first of the run is no late one: the source began anew.
const RESTART: u64 = 65_536;
/// PIDs whose continuity is followed.
const PIDS: usize = 32;

/// Checks one received stream against its broadcast; memory is bounded.
#[derive(Debug)]
pub struct Verifier {
    broadcast: Broadcast,
    aligned: bool,
    carry: Vec<u8>,
    /// Number of the next packet of the run.
    expected: Option<u64>,
    scratch: [u8; PACKET_BYTES],
    continuity: Continuity,
    start: Start,
    since_run: SinceRun,
    missing: VecDeque<(u64, u64)>,
    report: Report,
}

/// What has to come next at the beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Start {
    Pat,
    Pmt,
    RandomAccess,
    Over,
}

/// What came since the last packet of the run.
#[derive(Debug, Default)]
struct SinceRun {
    tables: Vec<[u8; PACKET_BYTES]>,
    pat: bool,
    pmt: bool,
    video_discontinuity: bool,
    audio_discontinuity: bool,
    corrupted: u64,
}

impl Verifier {
    /// For broadcast `broadcast` at `bitrate_bps`.
    #[must_use]
    pub fn new(broadcast: u64, bitrate_bps: u32) -> Self {
        Self::of(Broadcast::new(broadcast, bitrate_bps))
    }

    /// For `broadcast`, its edit included.
    #[must_use]
    pub fn of(broadcast: Broadcast) -> Self {
        Self {
            broadcast,
            aligned: true,
            carry: Vec::new(),
            expected: None,
            scratch: [0; PACKET_BYTES],
            continuity: Continuity::default(),
            start: Start::Pat,
            since_run: SinceRun::default(),
            missing: VecDeque::new(),
            report: Report { starts_right: true, ..Report::default() },
        }
    }

    /// Takes the next bytes, split anywhere, which arrived at `arrived`. More
    /// than 1 GiB/s on one core when nothing is wrong.
    pub fn push(&mut self, mut bytes: &[u8], arrived: SystemTime) {
        let before = self.report.last;
        if self.aligned {
            bytes = self.push_aligned(bytes);
        }
        if !bytes.is_empty() {
            self.search(bytes);
        }
        if self.report.last != before {
            self.sample_delay(before.is_none(), arrived);
        }
    }

    /// What was found so far, as if the connection ended here.
    #[must_use]
    pub fn report(&self) -> Report {
        let mut report = self.report.clone();
        let rest = u64::try_from(self.carry.len()).unwrap_or(u64::MAX);
        if self.aligned {
            report.partial_bytes += rest
        } else {
            report.unaligned_bytes += rest
        }
        report.starts_right &= self.start == Start::Over;
        report
    }

    fn sample_delay(&mut self, is_first: bool, arrived: SystemTime) {
        let epoch = UNIX_EPOCH + Duration::from_secs(EPOCH_UNIX_SECONDS);
        let now = arrived.duration_since(epoch).unwrap_or_default();
        let age = |n: Option<u64>| n.map(|n| now.saturating_sub(self.broadcast.time_of(n)));
        let (first, last) = (age(self.report.first), age(self.report.last));
        if is_first {
            self.report.first_delay = first;
            self.report.max_delay = first;
        }
        self.report.last_delay = last;
        self.report.max_delay = self.report.max_delay.max(last);
    }

    /// Consumes whole packets; returns what is left when alignment is lost.
    fn push_aligned<'a>(&mut self, mut bytes: &'a [u8]) -> &'a [u8] {
        if !self.carry.is_empty() {
            let take = bytes.len().min(PACKET_BYTES - self.carry.len());
            self.carry.extend_from_slice(&bytes[..take]);
            bytes = &bytes[take..];
            let Ok(packet) = <[u8; PACKET_BYTES]>::try_from(self.carry.as_slice()) else {
                return bytes;
            };
            self.carry.clear();
            self.packet(&packet);
        }
        let (packets, rest) = bytes.as_chunks::<PACKET_BYTES>();
        for (i, packet) in packets.iter().enumerate() {
            if packet[0] != 0x47 {
                self.aligned = false;
                return &bytes[i * PACKET_BYTES..];
            }
            self.packet(packet);
        }
        match rest.first() {
            Some(0x47) => self.carry.extend_from_slice(rest),
            Some(_) => {
                self.aligned = false;
                return rest;
            }
            None => {}
        }
        &[]
    }

    /// Looks for sync bytes one packet apart in the carry and `bytes`, and
    /// consumes both: what may yet turn out to be aligned is carried on.
    fn search(&mut self, bytes: &[u8]) {
        self.carry.extend_from_slice(bytes);
        let all = std::mem::take(&mut self.carry);
        let mut at = 0;
        while at < all.len() {
            if self.aligned {
                at = all.len() - self.push_aligned(&all[at..]).len();
                continue;
            }
            let end = all.len().saturating_sub((SYNCS - 1) * PACKET_BYTES).max(at);
            let in_sync = |at: usize| (0..SYNCS).all(|i| all[at + i * PACKET_BYTES] == 0x47);
            let found = (at..end).find(|&at| in_sync(at));
            let next = found.unwrap_or(end);
            self.report.unaligned_bytes += u64::try_from(next - at).unwrap_or(u64::MAX);
            if self.start != Start::Over {
                self.report.starts_right = false;
            }
            at = next;
            self.aligned = found.is_some();
            if found.is_none() {
                self.carry = all[at..].to_vec();
                return;
            }
        }
    }

    fn packet(&mut self, p: &[u8; PACKET_BYTES]) {
        self.report.packets += 1;
        if let Some(n) = self.expected {
            self.broadcast.write(n, &mut self.scratch);
            if self.broadcast.is_same(&self.scratch, p) {
                self.report.continuity_errors += u64::from(!self.continuity.follows(p));
                self.advance(n);
                return;
            }
        }
        self.other_packet(p);
    }

    /// A packet that is not simply the next one of the run.
    fn other_packet(&mut self, p: &[u8; PACKET_BYTES]) {
        let pid = pid(p);
        if pid == NULL_PID {
            self.report.filler += 1;
            return;
        }
        let follows = self.continuity.follows(p);
        if p[3] & 0x30 == 0x20 {
            self.report.filler += 1;
            self.report.continuity_errors += u64::from(!follows);
            self.since_run.video_discontinuity |= pid == VIDEO_PID && is_discontinuity(p);
            self.since_run.audio_discontinuity |= pid == AUDIO_PID && is_discontinuity(p);
            return;
        }
        if self.broadcast.has_table(p) {
            self.report.continuity_errors += u64::from(!follows);
            self.table(pid, p);
            return;
        }
        let Some((n, broadcast)) = self.broadcast.recognise(p, &mut self.scratch) else {
            self.report.continuity_errors += u64::from(!follows);
            self.report.corrupted += 1;
            self.since_run.corrupted += 1;
            return;
        };
        let is_other = broadcast != std::mem::replace(&mut self.broadcast, broadcast);
        self.report.variant_changes += u64::from(is_other && self.expected.is_some());
        self.numbered(n, follows);
    }

    fn table(&mut self, pid: u16, p: &[u8; PACKET_BYTES]) {
        self.report.tables += 1;
        self.start = match (self.start, pid) {
            (Start::Pat, 0) => Start::Pmt,
            (Start::Pmt, 1..) => Start::RandomAccess,
            (Start::Pat, 1..) => self.started_wrong(),
            (other, _) => other,
        };
        self.since_run.pat |= pid == 0;
        self.since_run.pmt |= pid != 0 && self.since_run.pat;
        if self.since_run.tables.len() < TABLES {
            self.since_run.tables.push(*p);
        }
    }

    fn started_wrong(&mut self) -> Start {
        self.report.starts_right = false;
        Start::Over
    }

    /// Packet `n` came where another was expected, or is the first of all.
    fn numbered(&mut self, n: u64, follows: bool) {
        let Some(expected) = self.expected else {
            self.report.continuity_errors += u64::from(!follows);
            if self.start != Start::RandomAccess || !self.broadcast.is_random_access(n) {
                self.report.starts_right = false;
            }
            self.start = Start::Over;
            self.report.first = Some(n);
            self.advance(n);
            return;
        };
        let s = &self.since_run;
        let edit = self.broadcast.edit();
        let video = s.video_discontinuity || !edit.has_video();
        let announced = s.pat && s.pmt && video && (s.audio_discontinuity || !edit.has_audio());
        if announced && self.broadcast.is_random_access(n) {
            self.report.continuity_errors += u64::from(!follows);
            self.report.signalled_jumps += 1;
            self.report.jumped += n.cast_signed() - expected.cast_signed();
            self.missing.clear();
            self.advance(n);
        } else if expected < n {
            self.report.continuity_errors += u64::from(!follows);
            self.gap(expected, n);
            self.advance(n);
        } else if self.report.first.is_some_and(|first| n + RESTART < first) {
            self.report.continuity_errors += u64::from(!follows);
            self.report.restarts += 1;
            self.missing.clear();
            self.report.first = Some(n);
            self.advance(n);
        } else if self.take_missing(n) {
            self.report.continuity_errors += u64::from(!follows);
            self.report.lost -= 1;
            self.report.reordered += 1;
        } else {
            self.report.duplicated += 1;
            // One repetition right after the original is legal continuity.
            let is_legal = expected == n + 1;
            self.report.continuity_errors += u64::from(!follows && !is_legal);
        }
    }

    /// Packets `from..to` did not come as such. Tables and damaged packets that
    /// came instead stand for those whose place they took.
    fn gap(&mut self, from: u64, to: u64) {
        let mut missing = to - from;
        if missing <= 4096 {
            let mut came = self.since_run.tables.iter().peekable();
            for n in from..to {
                let is_table = self.broadcast.is_table(n);
                if !is_table && self.broadcast.edit() == Edit::None {
                    continue;
                }
                self.broadcast.write(n, &mut self.scratch);
                if is_table && came.next_if(|p| self.broadcast.is_same(p, &self.scratch)).is_some() {
                    missing -= 1;
                    self.report.tables -= 1;
                } else if pid(&self.scratch) == NULL_PID {
                    // Whether null packets pass is the server's affair.
                    missing -= 1;
                }
            }
        }
        self.report.lost += missing.saturating_sub(self.since_run.corrupted);
        if self.missing.len() == GAPS {
            self.missing.pop_front();
        }
        self.missing.push_back((from, to));
    }

    /// Whether `n` was missing; it is not any more.
    fn take_missing(&mut self, n: u64) -> bool {
        let Some(at) = self.missing.iter().position(|&(from, to)| from <= n && n < to) else {
            return false;
        };
        let Some((from, to)) = self.missing.remove(at) else { return false };
        for part in [(from, n), (n + 1, to)] {
            if part.0 < part.1 && self.missing.len() < GAPS {
                self.missing.push_back(part);
            }
        }
        self.report.lost > 0
    }

    fn advance(&mut self, n: u64) {
        self.expected = Some(n + 1);
        self.report.last = Some(n);
        let s = &mut self.since_run;
        if s.corrupted > 0 || s.video_discontinuity || s.audio_discontinuity || !s.tables.is_empty() {
            *s = SinceRun::default();
        }
    }
}

fn pid(p: &[u8; PACKET_BYTES]) -> u16 {
    u16::from_be_bytes([p[1] & 0x1f, p[2]])
}

fn is_discontinuity(p: &[u8; PACKET_BYTES]) -> bool {
    p[3] & 0x20 != 0 && p[4] > 0 && p[5] & 0x80 != 0
}

/// The last continuity counter of each PID.
#[derive(Debug, Default)]
struct Continuity(Vec<(u16, u8)>);

impl Continuity {
    /// Whether the counter of `p` is the one that had to come: one more for a
    /// packet with payload, the same for one without, anything where the
    /// discontinuity indicator is set or the packet is a null one. Source: ISO/IEC 13818-1 §2.4.3.3.
    fn follows(&mut self, p: &[u8; PACKET_BYTES]) -> bool {
        let (pid, counter) = (pid(p), p[3] & 15);
        if pid == NULL_PID {
            return true;
        }
        let Some((_, last)) = self.0.iter_mut().find(|(known, _)| *known == pid) else {
            if self.0.len() < PIDS {
                self.0.push((pid, counter));
            }
            return true;
        };
        let due = if p[3] & 0x10 == 0 { *last } else { (*last + 1) & 15 };
        let follows = counter == due || is_discontinuity(p);
        *last = counter;
        follows
    }
}
