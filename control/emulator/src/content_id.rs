//! Content ids that say what to play and how to misbehave, so that a test
//! needs no side channel.
//!
//! ```text
//! digits  0-3    4-5       6     7-14     15-22  23-30  31-39
//!         ace1   scenario  kind  bit/s    first  second serial
//! ```
//!
//! `kind` is 0 for the clip, 1 for the signed broadcast, 2 for the signed one at a
//! varying rate; the parameters are those of the scenario. An infohash is the same with `ace2` in front and, for
//! `shared-infohash`, with an even serial. Any other id plays healthy.

use std::{fmt, str::FromStr};

use crate::{Content, Scenario, behaviour::Lookup, rng::forty_hex, signed::Verifier};

const ID_MARK: &str = "ace1";
const INFOHASH_MARK: &str = "ace2";
const SERIAL_MASK: u64 = (1 << 36) - 1;

/// A content id with a code; as text 40 hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContentId {
    content: Content,
    scenario: Scenario,
    serial: u64,
}

impl ContentId {
    /// An id that plays `content` in the way of `scenario`. Ids with different
    /// serials (of 36 bits, higher ones are cut off) are different contents.
    #[must_use]
    pub fn new(content: Content, scenario: Scenario, serial: u64) -> Self {
        Self { content, scenario, serial: serial & SERIAL_MASK }
    }

    /// What it plays.
    #[must_use]
    pub fn content(&self) -> Content {
        self.scenario.content().unwrap_or(self.content)
    }

    /// How it misbehaves.
    #[must_use]
    pub fn scenario(&self) -> Scenario {
        self.scenario
    }

    /// Its infohash, in 40 hex digits.
    #[must_use]
    pub fn infohash(&self) -> String {
        infohash_of(&self.to_string())
    }

    /// A verifier of what it plays, when that is a signed broadcast.
    #[must_use]
    pub fn verifier(&self) -> Option<Verifier> {
        let broadcast = self.content().broadcast(&self.infohash())?;
        Some(Verifier::of(broadcast.edited(self.scenario.behaviour().edit)))
    }

    fn digits(&self, mark: &str, serial: u64) -> String {
        let (kind, rate) = match self.content {
            Content::Clip => (0, 0),
            Content::Signed { bitrate_bps } => (1, bitrate_bps),
            Content::Varying => (2, 0),
        };
        let (number, [first, second]) = self.scenario.code();
        format!("{mark}{number:02x}{kind:x}{rate:08x}{first:08x}{second:08x}{serial:09x}")
    }

    fn read(text: &str, mark: &str) -> Option<Self> {
        let digits = text.strip_prefix(mark)?;
        if text.len() != 40 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        let word = |at: usize| u32::from_str_radix(&digits[at..at + 8], 16).ok();
        let content = match &digits[2..3] {
            "0" => Content::Clip,
            "1" => Content::Signed { bitrate_bps: word(3)? },
            "2" => Content::Varying,
            _ => return None,
        };
        let number = u8::from_str_radix(&digits[..2], 16).ok()?;
        let scenario = Scenario::from_code(number, [word(11)?, word(19)?])?;
        let serial = u64::from_str_radix(&digits[27..], 16).ok()?;
        Some(Self { content, scenario, serial })
    }

    /// What an id or an infohash says, if it has a code. Case does not matter.
    #[must_use]
    pub fn decode(text: &str) -> Option<Self> {
        let text = text.to_ascii_lowercase();
        Self::read(&text, ID_MARK).or_else(|| Self::read(&text, INFOHASH_MARK))
    }
}

impl fmt::Display for ContentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.digits(ID_MARK, self.serial))
    }
}

/// Why a text is no content id with a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a content id of the emulator")]
pub struct NotCoded;

impl FromStr for ContentId {
    type Err = NotCoded;
    fn from_str(text: &str) -> Result<Self, NotCoded> {
        Self::read(&text.to_ascii_lowercase(), ID_MARK).ok_or(NotCoded)
    }
}

/// The infohash that a content id leads to, in 40 hex digits; for an infohash
/// with a code, itself.
#[must_use]
pub fn infohash_of(content_id: &str) -> String {
    let text = content_id.to_ascii_lowercase();
    if ContentId::read(&text, INFOHASH_MARK).is_some() {
        return text;
    }
    match ContentId::read(&text, ID_MARK) {
        Some(id) if id.scenario.behaviour().lookup == Lookup::OnlyInfohash => text,
        Some(id) if id.scenario.name() == Scenario::shared_infohash().name() => {
            id.digits(INFOHASH_MARK, id.serial & !1)
        }
        Some(id) => id.digits(INFOHASH_MARK, id.serial),
        None => forty_hex(&text),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::At;

    #[test]
    fn every_row_survives_an_id_and_a_text() {
        let all = (0..=u8::MAX).filter_map(|n| Scenario::from_code(n, [3, 2_000]));
        let content = Content::Signed { bitrate_bps: 4_000_001 };
        for scenario in all {
            let id = ContentId::new(content, scenario, 0x8_7654_3211);
            assert_eq!(id.to_string().len(), 40);
            assert_eq!(id.to_string().parse(), Ok(id), "{scenario}");
            let again: Scenario = scenario.to_string().parse().unwrap();
            assert_eq!(again.behaviour(), scenario.behaviour(), "{scenario}");
            assert_eq!(ContentId::decode(&id.infohash()).unwrap().scenario(), scenario);
        }
    }

    #[test]
    fn scenarios_are_written_as_people_say_them() {
        let (s, ms) = (Duration::from_secs, Duration::from_millis);
        for (text, scenario) in [
            ("healthy-live", Scenario::healthy()),
            ("stall(2s,10s)", Scenario::stall(At::Time(s(2)), s(10))),
            ("stall(1000b)", Scenario::stall(At::Bytes(1000), Duration::ZERO)),
            ("metadata-failure(4600ms)", Scenario::metadata_failure(ms(4600))),
            ("bad-json(html)", Scenario::bad_json(crate::BadJson::Html)),
            ("healthy-bitrate(vbr)", Scenario::healthy_bitrate(0)),
            ("framing-chunked(65536, 1)", Scenario::framing_chunked(65536, true)),
        ] {
            assert_eq!(text.parse(), Ok(scenario), "{text}");
        }
        for wrong in ["", "stal", "stall(x)", "stall(1s,2s,3s)", "refuse(1)", "bad-json(9)", "stall(1s"] {
            assert!(wrong.parse::<Scenario>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn ids_lead_to_the_infohash_they_should() {
        let id = |scenario, serial| ContentId::new(Content::Clip, scenario, serial);
        assert_ne!(id(Scenario::healthy(), 6).infohash(), id(Scenario::healthy(), 7).infohash());
        let shared = Scenario::shared_infohash();
        assert_eq!(id(shared, 6).infohash(), id(shared, 7).infohash());
        assert_ne!(id(shared, 6).infohash(), id(shared, 8).infohash());
        let itself = id(Scenario::id_is_infohash(), 1);
        assert_eq!(itself.infohash(), itself.to_string());
        assert_eq!(infohash_of(&infohash_of("0123")), forty_hex(&forty_hex("0123")));
        assert_eq!(infohash_of("ABCD"), infohash_of("abcd"));
    }
}
