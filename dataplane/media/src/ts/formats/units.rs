//! Cutting a video elementary stream at its start codes.

/// How much of a unit is kept. Sequence parameter sets and sequence headers
/// have less.
const UNIT_MAX: usize = 2048;

/// Finds the units between start codes: NAL units (ITU-T H.264 and H.265
/// Annex B), or the headers of MPEG-2 video (ISO/IEC 13818-2 §6.2.1).
///
/// Holds the first 2 KiB of one unit.
#[derive(Clone, Debug)]
pub(super) struct Units {
    /// The last three bytes.
    window: u32,
    /// The unit that has begun.
    unit: Option<Vec<u8>>,
}

impl Units {
    pub(super) const fn new() -> Self {
        Self { window: u32::MAX, unit: None }
    }

    /// Reads on, and hands to `done` each unit that a start code ends, from the
    /// byte behind its own start code on. Zeros at its end may be those of the
    /// start code that ends it. Stops when `done` has a result.
    pub(super) fn read<T>(&mut self, bytes: &[u8], mut done: impl FnMut(&[u8]) -> Option<T>) -> Option<T> {
        for &byte in bytes {
            self.window = (self.window << 8 | u32::from(byte)) & 0x00FF_FFFF;
            if self.window == 1 {
                let result = self.unit.as_deref().and_then(&mut done);
                self.unit.get_or_insert_default().clear();
                if result.is_some() {
                    return result;
                }
            } else if let Some(unit) = self.unit.as_mut().filter(|unit| unit.len() < UNIT_MAX) {
                unit.push(byte);
            }
        }
        None
    }

    /// The unit that nothing ended, as far as it came.
    pub(super) fn last(&self) -> Option<&[u8]> {
        self.unit.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_what_lies_between_start_codes_however_they_come() {
        let stream = b"\x09\0\0\0\x01\x67abc\0\0\x01\x68d\0\0\0\x01\0\0\x01\x65ef\0\0";
        for size in 1..stream.len() {
            let (mut units, mut got) = (Units::new(), Vec::new());
            for part in stream.chunks(size) {
                let stopped = units.read(part, |unit| {
                    got.push(unit.to_vec());
                    None::<()>
                });
                assert!(stopped.is_none());
            }
            assert_eq!(got, [&b"\x67abc\0\0"[..], b"\x68d\0\0\0", b"\0\0"], "{size}");
            assert_eq!(units.last(), Some(&b"\x65ef\0\0"[..]), "{size}");
        }
        assert_eq!(Units::new().read(stream, |unit| unit.get(3).copied()), Some(b'c'));
    }

    #[test]
    fn what_is_kept_of_a_unit_is_bounded() {
        let mut units = Units::new();
        assert!(units.read(&[&[0, 0, 1][..], &[7; 100_000]].concat(), |_| None::<()>).is_none());
        assert_eq!(units.last().unwrap().len(), UNIT_MAX);
    }
}
