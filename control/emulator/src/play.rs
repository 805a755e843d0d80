//! The byte stream of a session's reader.

mod file;

use std::{cell::RefCell, io, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

use crate::{
    At, Behaviour, Cut, Delivery, End, PlayerCounters,
    behaviour::{Body, ContentType, Framing, Head},
    engine::Engine,
    http::{Conn, head},
    pump::{Pump, Step},
    serve::Next,
    session::Ended,
    source::Source,
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
    key: String,
    player: String,
    behaviour: Behaviour,
    source: Source,
    pump: Pump,
    seek: watch::Receiver<Option<(Duration, Instant)>>,
    /// Of what was set for contents, what it knows of.
    changes: u64,
    /// The delivery that was set, from which its own may differ.
    set: Delivery,
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
        session.reading = Some(Instant::now());
        let reads = session.reads;
        let player = session.player.clone();
        let (infohash, key, source) = (session.infohash.clone(), session.key.clone(), session.source());
        let mut behaviour = session.behaviour.clone();
        let set = behaviour.delivery;
        let mut seek = session.seek.subscribe();
        let position = *seek.borrow_and_update();
        if let Some(time) = behaviour.leftovers
            && state.memory.has_left(&infohash, &key, time, Instant::now())
        {
            let left = Duration::from_secs(2) + state.rng.up_to(Duration::from_secs(3));
            behaviour.delivery.burst = Some(left);
            let bytes = u32::try_from(source.packets_in(left) * 188).unwrap_or(u32::MAX >> 1);
            behaviour.delivery.cut = Some(Cut { at: At::Bytes(bytes), end: End::Fin });
        }
        if let Some(rival) = behaviour.rival
            && state.memory.rivals(&infohash) < rival.times
        {
            behaviour.delivery.cut = Some(Cut { at: At::Time(rival.after), end: End::Replaced });
        }
        let burst = behaviour.delivery.burst.unwrap_or(engine.timing.burst);
        let lag = behaviour.lag.unwrap_or(engine.lag);
        let mut pump = Pump::new(source, &behaviour, lag, burst, seed);
        if let Some((position, at)) = position {
            pump.seek(position + at.elapsed(), Duration::ZERO);
        }
        state.counters.open_readers += 1;
        let mut spare = state.spare;
        state.counters.content(&infohash, &mut spare).open_readers += 1;
        state.log(format!("reader {number} read {reads}"));
        Some(Self {
            engine,
            number,
            infohash,
            key,
            player,
            behaviour,
            source,
            pump,
            seek,
            changes,
            set,
            reads,
        })
    }

    /// Sends the stream until it ends, the client leaves or the session is over.
    /// Of a file, `range` is sent, if there is one.
    pub(crate) async fn play(
        mut self,
        conn: &mut Conn,
        range: Option<&str>,
        ended: &mut watch::Receiver<Ended>,
    ) -> Next {
        let patience = self.patience();
        if let Some(length) = self.behaviour.vod {
            return self.play_file(conn, length, range, ended).await;
        }
        self.engine.state().counters.misuse.range += u64::from(range.is_some());
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
        let end = self.pump_all(conn, ended).await;
        if is_chunked && end != End::Reset {
            let last = match (end, self.behaviour.framing) {
                (End::NoLastChunk, _) => "",
                (End::BadChunk, _) => "zz\r\n",
                (_, Framing::Chunked { adorned: true, .. }) => "0;last\r\nX-Sum: 0\r\nX-End: yes\r\n\r\n",
                _ => "0\r\n\r\n",
            };
            conn.write_all(last.as_bytes(), Duration::from_millis(100)).await.ok();
        }
        match end {
            End::Expired => self.engine.state().end(|s| s.number == self.number),
            End::Replaced => self.engine.state().yield_to_rival(self.number, &self.infohash),
            _ => {}
        }
        if end == End::Reset { Next::Reset } else { Next::Close }
    }

    /// How long it waits for a client that takes nothing.
    fn patience(&self) -> Duration {
        self.behaviour.no_read.unwrap_or(self.engine.timing.no_read)
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
        let patience = self.patience();
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

    /// Sends what the pump gives, and says how it ends.
    async fn pump_all(&mut self, conn: &mut Conn, ended: &mut watch::Receiver<Ended>) -> End {
        let mut began = Instant::now();
        loop {
            let mut buffer = BUFFERS.with_borrow_mut(Vec::pop).unwrap_or_default();
            buffer.clear();
            if self.take_up_changes() {
                began = Instant::now();
            }
            if self.seek.has_changed().unwrap_or(false)
                && let Some((position, _)) = *self.seek.borrow_and_update()
            {
                self.pump.seek(position, began.elapsed());
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
                        _ = ended.changed() => Some(End::Fin),
                        _ = conn.closed() => Some(End::Fin),
                        Ok(()) = self.seek.changed() => {
                            self.seek.mark_changed();
                            None
                        }
                        () = tokio::time::sleep(time) => None,
                    }
                }
                Step::End(end) => Some(end),
            };
            BUFFERS.with_borrow_mut(|spare| {
                if spare.len() < SPARE_BUFFERS {
                    spare.push(buffer);
                }
            });
            if let Some(end) = outcome {
                return end;
            }
        }
    }

    /// Takes up the delivery that was set for the content since the last look,
    /// as if the head had just been sent; false when it is as it was. A file
    /// goes on as it began.
    fn take_up_changes(&mut self) -> bool {
        let mut state = self.engine.state();
        if state.changes == std::mem::replace(&mut self.changes, state.changes) {
            return false;
        }
        let delivery = state.set_for_session(self.engine, &self.infohash).delivery;
        if delivery == std::mem::replace(&mut self.set, delivery) || self.behaviour.vod.is_some() {
            return false;
        }
        if let Some(session) = state.session(self.number) {
            session.reading = Some(Instant::now());
        }
        drop(state);
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
    ) -> Option<End> {
        loop {
            match conn.try_write(bytes) {
                Ok(n) => bytes = &bytes[n..],
                Err(_) => return Some(End::Fin),
            }
            if bytes.is_empty() {
                break;
            }
            let _gap = Gap { engine: self.engine, since: Instant::now() };
            tokio::select! {
                biased;
                _ = ended.changed() => return Some(End::Fin),
                can = timeout(self.patience(), conn.writable()) => match can {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) => return Some(End::Fin),
                    Err(_) => {
                        // The engine gives up readers that do not read.
                        self.engine.state().end(|s| s.number == self.number);
                        return Some(End::Fin);
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
            session.reading = None;
            session.stalled = None;
        }
        if self.behaviour.leftovers.is_some() {
            state.memory.leave(&self.infohash, &self.key, Instant::now());
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
