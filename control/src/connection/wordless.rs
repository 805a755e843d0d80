//! hyper's own refusals, given words.
//!
//! What hyper cannot parse it refuses itself: a bare status and no body. There
//! is no hook for that, but every such head passes here on its way out, is the
//! last of its connection, and is like none of ours. It leaves in our shape.

use std::{
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::http::StatusCode;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

use crate::api::Problem;

/// hyper's own heads are shorter: three headers.
const LONGEST: usize = 256;
/// After a refusal, this long for the other end to close. A close with unread
/// bytes is a reset, and would overtake the answer.
const CLOSE_TIME: Duration = Duration::from_secs(1);
/// Read at most that often meanwhile.
const CLOSE_READS: usize = 256;

/// A connection on which every refusal has words.
#[derive(Debug)]
pub(super) struct Worded<S> {
    socket: S,
    refusal: Vec<u8>,
    sent: usize,
    closing: Option<Closing>,
}

/// Waiting for the other end to close.
#[derive(Debug)]
struct Closing {
    deadline: Pin<Box<Sleep>>,
    reads_left: usize,
}

impl<S> Worded<S> {
    pub(super) fn new(socket: S) -> Self {
        Self { socket, refusal: Vec::new(), sent: 0, closing: None }
    }
}

/// Where a head that hyper wrote by itself begins in `bytes`, which it ends,
/// and its status. Our own answers carry a body or are no refusals.
fn wordless(bytes: &[u8]) -> Option<(usize, StatusCode)> {
    let tail = bytes.len().saturating_sub(LONGEST);
    if !bytes.ends_with(b"\r\n\r\n") {
        return None;
    }
    let at = tail + bytes[tail..].windows(7).rposition(|w| w == b"HTTP/1.")?;
    let head = std::str::from_utf8(&bytes[at..]).ok()?.to_ascii_lowercase();
    let status = StatusCode::from_bytes(head.get(9..12)?.as_bytes()).ok()?;
    let ours = head.contains("\r\naccess-control-allow-origin:");
    let bare = status.is_client_error() && head.contains("\r\ncontent-length: 0\r\n") && !ours;
    bare.then_some((at, status))
}

impl<S: AsyncWrite + Unpin> Worded<S> {
    fn poll_refusal(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.refusal.len() {
            match ready!(Pin::new(&mut self.socket).poll_write(cx, &self.refusal[self.sent..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                n => self.sent += n,
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> Worded<S> {
    /// Reads what still comes, until the other end closes or time is up.
    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let closing = self.closing.get_or_insert_with(|| Closing {
            deadline: Box::pin(sleep(CLOSE_TIME)),
            reads_left: CLOSE_READS,
        });
        let mut scrap = [0; 4 << 10];
        while closing.reads_left > 0 && closing.deadline.as_mut().poll(cx).is_pending() {
            closing.reads_left -= 1;
            let mut buffer = ReadBuf::new(&mut scrap);
            match ready!(Pin::new(&mut self.socket).poll_read(cx, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => {}
                Ok(()) | Err(_) => break,
            }
        }
        Poll::Ready(())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Worded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, buffer)
    }
}

/// Not vectored: hyper then hands over all that it has as one slice, at whose
/// end its own head stands whole.
impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Worded<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match wordless(bytes) {
            None => Pin::new(&mut self.socket).poll_write(cx, bytes),
            Some((0, status)) => {
                self.refusal = Problem::unparsable(status).to_bytes(None);
                Poll::Ready(Ok(bytes.len()))
            }
            // An answer that was waiting for room comes first.
            Some((at, _)) => Pin::new(&mut self.socket).poll_write(cx, &bytes[..at]),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_refusal(cx))?;
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_refusal(cx))?;
        ready!(Pin::new(&mut self.socket).poll_shutdown(cx))?;
        if !self.refusal.is_empty() {
            ready!(self.poll_close(cx));
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    const BARE: &str = "HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\n\
                        content-length: 0\r\ndate: Sat, 01 Jan 2000 00:00:00 GMT\r\n\r\n";
    const BEFORE: &str = "HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\n{}";

    #[test]
    fn only_a_bare_refusal_at_the_end_is_hypers_own() {
        let ours = BARE.replace("date:", "access-control-allow-origin: *\r\ndate:");
        for (name, bytes, at) in [
            ("alone", BARE.to_owned(), Some(0)),
            ("behind an answer", format!("{BEFORE}{BARE}"), Some(BEFORE.len())),
            ("behind much", format!("{}{BARE}", "x".repeat(100_000)), Some(100_000)),
            ("to HTTP/1.0", BARE.replace("1.1", "1.0"), Some(0)),
            ("before something", format!("{BARE}x"), None),
            ("half of it", BARE[..BARE.len() - 1].to_owned(), None),
            ("ours", ours, None),
            ("with a body", BEFORE.to_owned(), None),
            ("to HEAD, with a length", BARE.replace("length: 0", "length: 90"), None),
            ("no refusal", BARE.replace("431", "200"), None),
            ("nothing", String::new(), None),
        ] {
            assert_eq!(wordless(bytes.as_bytes()).map(|(at, _)| at), at, "{name}");
        }
    }

    #[tokio::test]
    async fn an_answer_that_waits_comes_whole_before_the_refusal_however_little_room_there_is() {
        for room in [1, 7, 100, 10_000] {
            let (socket, mut client) = duplex(room);
            let mut worded = Worded::new(socket);
            let send = async {
                worded.write_all(format!("{BEFORE}{BARE}").as_bytes()).await.unwrap();
                worded.flush().await.unwrap();
                worded.shutdown().await.unwrap();
            };
            let read = async {
                let mut text = String::new();
                client.read_to_string(&mut text).await.unwrap();
                drop(client);
                text
            };
            let ((), text) = tokio::join!(send, read);
            let refusal = text.strip_prefix(BEFORE).unwrap_or_else(|| panic!("room {room}: {text}"));
            let (head, body) = refusal.split_once("\r\n\r\n").unwrap();
            assert!(head.starts_with("HTTP/1.1 431 "), "{head}");
            assert!(head.contains(&format!("Content-Length: {}", body.len())), "{head}");
            assert!(body.contains("head_too_large"), "{body}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_neither_reads_on_nor_closes_is_left_after_a_second() {
        let (socket, client) = duplex(10_000);
        let mut worded = Worded::new(socket);
        worded.write_all(BARE.as_bytes()).await.unwrap();
        let begun = tokio::time::Instant::now();
        worded.shutdown().await.unwrap();
        assert_eq!(begun.elapsed().as_secs(), 1);
        drop(client);
    }
}
