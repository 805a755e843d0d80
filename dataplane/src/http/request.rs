//! What a connection asks for, told from its first bytes.

use std::mem::MaybeUninit;

use crate::{
    hls::{self, Ask, Want},
    http::{
        content::{Content, Policy, parse_content},
        players::Patience,
        response::Refusal,
    },
};

/// A request head may be this long, its request line included.
pub(crate) const HEAD_LIMIT: usize = 16 << 10;
/// A request line may be this long.
const LINE_LIMIT: usize = 8 << 10;
/// A request may have this many header lines.
const HEADER_LIMIT: usize = 100;

/// A wanted stream.
#[derive(Debug)]
pub(crate) struct Wish {
    /// Which one.
    pub(crate) content: Content,
    /// What the player calls itself.
    pub(crate) agent: Box<[u8]>,
    /// How patient it is, where the request says so.
    pub(crate) patience: Option<Patience>,
}

/// What is to be done with a connection.
#[derive(Debug)]
pub(crate) enum Asked {
    /// The head is not complete yet.
    More,
    /// Send this stream.
    Stream(Wish),
    /// Answer as for this stream, without a body and without any effect.
    StreamHead,
    /// CORS preflight of a stream path.
    Preflight,
    /// An HLS player's, with the bytes of the request's head.
    Hls(Box<Ask>, usize),
    /// Not a stream's path: the control thread answers.
    Other,
    /// Answer with this and close.
    Refuse(Refusal),
}

/// Reads a request head. Judges a prefix only when it cannot become valid.
pub(crate) fn parse(bytes: &[u8], policy: Policy) -> Asked {
    // Written only as far as there are headers, which are few.
    let mut headers = [const { MaybeUninit::uninit() }; HEADER_LIMIT];
    let mut request = httparse::Request::new(&mut []);
    let len = match request.parse_with_uninit_headers(bytes, &mut headers) {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) => return incomplete(bytes),
        Err(httparse::Error::TooManyHeaders) => {
            return Asked::Refuse(Refusal::head_too_large("more than 100 header lines"));
        }
        Err(error) => return Asked::Refuse(Refusal::bad_request(&format!("malformed request: {error}"))),
    };
    let (Some(method), Some(target)) = (request.method, request.path) else {
        return Asked::Refuse(Refusal::bad_request("the request line is incomplete"));
    };
    if target.len() > LINE_LIMIT {
        return Asked::Refuse(Refusal::line_too_long());
    }
    let target = origin_form(target);
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    if hls::is_hls(path) {
        return match hls_ask(&request, method, (path, query), policy) {
            Ok(ask) => Asked::Hls(Box::new(ask), len),
            Err(refusal) => Asked::Refuse(refusal),
        };
    }
    let agent = header(&request, "User-Agent").unwrap_or_default();
    route(method, target, agent, policy)
}

/// The first header of this name.
fn header<'a>(request: &httparse::Request<'_, 'a>, name: &str) -> Option<&'a [u8]> {
    let found = request.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
    found.map(|header| header.value)
}

/// Whether a comma-separated field has this word (RFC 9110 §5.6.1), whatever
/// its parameters but a weight of zero.
fn has_word(field: Option<&[u8]>, word: &str) -> bool {
    let words = field.unwrap_or_default().split(|b| *b == b',').map(<[u8]>::trim_ascii);
    words.into_iter().any(|item| {
        let (name, weight) = item.split_at(item.iter().position(|b| *b == b';').unwrap_or(item.len()));
        let is_refused = matches!(weight.trim_ascii_end(), b";q=0" | b"; q=0");
        name.trim_ascii().eq_ignore_ascii_case(word.as_bytes()) && !is_refused
    })
}

fn hls_ask(
    request: &httparse::Request<'_, '_>,
    method: &str,
    (path, query): (&str, &str),
    policy: Policy,
) -> Result<Ask, Refusal> {
    let want = match method {
        "OPTIONS" => Want::Preflight,
        "GET" | "HEAD" => hls::want(path, query, policy)?,
        _ => return Err(Refusal::method_not_allowed(method)),
    };
    let connection = header(request, "Connection");
    Ok(Ask {
        want,
        is_head: method == "HEAD",
        // A body would be taken for the next request.
        keeps_open: request.version == Some(1)
            && !has_word(connection, "close")
            && header(request, "Content-Length").is_none()
            && header(request, "Transfer-Encoding").is_none(),
        takes_gzip: has_word(header(request, "Accept-Encoding"), "gzip"),
        has: header(request, "If-None-Match").map(Into::into),
    })
}

fn incomplete(bytes: &[u8]) -> Asked {
    if bytes.len() >= HEAD_LIMIT {
        return Asked::Refuse(Refusal::head_too_large("head longer than 16 KiB"));
    }
    if bytes.len() > LINE_LIMIT && !bytes[..LINE_LIMIT].contains(&b'\n') {
        return Asked::Refuse(Refusal::line_too_long());
    }
    Asked::More
}

/// The path and query of a target in absolute form (RFC 9112 §3.2.2).
fn origin_form(target: &str) -> &str {
    let begins = |s: &&str| target.get(..s.len()).is_some_and(|start| start.eq_ignore_ascii_case(s));
    let Some(scheme) = ["http://", "https://"].into_iter().find(begins) else { return target };
    let rest = &target[scheme.len()..];
    rest.find(['/', '?']).map_or("/", |at| &rest[at..])
}

fn route(method: &str, target: &str, agent: &[u8], policy: Policy) -> Asked {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let path_id = match path {
        "/ace/getstream" | "/ace/getstream.ts" => None,
        _ => match path.strip_prefix("/ace/").and_then(|p| p.strip_suffix(".ts")) {
            Some(id) if !id.contains('/') => Some(id),
            _ => return Asked::Other,
        },
    };
    if method == "OPTIONS" {
        return Asked::Preflight;
    }
    if !matches!(method, "GET" | "HEAD") {
        return Asked::Refuse(Refusal::method_not_allowed(method));
    }
    let wish = parse_content(path_id, query, policy)
        .and_then(|content| Ok(Wish { content, agent: agent.into(), patience: patience(query)? }));
    match wish {
        Ok(_) if method == "HEAD" => Asked::StreamHead,
        Ok(wish) => Asked::Stream(wish),
        Err(refusal) => Asked::Refuse(refusal),
    }
}

/// What `wait` says, where it is given.
fn patience(query: &str) -> Result<Option<Patience>, Refusal> {
    let Some(wait) = query.split('&').find_map(|pair| pair.strip_prefix("wait=")) else { return Ok(None) };
    wait.parse().map(Some).map_err(|()| {
        Refusal::bad_parameter(
            "`wait` is neither `status` nor a number of seconds from 0 to 60",
            "Give seconds until headers are sent, such as 2.5, or `status`, or leave the parameter out.",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef01234567";
    const POLICY: Policy = Policy { private_urls: false };

    fn kind(bytes: &[u8]) -> String {
        match parse(bytes, POLICY) {
            Asked::More => "more".into(),
            Asked::Stream(wish) => {
                let patience = wish.patience.map_or(String::new(), |p| format!(" wait {p}"));
                format!("stream {}{patience}", wish.content.key.as_str())
            }
            Asked::StreamHead => "head".into(),
            Asked::Preflight => "preflight".into(),
            Asked::Hls(..) => "hls".into(),
            Asked::Other => "other".into(),
            Asked::Refuse(r) => format!("refuse {}", r.status()),
        }
    }

    #[test]
    fn each_path_and_method_has_one_meaning() {
        for (request, meaning) in [
            (format!("GET /ace/getstream?id={ID} HTTP/1.1\r\n\r\n"), format!("stream id:{ID}")),
            (
                format!("GET /ace/getstream.ts?infohash={ID} HTTP/1.0\r\n\r\n"),
                format!("stream infohash:{ID}"),
            ),
            (format!("GET /ace/{ID}.ts HTTP/1.1\r\nHost: x\r\n\r\n"), format!("stream id:{ID}")),
            (format!("GET /ace/{ID}.ts HTTP/1.1\nHost: x\n\n"), format!("stream id:{ID}")),
            (format!("GET http://h:1/ace/{ID}.ts HTTP/1.1\r\n\r\n"), format!("stream id:{ID}")),
            (format!("GET /ace/{ID}.ts?wait=status HTTP/1.1\r\n\r\n"), format!("stream id:{ID} wait status")),
            (format!("GET /ace/{ID}.ts?a=1&wait=2.5 HTTP/1.1\r\n\r\n"), format!("stream id:{ID} wait 2.5")),
            (format!("GET /ace/{ID}.ts?wait=-1 HTTP/1.1\r\n\r\n"), "refuse 400".into()),
            (format!("HEAD /ace/{ID}.ts HTTP/1.1\r\n\r\n"), "head".into()),
            (format!("OPTIONS /ace/{ID}.ts HTTP/1.1\r\n\r\n"), "preflight".into()),
            (format!("POST /ace/{ID}.ts HTTP/1.1\r\n\r\n"), "refuse 405".into()),
            ("GET /ace/getstream HTTP/1.1\r\n\r\n".into(), "refuse 400".into()),
            ("HEAD /ace/getstream HTTP/1.1\r\n\r\n".into(), "refuse 400".into()),
            ("GET /ace/xyz.ts HTTP/1.1\r\n\r\n".into(), "refuse 400".into()),
            ("GET /healthz HTTP/1.1\r\n\r\n".into(), "other".into()),
            ("GET /ace/a/b.ts HTTP/1.1\r\n\r\n".into(), "other".into()),
            ("GET http://h HTTP/1.1\r\n\r\n".into(), "other".into()),
            ("* * *\r\n\r\n".into(), "refuse 400".into()),
            ("\u{16}\u{3}\u{1}\u{2}".into(), "refuse 400".into()),
            ("GET / HTTP/1.1\r\nA".into(), "more".into()),
        ] {
            assert_eq!(kind(request.as_bytes()), meaning, "{request:?}");
        }
    }

    #[test]
    fn limits_hold_on_line_head_and_count() {
        let long_line = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(9_000));
        assert_eq!(kind(long_line.as_bytes()), "refuse 414");
        assert_eq!(kind(&long_line.as_bytes()[..8_300]), "refuse 414", "before its end is seen");
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(101));
        assert_eq!(kind(many.as_bytes()), "refuse 431");
        let wide = format!("GET / HTTP/1.1\r\na: {}", "b".repeat(HEAD_LIMIT));
        assert_eq!(kind(wide.as_bytes()), "refuse 431");
    }

    #[test]
    fn a_request_split_anywhere_is_incomplete_until_it_is_whole() {
        let whole = format!("GET /ace/getstream?id={ID} HTTP/1.1\r\nHost: a\r\nRange: bytes=0-\r\n\r\n");
        for at in 0..whole.len() {
            assert_eq!(kind(&whole.as_bytes()[..at]), "more", "{at}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_get_a_verdict(bytes: Vec<u8>) {
            kind(&bytes);
        }
    }
}
