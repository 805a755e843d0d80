//! The clip: a short real programme, played for ever without a seam.
//!
//! Lap `k` is the clip with continuity counters, PCR, PTS and DTS moved on by
//! `k` laps. The clip is a whole number of video frames, of audio frames and
//! of groups of pictures long (see `data/clip.sh`), so a decoder sees one
//! endless programme.

use std::{sync::LazyLock, time::Duration};

use crate::signed::{NULL_PID, PACKET_BYTES, time_stamp};

/// Length of the clip in ticks of 27 MHz: 12.8 s.
const LAP_TICKS: u64 = 27_000_000 * 128 / 10;
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
    has_pcr: bool,
    /// Offsets of PTS and DTS in the packet; zero when there is none.
    stamps: [usize; 2],
}

struct Index {
    patches: Vec<Patch>,
    /// Packets with payload in a lap, by PID.
    per_lap: Vec<u64>,
    /// Byte offset and ticks since the lap began, rising, from (0, 0) to
    /// (length, [`LAP_TICKS`]).
    times: Vec<(u64, u64)>,
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
pub(crate) fn write(n: u64, p: &mut [u8; PACKET_BYTES]) {
    let packets = lap_bytes() / 188;
    let lap = n / packets;
    let at = usize::try_from(n % packets).unwrap_or(0);
    let patch = &INDEX.patches[at];
    p.copy_from_slice(&BYTES[at * PACKET_BYTES..(at + 1) * PACKET_BYTES]);
    let count = lap.wrapping_mul(INDEX.per_lap[patch.pid]).wrapping_add(patch.ordinal);
    p[3] = p[3] & 0xf0 | (count.wrapping_sub(1) & 15) as u8;
    let stamps_on = lap.wrapping_mul(LAP_TICKS / 300) % STAMP_MODULUS;
    if patch.has_pcr {
        let base = (read_pcr_base(p) + stamps_on) % STAMP_MODULUS;
        let b = ((base << 15) | (u64::from(p[10] & 0x7f) << 8)).to_be_bytes();
        p[6..10].copy_from_slice(&b[2..6]);
        p[10] = b[6] & 0x80 | p[10] & 0x7f;
    }
    for at in patch.stamps.into_iter().filter(|&at| at != 0) {
        let stamp = (read_stamp(&p[at..]) + stamps_on) % STAMP_MODULUS;
        let moved = time_stamp(p[at] & 0xf0, stamp);
        p[at..at + 5].copy_from_slice(&moved);
    }
}

impl Index {
    fn build() -> Self {
        let (mut pids, mut per_lap) = (Vec::<u16>::new(), Vec::<u64>::new());
        let mut patches = Vec::new();
        let mut times = vec![(0, 0)];
        let mut first_pcr = None;
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
            let has_adaptation = p[3] & 0x20 != 0;
            let has_pcr = has_adaptation && p[4] > 6 && p[5] & 0x10 != 0;
            if has_pcr {
                let ticks = read_pcr_base(p) * 300 + (u64::from(p[10] & 1) << 8 | u64::from(p[11]));
                let since = ticks - *first_pcr.get_or_insert(ticks);
                if times.last().is_some_and(|&(b, t)| b < at && t < since) {
                    times.push((at, since));
                }
            }
            let payload = if has_adaptation { 5 + usize::from(p[4]) } else { 4 };
            patches.push(Patch {
                pid: place,
                ordinal: per_lap[place],
                has_pcr,
                stamps: if has_payload { stamps(p, payload) } else { [0; 2] },
            });
        }
        times.push((lap_bytes(), LAP_TICKS));
        Self { patches, per_lap, times }
    }
}

/// Where PTS and DTS stand. Source: ISO/IEC 13818-1 §2.4.3.6.
fn stamps(p: &[u8; PACKET_BYTES], payload: usize) -> [usize; 2] {
    let is_pes = p[1] & 0x40 != 0 && p.get(payload..payload + 3) == Some(&[0, 0, 1]);
    let flags = p.get(payload + 7).copied().unwrap_or(0);
    match (is_pes, flags >> 6) {
        (true, 2) => [payload + 9, 0],
        (true, 3) => [payload + 9, payload + 14],
        _ => [0; 2],
    }
}

fn read_pcr_base(p: &[u8; PACKET_BYTES]) -> u64 {
    p[6..10].iter().fold(0, |v, &b| (v << 8) | u64::from(b)) << 1 | u64::from(p[10] >> 7)
}

fn read_stamp(b: &[u8]) -> u64 {
    u64::from(b[0] >> 1 & 7) << 30
        | u64::from(b[1]) << 22
        | u64::from(b[2] >> 1) << 15
        | u64::from(b[3]) << 7
        | u64::from(b[4] >> 1)
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
            write(n, &mut p);
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
