//! Files of the pages: what `panel/` was built into.

use axum::{
    extract::Path,
    http::{HeaderMap, HeaderValue, header},
    response::{IntoResponse, Response},
};

use super::problem::Problem;

/// Of all files, so that a path never has two meanings and may be kept for ever.
const VERSION: &str = include_str!("../../panel/built/version");
const FOR_EVER: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");

struct File {
    name: &'static str,
    kind: &'static str,
    bytes: &'static [u8],
    /// The same in gzip, where that is worth it.
    packed: Option<&'static [u8]>,
}

static FILES: [File; 4] = [
    File {
        name: "watch.js",
        kind: "text/javascript; charset=utf-8",
        bytes: include_bytes!("../../panel/built/watch.js"),
        packed: Some(include_bytes!("../../panel/built/watch.js.gz")),
    },
    File {
        name: "watch.css",
        kind: "text/css; charset=utf-8",
        bytes: include_bytes!("../../panel/built/watch.css"),
        packed: None,
    },
    File {
        name: "icon.svg",
        kind: "image/svg+xml",
        bytes: include_bytes!("../../panel/built/icon.svg"),
        packed: None,
    },
    File {
        name: "notices.txt",
        kind: "text/plain; charset=utf-8",
        bytes: include_bytes!("../../panel/built/notices.txt"),
        packed: None,
    },
];

/// A file of this version. Of another one there is none: a page that is kept
/// open over an update asks for nothing more, and a new page names this one.
pub(super) async fn file(
    Path((version, name)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let file = FILES.iter().find(|file| version == VERSION && file.name == name);
    let file = file.ok_or_else(|| Problem::no_such_path(&format!("/panel/{version}/{name}")))?;
    let mut response = match file.packed.filter(|_| takes_gzip(&headers)) {
        Some(packed) => ([(header::CONTENT_ENCODING, "gzip")], packed).into_response(),
        None => file.bytes.into_response(),
    };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(file.kind));
    headers.insert(header::CACHE_CONTROL, FOR_EVER);
    if file.packed.is_some() {
        headers.insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    }
    Ok(response)
}

/// Whether `Accept-Encoding` names gzip, and not with a weight of zero.
fn takes_gzip(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        let is_gzip = parts.next().is_some_and(|name| name.eq_ignore_ascii_case("gzip"));
        let weight = parts.find_map(|part| part.strip_prefix("q="));
        is_gzip && weight.is_none_or(|weight| weight.parse().is_ok_and(|weight: f32| weight > 0.0))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_goes_to_those_who_take_it() {
        for (accepted, packed) in [
            ("gzip, deflate, br, zstd", true),
            ("br;q=1.0, GZIP;q=0.8, *;q=0.1", true),
            ("deflate, gzip ; q=0", false),
            ("gzip;q=0.000", false),
            ("gzip;q=much", false),
            ("identity", false),
            ("xgzip", false),
            ("", false),
        ] {
            let headers = HeaderMap::from_iter([(header::ACCEPT_ENCODING, accepted.parse().unwrap())]);
            assert_eq!(takes_gzip(&headers), packed, "{accepted}");
        }
        assert!(!takes_gzip(&HeaderMap::new()), "a tool that says nothing");
    }

    #[test]
    fn pages_name_only_files_that_there_are() {
        let watch = include_str!("../../panel/built/watch.html");
        let refused = include_str!("../../panel/built/refused.html");
        let named: Vec<_> = [watch, refused]
            .iter()
            .flat_map(|page| page.split('"'))
            .filter_map(|text| text.strip_prefix("/panel/"))
            .collect();
        assert_eq!(named.len(), 6);
        for path in named {
            let (version, name) = path.split_once('/').unwrap();
            assert!(version == VERSION && FILES.iter().any(|file| file.name == name), "{path}");
        }
    }
}
