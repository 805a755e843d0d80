//! The part of a path that names a stream, a session or a content.

use axum::{
    extract::{FromRequestParts, Path},
    http::request::Parts,
};

use super::problem::Problem;

/// The text between two slashes, decoded. Keys may hold slashes themselves,
/// percent-encoded.
#[derive(Debug)]
pub(super) struct Key(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for Key {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Path::from_request_parts(parts, state).await {
            Ok(Path(key)) => Ok(Self(key)),
            Err(_) => Err(Problem::bad_request(
                "bad_key",
                "the key in the path is not percent-encoded UTF-8 text".to_owned(),
                "encode the key as RFC 3986 says",
            )),
        }
    }
}
