//! Collecting the tables as their sections come in.

use super::{
    Packet, Pid,
    psi::{PROGRAMS_MAX, Program, Psi},
    section::{Assembler, crc32},
};

/// How many sections a PAT may have; four name a thousand programs.
const PAT_SECTIONS_MAX: usize = 4;

/// The PAT and the PMTs that it names, as far as they have come.
#[derive(Clone, Debug, Default)]
pub(super) struct Tables {
    pat: Vec<Box<[u8]>>,
    programs: Vec<Slot>,
    /// The sections of the next PAT, by section_number.
    next_pat: Vec<Option<Box<[u8]>>>,
    pat_assembler: Assembler,
    pmt_assemblers: Vec<(Pid, Assembler)>,
    bad_sections: u64,
}

/// A program of the PAT, with its PMT once it has come.
#[derive(Clone, Debug)]
struct Slot {
    number: u16,
    pmt_pid: Pid,
    program: Option<Program>,
}

/// What a packet changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Change {
    /// Nothing.
    None,
    /// The PMT of a program.
    Pmt,
    /// The PAT, and so possibly the PMT PIDs.
    Pat,
}

impl Tables {
    /// Sections with a wrong CRC or that contradict themselves, so far.
    pub(super) fn bad_sections(&self) -> u64 {
        self.bad_sections
    }

    /// The PIDs that carry PMTs, distinct.
    pub(super) fn pmt_pids(&self) -> impl Iterator<Item = Pid> + '_ {
        self.pmt_assemblers.iter().map(|(pid, _)| *pid)
    }

    /// Whether the PMT of every program has come.
    pub(super) fn is_complete(&self) -> bool {
        !self.programs.is_empty() && self.programs.iter().all(|slot| slot.program.is_some())
    }

    /// What is known so far; none without a program.
    pub(super) fn psi(&self) -> Option<Psi> {
        Psi::new(self.pat.clone(), self.programs.iter().filter_map(|slot| slot.program.clone()).collect())
    }

    /// Takes a packet of the PAT's or of a PMT's PID, neither duplicate nor
    /// scrambled.
    pub(super) fn push(&mut self, packet: Packet<'_>, broken: bool) -> Change {
        let pid = packet.pid();
        let mut change = Change::None;
        let assembler = if pid == Pid::PAT {
            Some(&mut self.pat_assembler)
        } else {
            self.pmt_assemblers.iter_mut().find(|(p, _)| *p == pid).map(|(_, a)| a)
        };
        let Some(assembler) = assembler else { return change };
        // Out of self while it runs, since what it finds may replace it.
        let mut running = std::mem::take(assembler);
        let consistent = running.push(packet, broken, |section| {
            change = change.max(self.on_section(pid, section));
        });
        self.bad_sections += u64::from(!consistent);
        if pid == Pid::PAT {
            self.pat_assembler = running;
        } else if let Some((_, slot)) = self.pmt_assemblers.iter_mut().find(|(p, _)| *p == pid) {
            *slot = running;
        }
        change
    }

    /// §2.4.4.4 and §2.4.4.9 on the fields, which PAT and PMT share.
    fn on_section(&mut self, pid: Pid, section: &[u8]) -> Change {
        let wanted = if pid == Pid::PAT { 0x00 } else { 0x02 };
        if section[0] != wanted {
            return Change::None;
        }
        let &[_, syntax, _, _, _, version, number, last_number, ..] = section else {
            self.bad_sections += 1;
            return Change::None;
        };
        if syntax & 0x80 == 0 || section.len() < 12 || crc32(section) != 0 {
            self.bad_sections += 1;
            return Change::None;
        }
        let is_current = version & 0x01 != 0;
        match (is_current, wanted) {
            (false, _) => Change::None,
            (true, 0x00) => self.on_pat_section(section, number, last_number),
            (true, _) => self.on_pmt_section(pid, section),
        }
    }

    fn on_pat_section(&mut self, section: &[u8], number: u8, last_number: u8) -> Change {
        let (number, count) = (usize::from(number), usize::from(last_number) + 1);
        if count > PAT_SECTIONS_MAX || number >= count {
            self.bad_sections += 1;
            return Change::None;
        }
        // transport_stream_id and version have to be those of the others.
        let fits = |other: &Option<Box<[u8]>>| other.as_ref().is_none_or(|o| o[3..6] == section[3..6]);
        if self.next_pat.len() != count || !self.next_pat.iter().all(fits) {
            self.next_pat = vec![None; count];
        }
        if self.next_pat[number].as_deref() == Some(section) {
            return Change::None;
        }
        self.next_pat[number] = Some(section.into());
        let Some(pat) = self.next_pat.iter().cloned().collect::<Option<Vec<_>>>() else {
            return Change::None;
        };
        if pat == self.pat {
            return Change::None;
        }
        self.adopt_pat(pat);
        Change::Pat
    }

    /// §2.4.4.3: pairs of program_number and PID; number zero is the network's.
    fn adopt_pat(&mut self, pat: Vec<Box<[u8]>>) {
        let mut programs: Vec<Slot> = Vec::new();
        let entries = pat.iter().flat_map(|s| s[8..s.len() - 4].chunks_exact(4));
        for entry in entries {
            let number = u16::from_be_bytes([entry[0], entry[1]]);
            let pmt_pid = Pid::from_low_bits(u16::from_be_bytes([entry[2], entry[3]]));
            let is_new = programs.iter().all(|slot| slot.number != number);
            if number != 0 && pmt_pid.is_assignable() && is_new && programs.len() < PROGRAMS_MAX {
                let known = self.programs.iter_mut().find(|s| s.number == number && s.pmt_pid == pmt_pid);
                let program = known.and_then(|slot| slot.program.take());
                programs.push(Slot { number, pmt_pid, program });
            }
        }
        let mut assemblers: Vec<(Pid, Assembler)> = Vec::new();
        for slot in &programs {
            if assemblers.iter().all(|(pid, _)| *pid != slot.pmt_pid) {
                let running = self.pmt_assemblers.iter_mut().find(|(pid, _)| *pid == slot.pmt_pid);
                assemblers.push((slot.pmt_pid, running.map(|(_, a)| std::mem::take(a)).unwrap_or_default()));
            }
        }
        self.pat = pat;
        self.programs = programs;
        self.pmt_assemblers = assemblers;
    }

    fn on_pmt_section(&mut self, pid: Pid, section: &[u8]) -> Change {
        let number = u16::from_be_bytes([section[3], section[4]]);
        let Some(slot) = self.programs.iter_mut().find(|s| s.number == number && s.pmt_pid == pid) else {
            return Change::None;
        };
        if slot.program.as_ref().is_some_and(|p| *p.section == *section) {
            return Change::None;
        }
        let Some(program) = Program::parse(pid, section) else {
            self.bad_sections += 1;
            return Change::None;
        };
        slot.program = Some(program);
        Change::Pmt
    }
}
