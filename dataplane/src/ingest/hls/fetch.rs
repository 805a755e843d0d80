//! One media segment: from the request to its last packet in the chain.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::Duration,
};

use millrace_boundary::{Cause, Monotonic, Operation, Outcome};

use super::Run;
use crate::{
    context::Context,
    ingest::{
        engine::{Failure, PROGRESS_LIMIT, Reply},
        reader::AHEAD_LIMIT,
    },
    rt::{Notify, sleep, unless_called},
};

/// Of a segment whose turn has not come, read ahead at most: one of an HD
/// programme, which has about 3 MB. The kernel keeps what else has come.
const AHEAD_MOST: usize = 4 << 20;
/// A read shorter than this is followed by a pause, so that a slow engine's
/// packets are taken several at a time.
const SHORT_READ: usize = AHEAD_LIMIT / 2;
const READ_PAUSE: Duration = Duration::from_millis(5);
/// After a long read: time for the shard's other work.
const BREATH: Duration = Duration::from_millis(1);
/// How often a full window is looked at again.
const FULL_WINDOW_PAUSE: Duration = Duration::from_millis(50);
/// As much of what was handed on is kept to know it again.
const KNOWN: usize = 188;

/// The place of a segment in the order of delivery, over both attempts.
#[derive(Default)]
pub(super) struct Lane {
    has_turn: Cell<bool>,
    turn: Notify,
    /// Bytes handed on, and the last of them.
    handed: Cell<u64>,
    last: RefCell<Vec<u8>>,
}

impl Lane {
    /// Whether its bytes go into the chain.
    pub(super) fn has_turn(&self) -> bool {
        self.has_turn.get()
    }

    /// From now on they do.
    pub(super) fn give_turn(&self) {
        self.has_turn.set(true);
        self.turn.call();
    }
}

/// Fetches the segment at `path`, and hands its packets on when its turn has
/// come.
///
/// # Errors
/// When it was refused, broke off, was empty or led elsewhere.
pub(super) async fn fetch(run: Rc<Run>, lane: Rc<Lane>, path: String) -> Result<(), Failure> {
    let began = Monotonic::now();
    let mut fetch = Fetch {
        ahead: Vec::new(),
        known: Known { left: lane.handed.get(), seen: Vec::new() },
        run: &run,
        lane: &lane,
    };
    let outcome = fetch.receive(&path).await;
    ended(&run.context, &path, began, outcome.as_ref().err());
    outcome?;
    while !lane.has_turn() {
        lane.turn.called().await;
    }
    fetch.hand_on_ahead().await?;
    run.finish()
}

/// A fetch that began then has come to its end, for the reason given or well.
fn ended(context: &Context, path: &str, began: Monotonic, failure: Option<&Failure>) {
    let (is_ok, now) = (failure.is_none(), Monotonic::now());
    let outcome = if is_ok { Outcome::Worked } else { Outcome::Failed };
    context.record(Operation::HlsSegmentFetch, began, now, outcome);
    context.count(|c| {
        c.hls_fetches += 1;
        c.hls_fetches_failed += u64::from(!is_ok);
    });
    let detail = failure.map_or("", |failure| &failure.detail);
    tracing::debug!(shard = %context.id, path, seconds = now.since(began).as_secs_f64(), is_ok, detail, "segment fetched");
}

struct Fetch<'a> {
    /// Bytes that came before the turn.
    ahead: Vec<u8>,
    known: Known,
    run: &'a Run,
    lane: &'a Lane,
}

/// The part of a second answer that was handed on out of the first.
struct Known {
    /// Bytes of it that are to come.
    left: u64,
    /// The last of it so far.
    seen: Vec<u8>,
}

impl Fetch<'_> {
    async fn receive(&mut self, path: &str) -> Result<(), Failure> {
        let mut reply = self.run.pool.ask(path, PROGRESS_LIMIT).await?;
        match reply.status {
            200 => {}
            300..400 => {
                let detail = "engine leads elsewhere instead of to a segment";
                return Err(Failure::new(Cause::EngineError, detail));
            }
            _ => {
                let failure = reply.complaint(&self.run.context).await;
                self.run.pool.take_back(reply);
                return Err(failure);
            }
        }
        let mut payload = 0;
        while !reply.is_over() {
            payload += self.step(&mut reply).await?;
        }
        self.run.pool.take_back(reply);
        match payload {
            0 => Err(Failure::new(Cause::EngineError, "engine sends an empty segment")),
            _ if self.known.left > 0 => Err(changed()),
            _ => Ok(()),
        }
    }

    /// Waits for bytes or for the turn, and reads once; says how many came.
    async fn step(&mut self, reply: &mut Reply) -> Result<usize, Failure> {
        if self.lane.has_turn() {
            self.hand_on_ahead().await?;
            self.run.room().await?;
            reply.readable().await?;
        } else if self.ahead.len() >= AHEAD_MOST {
            self.lane.turn.called().await;
            return Ok(0);
        } else {
            match unless_called(&self.lane.turn, reply.readable()).await {
                Some(ready) => ready?,
                None => return Ok(0),
            }
        }
        let turn = self.run.context.turns.take().await;
        let payload = self.read(reply)?;
        drop(turn);
        if !reply.is_over() {
            sleep(if payload < SHORT_READ { READ_PAUSE } else { BREATH }).await;
        }
        Ok(payload)
    }

    fn read(&mut self, reply: &mut Reply) -> Result<usize, Failure> {
        let run = self.run;
        run.context.with_scratch(|buffer| {
            let held = run.packets.borrow().lay_out(buffer);
            let payload = reply.read(&run.context, &mut buffer[held..held + AHEAD_LIMIT])?;
            let known = self.known.pass(&buffer[held..held + payload], &self.lane.last.borrow())?;
            // What came before goes on first.
            if !self.lane.has_turn() || !self.ahead.is_empty() {
                self.ahead.extend_from_slice(&buffer[held + known..held + payload]);
            } else if known < payload {
                self.lane.note(&buffer[held + known..held + payload]);
                buffer.copy_within(held + known..held + payload, held);
                run.deliver(&mut buffer[..held + payload - known], false)?;
            }
            Ok(payload)
        })
    }

    /// Hands on what came before the turn.
    async fn hand_on_ahead(&mut self) -> Result<(), Failure> {
        let run = self.run;
        for (place, piece) in std::mem::take(&mut self.ahead).chunks(AHEAD_LIMIT).enumerate() {
            if place > 0 {
                sleep(BREATH).await;
            }
            run.room().await?;
            self.lane.note(piece);
            run.context.with_scratch(|buffer| {
                let held = run.packets.borrow().lay_out(buffer);
                buffer[held..held + piece.len()].copy_from_slice(piece);
                run.deliver(&mut buffer[..held + piece.len()], false)
            })?;
        }
        Ok(())
    }
}

impl Lane {
    /// These bytes are handed on.
    fn note(&self, bytes: &[u8]) {
        self.handed.set(self.handed.get() + bytes.len() as u64);
        keep_last(&mut self.last.borrow_mut(), bytes);
    }
}

impl Known {
    /// How many of `bytes` were handed on before, up to `last`.
    ///
    /// # Errors
    /// When other bytes were.
    fn pass(&mut self, bytes: &[u8], last: &[u8]) -> Result<usize, Failure> {
        if self.left == 0 {
            return Ok(0);
        }
        let known = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
        self.left -= known as u64;
        keep_last(&mut self.seen, &bytes[..known]);
        if self.left == 0 && self.seen != last { Err(changed()) } else { Ok(known) }
    }
}

fn changed() -> Failure {
    Failure::new(Cause::EngineError, "engine sends other bytes of a segment than before")
}

/// Appends `bytes`, and keeps the newest of all.
fn keep_last(kept: &mut Vec<u8>, bytes: &[u8]) {
    kept.extend_from_slice(&bytes[bytes.len().saturating_sub(KNOWN)..]);
    kept.drain(..kept.len().saturating_sub(KNOWN));
}

impl Run {
    /// Waits until the source may go on.
    async fn room(&self) -> Result<(), Failure> {
        while !self.session.has_room(&self.context, &self.source) {
            sleep(FULL_WINDOW_PAUSE).await;
        }
        self.source.catch_up(&self.session, &self.context).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes handed on of a second answer, in pieces, of which the first
    /// `handed` were handed on out of the first.
    fn second(first: &[u8], handed: usize, answer: &[u8], piece: usize) -> Option<Vec<u8>> {
        let lane = Lane::default();
        first[..handed].chunks(7).for_each(|bytes| lane.note(bytes));
        let mut known = Known { left: lane.handed.get(), seen: Vec::new() };
        let mut out = Vec::new();
        for bytes in answer.chunks(piece) {
            let n = known.pass(bytes, &lane.last.borrow()).ok()?;
            out.extend_from_slice(&bytes[n..]);
        }
        (known.left == 0).then_some(out)
    }

    #[test]
    fn a_second_answer_goes_on_where_the_first_broke_off_or_fails() {
        let whole: Vec<u8> = (0..251).cycle().take(1_000).collect();
        let mut other = whole.clone();
        other[395] ^= 1;
        for handed in [0, 1, 187, 188, 189, 400, 1_000] {
            for piece in [1, 3, 188, 1_000] {
                let name = format!("{handed} handed on, then {piece} at a time");
                assert_eq!(second(&whole, handed, &whole, piece), Some(whole[handed..].to_vec()), "{name}");
                let changed = second(&whole, handed, &other, piece);
                assert_eq!(changed.is_none(), handed == 400, "{name}");
                let shorter = second(&whole, handed, &whole[..399], piece);
                assert_eq!(shorter.is_none(), handed > 399, "{name}");
            }
        }
    }
}
