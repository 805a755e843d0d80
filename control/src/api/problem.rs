//! The one shape of every refusal.

use axum::{
    Json,
    http::{Method, StatusCode},
    response::{IntoResponse, Response},
};
use millrace_boundary::ShardId;
use serde_json::{Value, json};

use crate::{connection::HEAD, orders::NotOrdered};

/// Characters of a foreign path or method that are repeated in a message.
const QUOTED: usize = 120;

/// Why a request is refused, and what its sender can do.
#[derive(Debug)]
pub(crate) struct Problem {
    pub(crate) status: StatusCode,
    /// For programs: `snake_case`, never changed.
    pub(crate) code: &'static str,
    /// For people.
    pub(crate) message: String,
    /// What helps.
    pub(crate) remedy: &'static str,
}

impl Problem {
    pub(crate) fn no_such_path(path: &str) -> Self {
        Self {
            status: StatusCode::NOT_FOUND,
            code: "not_found",
            message: format!("there is nothing at {}", quoted(path)),
            remedy: "see / for the paths that exist",
        }
    }

    pub(crate) fn no_such_engine(id: &str) -> Self {
        Self {
            status: StatusCode::NOT_FOUND,
            code: "engine_not_found",
            message: format!("there is no engine {}", quoted(id)),
            remedy: "see /api/v1/engines for the engines that exist",
        }
    }

    pub(crate) fn no_such_stream(key: &str) -> Self {
        Self {
            status: StatusCode::NOT_FOUND,
            code: "stream_not_found",
            message: format!("no stream {} runs", quoted(key)),
            remedy: "see /api/v1/streams, where a stream stands a second after it began",
        }
    }

    pub(crate) fn no_such_session(id: &str) -> Self {
        Self {
            status: StatusCode::NOT_FOUND,
            code: "session_not_found",
            message: format!("there was no session {}, or it is forgotten", quoted(id)),
            remedy: "see /api/v1/sessions for the newest 2,000, which are kept; older ones are in the log",
        }
    }

    pub(crate) fn bad_session_id(id: &str) -> Self {
        let message = format!("{} is not the id of a session", quoted(id));
        Self::bad_request("bad_session_id", message, "give the 16 hexadecimal digits of Millrace-Session")
    }

    pub(crate) fn no_such_content(key: &str) -> Self {
        Self {
            status: StatusCode::NOT_FOUND,
            code: "content_not_blocked",
            message: format!("{} is not blocked", quoted(key)),
            remedy: "see /api/v1/contents/blocked, where a content stands a second after it failed",
        }
    }

    /// A shard does not take an order.
    pub(crate) fn not_ordered(shard: ShardId, why: NotOrdered) -> Self {
        let message = format!("shard {shard}: {why}");
        match why {
            NotOrdered::Busy => Self::unavailable("shard_busy", message, "try again in a second"),
            NotOrdered::Gone => Self::unavailable("shard_gone", message, "restart the server"),
        }
    }

    pub(crate) fn foreign_origin(origin: &str) -> Self {
        Self {
            status: StatusCode::FORBIDDEN,
            code: "foreign_origin",
            message: format!("a page of {} may change nothing here", quoted(origin)),
            remedy: "send no Origin header; a proxy in front has to pass the Host header on",
        }
    }

    pub(crate) fn no_docker_fleet() -> Self {
        Self::conflict(
            "no_docker_fleet",
            "the engines of this server do not run in Docker".to_owned(),
            "start the server with --docker, or without --engine and --emulate where Docker answers",
        )
    }

    /// `why` it is not.
    pub(crate) fn not_an_admin(why: String) -> Self {
        Self {
            status: StatusCode::FORBIDDEN,
            code: "not_an_admin",
            message: format!("only administrators may do this: {why}"),
            remedy: "ask without a proxy and by an address, from one of server.admins; by default that is this machine alone",
        }
    }

    pub(crate) fn wrong_method(method: &Method) -> Self {
        Self {
            status: StatusCode::METHOD_NOT_ALLOWED,
            code: "method_not_allowed",
            message: format!("{} is not possible here", quoted(method.as_str())),
            remedy: "use a method from the Allow header",
        }
    }

    pub(crate) fn body_too_large(limit: usize) -> Self {
        Self {
            status: StatusCode::PAYLOAD_TOO_LARGE,
            code: "body_too_large",
            message: format!("the body is larger than {limit} bytes"),
            remedy: "send less",
        }
    }

    /// For a head that hyper refuses itself, with the status that it chose.
    pub(crate) fn unparsable(status: StatusCode) -> Self {
        let (code, message, remedy) = match status {
            StatusCode::URI_TOO_LONG => {
                ("uri_too_long", "the address is too long".to_owned(), "send a shorter address")
            }
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => (
                "head_too_large",
                format!("the head is longer than {} KiB, or has more than 100 headers", HEAD >> 10),
                "send fewer or shorter headers, and a shorter address",
            ),
            _ => (
                "bad_request",
                "the request is not HTTP, or not as this server understands it".to_owned(),
                "send a plain HTTP/1.1 request",
            ),
        };
        Self { status, code, message, remedy }
    }

    pub(crate) fn too_many_connections(limit: usize) -> Self {
        let message = format!("{limit} API connections are open");
        let remedy = "close idle connections, or try again in a few seconds";
        Self::unavailable("too_many_connections", message, remedy)
    }

    pub(crate) fn bad_request(code: &'static str, message: String, remedy: &'static str) -> Self {
        Self { status: StatusCode::BAD_REQUEST, code, message, remedy }
    }

    pub(crate) fn conflict(code: &'static str, message: String, remedy: &'static str) -> Self {
        Self { status: StatusCode::CONFLICT, code, message, remedy }
    }

    pub(crate) fn unavailable(code: &'static str, message: String, remedy: &'static str) -> Self {
        Self { status: StatusCode::SERVICE_UNAVAILABLE, code, message, remedy }
    }
}

fn quoted(foreign: &str) -> String {
    foreign.chars().take(QUOTED).collect()
}

impl Problem {
    fn body(&self) -> Value {
        json!({ "error": { "code": self.code, "message": self.message, "remedy": self.remedy } })
    }

    /// The whole answer, for where there is no hyper to write it; the
    /// connection closes after it. `retry_after` is in seconds.
    pub(crate) fn to_bytes(&self, retry_after: Option<u32>) -> Vec<u8> {
        let body = self.body().to_string();
        let retry = retry_after.map_or_else(String::new, |seconds| format!("Retry-After: {seconds}\r\n"));
        format!(
            "HTTP/1.1 {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
             Access-Control-Allow-Origin: *\r\nCache-Control: no-store\r\n\
             X-Content-Type-Options: nosniff\r\n{retry}Connection: close\r\n\r\n{body}",
            self.status,
            body.len()
        )
        .into_bytes()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        (self.status, Json(self.body())).into_response()
    }
}
