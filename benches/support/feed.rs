//! A transport stream of constant rate, and a memfd that keeps its newest part.
//!
//! Valid as a stream (PSI, PCR, PTS, RAI, continuity); the pictures in it are
//! filler that no decoder shows.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::Duration,
};

use rustix::fs::{FallocateFlags, MemfdFlags};

/// Length of a transport stream packet, in bytes.
pub(crate) const PACKET: usize = 188;
/// PID of the one elementary stream.
pub(crate) const VIDEO_PID: u16 = 0x100;
const PMT_PID: u16 = 0x1000;
/// One picture, one PCR, one PAT and one PMT in each: 25 a second.
const FRAME: Duration = Duration::from_millis(40);
/// A random access point every 2 s.
const FRAMES_PER_RAI: u64 = 50;

/// Makes the packets of a programme with one video stream, forever.
pub(crate) struct Mux {
    rate_bps: u64,
    packets_per_frame: u64,
    next: u64,
    continuity: [u8; 3],
    pat: [u8; PACKET],
    pmt: [u8; PACKET],
    filler: [u8; PACKET],
}

impl Mux {
    /// A stream of `rate_bps` bits a second, transport packets included.
    pub(crate) fn new(rate_bps: u64) -> Self {
        let packets_per_frame = rate_bps * 40 / 1000 / (PACKET as u64 * 8);
        assert!(packets_per_frame > 3, "the rate is too low for a picture every {FRAME:?}");
        let mut filler = [0u8; PACKET];
        for (i, byte) in filler.iter_mut().enumerate() {
            // Never 00 00 01, so never a start code.
            *byte = (i as u8).wrapping_mul(31) | 0x80;
        }
        header(&mut filler, VIDEO_PID, false, 0x10);
        let pat = [0, 0xB0, 13, 0, 1, 0xC1, 0, 0, 0, 1, 0xE0 | (PMT_PID >> 8) as u8, PMT_PID as u8];
        let (video_high, video_low) = (0xE0 | (VIDEO_PID >> 8) as u8, VIDEO_PID as u8);
        let pmt = [
            2, 0xB0, 18, 0, 1, 0xC1, 0, 0, video_high, video_low, 0xF0, 0, 0x1B, video_high, video_low, 0xF0,
            0,
        ];
        Self {
            rate_bps,
            packets_per_frame,
            next: 0,
            continuity: [0; 3],
            pat: section(0, &pat),
            pmt: section(PMT_PID, &pmt),
            filler,
        }
    }

    /// Appends the packets due by `elapsed` since the stream's first byte.
    pub(crate) fn fill_until(&mut self, elapsed: Duration, out: &mut Vec<u8>) {
        let bits = u128::from(self.rate_bps) * elapsed.as_nanos() / 1_000_000_000;
        let due = (bits / (PACKET as u128 * 8)) as u64;
        while self.next < due {
            let at = out.len();
            let (template, counter) = match self.next % self.packets_per_frame {
                0 => (&self.pat, 0),
                1 => (&self.pmt, 1),
                _ => (&self.filler, 2),
            };
            out.extend_from_slice(template);
            let packet = &mut out[at..];
            packet[3] |= self.continuity[counter];
            self.continuity[counter] = (self.continuity[counter] + 1) & 0x0F;
            if self.next % self.packets_per_frame == 2 {
                self.start_picture(packet);
            }
            self.next += 1;
        }
    }

    /// PCR, PES header with PTS, access unit delimiter, and a slice's start.
    /// ISO/IEC 13818-1 §2.4.3.4 and §2.4.3.6.
    fn start_picture(&self, packet: &mut [u8]) {
        let frame = self.next / self.packets_per_frame;
        let is_rai = frame.is_multiple_of(FRAMES_PER_RAI);
        let ticks = u128::from(self.next) * (PACKET as u128 * 8) * 27_000_000 / u128::from(self.rate_bps);
        let (base, extension) = ((ticks / 300) as u64 & 0x1_FFFF_FFFF, (ticks % 300) as u16);
        packet[1] |= 0x40;
        packet[3] |= 0x20;
        packet[4] = 7;
        packet[5] = if is_rai { 0x50 } else { 0x10 };
        packet[6..10].copy_from_slice(&((base >> 1) as u32).to_be_bytes());
        packet[10] = ((base & 1) << 7) as u8 | 0x7E | (extension >> 8) as u8;
        packet[11] = extension as u8;
        let pts = (base + 18_000) & 0x1_FFFF_FFFF;
        packet[12..21].copy_from_slice(&[0, 0, 1, 0xE0, 0, 0, 0x80, 0x80, 5]);
        packet[21] = 0x21 | ((pts >> 29) & 0x0E) as u8;
        packet[22] = (pts >> 22) as u8;
        packet[23] = ((pts >> 14) | 1) as u8;
        packet[24] = (pts >> 7) as u8;
        packet[25] = ((pts << 1) | 1) as u8;
        packet[26..32].copy_from_slice(&[0, 0, 0, 1, 0x09, if is_rai { 0x10 } else { 0x30 }]);
        packet[32..37].copy_from_slice(&[0, 0, 0, 1, if is_rai { 0x65 } else { 0x41 }]);
    }
}

fn header(packet: &mut [u8; PACKET], pid: u16, unit_start: bool, control: u8) {
    packet[0] = 0x47;
    packet[1] = (pid >> 8) as u8 | if unit_start { 0x40 } else { 0 };
    packet[2] = pid as u8;
    packet[3] = control;
}

/// One packet with one PSI section and its CRC.
fn section(pid: u16, body: &[u8]) -> [u8; PACKET] {
    let mut packet = [0xFF; PACKET];
    header(&mut packet, pid, true, 0x10);
    packet[4] = 0;
    packet[5..5 + body.len()].copy_from_slice(body);
    let crc = body.iter().fold(0xFFFF_FFFFu32, |crc, &byte| {
        (0..8).fold(crc ^ (u32::from(byte) << 24), |crc, _| {
            if crc & 0x8000_0000 == 0 { crc << 1 } else { (crc << 1) ^ 0x04C1_1DB7 }
        })
    });
    packet[5 + body.len()..9 + body.len()].copy_from_slice(&crc.to_be_bytes());
    packet
}

/// A memfd written at its end, of which only the newest `window` bytes keep
/// their pages. What the kernel still sends keeps its own references.
pub(crate) struct Store {
    file: OwnedFd,
    head: u64,
    freed: u64,
    window: u64,
}

/// Pages are given back in pieces of this many bytes.
const PUNCH: u64 = 1 << 20;

impl Store {
    /// An empty store that keeps at least `window` bytes.
    pub(crate) fn new(window: u64) -> io::Result<Self> {
        let file = rustix::fs::memfd_create("feed", MemfdFlags::CLOEXEC)?;
        Ok(Self { file, head: 0, freed: 0, window })
    }

    /// Bytes written so far.
    pub(crate) fn head(&self) -> u64 {
        self.head
    }

    /// The oldest byte still kept.
    pub(crate) fn tail(&self) -> u64 {
        self.freed
    }

    /// Writes all of `bytes` behind the head.
    pub(crate) fn append(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let written = rustix::io::pwrite(&self.file, bytes, self.head)?;
            self.head += written as u64;
            bytes = &bytes[written..];
        }
        if self.head - self.freed >= self.window + PUNCH {
            let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            rustix::fs::fallocate(&self.file, flags, self.freed, PUNCH)?;
            self.freed += PUNCH;
        }
        Ok(())
    }

    /// The file to send from.
    pub(crate) fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}
