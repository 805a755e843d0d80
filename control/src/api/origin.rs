//! Pages of other sites may look, since answers allow any origin, but not
//! change anything: a browser sends a foreign page's `POST` without asking.

use axum::{
    extract::Request,
    http::{HeaderMap, HeaderValue, Method, Uri, header},
    middleware::Next,
    response::{IntoResponse, Response},
};

use super::problem::Problem;

/// Refuses a request that would change something for a page of another site.
/// Tools send no `Origin`, and pages of our own send our `Host` in it.
pub(super) async fn without_foreign_changes(request: Request, next: Next) -> Response {
    let changes_nothing =
        matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE);
    match foreign(request.headers(), request.uri()) {
        Some(origin) if !changes_nothing => Problem::foreign_origin(&origin).into_response(),
        Some(_) | None => next.run(request).await,
    }
}

/// The site whose page sends a request, unless that is our own or no page does.
pub(super) fn foreign(headers: &HeaderMap, uri: &Uri) -> Option<String> {
    let authority = uri.authority().map(|authority| authority.as_str());
    let named = || headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let host = authority.or_else(named).unwrap_or_default();
    let is_foreign = |origin: &&HeaderValue| !origin.to_str().is_ok_and(|origin| is_own(origin, host));
    let origin = headers.get_all(header::ORIGIN).iter().find(is_foreign)?;
    Some(String::from_utf8_lossy(origin.as_bytes()).into_owned())
}

/// Whether an `Origin` names this `Host`. The scheme is not compared: who
/// answers https in front of us passes the host on. Its default port may be
/// left out in either.
fn is_own(origin: &str, host: &str) -> bool {
    let plain = origin.strip_prefix("http://").map(|rest| (rest, ":80"));
    let Some((authority, port)) =
        plain.or_else(|| origin.strip_prefix("https://").map(|rest| (rest, ":443")))
    else {
        return false;
    };
    let bare = |authority: &str| authority.strip_suffix(port).unwrap_or(authority).to_ascii_lowercase();
    !authority.is_empty() && bare(authority) == bare(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_host_is_ours() {
        for (origin, host, own) in [
            ("http://tv.example:8000", "tv.example:8000", true),
            ("http://TV.example:8000", "tv.EXAMPLE:8000", true),
            ("http://tv.example", "tv.example:80", true),
            ("http://tv.example:80", "tv.example", true),
            ("https://tv.example", "tv.example", true),
            ("https://tv.example", "tv.example:443", true),
            ("http://[::1]:8000", "[::1]:8000", true),
            ("http://tv.example:8001", "tv.example:8000", false),
            ("http://tv.example", "tv.example:8000", false),
            ("https://tv.example", "tv.example:80", false),
            ("http://evil.example", "tv.example", false),
            ("http://tv.example.evil.example", "tv.example", false),
            ("http://evil.example/tv.example", "tv.example", false),
            ("null", "tv.example", false),
            ("null", "null", false),
            ("tv.example", "tv.example", false),
            ("file://tv.example", "tv.example", false),
            ("http://", "", false),
            ("", "", false),
        ] {
            assert_eq!(is_own(origin, host), own, "{origin} at {host}");
        }
    }
}
