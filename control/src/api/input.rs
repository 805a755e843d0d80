//! What comes with a request, read so that each refusal has the one shape.

use axum::{
    body::Bytes,
    extract::{FromRequest, FromRequestParts, Query, Request},
    http::{StatusCode, request::Parts},
};
use serde::de::DeserializeOwned;

use super::{BODY, IMPORT, problem::Problem, templates};

/// A JSON body; without a body, what `T` is by itself.
#[derive(Debug)]
pub(super) struct Body<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned + Default> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let most = if request.uri().path() == IMPORT { templates::IMPORT } else { BODY };
        let bytes =
            Bytes::from_request(request, state).await.map_err(|rejection| match rejection.status() {
                StatusCode::PAYLOAD_TOO_LARGE => Problem::body_too_large(most),
                _ => bad_body("it did not come whole"),
            })?;
        if bytes.trim_ascii().is_empty() {
            return Ok(Self(T::default()));
        }
        serde_json::from_slice(&bytes).map(Self).map_err(|error| bad_body(&error.to_string()))
    }
}

fn bad_body(why: &str) -> Problem {
    let why: String = why.chars().take(200).collect();
    Problem::bad_request(
        "bad_body",
        format!("the body is not what belongs here: {why}"),
        "send the JSON that README.md shows",
    )
}

/// What stands behind the question mark.
#[derive(Debug)]
pub(super) struct Asked<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Asked<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let asked = Query::from_request_parts(parts, state).await;
        asked.map(|Query(asked)| Self(asked)).map_err(|rejection| {
            let why: String = rejection.body_text().chars().take(200).collect();
            Problem::bad_request("bad_query", why, "see README.md for the parameters of this path")
        })
    }
}
