//! The clip: a short real programme, played for ever without a seam.
//!
//! Lap `k` is the clip with continuity counters, PCR, PTS and DTS moved on by
//! `k` laps. The clip is a whole number of video frames, of audio frames and
//! of groups of pictures long (see `data/clip.sh`), so a decoder sees one
//! endless programme.

use std::{sync::LazyLock, time::Duration};

use crate::signed::{Edit, Moment, NULL_PID, PACKET_BYTES, has_pcr, shift_stamps};

/// Length of the clip in ticks of 27 MHz: 12.8 s.
const LAP_TICKS: u64 = 27_000_000 * 128 / 10;
const LAP_MILLIS: u64 = 12_800;
/// Time stamps of 90 kHz wrap here. Source: ISO/IEC 13818-1 §2.4.3.7.
const STAMP_MODULUS: u64 = 1 << 33;

static BYTES: &[u8] = include_bytes!("../data/clip.ts");
static INDEX: LazyLock<Index> = LazyLock::new(Index::build);

/// What has to be rewritten in a packet of the clip.
struct Patch {
    /// Place in [`Index::per_lap`].
    pid: usize,
    /// Packets with payload of this PID up to this one.
    ordinal: u64,
    /// It carries a PCR, or a PES packet begins in it.
    has_stamps: bool,
}

struct Index {
    patches: Vec<Patch>,
    /// Packets with payload in a lap, by PID.
    per_lap: Vec<u64>,
    /// Byte offset and ticks since the lap began, rising, from (0, 0) to
    /// (length, [`LAP_TICKS`]).
    times: Vec<(u64, u64)>,
    /// The packet of a lap that carries its first PCR.
    first_pcr: u64,
}

/// Bytes in one lap.
fn lap_bytes() -> u64 {
    u64::try_from(BYTES.len()).unwrap_or(u64::MAX)
}

/// Mean rate in bytes per second.
pub(crate) fn bytes_per_second() -> u64 {
    lap_bytes() * 27_000_000 / LAP_TICKS
}

/// Position in bytes on the air `since_epoch`, of the programme that is `phase`
/// ahead. The pace inside a lap is that of its PCRs.
pub(crate) fn position_at(since_epoch: Duration, phase: Duration) -> u64 {
    let ticks = (since_epoch + phase).as_nanos() * 27 / 1000;
    let lap = u64::try_from(ticks / u128::from(LAP_TICKS)).unwrap_or(u64::MAX >> 32);
    let in_lap = u64::try_from(ticks % u128::from(LAP_TICKS)).unwrap_or(0);
    let times = &INDEX.times;
    let next = times.partition_point(|&(_, t)| t <= in_lap).clamp(1, times.len() - 1);
    let ((b0, t0), (b1, t1)) = (times[next - 1], times[next]);
    lap * lap_bytes() + b0 + (b1 - b0) * (in_lap - t0) / (t1 - t0)
}

/// Writes packet `n` counted from the epoch.
pub(crate) fn write(n: u64, edit: &Edit, p: &mut [u8; PACKET_BYTES]) {
    let packets = lap_bytes() / 188;
    let lap = n / packets;
    let at = usize::try_from(n % packets).unwrap_or(0);
    let patch = &INDEX.patches[at];
    p.copy_from_slice(&BYTES[at * PACKET_BYTES..(at + 1) * PACKET_BYTES]);
    let count = lap.wrapping_mul(INDEX.per_lap[patch.pid]).wrapping_add(patch.ordinal);
    p[3] = p[3] & 0xf0 | (count.wrapping_sub(1) & 15) as u8;
    if patch.has_stamps {
        shift_stamps(p, lap.wrapping_mul(LAP_TICKS / 300) % STAMP_MODULUS);
    }
    if *edit != Edit::None {
        let moment = moment(n, edit);
        if matches!(edit, Edit::LongGroups(_)) && moment.epoch_place > 0 && p[3] & 0x20 != 0 && p[4] > 0 {
            // What follows is no point to begin at, as far as the header says.
            p[5] &= !0x40;
        }
        edit.apply_to_table(&moment.at, p);
        edit.apply(&moment.at, p);
    }
}

/// Where a packet stands among the epochs of an edit, which are laps here.
struct LapMoment {
    at: Moment,
    /// Packets since the epoch began.
    epoch_place: u64,
}

fn moment(n: u64, edit: &Edit) -> LapMoment {
    let packets = lap_bytes() / 188;
    let every = edit.every().map_or(u64::MAX, |e| u64::try_from(e.as_millis()).unwrap_or(u64::MAX));
    let length = packets * (every.saturating_add(LAP_MILLIS / 2) / LAP_MILLIS).clamp(1, 1 << 20);
    let epoch_place = n % length;
    let (lap, in_lap) = (epoch_place / packets, epoch_place % packets);
    let known = INDEX.times.partition_point(|&(byte, _)| byte <= in_lap * 188) - 1;
    let since = lap * LAP_TICKS / 300 + INDEX.times[known].1 / 300;
    let at = Moment {
        n,
        epoch: n / length,
        began: n / length * (length / packets) * LAP_TICKS / 300,
        since,
        is_first_clock: epoch_place == INDEX.first_pcr,
    };
    LapMoment { at, epoch_place }
}

impl Index {
    fn build() -> Self {
        let (mut pids, mut per_lap) = (Vec::<u16>::new(), Vec::<u64>::new());
        let mut patches = Vec::new();
        let mut times = vec![(0, 0)];
        let (mut first_pcr, mut first_pcr_at) = (None, 0);
        for (p, at) in BYTES.as_chunks::<PACKET_BYTES>().0.iter().zip((0u64..).step_by(PACKET_BYTES)) {
            let pid = u16::from_be_bytes([p[1] & 0x1f, p[2]]);
            debug_assert!(p[0] == 0x47 && pid != NULL_PID, "the clip is made of whole packets");
            let place = pids.iter().position(|&known| known == pid).unwrap_or_else(|| {
                pids.push(pid);
                per_lap.push(0);
                pids.len() - 1
            });
            let has_payload = p[3] & 0x10 != 0;
            per_lap[place] += u64::from(has_payload);
            if has_pcr(p) {
                let ticks = read_pcr_base(p) * 300 + (u64::from(p[10] & 1) << 8 | u64::from(p[11]));
                if first_pcr.is_none() {
                    first_pcr_at = at / 188;
                }
                let since = ticks - *first_pcr.get_or_insert(ticks);
                if times.last().is_some_and(|&(b, t)| b < at && t < since) {
                    times.push((at, since));
                }
            }
            let has_stamps = has_pcr(p) || p[1] & 0x40 != 0;
            patches.push(Patch { pid: place, ordinal: per_lap[place], has_stamps });
        }
        times.push((lap_bytes(), LAP_TICKS));
        Self { patches, per_lap, times, first_pcr: first_pcr_at }
    }
}

fn read_pcr_base(p: &[u8; PACKET_BYTES]) -> u64 {
    p[6..10].iter().fold(0, |v, &b| (v << 8) | u64::from(b)) << 1 | u64::from(p[10] >> 7)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn laps_join_without_a_seam_in_counters_and_clock() {
        let packets = lap_bytes() / 188;
        let mut last = std::collections::HashMap::new();
        let mut pcr = None;
        let mut p = [0; PACKET_BYTES];
        // Around the wrap of the 33 bit clock, which is within lap 7456.
        for n in packets * 7454..packets * 7458 {
            write(n, &Edit::None, &mut p);
            let pid = u16::from_be_bytes([p[1] & 0x1f, p[2]]);
            if p[3] & 0x10 != 0
                && let Some(before) = last.insert(pid, p[3] & 15)
            {
                assert_eq!(p[3] & 15, (before + 1) & 15, "packet {n} of PID {pid}");
            }
            if p[3] & 0x20 != 0 && p[4] > 6 && p[5] & 0x10 != 0 {
                let now = read_pcr_base(&p);
                if let Some(before) = pcr.replace(now) {
                    assert_eq!((STAMP_MODULUS + now - before) % STAMP_MODULUS, 3600, "packet {n}");
                }
            }
        }
    }

    #[test]
    fn position_never_falls_and_a_lap_takes_its_time() {
        let at = |millis| position_at(Duration::from_millis(millis), Duration::ZERO);
        assert!((0..30_000).all(|ms| at(ms) <= at(ms + 1)));
        assert_eq!(at(5_000) + lap_bytes(), at(17_800));
    }
}
