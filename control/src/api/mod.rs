//! The HTTP API: answers from memory, built per request.

pub(crate) mod admins;
mod contents;
mod engines;
mod events;
mod fleet;
mod health;
mod home;
mod input;
mod key;
pub(crate) mod logs;
mod origin;
mod panel;
mod performance;
mod problem;
mod sessions;
mod status;
mod streams;
mod templates;
mod usage;
mod watch;

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, Request, State},
    http::{HeaderValue, Method, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{delete, get, post, put},
};
use millrace_boundary::Monotonic;

use crate::{connection::Arrival, metrics, state::Shared};
pub(crate) use problem::Problem;

/// No call but an import takes more; a larger body is refused before it is read.
const BODY: usize = 64 << 10;
/// Where templates come by the hundred.
const IMPORT: &str = "/api/v1/templates/import";
/// Where streams live: paths that a shard answers.
const STREAMS: &str = "/ace/";
/// What may be asked of a stream; the same as shards say.
const STREAM_METHODS: &str = "GET, HEAD, OPTIONS";

/// Everything that is not a stream.
pub(crate) fn router(state: Shared) -> Router {
    Router::new()
        .route("/", get(home::page))
        .route("/watch", get(watch::by_query))
        .route("/watch/", get(watch::by_query))
        .route("/watch/{id}", get(watch::by_id))
        .route("/panel/{version}/{file}", get(panel::file))
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(scrape))
        .route("/metrics/performance", get(performance::show))
        .route("/api/v1/metrics/performance", get(performance::show))
        .route("/api/v1/status", get(status::status))
        .route("/api/v1/engines", get(engines::list))
        .route("/api/v1/engines/stats", get(usage::all))
        .route("/api/v1/engines/{engine}", get(engines::one).delete(engines::remove))
        .route("/api/v1/engines/{engine}/drain", post(engines::drain).delete(engines::undrain))
        .route("/api/v1/engines/{engine}/restart", post(engines::restart))
        .route("/api/v1/engines/{engine}/recreate", post(engines::recreate))
        .route("/api/v1/engines/{engine}/stats", get(usage::one))
        .route("/api/v1/engines/{engine}/logs", get(logs::read))
        .merge(fleet_routes())
        .route("/api/v1/streams", get(streams::list))
        .route("/api/v1/streams/{key}", get(streams::one).delete(streams::stop))
        .route("/api/v1/streams/{key}/migrate", post(streams::migrate))
        .route("/api/v1/sessions", get(sessions::list))
        .route("/api/v1/sessions/{id}", get(sessions::one))
        .route("/api/v1/contents/blocked", get(contents::list).delete(contents::forgive_all))
        .route("/api/v1/contents/blocked/{key}", delete(contents::forgive))
        .fallback(elsewhere)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(BODY))
        .layer(middleware::from_fn(without_large_body))
        .layer(middleware::from_fn(origin::without_foreign_changes))
        .layer(middleware::map_response(with_common_headers))
        .with_state(state)
}

/// What a fleet in Docker alone has.
fn fleet_routes() -> Router<Shared> {
    Router::new()
        .route("/api/v1/fleet", get(fleet::show).patch(fleet::change))
        .route("/api/v1/fleet/breaker/reset", post(fleet::reset_breaker))
        .route("/api/v1/provision", post(fleet::provision))
        .route("/api/v1/scale", delete(fleet::unscale))
        .route("/api/v1/scale/{count}", post(fleet::scale))
        .route("/api/v1/reconcile", post(fleet::reconcile))
        .route("/api/v1/reprovision", get(fleet::rolling).post(fleet::reprovision))
        .route("/api/v1/image/pull", post(fleet::pull))
        .route("/api/v1/events", get(events::list))
        .route("/api/v1/templates", get(templates::list))
        .route("/api/v1/templates/export", get(templates::export))
        .route(IMPORT, post(templates::import).layer(DefaultBodyLimit::max(templates::IMPORT)))
        .route(
            "/api/v1/templates/{name}",
            get(templates::one).merge(put(templates::put)).delete(templates::delete),
        )
        .route("/api/v1/templates/{name}/activate", post(templates::activate))
        .route("/api/v1/templates/{name}/rename", post(templates::rename))
        // Of the predecessor.
        .route("/api/v1/provision/acestream", post(fleet::provision_one))
        .route("/api/v1/containers/{id}/logs", get(logs::read_as_before))
}

async fn scrape(State(state): State<Shared>) -> Response {
    let text = metrics::render(&state.lock(), Monotonic::now());
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response()
}

/// Paths without a route. A stream's path goes back to a shard, on a new
/// connection, since this one cannot; but not the request that a shard itself
/// has handed over, which would only come round again.
async fn elsewhere(request: Request) -> Response {
    let uri = request.uri();
    if !uri.path().starts_with(STREAMS) {
        return Problem::no_such_path(uri.path()).into_response();
    }
    match *request.method() {
        Method::GET | Method::HEAD => {}
        Method::OPTIONS => return preflight(),
        _ => {
            let allow = [(header::ALLOW, STREAM_METHODS)];
            return (allow, Problem::wrong_method(request.method())).into_response();
        }
    }
    let first = !matches!(request.extensions().get::<Arrival>(), Some(Arrival::Later));
    let location = uri.path_and_query().and_then(|p| HeaderValue::from_str(p.as_str()).ok());
    match location {
        Some(location) if !first => (
            StatusCode::TEMPORARY_REDIRECT,
            [(header::LOCATION, location), (header::CONNECTION, HeaderValue::from_static("close"))],
        )
            .into_response(),
        Some(_) | None => Problem::no_such_path(uri.path()).into_response(),
    }
}

/// Browsers ask on whatever connection they have, and follow no redirect then.
fn preflight() -> Response {
    let headers = [
        (header::ACCESS_CONTROL_ALLOW_METHODS, STREAM_METHODS),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, "*"),
        (header::ACCESS_CONTROL_MAX_AGE, "86400"),
    ];
    (StatusCode::NO_CONTENT, headers).into_response()
}

async fn wrong_method(method: Method) -> Problem {
    Problem::wrong_method(&method)
}

async fn without_large_body(request: Request, next: Next) -> Response {
    let length =
        request.headers().get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    let most = if request.uri().path() == IMPORT { templates::IMPORT } else { BODY };
    if length.is_some_and(|length| length > most as u64) {
        let close = [(header::CONNECTION, HeaderValue::from_static("close"))];
        return (close, Problem::body_too_large(most)).into_response();
    }
    next.run(request).await
}

async fn with_common_headers(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    // All but files of the panel is as of now.
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// An answer with a status of 200.
fn json<T: serde::Serialize>(body: T) -> Response {
    Json(body).into_response()
}
