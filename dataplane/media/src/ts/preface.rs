//! The packets to send before a join point.

use super::{Continuity, JoinPoint, NULL_PACKET, PACKET_LEN, Pcr, Pid, Psi, psi::SI_PIDS};

/// Whether a preface has to say that what follows does not continue what the
/// receiver had before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Discontinuity {
    /// Nothing was sent before, or what follows continues it.
    None,
    /// The receiver had other packets of these PIDs before.
    Signalled,
}

/// Counter taken for a PID that was not seen before the point, so that a
/// following zero, where most multiplexers begin, is right.
const UNSEEN: u8 = 15;

impl Psi {
    /// PAT and PMT packets to put in front of a join point, counted so that the
    /// packets of their PIDs behind the point are continuous. `continuity`
    /// holds the last counter of each PID before the point: n packets of a PID
    /// whose last counter was c get c-n+1 to c, modulo 16.
    ///
    /// The sections are those received, bit by bit, each starting its own
    /// packet.
    ///
    /// With [`Discontinuity::Signalled`] the first packet of the PAT's and of
    /// each PMT's PID carries discontinuity_indicator (ISO/IEC 13818-1
    /// §2.4.3.5), and one packet with nothing but such an adaptation field
    /// follows for each elementary stream's PID, the PCR PIDs, and the service
    /// information that was seen. Having no
    /// payload it carries the last counter before the point, and does not
    /// count (§2.4.3.3). At most 80 PIDs are signalled, the main program's
    /// first.
    ///
    /// A receiver that takes §2.4.3.5 literally wants the indicator on all
    /// packets of the PCR PID up to the next PCR; [`JoinPoint::preface`] gives
    /// it that PCR in the preface.
    #[must_use]
    pub fn preface(&self, continuity: &Continuity, discontinuity: Discontinuity) -> Vec<u8> {
        self.preface_with(continuity, discontinuity, None)
    }

    fn preface_with(
        &self,
        continuity: &Continuity,
        discontinuity: Discontinuity,
        pcr: Option<Pcr>,
    ) -> Vec<u8> {
        let mut out = Vec::new();
        let mut psi_pids = vec![Pid::PAT];
        write_sections(&mut out, Pid::PAT, self.pat_sections(), continuity, discontinuity);
        for program in self.programs() {
            let pid = program.pmt_pid;
            if !psi_pids.contains(&pid) {
                psi_pids.push(pid);
                let here = self.programs().iter().filter(|p| p.pmt_pid == pid).map(|p| &*p.section);
                write_sections(&mut out, pid, here, continuity, discontinuity);
            }
        }
        if discontinuity == Discontinuity::Signalled {
            for &pid in self.tracked().iter().filter(|pid| !psi_pids.contains(pid)) {
                let last = continuity.last(pid);
                if last.is_none() && SI_PIDS.contains(&pid) {
                    continue; // A stream without this table.
                }
                let pcr = pcr.filter(|_| self.pcr_pid() == Some(pid));
                out.extend_from_slice(&signal(pid, last.unwrap_or(UNSEEN), pcr));
            }
        }
        out
    }
}

impl JoinPoint {
    /// [`Psi::preface`] for this point, with the point's PCR in the packet that
    /// signals the discontinuity of the main program's clock, so that the new
    /// time base starts there as §2.4.3.5 wants it.
    #[must_use]
    pub fn preface(&self, psi: &Psi, discontinuity: Discontinuity) -> Vec<u8> {
        psi.preface_with(&self.continuity, discontinuity, self.pcr)
    }
}

/// Appends packets that carry `sections`.
fn write_sections<'a>(
    out: &mut Vec<u8>,
    pid: Pid,
    sections: impl Iterator<Item = &'a [u8]>,
    continuity: &Continuity,
    discontinuity: Discontinuity,
) {
    let first = out.len();
    for section in sections {
        let mut rest = section;
        let mut is_start = true;
        while is_start || !rest.is_empty() {
            let signals = discontinuity == Discontinuity::Signalled && out.len() == first;
            let mut packet = NULL_PACKET;
            set_pid(&mut packet, pid);
            let mut at = 4;
            if signals {
                packet[3] = 0x30;
                packet[4..6].copy_from_slice(&[1, 0x80]);
                at = 6;
            }
            if is_start {
                packet[1] |= 0x40;
                packet[at] = 0; // pointer_field
                at += 1;
            }
            let (now, later) = rest.split_at(rest.len().min(PACKET_LEN - at));
            packet[at..at + now.len()].copy_from_slice(now);
            out.extend_from_slice(&packet);
            rest = later;
            is_start = false;
        }
    }
    // Backwards from the last counter, so that what follows is the next.
    let mut counter = continuity.last(pid).unwrap_or(UNSEEN);
    for packet in out[first..].rchunks_mut(PACKET_LEN) {
        packet[3] |= counter;
        counter = counter.wrapping_sub(1) & 0x0F;
    }
}

/// An adaptation field with discontinuity_indicator, and nothing else.
fn signal(pid: Pid, counter: u8, pcr: Option<Pcr>) -> [u8; PACKET_LEN] {
    let mut packet = NULL_PACKET;
    set_pid(&mut packet, pid);
    packet[3] = 0x20 | counter;
    packet[4] = 183;
    packet[5] = 0x80;
    if let Some(pcr) = pcr {
        packet[5] |= 0x10;
        packet[6..12].copy_from_slice(&pcr.to_bytes());
    }
    packet
}

fn set_pid(packet: &mut [u8; PACKET_LEN], pid: Pid) {
    packet[1..3].copy_from_slice(&pid.get().to_be_bytes());
}
