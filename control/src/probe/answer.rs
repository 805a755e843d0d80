//! What an engine says about itself, read leniently: engines differ by version
//! in envelope, types and presence of every field.

use serde_json::Value;

/// A good probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Version as the engine writes it, such as `3.2.11`; at most 64 characters.
    pub(crate) version: Box<str>,
    /// `linux`, `win32`, `android`; at most 64 characters.
    pub(crate) platform: Option<Box<str>>,
    /// Whether it says it has a network; `None` when it gave no usable answer.
    pub(crate) connected: Option<bool>,
}

/// Longest word kept of an engine's answer, in characters.
const WORD: usize = 64;

/// Version and platform from an answer to `get_version`, if it has a version.
pub(crate) fn version(body: &[u8]) -> Option<(Box<str>, Option<Box<str>>)> {
    let json = first_value(body)?;
    let result = result(&json)?;
    let version = word(result.get("version")?)?;
    Some((version, result.get("platform").and_then(word)))
}

/// The answer to `get_network_connection_status`, if it is one.
pub(crate) fn connected(body: &[u8]) -> Option<bool> {
    let json = first_value(body)?;
    let result = result(&json)?;
    match result.get("connected").unwrap_or(result) {
        Value::Bool(b) => Some(*b),
        Value::Number(n) => n.as_i64().map(|n| n != 0),
        Value::String(s) if s.eq_ignore_ascii_case("true") || s == "1" => Some(true),
        Value::String(s) if s.eq_ignore_ascii_case("false") || s == "0" => Some(false),
        Value::Null | Value::String(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

/// The first JSON value; what follows it, a byte order mark before it and
/// broken UTF-8 inside it are forgiven. Depth is limited by the parser.
fn first_value(body: &[u8]) -> Option<Value> {
    let text = String::from_utf8_lossy(body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body));
    serde_json::Deserializer::from_str(&text).into_iter().next()?.ok()
}

/// Inside the envelope `{"result": …}`, or the value itself where there is none.
fn result(json: &Value) -> Option<&Value> {
    match json.get("result") {
        Some(Value::Null) => None,
        Some(result) => Some(result),
        None => json.is_object().then_some(json),
    }
}

fn word(value: &Value) -> Option<Box<str>> {
    let text = match value {
        Value::String(s) => s.chars().filter(|c| !c.is_control()).take(WORD).collect(),
        Value::Number(n) => n.to_string(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => return None,
    };
    let text = text.trim();
    (!text.is_empty()).then(|| text.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[test]
    fn versions_are_found_in_every_envelope_and_nowhere_else() {
        let deep = "[".repeat(100_000);
        for (body, expected) in [
            (
                r#"{"result":{"code":3021100,"platform":"linux","version":"3.2.11"},"error":null}"#,
                Some("3.2.11"),
            ),
            (r#"{"result":{"version":3.1}}"#, Some("3.1")),
            (r#"{"version":"3.1.49"}"#, Some("3.1.49")),
            ("\u{feff}{\"version\":\"3\"} trailing", Some("3")),
            (r#"{"result":{"version":"  "}}"#, None),
            (r#"{"result":{"version":null}}"#, None),
            (r#"{"result":null,"error":"access denied"}"#, None),
            (r#"{"error":{"message":"unknown method","code":0}}"#, None),
            (r#"{"result":"3.2.11"}"#, None),
            (r#""3.2.11""#, None),
            ("[1,2]", None),
            ("{}", None),
            ("", None),
            ("Internal Server Error", None),
            (r#"{"result":{"version":"3.2"#, None),
            (deep.as_str(), None),
        ] {
            let version = version(body.as_bytes()).map(|(v, _)| v);
            assert_eq!(version.as_deref(), expected, "{}", &body[..body.len().min(80)]);
        }
    }

    #[test]
    fn words_of_an_engine_stay_short_and_printable() {
        let body = format!(r#"{{"version":"3\n\u0000{}","platform":"\u001b[31mx"}}"#, "9".repeat(60_000));
        let (version, platform) = version(body.as_bytes()).unwrap();
        assert_eq!((version.len(), &version[..3]), (64, "399"));
        assert_eq!(platform.as_deref(), Some("[31mx"));
    }

    #[test]
    fn connected_is_read_in_all_its_spellings() {
        for (body, expected) in [
            (r#"{"result":{"connected":true}}"#, Some(true)),
            (r#"{"result":{"connected":false},"error":null}"#, Some(false)),
            (r#"{"result":{"connected":"False"}}"#, Some(false)),
            (r#"{"result":{"connected":1}}"#, Some(true)),
            (r#"{"result":false}"#, Some(false)),
            (r#"{"connected":"1"}"#, Some(true)),
            (r#"{"result":{"connected":1e99}}"#, None),
            (r#"{"result":{"connected":[]}}"#, None),
            (r#"{"result":null,"error":"access denied"}"#, None),
            ("true", None),
            ("", None),
        ] {
            assert_eq!(connected(body.as_bytes()), expected, "{body}");
        }
    }

    #[test]
    fn no_damage_to_an_answer_panics() {
        let whole = br#"{"result":{"code":3021100,"platform":"linux","version":"3.2.11","connected":true}}"#;
        let mut random = Random::new(1);
        for _ in 0..50_000 {
            let mut body = whole.to_vec();
            for _ in 0..=random.below(4) {
                let at = usize::try_from(random.below(body.len() as u64)).unwrap();
                match random.below(3) {
                    0 => body[at] = random.next().to_le_bytes()[0],
                    1 => body.truncate(at.max(1)),
                    _ => body.insert(at, random.next().to_le_bytes()[0]),
                }
            }
            if let Some((version, _)) = version(&body) {
                assert!(!version.is_empty() && version.chars().count() <= WORD);
            }
            connected(&body);
        }
    }
}
