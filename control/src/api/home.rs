//! The page for somebody who has just started the server.

use axum::{
    extract::State,
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};

use crate::state::Shared;

/// An id in the right form, for fleets that play any.
const EXAMPLE: &str = "0123456789abcdef0123456789abcdef01234567";

pub(super) async fn page(State(state): State<Shared>, headers: HeaderMap) -> Response {
    let (address, plays_anything) = {
        let state = state.lock();
        (state.address, state.plays_anything)
    };
    let host = headers.get(header::HOST).and_then(|h| h.to_str().ok()).filter(|h| is_authority(h));
    let base = host.map_or_else(|| format!("http://{address}"), |host| format!("http://{host}"));
    let id = if plays_anything { EXAMPLE } else { "CONTENT_ID" };
    let page = format!(
        "Millrace {version}\n\
         \n\
         Play   {base}/ace/getstream?id={id}\n\
         \n\
         {base}/api/v1/status    how it is\n\
         {base}/api/v1/streams   what plays\n\
         {base}/api/v1/engines   what plays it\n\
         {base}/api/v1/engines/stats  what that costs\n\
         {base}/api/v1/fleet     engines in Docker: how many, and why\n\
         {base}/api/v1/events    what happened to them\n\
         {base}/api/v1/templates what they are made of\n\
         {base}/api/v1/sessions  what happened to streams\n\
         {base}/api/v1/contents/blocked  what is not tried for a while\n\
         {base}/metrics          for Prometheus\n\
         {base}/metrics/performance  how long things take\n\
         {base}/healthz          alive?\n\
         {base}/readyz           ready for viewers?\n",
        version = env!("CARGO_PKG_VERSION"),
    );
    ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], page).into_response()
}

/// Whether a `Host` header is harmless to repeat: name or address, and port.
fn is_authority(host: &str) -> bool {
    let harmless = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '[' | ']');
    (1..=255).contains(&host.len()) && host.chars().all(harmless)
}
