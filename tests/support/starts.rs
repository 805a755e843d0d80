//! Starts of streams, many at the same time, and what became of each.

use std::{
    net::SocketAddr,
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::Viewer;

/// What became of one start.
#[derive(Clone, Debug)]
pub(crate) struct Start {
    /// 0 when no answer came.
    pub(crate) status: u16,
    /// To the first byte of the body, or to a refusal's head.
    pub(crate) took: Duration,
    /// Of a refusal, or what else was wrong; empty when bytes came.
    pub(crate) cause: String,
}

/// Asks for `path`, waits up to `limit` for the first byte of the body, then leaves.
pub(crate) fn start(address: SocketAddr, path: &str, limit: Duration) -> Start {
    let asked = Instant::now();
    let mut viewer = Viewer::ask(address, path).expect("the server accepts");
    let Ok((status, _)) = viewer.head(limit) else {
        return Start { status: 0, took: asked.elapsed(), cause: "no answer".to_owned() };
    };
    let took = asked.elapsed();
    if status == 200 {
        let mut piece = [0; 188];
        let read = viewer.read_some(&mut piece, asked + limit).unwrap_or(0);
        let cause = if read > 0 { "" } else { "no byte" }.to_owned();
        return Start { status, took: asked.elapsed(), cause };
    }
    let body = viewer.read_for(Duration::from_secs(2)).expect("a refusal's body");
    let json: Value = serde_json::from_slice(&body).unwrap_or_default();
    Start { status, took, cause: json["error"]["cause"].as_str().unwrap_or("").to_owned() }
}

/// Does `what` with each of `all`, `at_once` of them at the same time; results
/// come in the order of their ends.
pub(crate) fn in_parallel<I: Send, T: Send>(
    at_once: usize,
    all: impl IntoIterator<Item = I, IntoIter: Send>,
    what: impl Fn(I) -> T + Sync,
) -> Vec<T> {
    let next = Mutex::new(all.into_iter());
    let done = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| {
                while let Some(it) = { next.lock().unwrap_or_else(PoisonError::into_inner).next() } {
                    let it = what(it);
                    done.lock().unwrap_or_else(PoisonError::into_inner).push(it);
                }
            });
        }
    });
    done.into_inner().unwrap_or_else(PoisonError::into_inner)
}
