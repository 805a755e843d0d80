//! `/watch/{id}`: a page that plays a stream in the browser.
//!
//! The page is the same for every stream: it reads its own address. Here is
//! only judged whether that address can name a stream at all; the rest is
//! judged where the stream is asked for, and the page tells how.

use axum::{
    extract::Query,
    http::{HeaderName, Uri, header},
    response::{IntoResponse, Response},
};

use super::{key::Key, problem::Problem};

static PAGE: &str = include_str!("../../panel/built/watch.html");
static REFUSED: &str = include_str!("../../panel/built/refused.html");

/// Everything comes from here, and nothing is written in the page itself. The
/// picture is a `blob:` that the players fill. Pages of other sites may not
/// frame it, so that none can lay its own buttons over these; one of ours may.
const HEADERS: [(HeaderName, &str); 3] = [
    (header::CONTENT_TYPE, "text/html; charset=utf-8"),
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
         media-src 'self' blob:; worker-src 'none'; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'self'",
    ),
    (header::REFERRER_POLICY, "same-origin"),
];

/// Names that select a content by its 40 digits; the same as stream paths take.
const IDS: &[&str] = &["id", "content_id", "infohash"];
/// The others.
const SELECTORS: &[&str] = &["url", "torrent_url", "magnet", "direct_url", "raw_data"];

/// The page for the content with the id in the path.
pub(super) async fn by_id(id: Result<Key, Problem>, uri: Uri) -> Response {
    page(id.and_then(|Key(id)| check(Some(&id), &uri)))
}

/// The page for the content that the query selects.
pub(super) async fn by_query(uri: Uri) -> Response {
    page(check(None, &uri))
}

fn page(checked: Result<(), Problem>) -> Response {
    match checked {
        Ok(()) => (HEADERS, PAGE).into_response(),
        Err(Problem { status, message, remedy, .. }) => {
            let page = REFUSED.replace("{{message}}", &escaped(&message));
            (status, HEADERS, page.replace("{{remedy}}", &escaped(remedy))).into_response()
        }
    }
}

fn check(path_id: Option<&str>, uri: &Uri) -> Result<(), Problem> {
    let pairs = Query::<Vec<(String, String)>>::try_from_uri(uri)
        .map_err(|_| bad("the query is not made of names and values", "encode the query as RFC 3986 says"))?;
    let pairs = pairs.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let mut is_selected = false;
    for (name, value) in path_id.map(|id| ("id", id)).into_iter().chain(pairs) {
        if IDS.contains(&name) && !is_id(name, value) {
            let message = format!("`{name}` is not 40 hexadecimal digits");
            return Err(bad(&message, "give the 40 hexadecimal digits of acestream://…"));
        }
        if name == "via" && !matches!(value, "ts" | "hls") {
            return Err(bad(
                "`via` is neither ts nor hls",
                "leave it out to have what this browser plays best",
            ));
        }
        is_selected |= IDS.contains(&name) || SELECTORS.contains(&name);
    }
    if !is_selected {
        let remedy =
            "ask for /watch/ and the 40 digits of an id, or for /watch?infohash= or /watch?magnet= and so on";
        return Err(bad("no content is selected", remedy));
    }
    Ok(())
}

fn is_id(name: &str, value: &str) -> bool {
    let digits = if name == "infohash" { value } else { value.trim_start_matches("acestream://") };
    digits.len() == 40 && digits.bytes().all(|b| b.is_ascii_hexdigit())
}

fn bad(message: &str, remedy: &'static str) -> Problem {
    Problem::bad_request("bad_parameter", message.to_owned(), remedy)
}

/// As text within HTML.
fn escaped(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut html, c| {
        match c {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            c => html.push(c),
        }
        html
    })
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;

    use super::*;

    const HEX: &str = "0123456789abcdef0123456789ABCDEF01234567";

    #[test]
    fn an_address_names_a_stream_or_is_refused() {
        for (id, query, good) in [
            (Some(HEX), "", true),
            (Some(HEX), "?via=ts&x=1", true),
            (Some(HEX), "?via=hls", true),
            (Some(HEX), "?via=dash", false),
            (Some(HEX), "?via=", false),
            (Some(&HEX[1..]), "", false),
            (Some("0123456789abcdef0123456789abcdef0123456g"), "", false),
            (Some("<script>"), "", false),
            (None, "", false),
            (None, "?x=1", false),
            (None, &format!("?infohash={HEX}"), true),
            (None, &format!("?content_id={HEX}"), true),
            (None, &format!("?id=acestream%3A%2F%2F{HEX}"), true),
            (None, &format!("?infohash=acestream%3A%2F%2F{HEX}"), false),
            (None, "?infohash=1", false),
            (None, "?magnet=magnet%3A%3Fxt%3Durn", true),
            (None, "?url=http%3A%2F%2Fexample.org%2Fa", true),
        ] {
            let uri = format!("/watch{query}").parse().unwrap();
            assert_eq!(check(id, &uri).is_ok(), good, "{id:?} {query}");
        }
    }

    #[test]
    fn a_refusal_stands_in_the_page_as_text() {
        let problem = Problem::bad_request("x", "<b>&\"'".to_owned(), "give <another>");
        let response = page(Err(problem));
        assert_eq!(response.status(), StatusCode::BAD_REQUEST);
        assert_eq!(escaped("<b>&\"'"), "&lt;b&gt;&amp;&quot;&#39;");
        assert!(REFUSED.contains("{{message}}") && REFUSED.contains("{{remedy}}"));
        assert!(!PAGE.contains("{{") && !PAGE.contains("<style") && !PAGE.contains("style="));
    }
}
