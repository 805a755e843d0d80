//! One look at each packet: what is in force, what time it is, where to join.

use std::sync::Arc;

use super::{
    Continuity, ContinuityChecker, PACKET_LEN, Packet, Pcr, Pid, Psi, Verdict, VideoCodec,
    clock::{Mark, Span, StreamClock},
    pes::decode_time,
    picture::{Found, PictureSearch},
    tables::{Change, Tables},
};

/// How long a program's missing PMT holds back those that are known. PMTs are
/// repeated every 100 ms in practice.
const PMT_WAIT: Span = Span { ticks: Pcr::HZ, bytes: 1 << 20 };

/// The least distance of join points that are just the start of a PES packet.
const PES_JOIN_DISTANCE: Span = Span { ticks: Pcr::HZ / 2, bytes: 256 << 10 };

/// How long video may be without a random access point before the starts of
/// PES packets have to do.
const FALLBACK_AFTER: Span = Span { ticks: 10 * Pcr::HZ, bytes: 8 << 20 };

/// The same once there was one: then long groups of pictures are the likelier
/// reason, and a viewer had better join at the last true point.
const FALLBACK_AGAIN_AFTER: Span = Span { ticks: 60 * Pcr::HZ, bytes: 48 << 20 };

/// Where a viewer may begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinPoint {
    /// Absolute byte offset of its first packet, in the stream of aligned bytes
    /// scanned.
    pub offset: u64,
    /// The PCR in that packet, or else the last one before it.
    pub pcr: Option<Pcr>,
    /// The last continuity counters before it.
    pub continuity: Continuity,
}

/// What was found in the packets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Another PSI than before: applies from `offset` on, where the packet
    /// stands that completed it.
    Psi {
        /// Absolute byte offset.
        offset: u64,
        /// All of it.
        psi: Arc<Psi>,
    },
    /// A viewer may begin here.
    Join(JoinPoint),
    /// An access unit begins here, or a PES packet where there is no video: told
    /// by [`Indexer::with_units`] alone, before it is known what is in it.
    Unit {
        /// Where.
        point: JoinPoint,
        /// When it is to be decoded, in ticks of 90 kHz.
        time: Option<u64>,
    },
    /// The unit at this absolute byte offset can be decoded without those before
    /// it: told by [`Indexer::with_units`] alone.
    RandomAccess(u64),
    /// A PCR on the PCR PID of the PSI's main program.
    Pcr {
        /// Absolute byte offset of its packet.
        offset: u64,
        /// The clock.
        pcr: Pcr,
        /// The packet signals that the clock does not continue the last one.
        discontinuity: bool,
    },
}

/// Counters since the start; they never fall.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IndexStats {
    /// Packets scanned.
    pub packets: u64,
    /// Of these, null packets.
    pub null_packets: u64,
    /// Of these, packets with transport_error_indicator or without a sync byte.
    /// Nothing else in them is believed or counted.
    pub transport_errors: u64,
    /// Of these, packets with scrambled payload.
    pub scrambled: u64,
    /// Continuity counters that were not the one due.
    pub continuity_errors: u64,
    /// Legal repetitions of the packet before.
    pub duplicates: u64,
    /// PSI events.
    pub psi_changes: u64,
    /// PAT and PMT sections with a wrong CRC, and payloads on their PIDs that
    /// contradict themselves.
    pub bad_sections: u64,
    /// Join events, fallback included.
    pub join_points: u64,
    /// Join events at the start of some PES packet of video, for want of a
    /// random access point.
    pub fallback_join_points: u64,
}

/// Scans packets. About 50 KiB, whatever the stream; allocates only with new
/// PSI.
#[derive(Clone, Debug)]
pub struct Indexer {
    stats: IndexStats,
    continuity: ContinuityChecker,
    /// The PIDs of which every packet is wanted.
    watched: PidSet,
    /// Of the next packet.
    offset: u64,
    tables: Tables,
    psi: Option<Arc<Psi>>,
    /// Since when some PMT but not all of them are known.
    incomplete_since: Option<Mark>,
    clock: StreamClock,
    clock_pid: Option<Pid>,
    lead: Option<Lead>,
    tells_units: bool,
}

/// Some PIDs, a bit each.
#[derive(Clone, Debug)]
struct PidSet([u64; Pid::COUNT / 64]);

impl PidSet {
    fn only(pid: Pid) -> Self {
        let mut set = Self([0; Pid::COUNT / 64]);
        set.set(pid, true);
        set
    }

    #[inline]
    fn contains(&self, pid: Pid) -> bool {
        self.0[pid.index() / 64] >> (pid.index() % 64) & 1 != 0
    }

    fn set(&mut self, pid: Pid, is_in: bool) {
        let word = &mut self.0[pid.index() / 64];
        let bit = 1 << (pid.index() % 64);
        *word = if is_in { *word | bit } else { *word & !bit };
    }
}

/// The stream at whose starts viewers join.
#[derive(Clone, Debug)]
struct Lead {
    pid: Pid,
    codec: Option<VideoCodec>,
    /// The access unit being looked at.
    unit: Option<(JoinPoint, PictureSearch)>,
    /// Where the wait for a random access point began.
    waits_since: Mark,
    wait: Span,
    last_pes_join: Option<Mark>,
}

impl Default for Indexer {
    fn default() -> Self {
        Self::new()
    }
}

impl Indexer {
    /// At offset zero, knowing nothing.
    #[must_use]
    pub fn new() -> Self {
        Self {
            stats: IndexStats::default(),
            continuity: ContinuityChecker::new(),
            watched: PidSet::only(Pid::PAT),
            offset: 0,
            tables: Tables::default(),
            psi: None,
            incomplete_since: None,
            clock: StreamClock::default(),
            clock_pid: None,
            lead: None,
            tells_units: false,
        }
    }

    /// One that tells where access units begin, too.
    #[must_use]
    pub fn with_units() -> Self {
        Self { tells_units: true, ..Self::new() }
    }

    /// Counters since the start.
    #[must_use]
    pub fn stats(&self) -> IndexStats {
        IndexStats { bad_sections: self.tables.bad_sections(), ..self.stats }
    }

    /// Absolute byte offset of the next packet.
    #[must_use]
    pub const fn offset(&self) -> u64 {
        self.offset
    }

    /// The PSI in force.
    #[must_use]
    pub const fn psi(&self) -> Option<&Arc<Psi>> {
        self.psi.as_ref()
    }

    /// Scans `packets`, the next bytes of the stream, and appends what it finds
    /// to `events` in the order of discovery: the offset of a join point may
    /// lie before this call's bytes when the kind of its picture only showed
    /// later. `packets` are whole packets; bytes behind the last whole one are
    /// not looked at. What is found does not depend on how the stream is split
    /// into calls.
    pub fn scan(&mut self, packets: &[u8], events: &mut Vec<Event>) {
        let (packets, _) = packets.as_chunks::<PACKET_LEN>();
        for bytes in packets {
            let header = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            let pid = Pid::from_low_bits(u16::from_be_bytes([bytes[1], bytes[2]]));
            // Sync, no error, no unit start, in the clear, payload only.
            let is_plain = header & 0xFFC0_00F0 == 0x4700_0010 && !self.watched.contains(pid);
            let first = [bytes[4], bytes[5], bytes[6], bytes[7], bytes[8], bytes[9], bytes[10], bytes[11]];
            if !(is_plain && self.continuity.follows(pid, (header & 0x0F) as u8, first)) {
                self.on_packet(Packet::new(bytes), events);
            }
            self.offset += PACKET_LEN as u64;
        }
        self.stats.packets += packets.len() as u64;
    }

    fn on_packet(&mut self, packet: Packet<'_>, events: &mut Vec<Event>) {
        if !packet.has_sync() || packet.transport_error() {
            self.stats.transport_errors += 1;
            return;
        }
        let pid = packet.pid();
        if pid == Pid::NULL {
            self.stats.null_packets += 1;
            return;
        }
        let in_clear = packet.scrambling() == 0;
        self.stats.scrambled += u64::from(!in_clear);

        let is_lead = self.lead.as_ref().is_some_and(|lead| lead.pid == pid);
        // Of the packets before this one, so taken before it is counted.
        let before = (is_lead && packet.payload_unit_start())
            .then(|| self.psi.as_ref().map(|psi| Continuity::of(&self.continuity, psi.tracked())))
            .flatten();
        let broken = match self.continuity.check(packet) {
            Verdict::Ok => false,
            Verdict::Duplicate => {
                self.stats.duplicates += 1;
                return;
            }
            Verdict::Error { .. } => {
                self.stats.continuity_errors += 1;
                true
            }
        };
        if self.clock_pid == Some(pid) {
            self.on_clock(packet, events);
        }
        if is_lead {
            match before {
                Some(continuity) => {
                    let point = JoinPoint { offset: self.offset, pcr: self.clock.pcr(), continuity };
                    self.on_unit_start(packet, point, events);
                }
                None => self.on_unit_more(packet, broken, events),
            }
        }
        if in_clear && packet.has_payload() && (pid == Pid::PAT || self.tables.pmt_pids().any(|p| p == pid)) {
            let change = self.tables.push(packet, broken);
            self.on_tables(change, events);
        }
    }

    fn on_clock(&mut self, packet: Packet<'_>, events: &mut Vec<Event>) {
        let Some(pcr) = packet.pcr() else { return };
        self.clock.on_pcr(pcr, self.offset);
        if self.psi.is_some() {
            events.push(Event::Pcr { offset: self.offset, pcr, discontinuity: packet.discontinuity() });
        }
    }

    /// A PES packet of the lead stream starts with `packet`, at `point`.
    fn on_unit_start(&mut self, packet: Packet<'_>, point: JoinPoint, events: &mut Vec<Event>) {
        // The unit before it ended without a picture that tells.
        self.conclude(Found::Other, events);
        if self.tells_units {
            events.push(Event::Unit { point: point.clone(), time: decode_time(packet) });
        }
        let Some(lead) = &mut self.lead else { return };
        let Some(codec) = lead.codec else {
            if self.tells_units {
                events.push(Event::RandomAccess(point.offset));
            }
            self.join_at_pes(point, events);
            return;
        };
        let mut search = PictureSearch::new(codec);
        let found = match (packet.random_access(), packet.scrambling()) {
            (true, _) => Found::RandomAccess,
            (false, 0) => search.feed(packet.payload()),
            (false, _) => Found::Other,
        };
        lead.unit = Some((point, search));
        self.conclude(found, events);
    }

    /// A packet of the lead stream in which no PES packet starts.
    fn on_unit_more(&mut self, packet: Packet<'_>, broken: bool, events: &mut Vec<Event>) {
        let Some(Lead { unit: Some((_, search)), .. }) = &mut self.lead else { return };
        let readable = !broken && packet.scrambling() == 0;
        let found = if readable { search.feed(packet.payload()) } else { Found::Other };
        self.conclude(found, events);
    }

    /// Ends the look at the current access unit, unless undecided.
    fn conclude(&mut self, found: Found, events: &mut Vec<Event>) {
        let Some(lead) = &mut self.lead else { return };
        let is_open = lead.unit.is_some();
        self.watched.set(lead.pid, is_open && found == Found::Undecided);
        if found == Found::Undecided {
            return;
        }
        let Some((point, _)) = lead.unit.take() else { return };
        if found == Found::RandomAccess {
            if self.tells_units {
                events.push(Event::RandomAccess(point.offset));
            }
            lead.waits_since = self.clock.mark(self.offset);
            lead.wait = FALLBACK_AGAIN_AFTER;
            self.stats.join_points += 1;
            events.push(Event::Join(point));
        } else if self.clock.has_passed(lead.wait, lead.waits_since, self.offset) {
            self.join_at_pes(point, events);
        }
    }

    /// Joins at the start of some PES packet, unless the last such point is
    /// near.
    fn join_at_pes(&mut self, point: JoinPoint, events: &mut Vec<Event>) {
        let Some(lead) = &mut self.lead else { return };
        let is_near = |mark| !self.clock.has_passed(PES_JOIN_DISTANCE, mark, self.offset);
        if lead.last_pes_join.is_some_and(is_near) {
            return;
        }
        lead.last_pes_join = Some(self.clock.mark(self.offset));
        self.stats.join_points += 1;
        self.stats.fallback_join_points += u64::from(lead.codec.is_some());
        events.push(Event::Join(point));
    }

    /// After each packet of the PAT or of a PMT.
    fn on_tables(&mut self, change: Change, events: &mut Vec<Event>) {
        if change == Change::Pat {
            self.incomplete_since = None;
        }
        let is_complete = self.tables.is_complete();
        if is_complete {
            self.incomplete_since = None;
        }
        if change == Change::None && self.incomplete_since.is_none() {
            return;
        }
        let Some(psi) = self.tables.psi() else {
            self.watch();
            return;
        };
        if self.psi.is_none() {
            self.follow_clock(psi.pcr_pid());
        }
        if !is_complete {
            let since = *self.incomplete_since.get_or_insert_with(|| self.clock.mark(self.offset));
            if !self.clock.has_passed(PMT_WAIT, since, self.offset) {
                self.watch();
                return;
            }
        }
        if self.psi.as_deref() != Some(&psi) {
            self.adopt(psi, events);
        }
        self.watch();
    }

    fn adopt(&mut self, psi: Psi, events: &mut Vec<Event>) {
        self.follow_clock(psi.pcr_pid());
        let main = psi.main();
        let first = main.video().map(|(pid, codec)| (pid, Some(codec)));
        let first = first.or_else(|| main.audio().next().map(|pid| (pid, None)));
        let first = first.or_else(|| main.streams().first().map(|s| (s.pid, None)));
        if first != self.lead.as_ref().map(|lead| (lead.pid, lead.codec)) {
            let now = self.clock.mark(self.offset);
            self.lead = first.map(|(pid, codec)| Lead {
                pid,
                codec,
                unit: None,
                waits_since: now,
                wait: FALLBACK_AFTER,
                last_pes_join: None,
            });
        }
        let psi = Arc::new(psi);
        self.psi = Some(Arc::clone(&psi));
        self.stats.psi_changes += 1;
        events.push(Event::Psi { offset: self.offset, psi });
    }

    fn follow_clock(&mut self, pid: Option<Pid>) {
        if self.clock_pid != pid {
            self.clock_pid = pid;
            self.clock.change_pid(self.offset);
        }
    }

    /// Watches the PIDs of the tables and, while a unit is open, the lead's.
    fn watch(&mut self) {
        self.watched = PidSet::only(Pid::PAT);
        for pid in self.tables.pmt_pids() {
            self.watched.set(pid, true);
        }
        if let Some(lead) = self.lead.as_ref().filter(|lead| lead.unit.is_some()) {
            self.watched.set(lead.pid, true);
        }
    }
}

#[cfg(test)]
#[path = "indexer_tests.rs"]
mod tests;
