//! The least HTTP client that a probe needs: one GET, one connection.

use std::{io, net::SocketAddr, time::Duration};

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Empty};
use hyper::{Request, body::Incoming, header};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::timeout};

use super::ProbeFailure;

/// An engine on the same machine or network accepts in microseconds.
const CONNECT: Duration = Duration::from_secs(1);
/// Probe answers have 200 bytes; a cap against engines gone mad.
const BODY: usize = 64 << 10;

/// A whole answer.
pub(super) struct Said {
    pub(super) status: u16,
    pub(super) body: Bytes,
}

/// Asks for `path`; follows no redirect, accepts no compression.
pub(super) async fn get(address: SocketAddr, path: &str) -> Result<Said, ProbeFailure> {
    let socket = timeout(CONNECT, TcpStream::connect(address))
        .await
        .map_err(|_| ProbeFailure::Unreachable)?
        .map_err(|e| match e.kind() {
            io::ErrorKind::ConnectionRefused => ProbeFailure::Refused,
            _ => ProbeFailure::Unreachable,
        })?;
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .max_buf_size(BODY)
        .handshake(TokioIo::new(socket))
        .await
        .map_err(|_| ProbeFailure::Broken)?;
    let request = Request::get(path)
        .header(header::HOST, address.to_string())
        .header(header::ACCEPT_ENCODING, "identity")
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|_| ProbeFailure::Broken)?;
    let exchange = async {
        let answer = sender.send_request(request).await.map_err(|_| ProbeFailure::Broken)?;
        let status = answer.status();
        // The body of an engine's redirect may never end.
        if status.is_redirection() {
            return Err(ProbeFailure::Status(status.as_u16()));
        }
        Ok(Said { status: status.as_u16(), body: read(answer.into_body()).await? })
    };
    let mut exchange = std::pin::pin!(exchange);
    // The connection is driven here and not in a task of its own, so that it
    // ends with the probe. It may end first, once everything has been read.
    tokio::select! {
        biased;
        said = &mut exchange => said,
        _ = connection => exchange.await,
    }
}

async fn read(mut body: Incoming) -> Result<Bytes, ProbeFailure> {
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| ProbeFailure::Broken)?;
        if let Some(data) = frame.data_ref() {
            if whole.len() + data.len() > BODY {
                return Err(ProbeFailure::TooLarge);
            }
            whole.extend_from_slice(data);
        }
    }
    Ok(whole.freeze())
}
