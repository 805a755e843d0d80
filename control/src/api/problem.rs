//! The one shape of every refusal.

use axum::{
    Json,
    http::{Method, StatusCode},
    response::{IntoResponse, Response},
};
use serde_json::json;

/// Characters of a foreign path or method that are repeated in a message.
const QUOTED: usize = 120;

/// Why a request is refused, and what its sender can do.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) status: StatusCode,
    /// For programs: `snake_case`, never changed.
    pub(super) code: &'static str,
    /// For people.
    pub(super) message: String,
    /// What helps.
    pub(super) remedy: &'static str,
}

impl Problem {
    pub(super) fn no_such_path(path: &str) -> Self {
        Self {
            status: StatusCode::NOT_FOUND,
            code: "not_found",
            message: format!("there is nothing at {}", quoted(path)),
            remedy: "see / for the paths that exist",
        }
    }

    pub(super) fn no_such_engine(id: &str) -> Self {
        Self {
            status: StatusCode::NOT_FOUND,
            code: "engine_not_found",
            message: format!("there is no engine {}", quoted(id)),
            remedy: "see /api/v1/engines for the engines that exist",
        }
    }

    pub(super) fn wrong_method(method: &Method) -> Self {
        Self {
            status: StatusCode::METHOD_NOT_ALLOWED,
            code: "method_not_allowed",
            message: format!("{} is not possible here", quoted(method.as_str())),
            remedy: "use a method from the Allow header",
        }
    }

    pub(super) fn body_too_large(limit: usize) -> Self {
        Self {
            status: StatusCode::PAYLOAD_TOO_LARGE,
            code: "body_too_large",
            message: format!("the body is larger than {limit} bytes"),
            remedy: "send less",
        }
    }

    pub(super) fn unavailable(code: &'static str, message: String, remedy: &'static str) -> Self {
        Self { status: StatusCode::SERVICE_UNAVAILABLE, code, message, remedy }
    }
}

fn quoted(foreign: &str) -> String {
    foreign.chars().take(QUOTED).collect()
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = json!({
            "error": { "code": self.code, "message": self.message, "remedy": self.remedy }
        });
        (self.status, Json(body)).into_response()
    }
}
