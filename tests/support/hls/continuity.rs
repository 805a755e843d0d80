//! Continuity counters over segments. Source: ISO/IEC 13818-1 §2.4.3.3.

use std::collections::BTreeMap;

use super::{
    Complaint,
    segment::leading,
    ts::{self, PACKET, Packet},
};

/// What came last of a PID.
#[derive(Clone, Copy, Debug)]
struct Last {
    packet: [u8; PACKET],
    /// It has been repeated, and may be no more.
    is_repeated: bool,
    /// A table before a segment had this counter, so the next one may follow that.
    prepended: Option<u8>,
}

/// Follows the counters of every PID.
#[derive(Debug, Default)]
pub(super) struct Continuity(BTreeMap<u16, Last>);

impl Continuity {
    /// Takes the packets of the next segment; `number` is only told.
    pub(super) fn push(
        &mut self,
        number: u64,
        packets: &[Packet<'_>],
        is_discontinuity: bool,
    ) -> Vec<Complaint> {
        if is_discontinuity {
            self.0.clear();
        }
        let leading = leading(packets);
        let mut wrong = packets.iter().enumerate().filter(|(at, p)| !self.follows(**p, *at < leading));
        let Some((at, packet)) = wrong.next() else { return Vec::new() };
        let count = 1 + wrong.count();
        let text = format!("{count} of them, first PID {} in packet {at} of segment {number}", packet.pid());
        vec![Complaint::new("continuity", text)]
    }

    /// Whether the counter of `packet` is one that may come; tables before a
    /// segment may repeat the last one's or follow it.
    fn follows(&mut self, packet: Packet<'_>, is_prepended: bool) -> bool {
        let counter = packet.counter();
        if packet.pid() == ts::NULL {
            return true;
        }
        let fresh = Last { packet: *packet.0, is_repeated: false, prepended: None };
        let Some(last) = self.0.get_mut(&packet.pid()) else {
            self.0.insert(packet.pid(), fresh);
            return true;
        };
        let before = Packet(&last.packet).counter();
        let step = u8::from(packet.has_payload());
        let due = |counter: u8| counter.wrapping_add(step) & 15;
        if is_prepended {
            let known = [Some(before), last.prepended];
            last.prepended = Some(counter);
            return known.into_iter().flatten().any(|known| counter == known || counter == due(known));
        }
        let is_due = counter == due(before) || last.prepended.is_some_and(|p| counter == due(p));
        let repeats = counter == before && !last.is_repeated && packet.repeats(Packet(&last.packet));
        *last = Last { is_repeated: repeats && !is_due, ..fresh };
        is_due || repeats || packet.is_discontinuity()
    }
}
