//! What an HLS player asks for.

use crate::http::{
    content::{Content, Policy, parse_content},
    response::Refusal,
};

/// One request of an HLS player.
#[derive(Debug)]
pub(crate) struct Ask {
    /// What for.
    pub(crate) want: Want,
    /// Without the body, and without an effect.
    pub(crate) is_head: bool,
    /// Whether the connection stays open behind the answer.
    pub(crate) keeps_open: bool,
    /// Whether the answer may be compressed.
    pub(crate) takes_gzip: bool,
    /// Validators of what the player has, as it sent them.
    pub(crate) has: Option<Box<[u8]>>,
}

/// What is wanted.
#[derive(Debug)]
pub(crate) enum Want {
    /// The multivariant playlist, with which a viewer begins.
    Multivariant(Content),
    /// The media playlist.
    Playlist {
        /// As it stands in the path.
        token: Box<str>,
        /// Not before it has this.
        at_least: Option<AtLeast>,
        /// An update is enough.
        may_skip: bool,
    },
    /// A media segment, or a part of one.
    Media {
        /// As it stands in the path.
        token: Box<str>,
        /// Media sequence number.
        sequence: u64,
        /// Number of the part.
        part: Option<usize>,
    },
    /// A CORS preflight.
    Preflight,
}

/// A segment, or a part of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AtLeast {
    /// Media sequence number.
    pub(crate) sequence: u64,
    /// Number of the part; the whole segment without it.
    pub(crate) part: Option<usize>,
}

/// Whether a path is one of HLS.
pub(crate) fn is_hls(path: &str) -> bool {
    path.starts_with("/ace/hls/") || multivariant_id(path).is_some()
}

/// What the path and query of an HLS request want.
///
/// # Errors
/// With the parameter or path, what is wrong with it, and what is allowed.
pub(crate) fn want(path: &str, query: &str, policy: Policy) -> Result<Want, Refusal> {
    if let Some(id) = multivariant_id(path) {
        return parse_content(id, query, policy).map(Want::Multivariant);
    }
    let unknown = || Refusal::not_found("there is nothing of this name", "Take addresses from the playlist.");
    let rest = path.strip_prefix("/ace/hls/").ok_or_else(unknown)?;
    let (token, name) = rest.split_once('/').ok_or_else(unknown)?;
    let token = token.into();
    if name == "index.m3u8" {
        let (at_least, may_skip) = directives(query)?;
        return Ok(Want::Playlist { token, at_least, may_skip });
    }
    let numbers = name.strip_suffix(".ts").ok_or_else(unknown)?;
    let (sequence, part) = match numbers.split_once('.') {
        Some((sequence, part)) => (sequence, Some(digits(part).ok_or_else(unknown)?)),
        None => (numbers, None),
    };
    let sequence = digits(sequence).ok_or_else(unknown)?;
    let part = part.map(usize::try_from).transpose().map_err(|_| unknown())?;
    Ok(Want::Media { token, sequence, part })
}

/// The id in the path, if it is one of the multivariant playlist's.
fn multivariant_id(path: &str) -> Option<Option<&str>> {
    match path {
        "/ace/manifest.m3u8" => Some(None),
        _ => {
            let id = path.strip_prefix("/ace/")?.strip_suffix(".m3u8")?;
            (!id.contains('/')).then_some(Some(id))
        }
    }
}

/// Delivery directives (draft-pantos-hls-rfc8216bis §6.2.5); other parameters
/// are the player's own.
fn directives(query: &str) -> Result<(Option<AtLeast>, bool), Refusal> {
    let of = |name: &str| {
        let values = query.split('&').filter_map(|pair| pair.split_once('='));
        values.filter(|(key, _)| *key == name).map(|(_, value)| value).next()
    };
    let number = |name: &'static str| match of(name) {
        None => Ok(None),
        Some(value) => digits(value).map(Some).ok_or_else(|| {
            Refusal::bad_parameter(
                format!("`{name}` is not a whole number"),
                "Give the numbers that follow from the playlist.",
            )
        }),
    };
    let (sequence, part) = (number("_HLS_msn")?, number("_HLS_part")?);
    let may_skip = match of("_HLS_skip") {
        None => false,
        Some("YES" | "v2") => true,
        Some(_) => {
            return Err(Refusal::bad_parameter(
                "`_HLS_skip` is neither `YES` nor `v2`",
                "Give one of these, or leave the parameter out.",
            ));
        }
    };
    let part = part.map(|part| usize::try_from(part).unwrap_or(usize::MAX));
    match (sequence, part) {
        (None, Some(_)) => Err(Refusal::bad_parameter(
            "`_HLS_part` is given without `_HLS_msn`",
            "Give both, or `_HLS_msn` alone.",
        )),
        (sequence, part) => Ok((sequence.map(|sequence| AtLeast { sequence, part }), may_skip)),
    }
}

fn digits(text: &str) -> Option<u64> {
    let is_plain = !text.is_empty() && text.len() <= 19 && text.bytes().all(|b| b.is_ascii_digit());
    if is_plain { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef01234567";

    fn words(target: &str) -> String {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        assert!(is_hls(path), "{path}");
        match want(path, query, Policy { private_urls: false }) {
            Ok(Want::Multivariant(content)) => format!("begin {}", content.key.as_str()),
            Ok(Want::Playlist { token, at_least, may_skip }) => {
                let at_least = at_least.map_or(String::new(), |a| format!(" {}.{:?}", a.sequence, a.part));
                format!("list {token}{at_least}{}", if may_skip { " skip" } else { "" })
            }
            Ok(Want::Media { token, sequence, part }) => format!("media {token} {sequence} {part:?}"),
            Ok(Want::Preflight) => "preflight".into(),
            Err(refusal) => format!("refuse {}", refusal.status()),
        }
    }

    #[test]
    fn each_address_is_what_it_says_or_refused() {
        for (target, expected) in [
            (format!("/ace/manifest.m3u8?id={ID}"), format!("begin id:{ID}")),
            (format!("/ace/{ID}.m3u8"), format!("begin id:{ID}")),
            (format!("/ace/manifest.m3u8?infohash={ID}&x=1"), format!("begin infohash:{ID}")),
            ("/ace/manifest.m3u8".into(), "refuse 400".into()),
            ("/ace/x.m3u8".into(), "refuse 400".into()),
            ("/ace/hls/t/index.m3u8".into(), "list t".into()),
            ("/ace/hls/t/index.m3u8?_HLS_msn=7".into(), "list t 7.None".into()),
            (
                "/ace/hls/t/index.m3u8?a=b&_HLS_msn=7&_HLS_part=2&_HLS_skip=YES".into(),
                "list t 7.Some(2) skip".into(),
            ),
            ("/ace/hls/t/index.m3u8?_HLS_skip=v2".into(), "list t skip".into()),
            ("/ace/hls/t/index.m3u8?_HLS_part=2".into(), "refuse 400".into()),
            ("/ace/hls/t/index.m3u8?_HLS_msn=".into(), "refuse 400".into()),
            ("/ace/hls/t/index.m3u8?_HLS_msn=-1".into(), "refuse 400".into()),
            ("/ace/hls/t/index.m3u8?_HLS_msn=+1".into(), "refuse 400".into()),
            ("/ace/hls/t/index.m3u8?_HLS_msn=1&_HLS_part=x".into(), "refuse 400".into()),
            ("/ace/hls/t/index.m3u8?_HLS_msn=99999999999999999999".into(), "refuse 400".into()),
            ("/ace/hls/t/index.m3u8?_HLS_skip=NO".into(), "refuse 400".into()),
            ("/ace/hls/t/12.ts".into(), "media t 12 None".into()),
            ("/ace/hls/t/12.3.ts?x".into(), "media t 12 Some(3)".into()),
            ("/ace/hls/t/12.3.4.ts".into(), "refuse 404".into()),
            ("/ace/hls/t/x.ts".into(), "refuse 404".into()),
            ("/ace/hls/t/12.mp4".into(), "refuse 404".into()),
            ("/ace/hls/t".into(), "refuse 404".into()),
            ("/ace/hls/".into(), "refuse 404".into()),
            ("/ace/hls/t/u/index.m3u8".into(), "refuse 404".into()),
        ] {
            assert_eq!(words(&target), expected, "{target}");
        }
    }
}
