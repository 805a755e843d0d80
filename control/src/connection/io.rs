//! A handed socket: first the bytes that a shard has read, then the rest, all
//! of it against the clock.

use std::{
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, Sleep, sleep},
};

/// From the first byte of a request to its last, and from the first byte of
/// an answer until the peer has room for all of it.
const BUSY: Duration = Duration::from_secs(10);
/// Between an answer and the next request.
const IDLE: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Clock {
    /// A request is coming in.
    Request,
    /// An answer is going out.
    Answer,
    /// Neither.
    Idle,
}

/// The socket, with its clock.
#[derive(Debug)]
pub(super) struct Guarded {
    read: Box<[u8]>,
    given: usize,
    socket: TcpStream,
    clock: Clock,
    deadline: Pin<Box<Sleep>>,
}

impl Guarded {
    /// `read` is what was read from `socket` before.
    pub(super) fn new(socket: TcpStream, read: Box<[u8]>) -> Self {
        Self { read, given: 0, socket, clock: Clock::Request, deadline: Box::pin(sleep(BUSY)) }
    }

    /// Starts the clock anew, if this is news to it.
    fn turn(&mut self, clock: Clock) {
        if self.clock != clock {
            self.clock = clock;
            let limit = match clock {
                Clock::Request | Clock::Answer => BUSY,
                Clock::Idle => IDLE,
            };
            self.deadline.as_mut().reset(Instant::now() + limit);
        }
    }

    /// Pending, or the error of being too late.
    fn wait<T>(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        ready!(self.deadline.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Guarded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.given < self.read.len() {
            let end = self.read.len().min(self.given + buffer.remaining());
            buffer.put_slice(&self.read[self.given..end]);
            self.given = end;
            if self.given == self.read.len() {
                self.read = Box::default();
                self.given = 0;
            }
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        match Pin::new(&mut self.socket).poll_read(cx, buffer) {
            // A drip of bytes does not stop the clock of a request begun.
            Poll::Ready(Ok(())) if buffer.filled().len() > before => {
                if self.clock == Clock::Idle {
                    self.turn(Clock::Request);
                }
                match self.deadline.as_mut().poll(cx) {
                    Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
                    Poll::Pending => Poll::Ready(Ok(())),
                }
            }
            Poll::Ready(done) => Poll::Ready(done),
            Poll::Pending => self.wait(cx),
        }
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.turn(Clock::Answer);
        match Pin::new(&mut self.socket).poll_write(cx, bytes) {
            Poll::Pending => self.wait(cx),
            done @ Poll::Ready(_) => done,
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.turn(Clock::Answer);
        match Pin::new(&mut self.socket).poll_write_vectored(cx, bytes) {
            Poll::Pending => self.wait(cx),
            done @ Poll::Ready(_) => done,
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.socket).poll_flush(cx);
        if matches!(flushed, Poll::Ready(Ok(()))) && self.clock == Clock::Answer {
            self.turn(Clock::Idle);
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
        time::{advance, pause},
    };

    use super::*;

    // A paused clock moves on only when nothing else does.

    /// Both ends.
    async fn pair(read: &[u8]) -> (Guarded, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (socket, _) = listener.accept().await.unwrap();
        (Guarded::new(socket, read.into()), client)
    }

    #[tokio::test]
    async fn what_was_read_before_comes_first_whatever_the_buffer() {
        for size in [1, 3, 5, 100] {
            let (mut guarded, mut client) = pair(b"hello ").await;
            client.write_all(b"world").await.unwrap();
            client.shutdown().await.unwrap();
            let (mut all, mut buffer) = (Vec::new(), vec![0u8; size]);
            loop {
                match guarded.read(&mut buffer).await.unwrap() {
                    0 => break,
                    n => all.extend_from_slice(&buffer[..n]),
                }
            }
            assert_eq!(all, b"hello world", "buffers of {size}");
        }
    }

    #[tokio::test]
    async fn a_request_has_ten_seconds_and_an_idle_connection_sixty() {
        let (mut guarded, mut client) = pair(b"").await;
        pause();
        let mut buffer = [0u8; 8];
        let begun = Instant::now();
        assert_eq!(guarded.read(&mut buffer).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!((BUSY..BUSY + Duration::from_millis(100)).contains(&begun.elapsed()));

        for (name, first_byte, limit) in [("idle", false, IDLE), ("after a first byte", true, BUSY)] {
            guarded.write_all(b"answer").await.unwrap();
            guarded.flush().await.unwrap();
            if first_byte {
                client.write_all(b"G").await.unwrap();
                guarded.read_exact(&mut buffer[..1]).await.unwrap();
            }
            let begun = Instant::now();
            assert_eq!(guarded.read(&mut buffer).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
            assert!((limit..limit + Duration::from_millis(100)).contains(&begun.elapsed()), "{name}");
        }
    }

    #[tokio::test]
    async fn a_drip_of_bytes_does_not_stop_the_clock() {
        let (mut guarded, mut client) = pair(b"").await;
        pause();
        let mut buffer = [0u8; 1];
        for second in 0..20 {
            client.write_all(b"x").await.unwrap();
            match guarded.read(&mut buffer).await {
                Ok(_) => assert!(second <= 10, "{second}"),
                Err(e) => {
                    return assert!(second >= 10 && e.kind() == io::ErrorKind::TimedOut, "{second}: {e}");
                }
            }
            advance(Duration::from_secs(1)).await;
        }
        panic!("the clock stopped");
    }

    #[tokio::test]
    async fn a_peer_that_takes_nothing_is_given_up() {
        let (mut guarded, client) = pair(b"").await;
        pause();
        let begun = Instant::now();
        let error = guarded.write_all(&vec![0; 64 << 20]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!((BUSY..BUSY * 2).contains(&begun.elapsed()));
        drop(client);
    }
}
