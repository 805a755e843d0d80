//! One connection from its acceptance to the moment it is a viewer's,
//! control's, or closed.

use std::{os::fd::OwnedFd, time::Duration};

use millrace_boundary::Monotonic;

use super::{
    content::Policy,
    request::{Asked, HEAD_LIMIT, Wish, parse},
    response::{PREFLIGHT, Refusal, stream_head},
};
use crate::{
    hls::Ask,
    rt::{AsyncReadRent, AsyncWriteRent, AsyncWriteRentExt, TcpStream, into_owned, read_now, within},
};

/// A request has to be whole within this.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// A small answer has to be taken within this.
const ANSWER_TIME: Duration = Duration::from_secs(5);
/// After an answer, this long for the other end to close.
const CLOSE_TIME: Duration = Duration::from_secs(1);
/// Read at a time; most requests are smaller.
const READ: usize = 2 << 10;

/// What a connection has turned out to be.
pub(crate) enum Turned {
    /// An HLS player's, with its first request and what has been read behind it.
    Hls(OwnedFd, Box<Ask>, Vec<u8>),
    /// Something else.
    Over(Over),
}

/// What a connection is once its requests are over.
pub(crate) enum Over {
    /// A viewer's, for this stream.
    Viewer(OwnedFd, Wish),
    /// Control's, with what has been read of it.
    Control(OwnedFd, Box<[u8]>),
    /// Answered or given up, and closed.
    Closed {
        /// Why, if it was refused.
        refused: Option<Refusal>,
    },
}

/// Reads a request and answers it where it needs no stream.
pub(crate) async fn serve(mut socket: TcpStream, policy: Policy) -> Turned {
    let deadline = Monotonic::now() + HEAD_TIME;
    let mut head: Vec<u8> = Vec::new();
    let mut buffer = Vec::with_capacity(READ);
    let answer = loop {
        let left = deadline.since(Monotonic::now());
        buffer.clear();
        // Most requests come with the connection, and need not be waited for.
        let read = match read_now(&socket, &mut buffer) {
            Some(read) => read,
            None => {
                let Some((read, returned)) = within(left, socket.read(buffer)).await else {
                    break if head.is_empty() { None } else { Some(Asked::Refuse(Refusal::too_slow())) };
                };
                buffer = returned;
                read
            }
        };
        match read {
            Ok(n) if n > 0 => head.extend_from_slice(&buffer[..n]),
            _ => break None,
        }
        match parse(&head, policy) {
            Asked::More if head.len() > HEAD_LIMIT => {
                break Some(Asked::Refuse(Refusal::head_too_large("head longer than 16 KiB")));
            }
            Asked::More => {}
            Asked::Stream(wish) => match into_owned(socket) {
                Ok(socket) => return Turned::Over(Over::Viewer(socket, wish)),
                Err(_) => return Turned::Over(Over::Closed { refused: None }),
            },
            Asked::Other => match into_owned(socket) {
                Ok(socket) => return Turned::Over(Over::Control(socket, head.into_boxed_slice())),
                Err(_) => return Turned::Over(Over::Closed { refused: None }),
            },
            Asked::Hls(ask, len) => match into_owned(socket) {
                Ok(socket) => return Turned::Hls(socket, ask, head.split_off(len)),
                Err(_) => return Turned::Over(Over::Closed { refused: None }),
            },
            asked @ (Asked::StreamHead | Asked::Preflight | Asked::Refuse(_)) => break Some(asked),
        }
    };
    let Some(asked) = answer else { return Turned::Over(Over::Closed { refused: None }) };
    let (bytes, refused) = small_answer(asked);
    finish(socket, bytes).await;
    Turned::Over(Over::Closed { refused })
}

/// The whole answer to what needs no stream, and whether it is a refusal.
pub(crate) fn small_answer(asked: Asked) -> (Vec<u8>, Option<Refusal>) {
    match asked {
        Asked::StreamHead => (stream_head(None), None),
        Asked::Refuse(refusal) => (refusal.to_bytes(), Some(refusal)),
        _ => (PREFLIGHT.to_vec(), None),
    }
}

/// Sends an answer, ends our side, and lets the other end read it: closing at
/// once would reset the connection if it had sent more than was read.
async fn finish(mut socket: TcpStream, bytes: Vec<u8>) {
    let Some((Ok(_), _)) = within(ANSWER_TIME, socket.write_all(bytes)).await else { return };
    socket.shutdown().await.ok();
    within(CLOSE_TIME, async {
        let mut buffer = Vec::with_capacity(READ * 4);
        for _ in 0..256 {
            let (read, returned) = socket.read(buffer).await;
            buffer = returned;
            if !matches!(read, Ok(1..)) {
                break;
            }
        }
    })
    .await;
}
