//! What a stream path asks for: one content, checked by kind.

use millrace_boundary::Output;
use serde_json::json;

use crate::{
    http::{
        response::Refusal,
        url::{self, Unfit},
    },
    stream::ContentKey,
};

/// A wanted content, and how to ask an engine for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Content {
    /// Equal keys share one stream.
    pub(crate) key: ContentKey,
    /// The selector and options, as a query for the engine.
    pub(crate) query: String,
    /// A transport file to post, as JSON, instead of a selector.
    pub(crate) body: Option<String>,
    /// How an engine is to hand it out, where the request says so. No part of the
    /// key: whoever comes first decides.
    pub(crate) output: Option<Output>,
}

impl Content {
    /// The same digits as the other kind of id: what is handed around as a
    /// content id is often an infohash. None for anything else.
    pub(crate) fn other_kind(&self) -> Option<Self> {
        let query = match self.query.split_once('=')? {
            ("id", rest) => format!("infohash={rest}"),
            ("infohash", rest) => format!("id={rest}"),
            _ => return None,
        };
        Some(Self { query, ..self.clone() })
    }
}

/// What the operator allows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Policy {
    /// URLs may name private addresses.
    pub(crate) private_urls: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Selector {
    Id,
    Infohash,
    Url,
    Magnet,
    DirectUrl,
    RawData,
}

/// Every name that selects a content, with its kind. `torrent_url`,
/// `direct_url` and `raw_data` are the predecessor's.
const SELECTORS: &[(&str, Selector)] = &[
    ("content_id", Selector::Id),
    ("id", Selector::Id),
    ("infohash", Selector::Infohash),
    ("url", Selector::Url),
    ("torrent_url", Selector::Url),
    ("magnet", Selector::Magnet),
    ("direct_url", Selector::DirectUrl),
    ("raw_data", Selector::RawData),
];

/// The content that a path's id or a query selects. Parameters that select
/// nothing are ignored: players add their own.
///
/// # Errors
/// With the parameter, what is wrong with it, and what is allowed.
pub(crate) fn parse_content(path_id: Option<&str>, query: &str, policy: Policy) -> Result<Content, Refusal> {
    let mut chosen = path_id.map(|id| ("id", Selector::Id, id.to_owned()));
    let mut file = 0;
    let mut seekback = 0;
    let mut output = None;
    for pair in query.split('&').filter(|p| !p.is_empty()) {
        let (name, raw) = pair.split_once('=').unwrap_or((pair, ""));
        let selector = SELECTORS.iter().find(|(n, _)| *n == name);
        if selector.is_none()
            && !matches!(name, "file_indexes" | "_idx" | "seekback" | "live_delay" | "source")
        {
            continue;
        }
        let value = url::decode(raw).ok_or_else(|| {
            bad(name, "is not percent-encoded UTF-8 text", "Encode the value as RFC 3986 says.")
        })?;
        match selector {
            Some(&(name, kind)) => {
                if let Some((other, ..)) = chosen.as_ref().filter(|(_, k, v)| (*k, v) != (kind, &value)) {
                    return Err(Refusal::bad_parameter(
                        format!("both `{other}` and `{name}` are given"),
                        "Give exactly one of id, content_id, infohash, url, magnet, torrent_url, direct_url, raw_data.",
                    ));
                }
                chosen = Some((name, kind, value));
            }
            None if name == "source" => output = Some(source(&value)?),
            None if matches!(name, "file_indexes" | "_idx") => file = number(name, &value, 9_999)?,
            None => seekback = number(name, &value, 86_400)?,
        }
    }
    let Some((name, kind, value)) = chosen else {
        return Err(Refusal::bad_parameter(
            "no content is selected",
            "Give id=<40 hex digits>, or one of content_id, infohash, url, magnet.",
        ));
    };
    let mut content = select(name, kind, &value, policy)?;
    let mut options = String::new();
    if file > 0 {
        options.push_str(&format!("&_idx={file}"));
    }
    if seekback > 0 {
        options.push_str(&format!("&seekback={seekback}"));
    }
    if !options.is_empty() {
        content.key = ContentKey::new(format!("{}{options}", content.key.as_str()));
        content.query.push_str(&options);
    }
    Ok(Content { output, ..content })
}

fn source(value: &str) -> Result<Output, Refusal> {
    Output::named(value).ok_or_else(|| {
        bad("source", "is neither `ts` nor `hls`", "Give one of these, or leave the parameter out.")
    })
}

fn select(name: &str, kind: Selector, value: &str, policy: Policy) -> Result<Content, Refusal> {
    let plain =
        |key: String, query: String| Content { key: ContentKey::new(key), query, body: None, output: None };
    Ok(match kind {
        Selector::Id => {
            let id = hex40(name, value.strip_prefix("acestream://").unwrap_or(value))?;
            plain(format!("id:{id}"), format!("id={id}"))
        }
        Selector::Infohash => {
            let infohash = hex40(name, value)?;
            plain(format!("infohash:{infohash}"), format!("infohash={infohash}"))
        }
        Selector::Magnet => {
            let infohash = magnet_infohash(value).ok_or_else(|| {
                bad(
                    name,
                    "is not a BitTorrent magnet link",
                    "Give magnet:?xt=urn:btih:<40 hex digits>, encoded.",
                )
            })?;
            plain(format!("infohash:{infohash}"), format!("magnet={}", url::encode(value)))
        }
        Selector::Url | Selector::DirectUrl => {
            url::check(value, policy.private_urls).map_err(|unfit| unfit_url(name, unfit))?;
            let engine_name = if kind == Selector::Url { "url" } else { "direct_url" };
            plain(format!("{engine_name}:{value}"), format!("{engine_name}={}", url::encode(value)))
        }
        Selector::RawData => {
            let is_base64 = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'=' | b' ');
            if value.is_empty() || !value.bytes().all(is_base64) {
                return Err(bad(
                    name,
                    "is not base64",
                    "Give the transport file in base64, percent-encoded.",
                ));
            }
            // A `+` that was sent unencoded has become a space.
            let data = value.replace(' ', "+");
            Content {
                key: ContentKey::new(format!("raw_data:{data}")),
                query: String::new(),
                body: Some(json!({ "transport_file_data": data }).to_string()),
                output: None,
            }
        }
    })
}

fn unfit_url(name: &str, unfit: Unfit) -> Refusal {
    match unfit {
        Unfit::NotHttp => bad(name, "is not an http or https URL", "Give http://host/path, percent-encoded."),
        Unfit::Credentials => bad(name, "carries a user name", "Give a URL without user name and password."),
        Unfit::Private => bad(
            name,
            "leads to this machine or a private network",
            "Use a public address, or set streams.private_urls.",
        ),
    }
}

fn hex40(name: &str, value: &str) -> Result<String, Refusal> {
    if value.len() == 40 && value.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Ok(value.to_ascii_lowercase());
    }
    Err(bad(name, "is not 40 hexadecimal digits", "Give the 40 hexadecimal digits of acestream://…"))
}

fn number(name: &str, value: &str, max: u32) -> Result<u32, Refusal> {
    value.parse().ok().filter(|n| *n <= max).ok_or_else(|| {
        let what = format!("is not a whole number from 0 to {max}");
        bad(name, &what, "Give one number, or leave the parameter out.")
    })
}

fn bad(name: &str, what: &str, remedy: &'static str) -> Refusal {
    Refusal::bad_parameter(format!("`{name}` {what}"), remedy)
}

/// The 40 hexadecimal digits of `xt=urn:btih:`, given so or in base32 (BEP 9).
fn magnet_infohash(magnet: &str) -> Option<String> {
    let query = magnet.strip_prefix("magnet:?")?;
    let hash = query.split('&').find_map(|p| p.strip_prefix("xt=urn:btih:"))?;
    match hash.len() {
        40 if hash.bytes().all(|b| b.is_ascii_hexdigit()) => Some(hash.to_ascii_lowercase()),
        32 => base32(hash),
        _ => None,
    }
}

/// RFC 4648 §6, 32 characters to 20 bytes, as hexadecimal digits.
fn base32(text: &str) -> Option<String> {
    let mut out = String::with_capacity(40);
    let (mut bits, mut held) = (0u32, 0u32);
    for c in text.bytes().map(|b| b.to_ascii_uppercase()) {
        let digit = match c {
            b'A'..=b'Z' => c - b'A',
            b'2'..=b'7' => c - b'2' + 26,
            _ => return None,
        };
        bits = (bits << 5) | u32::from(digit);
        held += 5;
        while held >= 4 {
            held -= 4;
            out.push(char::from_digit((bits >> held) & 15, 16)?);
        }
        bits &= (1 << held) - 1;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "0123456789abcdef0123456789abcdef01234567";

    fn parse(query: &str) -> Result<Content, u16> {
        parse_content(None, query, Policy { private_urls: false }).map_err(|r| r.status())
    }

    #[test]
    fn each_selector_makes_its_key_and_engine_query() {
        let upper = HEX.to_uppercase();
        for (query, key, engine) in [
            (format!("id={HEX}"), format!("id:{HEX}"), format!("id={HEX}")),
            (format!("content_id={upper}"), format!("id:{HEX}"), format!("id={HEX}")),
            (format!("id=acestream%3A%2F%2F{HEX}"), format!("id:{HEX}"), format!("id={HEX}")),
            (format!("id={HEX}&content_id={HEX}"), format!("id:{HEX}"), format!("id={HEX}")),
            (format!("x=1&infohash={HEX}&pid=7"), format!("infohash:{HEX}"), format!("infohash={HEX}")),
            (
                format!("magnet=magnet%3A%3Fxt%3Durn%3Abtih%3A{upper}%26dn%3Da"),
                format!("infohash:{HEX}"),
                format!("magnet=magnet%3A%3Fxt%3Durn%3Abtih%3A{upper}%26dn%3Da"),
            ),
            (
                "url=http%3A%2F%2Fa.org%2Ft".into(),
                "url:http://a.org/t".into(),
                "url=http%3A%2F%2Fa.org%2Ft".into(),
            ),
            (
                "torrent_url=http://a.org/t".into(),
                "url:http://a.org/t".into(),
                "url=http%3A%2F%2Fa.org%2Ft".into(),
            ),
            (format!("id={HEX}&file_indexes=2"), format!("id:{HEX}&_idx=2"), format!("id={HEX}&_idx=2")),
            (format!("id={HEX}&file_indexes=0&seekback=0"), format!("id:{HEX}"), format!("id={HEX}")),
            (
                format!("id={HEX}&live_delay=30"),
                format!("id:{HEX}&seekback=30"),
                format!("id={HEX}&seekback=30"),
            ),
        ] {
            let content = parse(&query).unwrap();
            assert_eq!((content.key.as_str(), content.query.as_str()), (&*key, &*engine), "{query}");
        }
        let raw = parse("raw_data=YWJj+ZA==").unwrap();
        assert_eq!(raw.body.as_deref(), Some(r#"{"transport_file_data":"YWJj+ZA=="}"#));
    }

    #[test]
    fn how_an_engine_hands_a_content_out_is_no_part_of_its_key() {
        for (query, output) in [
            (format!("id={HEX}"), None),
            (format!("id={HEX}&source=hls"), Some(Output::Hls)),
            (format!("source=ts&id={HEX}"), Some(Output::Ts)),
        ] {
            let content = parse(&query).unwrap();
            let seen = (content.key.as_str(), content.query.as_str(), content.output);
            assert_eq!(seen, (&*format!("id:{HEX}"), &*format!("id={HEX}"), output), "{query}");
        }
    }

    #[test]
    fn the_other_kind_of_id_keeps_key_and_options() {
        let content = parse(&format!("id={HEX}&file_indexes=2")).unwrap();
        let other = content.other_kind().unwrap();
        assert_eq!((&other.key, other.query), (&content.key, format!("infohash={HEX}&_idx=2")));
        let content = parse(&format!("infohash={HEX}")).unwrap();
        assert_eq!(content.other_kind().unwrap().query, format!("id={HEX}"));
        assert_eq!(parse("url=http://a.org/t").unwrap().other_kind(), None);
        assert_eq!(parse("raw_data=YWJj").unwrap().other_kind(), None);
    }

    #[test]
    fn anything_else_is_refused_with_400() {
        for query in [
            "",
            "id=",
            "id=xyz",
            &format!("id={HEX}0"),
            &format!("id={HEX}&infohash={HEX}"),
            "infohash=1",
            "id=%zz",
            "url=file:///etc/passwd",
            "url=http://127.0.0.1/",
            "magnet=magnet:?xt=urn:btih:1",
            "raw_data=%3C",
            &format!("id={HEX}&file_indexes=0,1"),
            &format!("id={HEX}&seekback=-1"),
            &format!("id={HEX}&source="),
            &format!("id={HEX}&source=HLS"),
        ] {
            assert_eq!(parse(query), Err(400), "{query}");
        }
    }

    #[test]
    fn base32_is_rfc_4648() {
        // Twenty zero bytes, and twenty of 0xff.
        assert_eq!(base32(&"A".repeat(32)), Some("0".repeat(40)));
        assert_eq!(base32(&"7".repeat(32)), Some("f".repeat(40)));
        assert_eq!(
            base32("MFRGGZDFMZTWQ2LKNNWG23TPOBYXE43U").as_deref(),
            Some("6162636465666768696a6b6c6d6e6f7071727374")
        );
        assert_eq!(base32(&"1".repeat(32)), None);
    }

    proptest::proptest! {
        #[test]
        fn any_query_gets_a_verdict(query: String) {
            parse(&query).ok();
        }
    }
}
