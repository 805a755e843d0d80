//! Whether what a viewer reads is the stream.

use crate::support::feed::{PACKET, VIDEO_PID};

/// Checks that what a viewer reads is the stream: aligned, and nothing of the
/// video lost or repeated.
#[derive(Default)]
pub(crate) struct Checker {
    carry: Vec<u8>,
    continuity: Option<u8>,
    /// Packets that did not begin with 0x47, and continuity errors.
    pub(crate) errors: u64,
}

impl Checker {
    /// Takes the next bytes.
    pub(crate) fn feed(&mut self, mut bytes: &[u8]) {
        if !self.carry.is_empty() {
            let missing = (PACKET - self.carry.len()).min(bytes.len());
            self.carry.extend_from_slice(&bytes[..missing]);
            bytes = &bytes[missing..];
            if self.carry.len() < PACKET {
                return;
            }
            let packet = std::mem::take(&mut self.carry);
            self.packet(&packet);
        }
        let (packets, rest) = bytes.as_chunks::<PACKET>();
        for packet in packets {
            self.packet(packet);
        }
        self.carry.extend_from_slice(rest);
    }

    fn packet(&mut self, packet: &[u8]) {
        if packet[0] != 0x47 {
            self.errors += 1;
            return;
        }
        let pid = u16::from(packet[1] & 0x1F) << 8 | u16::from(packet[2]);
        if pid != VIDEO_PID || packet[3] & 0x10 == 0 {
            return;
        }
        let counter = packet[3] & 0x0F;
        let has_discontinuity = packet[3] & 0x20 != 0 && packet[4] > 0 && packet[5] & 0x80 != 0;
        if !has_discontinuity && self.continuity.is_some_and(|last| (last + 1) & 0x0F != counter) {
            self.errors += 1;
        }
        self.continuity = Some(counter);
    }
}
