//! Connections that shards handed over.

mod io;
mod wordless;

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream as StdStream},
    sync::atomic::{AtomicBool, Ordering},
};

use axum::{Router, extract::ConnectInfo};
use hyper::{Request, body::Incoming, server::conn::http1, service::Service};
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use millrace_boundary::HandedConnection;
use tokio::{net::TcpStream, task::JoinSet};

use crate::api::Problem;
use io::Guarded;
use wordless::Worded;

/// Connections at once. An API client holds one or two; each costs up to a
/// buffer of [`HEAD`] and a descriptor.
const LIMIT: usize = 1_024;
/// Longest request head; shards hand over at most 16 KiB of it.
pub(crate) const HEAD: usize = 32 << 10;

/// Whether a request is the one for which its connection was handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// Yes: a shard has seen it and does not want it.
    First,
    /// No: no shard has seen it.
    Later,
}

/// All connections being served.
#[derive(Debug)]
pub(crate) struct Connections {
    tasks: JoinSet<()>,
    refused: u64,
}

impl Connections {
    /// None yet.
    pub(crate) fn new() -> Self {
        Self { tasks: JoinSet::new(), refused: 0 }
    }

    /// How many are open.
    pub(crate) fn open(&self) -> usize {
        self.tasks.len()
    }

    /// How many were refused since start.
    pub(crate) fn refused(&self) -> u64 {
        self.refused
    }

    /// Waits until one closes; `None` at once when none is open.
    pub(crate) async fn closed(&mut self) -> Option<()> {
        // How it ended was the peer's affair.
        self.tasks.join_next().await.map(|_| ())
    }

    /// Serves one more, or refuses it when there are too many.
    pub(crate) fn serve(&mut self, handed: HandedConnection, router: &Router) {
        let HandedConnection { socket, read, peer } = handed;
        let socket = StdStream::from(socket);
        while self.tasks.try_join_next().is_some() {}
        if self.tasks.len() >= LIMIT {
            self.refused += 1;
            refuse(socket);
            return;
        }
        // Without a place in the runtime's poll set it can only be closed.
        let Ok(socket) = socket.set_nonblocking(true).and_then(|()| TcpStream::from_std(socket)) else {
            return;
        };
        self.tasks.spawn(serve(Guarded::new(socket, read), peer, router.clone()));
    }
}

async fn serve(io: Guarded, peer: SocketAddr, router: Router) {
    let router = TowerToHyperService::new(router);
    let is_first = AtomicBool::new(true);
    let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
        let arrival = if is_first.swap(false, Ordering::Relaxed) { Arrival::First } else { Arrival::Later };
        request.extensions_mut().insert(arrival);
        request.extensions_mut().insert(ConnectInfo(peer));
        router.call(request)
    });
    let served = http1::Builder::new()
        .max_buf_size(HEAD)
        // `printf … | nc` closes its half before the answer.
        .half_close(true)
        // `Guarded` keeps the time, of idle connections too.
        .header_read_timeout(None)
        .serve_connection(TokioIo::new(Worded::new(io)), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%peer, %error, "API connection ended");
    }
}

/// Says why and closes. The socket's buffer is empty, so nothing waits; what
/// does not fit is lost with the connection.
fn refuse(mut socket: StdStream) {
    let answer = Problem::too_many_connections(LIMIT).to_bytes(Some(5));
    if socket.set_nonblocking(true).is_ok() {
        // A close with unread bytes is a reset, and would overtake the answer.
        let mut scrap = [0u8; 4 << 10];
        (0..16).any(|_| !matches!(socket.read(&mut scrap), Ok(1..)));
        socket.write_all(&answer).ok();
        socket.shutdown(std::net::Shutdown::Write).ok();
    }
}
