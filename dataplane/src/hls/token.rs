//! What an HLS viewer is known by: a token in its URLs, which only this process
//! can have made.

use std::hash::{BuildHasher, RandomState};

use crate::stream::SessionId;

/// Makes tokens and recognises them. The key is drawn when the process starts,
/// and shared by its shards.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seal(RandomState);

/// Whose a URL is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    /// Of the stream.
    pub(crate) session: SessionId,
    /// The shard that runs it.
    pub(crate) home: u16,
    /// The viewer: 64 random bits.
    pub(crate) viewer: u64,
}

/// Hexadecimal digits of a token.
const LEN: usize = 16 + 4 + 16 + 16;

impl Seal {
    /// The token as text of [`LEN`] hexadecimal digits.
    pub(crate) fn write(&self, token: Token) -> String {
        let Token { session, home, viewer } = token;
        format!("{session}{home:04x}{viewer:016x}{:016x}", self.mark(token))
    }

    /// The token that `text` is, if it was made here.
    pub(crate) fn read(&self, text: &str) -> Option<Token> {
        if text.len() != LEN || !text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return None;
        }
        let number = |from: usize, to: usize| u64::from_str_radix(text.get(from..to)?, 16).ok();
        let token = Token {
            session: SessionId(number(0, 16)?),
            home: u16::try_from(number(16, 20)?).ok()?,
            viewer: number(20, 36)?,
        };
        // Not a secret that opens anything: who guesses one watches as somebody else.
        (number(36, LEN)? == self.mark(token)).then_some(token)
    }

    fn mark(&self, token: Token) -> u64 {
        self.0.hash_one((token.session.0, token.home, token.viewer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_made_here_is_recognised() {
        let seal = Seal::default();
        let token = Token { session: SessionId(0x0123_4567_89ab_cdef), home: 3, viewer: u64::MAX - 5 };
        let text = seal.write(token);
        assert_eq!((text.len(), seal.read(&text)), (LEN, Some(token)));
        assert_eq!(seal.clone().read(&text), Some(token), "on every shard");
        assert_eq!(Seal::default().read(&text), None, "of another process");
        for at in 0..LEN {
            let mut other = text.clone().into_bytes();
            other[at] = if other[at] == b'0' { b'1' } else { b'0' };
            assert_eq!(seal.read(std::str::from_utf8(&other).unwrap()), None, "digit {at}");
        }
        for text in ["", "x", &text[1..], &text.to_uppercase(), &format!("{text}0"), &"é".repeat(LEN / 2)] {
            assert_eq!(seal.read(text), None, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_gets_a_verdict(text: String) {
            proptest::prop_assert_eq!(Seal::default().read(&text), None);
        }
    }
}
