//! Where a URI of a playlist leads, on the host that the playlist is from.

use std::fmt;

/// The longest path with query that is used, in bytes. An engine's have about
/// a hundred.
pub const MAX_URI: usize = 2048;

/// Why a URI cannot be used. What it names is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UriError {
    /// Nothing, or a fragment alone: it would be the playlist itself.
    Empty,
    /// A scheme that is not HTTP's, or HTTP's without a host.
    Scheme,
    /// A space or a control character, which would end the request line.
    Character,
    /// More than [`MAX_URI`] bytes.
    TooLong,
}

impl fmt::Display for UriError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the URI is empty"),
            Self::Scheme => f.write_str("the URI is not one of HTTP"),
            Self::Character => f.write_str("the URI has a space or a control character"),
            Self::TooLong => write!(f, "the URI is longer than {MAX_URI} bytes"),
        }
    }
}

impl std::error::Error for UriError {}

/// Path and query of `reference`, as it stands in a playlist that was asked for
/// under `base`, a path with or without a query.
///
/// Of an absolute URL only path and query are used, whatever the host: the
/// result is asked of the host that sent the playlist. It begins with `/`, is
/// ASCII without spaces, has no dot segments, and at most [`MAX_URI`] bytes.
/// Bytes beyond ASCII are percent-encoded; the fragment is dropped.
///
/// Source: RFC 3986 §5.2.2 to §5.2.4, for `http` and `https`.
///
/// # Errors
/// [`UriError`], when there is no such path.
pub fn resolve(base: &str, reference: &str) -> Result<String, UriError> {
    if !is_one_word(reference) {
        return Err(UriError::Character);
    }
    let reference = before(reference, '#');
    let (target, has_host) = without_host(reference)?;
    let (path, query) = split_query(target);
    let base_path = before(before(base, '#'), '?');
    let path = match path {
        "" if has_host => "/".to_owned(),
        "" if query.is_none() => return Err(UriError::Empty),
        "" => without_dots(base_path),
        _ if has_host || path.starts_with('/') => without_dots(path),
        _ => {
            let folder = base_path.rfind('/').map_or("", |at| &base_path[..at]);
            without_dots(&format!("{folder}/{path}"))
        }
    };
    let mut uri = String::with_capacity(path.len());
    encode(&path, &mut uri);
    if let Some(query) = query {
        uri.push('?');
        encode(query, &mut uri);
    }
    match uri.len() {
        // The base may have what the reference has not.
        ..=MAX_URI if is_one_word(&uri) => Ok(uri),
        ..=MAX_URI => Err(UriError::Character),
        _ => Err(UriError::TooLong),
    }
}

fn is_one_word(text: &str) -> bool {
    text.bytes().all(|b| b' ' < b && b != 0x7F)
}

fn before(text: &str, end: char) -> &str {
    text.find(end).map_or(text, |at| &text[..at])
}

fn split_query(target: &str) -> (&str, Option<&str>) {
    target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)))
}

/// What follows scheme and host, and whether there was a host.
fn without_host(reference: &str) -> Result<(&str, bool), UriError> {
    let rest = match scheme(reference) {
        Some((scheme, rest)) => {
            let is_http = scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https");
            if !is_http || !rest.starts_with("//") {
                return Err(UriError::Scheme);
            }
            rest
        }
        None => reference,
    };
    Ok(match rest.strip_prefix("//") {
        Some(rest) => (rest.find(['/', '?']).map_or("", |at| &rest[at..]), true),
        None => (rest, false),
    })
}

/// RFC 3986 §3.1: a letter, then letters, digits, `+`, `-` and `.`, then `:`.
fn scheme(reference: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = reference.split_once(':')?;
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'));
    is_scheme.then_some((scheme, rest))
}

/// RFC 3986 §5.2.4; begins with `/`.
fn without_dots(path: &str) -> String {
    let mut kept = Vec::new();
    let mut segments = path.strip_prefix('/').unwrap_or(path).split('/').peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        match segment {
            "." => {}
            ".." => drop(kept.pop()),
            _ => {
                kept.push(segment);
                continue;
            }
        }
        if is_last {
            kept.push("");
        }
    }
    format!("/{}", kept.join("/"))
}

fn encode(text: &str, out: &mut String) {
    const HEX: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F'];
    for byte in text.bytes() {
        if byte.is_ascii() {
            out.push(char::from(byte));
        } else {
            out.extend(['%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 0x0F)]]);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// RFC 3986 §5.4, of `http://a/b/c/d;p?q`: path and query of what it lists.
    #[test]
    fn references_lead_where_the_standard_says() {
        for (reference, expected) in [
            ("g", "/b/c/g"),
            ("./g", "/b/c/g"),
            ("g/", "/b/c/g/"),
            ("/g", "/g"),
            ("//g", "/"),
            ("?y", "/b/c/d;p?y"),
            ("g?y", "/b/c/g?y"),
            ("g#s", "/b/c/g"),
            ("g?y#s", "/b/c/g?y"),
            (";x", "/b/c/;x"),
            ("g;x?y#s", "/b/c/g;x?y"),
            (".", "/b/c/"),
            ("./", "/b/c/"),
            ("..", "/b/"),
            ("../g", "/b/g"),
            ("../..", "/"),
            ("../../g", "/g"),
            ("../../../g", "/g"),
            ("../../../../g", "/g"),
            ("/./g", "/g"),
            ("/../g", "/g"),
            ("g.", "/b/c/g."),
            (".g", "/b/c/.g"),
            ("g..", "/b/c/g.."),
            ("..g", "/b/c/..g"),
            ("./../g", "/b/g"),
            ("./g/.", "/b/c/g/"),
            ("g/./h", "/b/c/g/h"),
            ("g/../h", "/b/c/h"),
            ("g;x=1/./y", "/b/c/g;x=1/y"),
            ("g;x=1/../y", "/b/c/y"),
            ("g?y/./x", "/b/c/g?y/./x"),
            ("g?y/../x", "/b/c/g?y/../x"),
        ] {
            assert_eq!(resolve("/b/c/d;p?q", reference).as_deref(), Ok(expected), "{reference}");
        }
    }

    #[test]
    fn no_reference_leads_to_another_host() {
        for (base, reference, expected) in [
            ("/ace/m/x/k.m3u8", "http://10.77.0.9:6878/ace/c/x/0.ts", Ok("/ace/c/x/0.ts")),
            ("/ace/m/x/k.m3u8", "https://evil.example/ace/c/x/0.ts?a=b", Ok("/ace/c/x/0.ts?a=b")),
            ("/ace/m/x/k.m3u8", "HTTP://user:word@evil.example/0.ts", Ok("/0.ts")),
            ("/ace/m/x/k.m3u8", "//evil.example/0.ts", Ok("/0.ts")),
            ("/ace/m/x/k.m3u8", "http://evil.example", Ok("/")),
            ("/ace/m/x/k.m3u8", "http://evil.example?q", Ok("/?q")),
            ("/ace/m/x/k.m3u8", "../../../ace/c/x/0.ts", Ok("/ace/c/x/0.ts")),
            ("/ace/m/x/k.m3u8?u=/a/b", "0.ts", Ok("/ace/m/x/0.ts")),
            ("/ace/m/x/k.m3u8", "12:30.ts", Ok("/ace/m/x/12:30.ts")),
            ("/ace/m/x/k.m3u8", "канал.ts", Ok("/ace/m/x/%D0%BA%D0%B0%D0%BD%D0%B0%D0%BB.ts")),
            ("nonsense", "0.ts", Ok("/0.ts")),
            ("", "?q", Ok("/?q")),
            ("/k.m3u8", "data:video/mp2t,x", Err(UriError::Scheme)),
            ("/k.m3u8", "acestream://x", Err(UriError::Scheme)),
            ("/k.m3u8", "http:g", Err(UriError::Scheme)),
            ("/k.m3u8", "0.ts HTTP/1.1", Err(UriError::Character)),
            ("/k.m3u8", "0.ts\r\nHost: x", Err(UriError::Character)),
            ("/k.m3u8", "0\u{7f}.ts", Err(UriError::Character)),
            ("/k.m3u8", "", Err(UriError::Empty)),
            ("/k.m3u8", "#s", Err(UriError::Empty)),
        ] {
            assert_eq!(resolve(base, reference).as_deref(), expected.as_ref().copied(), "{base} {reference}");
        }
    }

    #[test]
    fn a_path_has_the_longest_length_and_no_more() {
        let longest = "a".repeat(MAX_URI - 1);
        assert_eq!(resolve("/k.m3u8", &longest).map(|uri| uri.len()), Ok(MAX_URI));
        assert_eq!(resolve("/k.m3u8", &(longest + "a")), Err(UriError::TooLong));
        assert_eq!(resolve(&format!("/{}/k", "a".repeat(MAX_URI)), "b"), Err(UriError::TooLong));
    }

    proptest! {
        #[test]
        fn any_result_fits_a_request_line(base in ".*", reference in ".*") {
            if let Ok(uri) = resolve(&base, &reference) {
                prop_assert!(uri.starts_with('/') && uri.len() <= MAX_URI);
                prop_assert!(uri.bytes().all(|b| b' ' < b && b < 0x7F), "{}", uri);
            }
        }

        #[test]
        fn a_result_is_its_own_result(reference in "[a-c./:?]{0,20}") {
            if let Ok(uri) = resolve("/b/c/d", &reference)
                // Behind an authority a path may begin with two slashes.
                && !uri.starts_with("//")
            {
                prop_assert_eq!(resolve("/x", &uri), Ok(uri));
            }
        }
    }
}
