//! Framing of an engine's answer (RFC 9112 §6 and §7.1): payload in place.

/// How the end of a body is told.
#[derive(Debug)]
pub(in crate::ingest) enum Framing {
    /// By the end of the connection.
    Close,
    /// By its length: bytes still to come.
    Length(u64),
    /// By chunks.
    Chunked(Chunks),
}

/// What one piece of a body held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::ingest) struct Unframed {
    /// Payload bytes, now at the front.
    pub(in crate::ingest) payload: usize,
    /// The body ended in this piece.
    pub(in crate::ingest) ended: bool,
    /// The framing is broken; the payload before that point counts.
    pub(in crate::ingest) broken: bool,
}

impl Framing {
    /// Moves the payload of `piece` to its front.
    pub(in crate::ingest) fn unframe(&mut self, piece: &mut [u8]) -> Unframed {
        match self {
            Self::Close => Unframed { payload: piece.len(), ended: false, broken: false },
            Self::Length(left) => {
                let payload = usize::try_from(*left).unwrap_or(usize::MAX).min(piece.len());
                *left -= payload as u64;
                Unframed { payload, ended: *left == 0, broken: false }
            }
            Self::Chunked(chunks) => chunks.unframe(piece),
        }
    }
}

/// A chunk size line or trailer line may be this long.
const LINE_LIMIT: usize = 4 << 10;
/// Digits of a size that is read at once.
const PLAIN_DIGITS: usize = 8;
/// All trailers together.
const TRAILER_LIMIT: usize = 16 << 10;

/// Decoder of chunked framing; holds no bytes.
#[derive(Debug, Default)]
pub(in crate::ingest) struct Chunks {
    at: At,
    trailer: usize,
}

#[derive(Clone, Copy, Debug)]
enum At {
    /// In a size line: value so far, digits seen, length of the line so far.
    Size {
        value: u64,
        digits: u8,
        line: usize,
        extension: bool,
    },
    /// In the data: bytes left.
    Data(u64),
    /// Between the data and its CRLF.
    DataEnd,
    /// In the trailer section: length of the line so far, without its CRLF.
    Trailer {
        line: usize,
    },
    Ended,
    Broken,
}

impl Default for At {
    fn default() -> Self {
        Self::Size { value: 0, digits: 0, line: 0, extension: false }
    }
}

impl Chunks {
    fn unframe(&mut self, piece: &mut [u8]) -> Unframed {
        let (mut from, mut to) = (0, 0);
        while from < piece.len() {
            if matches!(self.at, At::Size { line: 0, .. }) {
                (from, to) = whole_chunks(piece, from, to);
                if from == piece.len() {
                    break;
                }
            }
            if let At::Data(left) = self.at {
                let n = usize::try_from(left).unwrap_or(usize::MAX).min(piece.len() - from);
                piece.copy_within(from..from + n, to);
                (from, to) = (from + n, to + n);
                self.at = if left == n as u64 { At::DataEnd } else { At::Data(left - n as u64) };
                continue;
            }
            self.at = self.line_byte(piece[from]);
            from += 1;
            if matches!(self.at, At::Ended | At::Broken) {
                break;
            }
        }
        Unframed { payload: to, ended: matches!(self.at, At::Ended), broken: matches!(self.at, At::Broken) }
    }

    fn line_byte(&mut self, byte: u8) -> At {
        match (self.at, byte) {
            (At::Size { value: 0, digits: 1.., .. }, b'\n') => At::Trailer { line: 0 },
            (At::Size { value, digits: 1.., .. }, b'\n') => At::Data(value),
            (At::Size { line: LINE_LIMIT.., .. }, _) => At::Broken,
            (At::Size { value, digits, line, extension }, b) => {
                let line = line + 1;
                match char::from(b).to_digit(16) {
                    Some(digit) if !extension && digits < 15 => {
                        At::Size { value: value * 16 + u64::from(digit), digits: digits + 1, line, extension }
                    }
                    _ if digits > 0 && (extension || matches!(b, b';' | b'\r' | b' ' | b'\t')) => {
                        At::Size { value, digits, line, extension: true }
                    }
                    _ => At::Broken,
                }
            }
            (At::DataEnd, b'\r') => At::DataEnd,
            (At::DataEnd, b'\n') => At::default(),
            (At::Trailer { line: 0 }, b'\n') => At::Ended,
            (At::Trailer { .. }, b'\n') => At::Trailer { line: 0 },
            (At::Trailer { line }, b'\r') => At::Trailer { line },
            (At::Trailer { line }, _) => {
                self.trailer += 1;
                if self.trailer > TRAILER_LIMIT { At::Broken } else { At::Trailer { line: line + 1 } }
            }
            (At::DataEnd | At::Data(_) | At::Broken, _) => At::Broken,
            (At::Ended, _) => At::Ended,
        }
    }
}

/// Moves the data of chunks to `to` that are whole from `from` on, and of the form
/// that nearly all have; says where that ended. Chunks may be of one byte, so that
/// most of a body is their lines.
fn whole_chunks(piece: &mut [u8], mut from: usize, mut to: usize) -> (usize, usize) {
    loop {
        let (size, digits) = plain_size(&piece[from..]);
        let data = from + digits + 2;
        let end = data + size;
        let is_whole = size > 0
            && piece.get(data - 2..data) == Some(b"\r\n")
            && piece.get(end..end + 2) == Some(b"\r\n");
        if !is_whole {
            return (from, to);
        }
        match size {
            1 => piece[to] = piece[data],
            _ => piece.copy_within(data..end, to),
        }
        (from, to) = (end + 2, to + size);
    }
}

/// The number that `line` begins with, and its digits.
fn plain_size(line: &[u8]) -> (usize, usize) {
    let (mut size, mut digits) = (0, 0);
    for byte in line.iter().take(PLAIN_DIGITS) {
        let Some(digit) = char::from(*byte).to_digit(16) else { break };
        (size, digits) = (size << 4 | digit as usize, digits + 1);
    }
    (size, digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(pieces: &mut [Vec<u8>]) -> (Vec<u8>, bool, bool) {
        let mut framing = Framing::Chunked(Chunks::default());
        let (mut out, mut ended, mut broken) = (Vec::new(), false, false);
        for piece in pieces {
            let u = framing.unframe(piece);
            out.extend_from_slice(&piece[..u.payload]);
            (ended, broken) = (u.ended, u.broken);
            if ended || broken {
                break;
            }
        }
        (out, ended, broken)
    }

    #[test]
    fn chunks_decode_and_broken_framing_keeps_what_came_before() {
        for (name, body, payload, ended, broken) in [
            ("plain", "3\r\nabc\r\n0\r\n\r\n", "abc", true, false),
            ("two", "3\r\nabc\r\n2\r\nde\r\n", "abcde", false, false),
            ("bare LF", "3\nabc\n0\n\n", "abc", true, false),
            ("extension", "3;a=b\r\nabc\r\n0;x\r\n\r\n", "abc", true, false),
            ("trailer", "1\r\na\r\n0\r\nT: v\r\nU: w\r\n\r\n", "a", true, false),
            ("upper case and leading zeros", "000A\r\n0123456789\r\n0\r\n\r\n", "0123456789", true, false),
            ("no size", "\r\nabc", "", false, true),
            ("not hexadecimal", "1\r\na\r\nzz\r\n", "a", false, true),
            ("data too long", "1\r\nabc", "a", false, true),
            ("size too large", "fffffffffffffffff\r\n", "", false, true),
        ] {
            let whole = decode(&mut [body.as_bytes().to_vec()]);
            assert_eq!(whole, (payload.as_bytes().to_vec(), ended, broken), "{name}");
            let mut bytes: Vec<_> = body.bytes().map(|b| vec![b]).collect();
            assert_eq!(decode(&mut bytes), whole, "{name}, a byte at a time");
        }
    }

    #[test]
    fn endless_lines_are_broken() {
        let size = format!("1;{}", "x".repeat(LINE_LIMIT + 1));
        assert!(decode(&mut [size.into_bytes()]).2);
        let trailer = format!("0\r\n{}", "x: y\r\n".repeat(TRAILER_LIMIT));
        assert!(decode(&mut [trailer.into_bytes()]).2);
    }

    #[test]
    fn a_length_ends_the_body_where_it_says() {
        let mut framing = Framing::Length(5);
        assert_eq!(framing.unframe(&mut [0; 3]), Unframed { payload: 3, ended: false, broken: false });
        assert_eq!(framing.unframe(&mut [0; 3]), Unframed { payload: 2, ended: true, broken: false });
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_decode_to_something_shorter(body: Vec<u8>) {
            let (out, ..) = decode(&mut [body.clone()]);
            assert!(out.len() <= body.len());
        }

        #[test]
        fn it_makes_no_difference_where_pieces_end(
            body in "([0-3]{1,10};?\r?\n[0-9a-f]{0,3}\r?\n?){0,9}", cut in 0usize..60
        ) {
            let bytes = body.into_bytes();
            let whole = decode(&mut [bytes.clone()]);
            let mut each: Vec<_> = bytes.iter().map(|b| vec![*b]).collect();
            proptest::prop_assert_eq!(&decode(&mut each), &whole);
            let (first, rest) = bytes.split_at(cut.min(bytes.len()));
            proptest::prop_assert_eq!(&decode(&mut [first.to_vec(), rest.to_vec()]), &whole);
        }
    }
}
