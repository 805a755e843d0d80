//! Whether a picture can be decoded without those before it.

use super::ts::{Packet, Stream};

/// What an access unit can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Decoding can begin with it.
    Random,
    /// It cannot, and why.
    None(&'static str),
}

/// Looks at the first access unit of a picture, whose packets these are in order.
pub(super) fn of(stream: Stream, packets: &[Packet<'_>]) -> Access {
    let Some(first) = packets.first().filter(|p| p.starts_unit()) else {
        return Access::None("it is cut off at its beginning");
    };
    let own = packets.iter().skip(1).take_while(|p| !p.starts_unit());
    let bytes: Vec<u8> = [first].into_iter().chain(own).flat_map(|p| p.payload()).copied().collect();
    let header = bytes.get(8).map_or(9, |length| 9 + usize::from(*length));
    if !bytes.starts_with(&[0, 0, 1]) {
        return Access::None("no PES packet begins");
    }
    let units = units(bytes.get(header..).unwrap_or(&[]));
    let is_indicated = first.is_random_access();
    match stream.kind {
        0x1b => h264(&units, is_indicated),
        0x24 => h265(&units),
        0x01 | 0x02 => mpeg2(&units, is_indicated),
        _ if is_indicated => Access::Random,
        _ => Access::None("no random_access_indicator"),
    }
}

/// What stands behind each start code.
fn units(bytes: &[u8]) -> Vec<&[u8]> {
    let mut units = Vec::new();
    let mut rest = bytes;
    while let Some(at) = rest.windows(3).position(|w| w == [0, 0, 1]) {
        rest = rest.get(at + 3..).unwrap_or(&[]);
        units.push(rest);
    }
    units
}

/// Source: ITU-T H.264 table 7-1, §7.4.3.
fn h264(units: &[&[u8]], is_indicated: bool) -> Access {
    let mut has_parameters = false;
    for unit in units {
        let kind = unit.first().map_or(0, |b| b & 0x1f);
        match kind {
            7 => has_parameters = true,
            5 | 1 if !has_parameters => return Access::None("no sequence parameters before the picture"),
            5 => return Access::Random,
            1 if is_indicated && is_intra_slice(unit.get(1..).unwrap_or(&[])) => return Access::Random,
            1 => return Access::None("its first slice is of no IDR picture"),
            _ => {}
        }
    }
    Access::None("no slice in it")
}

/// Whether slice_type, the second number of a slice header, is I or SI.
fn is_intra_slice(header: &[u8]) -> bool {
    let mut at = 0;
    let mut bit = || {
        let bit = header.get(at / 8).map(|b| b >> (7 - at % 8) & 1);
        at += 1;
        bit
    };
    // Exp-Golomb codes. Source: ITU-T H.264 §9.1.
    let mut number = || {
        let mut zeros = 0;
        while bit()? == 0 {
            zeros += 1;
            if 16 < zeros {
                return None;
            }
        }
        let mut value: u32 = 1;
        for _ in 0..zeros {
            value = value << 1 | u32::from(bit()?);
        }
        Some(value - 1)
    };
    let (Some(_first), Some(kind)) = (number(), number()) else { return false };
    matches!(kind % 5, 2 | 4)
}

/// Source: ITU-T H.265 table 7-1: IRAP pictures are of types 16 to 23.
fn h265(units: &[&[u8]]) -> Access {
    let mut has_parameters = false;
    for unit in units {
        match unit.first().map_or(0, |b| b >> 1 & 0x3f) {
            33 => has_parameters = true,
            0..=23 if !has_parameters && !unit.is_empty() => {
                return Access::None("no sequence parameters before the picture");
            }
            16..=23 => return Access::Random,
            0..=9 => return Access::None("its first slice is of no IRAP picture"),
            _ => {}
        }
    }
    Access::None("no slice in it")
}

/// Source: ITU-T H.262 §6.3.9: picture_coding_type 1 is I.
fn mpeg2(units: &[&[u8]], is_indicated: bool) -> Access {
    let has_sequence = units.iter().any(|u| u.first() == Some(&0xb3));
    let picture = units.iter().find(|u| u.first() == Some(&0));
    let is_intra = picture.and_then(|u| u.get(2)).is_some_and(|b| b >> 3 & 7 == 1);
    match (is_intra, has_sequence || is_indicated) {
        (true, true) => Access::Random,
        (true, false) => Access::None("neither sequence header nor random_access_indicator"),
        _ => Access::None("its first picture is no I picture"),
    }
}
