//! `/metrics/performance`: how long operations take, in the predecessor's shape.

use std::collections::BTreeMap;

use axum::{extract::State as Handle, response::Response};
use millrace_boundary::{Monotonic, Operation};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{input::Asked, problem::Problem};
use crate::{
    performance::{Summary, Window, WindowSeconds},
    state::Shared,
};

/// What is wanted, as it stands in the URL.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Wanted {
    /// One alone; all of them without it.
    operation: Option<String>,
    window: Option<String>,
}

/// Of every operation, or of the one that is wanted; zeros for one that nobody
/// knows.
pub(super) async fn show(
    Handle(state): Handle<Shared>,
    Asked(Wanted { operation, window }): Asked<Wanted>,
) -> Result<Response, Problem> {
    let window = window.map_or(Ok(Window::All), |text| parse(&text))?;
    let (state, now) = (state.lock(), Monotonic::now());
    let summary = |operation: Operation| state.performance.summary(operation, window, now);
    let operations: BTreeMap<&str, Summary> = match &operation {
        None => Operation::ALL.iter().map(|known| (known.as_str(), summary(*known))).collect(),
        Some(name) => {
            let known = Operation::ALL.iter().find(|known| known.as_str() == name);
            BTreeMap::from([(name.as_str(), known.copied().map(summary).unwrap_or_default())])
        }
    };
    let window_seconds = match window {
        Window::All => Value::from("all"),
        Window::Seconds(seconds) => seconds.get().into(),
    };
    Ok(super::json(json!({ "window_seconds": window_seconds, "operations": operations })))
}

fn parse(text: &str) -> Result<Window, Problem> {
    let seconds = text.parse().ok().and_then(WindowSeconds::new);
    seconds.map(Window::Seconds).ok_or_else(|| {
        let said: String = text.chars().take(40).collect();
        Problem::bad_request(
            "bad_window",
            format!("window is {said:?}, and has to be whole seconds from 1 to {}", WindowSeconds::MOST),
            "ask for 1 to 3600 seconds, which are kept, or without window for all since the start",
        )
    })
}
