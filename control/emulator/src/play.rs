//! The byte stream of a session's reader.

use std::{cell::RefCell, io, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

use crate::{
    Behaviour, PlayerCounters,
    behaviour::{At, Body, ContentType, Framing, Head},
    engine::Engine,
    http::{Conn, head},
    pump::{Pump, Step},
    serve::Next,
    session::Ended,
};

thread_local! {
    /// Buffers not in use: a stream has one only while it writes.
    static BUFFERS: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}
/// Buffers kept for the next write.
const SPARE_BUFFERS: usize = 8;

/// The one reader of a session; gives its place back when dropped.
pub(crate) struct Reader<'a> {
    engine: &'a Engine,
    number: u64,
    infohash: String,
    player: String,
    behaviour: Behaviour,
    pump: Pump,
    /// Of what was set for contents, what it knows of.
    changes: u64,
    /// Reads of the session, this one included.
    reads: u32,
}

impl<'a> Reader<'a> {
    /// Takes the reader's place of a session, if it is free.
    pub(crate) fn take(engine: &'a Engine, number: u64) -> Option<Self> {
        let mut state = engine.state();
        let (seed, changes) = (state.rng.next(), state.changes);
        let session = state.session(number).filter(|s| !s.has_reader)?;
        session.has_reader = true;
        session.reading_since.get_or_insert_with(Instant::now);
        session.reads += 1;
        let reads = session.reads;
        let player = session.player.clone();
        let (infohash, behaviour) = (session.infohash.clone(), session.behaviour.clone());
        let burst = behaviour.delivery.burst.unwrap_or(engine.timing.burst);
        let pump = Pump::new(session.source, &behaviour, engine.lag, burst, seed);
        state.counters.open_readers += 1;
        let mut spare = state.spare;
        state.counters.content(&infohash, &mut spare).open_readers += 1;
        state.log(format!("reader {number} read {reads}"));
        Some(Self { engine, number, infohash, player, behaviour, pump, changes, reads })
    }

    /// Sends the stream until it ends, the client leaves or the session is over.
    pub(crate) async fn play(mut self, conn: &mut Conn, ended: &mut watch::Receiver<Ended>) -> Next {
        let patience = self.engine.timing.no_read;
        let is_chunked = matches!(self.behaviour.framing, Framing::Chunked { .. });
        if self.behaviour.head == Head::DoubleStatus {
            let twice = format!("HTTP/1.1 200 OK\r\n{}\r\n", head("500 Internal Server Error"));
            // The connection closes in either case.
            conn.write_all(twice.as_bytes(), patience).await.ok();
            return Next::Close;
        }
        self.count_playback();
        if self.send_head(conn, is_chunked).await.is_err() {
            return Next::Close;
        }
        if matches!(self.behaviour.head, Head::EmptyFirst(n) if self.reads <= n) {
            return Next::Close;
        }
        if let Body::Text(text) = self.behaviour.body {
            conn.write_all(text.as_bytes(), patience).await.ok();
            return Next::Close;
        }
        let next = self.pump_all(conn, ended).await;
        if next == Next::Close && is_chunked {
            let end = match self.behaviour.framing {
                Framing::Chunked { adorned: true, .. } => "0;last\r\nX-Sum: 0\r\nX-End: yes\r\n\r\n",
                _ => "0\r\n\r\n",
            };
            conn.write_all(end.as_bytes(), Duration::from_millis(100)).await.ok();
        }
        next
    }

    fn count_playback(&self) {
        let mut state = self.engine.state();
        state.counters.playbacks += 1;
        let mut spare = state.spare;
        state.counters.content(&self.infohash, &mut spare).playbacks += 1;
        let more = PlayerCounters { playbacks: 1, ..Default::default() };
        state.counters.count_player(&self.infohash, &self.player, more);
    }

    async fn send_head(&self, conn: &mut Conn, is_chunked: bool) -> io::Result<()> {
        use std::fmt::Write;
        let patience = self.engine.timing.no_read;
        let mut text = head("200 OK");
        match self.behaviour.wire.content_type {
            ContentType::Usual => text.push_str("Content-Type: video/mp2t\r\n"),
            ContentType::None => {}
            ContentType::Other(kind) => {
                // Writing to a string cannot fail.
                write!(text, "Content-Type: {kind}\r\n").ok();
            }
        }
        if let Framing::Length(length) = self.behaviour.framing {
            write!(text, "Content-Length: {length}\r\n").ok();
        }
        if is_chunked {
            text.push_str("Transfer-Encoding: chunked\r\n");
        }
        match self.behaviour.head {
            Head::ManyLines(lines) => {
                for i in 0..lines {
                    // Writing to a string cannot fail.
                    write!(text, "X-Line-{i}: {i}\r\n").ok();
                }
            }
            Head::LongLine(bytes) => {
                let fill = usize::try_from(bytes).unwrap_or(0);
                write!(text, "X-Long: {}\r\n", "x".repeat(fill)).ok();
            }
            _ => {}
        }
        text.push_str("\r\n");
        let text = conn.style.rewrite(text.as_bytes()).unwrap_or_else(|| text.into_bytes());
        if let Head::Trickle(apart) = self.behaviour.head {
            for byte in text {
                conn.write_all(&[byte], patience).await?;
                if !conn.wait(apart).await {
                    return Err(io::ErrorKind::BrokenPipe.into());
                }
            }
            return Ok(());
        }
        conn.write_all(&text, patience).await
    }

    async fn pump_all(&mut self, conn: &mut Conn, ended: &mut watch::Receiver<Ended>) -> Next {
        let mut began = Instant::now();
        loop {
            let mut buffer = BUFFERS.with_borrow_mut(Vec::pop).unwrap_or_default();
            buffer.clear();
            if self.take_up_changes() {
                began = Instant::now();
            }
            let weather = self.engine.state().weather(self.number, Instant::now());
            let step = self.pump.step(began.elapsed(), weather, &mut buffer);
            let outcome = match step {
                Step::Write { payload } => {
                    self.set_stalled(false);
                    self.write(conn, &buffer, payload, ended).await
                }
                Step::Wait { time, stalled } => {
                    self.set_stalled(stalled);
                    tokio::select! {
                        biased;
                        _ = ended.changed() => Some(Next::Close),
                        _ = conn.closed() => Some(Next::Close),
                        () = tokio::time::sleep(time) => None,
                    }
                }
                Step::End { reset } => Some(if reset { Next::Reset } else { Next::Close }),
            };
            BUFFERS.with_borrow_mut(|spare| {
                if spare.len() < SPARE_BUFFERS {
                    spare.push(buffer);
                }
            });
            if let Some(next) = outcome {
                return next;
            }
        }
    }

    /// Takes up the delivery that was set for the content since the last look,
    /// as if the head had just been sent; false when it is as it was.
    fn take_up_changes(&mut self) -> bool {
        let state = self.engine.state();
        if state.changes == std::mem::replace(&mut self.changes, state.changes) {
            return false;
        }
        let delivery = state.set_for_session(self.engine, &self.infohash).delivery;
        drop(state);
        if delivery == self.behaviour.delivery {
            return false;
        }
        self.behaviour.delivery = delivery;
        self.pump.take_up(delivery);
        true
    }

    /// Writes one piece; says when that was the last.
    async fn write(
        &self,
        conn: &Conn,
        mut bytes: &[u8],
        payload: u64,
        ended: &mut watch::Receiver<Ended>,
    ) -> Option<Next> {
        loop {
            match conn.try_write(bytes) {
                Ok(n) => bytes = &bytes[n..],
                Err(_) => return Some(Next::Close),
            }
            if bytes.is_empty() {
                break;
            }
            let _gap = Gap { engine: self.engine, since: Instant::now() };
            tokio::select! {
                biased;
                _ = ended.changed() => return Some(Next::Close),
                can = timeout(self.engine.timing.no_read, conn.writable()) => match can {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) => return Some(Next::Close),
                    Err(_) => {
                        // The engine gives up readers that do not read.
                        self.engine.state().end(|s| s.number == self.number);
                        return Some(Next::Close);
                    }
                },
            }
        }
        self.engine.state().counters.bytes += payload;
        self.engine.feel();
        // A fast reader must not keep the other streams waiting.
        tokio::task::yield_now().await;
        None
    }

    fn set_stalled(&mut self, stalled: bool) {
        if self.pump.is_stalled != stalled {
            self.pump.is_stalled = stalled;
            if let Some(session) = self.engine.state().session(self.number) {
                session.stalled = stalled.then(Instant::now);
            }
        }
    }
}

/// Measures how long a reader takes nothing.
struct Gap<'a> {
    engine: &'a Engine,
    since: Instant,
}

impl Drop for Gap<'_> {
    fn drop(&mut self) {
        let millis = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        let longest = &mut self.engine.state().counters.longest_read_gap_ms;
        *longest = millis.max(*longest);
    }
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        let mut state = self.engine.state();
        state.counters.open_readers -= 1;
        let mut spare = crate::counters::ContentCounters { open_readers: 1, ..state.spare };
        let content = state.counters.content(&self.infohash, &mut spare);
        content.open_readers = content.open_readers.saturating_sub(1);
        if let Some(session) = state.session(self.number) {
            session.has_reader = false;
            session.stalled = None;
        }
    }
}

/// Whether a point of the stream is reached, and how many bytes may go before it.
pub(crate) fn reached(at: At, elapsed: Duration, produced: u64) -> (bool, u64) {
    match at {
        At::Bytes(n) => (u64::from(n) <= produced, u64::from(n).saturating_sub(produced)),
        At::Time(time) => (time <= elapsed, u64::MAX),
    }
}
