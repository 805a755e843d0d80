//! What all shards know of one stream.

use std::{
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use millrace_boundary::{Cause, EngineId};
use millrace_media::ts::Psi;

use crate::{context::Context, hls::Shelf, inbox::Peer, segment::Window};

/// Id of one session of a stream: 16 hex digits, in logs and answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SessionId(pub(crate) u64);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// What a viewer asks for: equal keys share one stream.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ContentKey(Arc<str>);

impl ContentKey {
    /// Of a canonical text such as `id:<40 hex>` or `infohash:<40 hex>`.
    pub(crate) fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// The swarm's key.
    pub(crate) fn infohash(hex: &str) -> Self {
        Self(format!("infohash:{hex}").into())
    }

    /// The whole text; at most as long as a request line.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The text for people, at most 96 characters.
    pub(crate) fn display(&self) -> String {
        if self.0.chars().count() <= 96 {
            return self.0.to_string();
        }
        self.0.chars().take(95).chain(['…']).collect()
    }

    /// Which of `shards` owns it: FNV-1a, the same on every shard.
    pub(crate) fn owner(&self, shards: u16) -> usize {
        let hash = self
            .0
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
        // The low bits of FNV are weak for short suffixes; fold the high ones in.
        usize::try_from((hash ^ (hash >> 32)) % u64::from(shards.max(1))).unwrap_or(0)
    }
}

/// Why a stream gives its viewers nothing (more).
#[derive(Clone, Debug)]
pub(crate) struct Ended {
    /// Of the closed list.
    pub(crate) cause: Cause,
    /// For people, with ids and times.
    pub(crate) detail: String,
    /// When to ask again, where that is known better than the cause tells.
    pub(crate) retry_after: Option<Duration>,
}

impl Ended {
    /// For a reason that says by itself when to ask again.
    pub(crate) fn new(cause: Cause, detail: impl Into<String>) -> Self {
        Self { cause, detail: detail.into(), retry_after: None }
    }
}

/// One session of a stream, shared by the shards: the chain's window, its media
/// segments, the count of viewers, and the end.
#[derive(Debug)]
pub(crate) struct Stream {
    session: SessionId,
    key: ContentKey,
    viewers: AtomicU32,
    window: Arc<Window>,
    shelf: Arc<Shelf>,
    ended: OnceLock<Ended>,
    merged: OnceLock<Arc<Stream>>,
    /// PAT and PMT, as soon as they are known: often before there is a picture.
    psi: OnceLock<Arc<Psi>>,
    /// The engine that plays it, once it has opened a session: id + 1.
    engine: AtomicU64,
    /// Times the owner of its swarm has judged its claim.
    judged: AtomicU32,
    egress: AtomicU64,
}

/// Set in `viewers` when no viewer may enter any more.
const CLOSED: u32 = 1 << 31;

impl Stream {
    /// A session that has yet to start.
    pub(crate) fn new(session: SessionId, key: ContentKey, window: Arc<Window>) -> Arc<Self> {
        Arc::new(Self {
            session,
            key,
            viewers: AtomicU32::new(0),
            window,
            shelf: Arc::default(),
            ended: OnceLock::new(),
            merged: OnceLock::new(),
            psi: OnceLock::new(),
            engine: AtomicU64::new(0),
            judged: AtomicU32::new(0),
            egress: AtomicU64::new(0),
        })
    }

    /// Its id.
    pub(crate) fn session(&self) -> SessionId {
        self.session
    }

    /// What the first viewer asked for.
    pub(crate) fn key(&self) -> &ContentKey {
        &self.key
    }

    /// What there is to join and to send.
    pub(crate) fn window(&self) -> &Window {
        &self.window
    }

    /// The same, for its writer.
    pub(crate) fn shared_window(&self) -> Arc<Window> {
        Arc::clone(&self.window)
    }

    /// What there is of it for HLS.
    pub(crate) fn shelf(&self) -> &Arc<Shelf> {
        &self.shelf
    }

    /// Those who wait on any shard for something new of it are told to look.
    pub(crate) fn tell_waiting(&self, context: &Context) {
        for shard in self.shelf.take_waiting(context.shards()) {
            context.tell_peer(usize::from(shard), Peer::News(self.session));
        }
    }

    /// Notes the first PSI that an engine has sent.
    pub(crate) fn set_psi(&self, psi: &Arc<Psi>) {
        self.psi.get_or_init(|| Arc::clone(psi));
    }

    /// The first PSI that an engine has sent, for those who wait.
    pub(crate) fn psi(&self) -> Option<&Arc<Psi>> {
        self.psi.get()
    }

    /// Notes which engine has opened a session for it, if one has.
    pub(crate) fn set_engine(&self, engine: Option<EngineId>) {
        self.engine.store(engine.map_or(0, |e| u64::from(e.0) + 1), Ordering::Release);
    }

    /// The engine that has opened a session for it.
    pub(crate) fn engine(&self) -> Option<EngineId> {
        let noted = self.engine.load(Ordering::Acquire).checked_sub(1)?;
        u32::try_from(noted).ok().map(EngineId)
    }

    /// The owner of its swarm has judged its claim: it is merged by now, or it
    /// is the one that plays the swarm.
    pub(crate) fn set_judged(&self) {
        self.judged.fetch_add(1, Ordering::Release);
    }

    /// How often that has happened.
    pub(crate) fn judged(&self) -> u32 {
        self.judged.load(Ordering::Acquire)
    }

    /// Viewers, waiting ones included.
    pub(crate) fn viewers(&self) -> u32 {
        self.viewers.load(Ordering::Acquire) & !CLOSED
    }

    /// Whether viewers may still enter.
    pub(crate) fn is_open(&self) -> bool {
        self.viewers.load(Ordering::Acquire) & CLOSED == 0
    }

    /// Counts one more viewer, unless the stream is closing.
    pub(crate) fn enter(self: &Arc<Self>) -> Option<Seat> {
        self.viewers
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |v| (v & CLOSED == 0).then_some(v + 1))
            .ok()
            .map(|_| Seat(Arc::clone(self)))
    }

    /// Admits nobody from now on, if nobody is there; says whether it did.
    pub(crate) fn close_if_empty(&self) -> bool {
        self.viewers.compare_exchange(0, CLOSED, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Ends it for everybody. Only the first call counts.
    pub(crate) fn end(&self, ended: Ended) {
        // First why: who finds the door closed asks for it.
        self.ended.set(ended).ok();
        self.viewers.fetch_or(CLOSED, Ordering::AcqRel);
    }

    /// Ends it in favour of `other`, which plays the same content.
    pub(crate) fn merge_into(&self, other: Arc<Self>) {
        let detail = format!("plays as session {}", other.session);
        self.merged.set(other).ok();
        self.end(Ended::new(Cause::Merged, detail));
    }

    /// Why it ended, if it has.
    pub(crate) fn ended(&self) -> Option<&Ended> {
        self.ended.get()
    }

    /// The stream that took its viewers over.
    pub(crate) fn merged(&self) -> Option<&Arc<Self>> {
        self.merged.get()
    }

    /// Adds to what was sent to viewers.
    pub(crate) fn add_egress(&self, bytes: u64) {
        self.egress.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Bytes sent to viewers by all shards; behind by up to a second.
    pub(crate) fn egress(&self) -> u64 {
        self.egress.load(Ordering::Relaxed)
    }
}

/// One viewer's place in the count; given back when dropped.
#[derive(Debug)]
pub(crate) struct Seat(Arc<Stream>);

impl Seat {
    /// The stream.
    pub(crate) fn stream(&self) -> &Arc<Stream> {
        &self.0
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let before = self.0.viewers.fetch_sub(1, Ordering::AcqRel);
        debug_assert!(before & !CLOSED > 0, "a viewer was counted out twice");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream() -> Arc<Stream> {
        Stream::new(SessionId(1), ContentKey::infohash("00"), Arc::default())
    }

    #[test]
    fn nobody_enters_a_stream_that_has_closed() {
        let s = stream();
        let seat = s.enter().unwrap();
        assert_eq!((s.viewers(), s.close_if_empty(), s.is_open()), (1, false, true));
        drop(seat);
        assert!(s.close_if_empty());
        assert!(s.enter().is_none());
        assert_eq!(s.viewers(), 0);
    }

    #[test]
    fn viewers_leave_an_ended_stream_one_by_one() {
        let s = stream();
        let (a, b) = (s.enter().unwrap(), s.enter().unwrap());
        s.end(Ended::new(Cause::Stalled, ""));
        s.end(Ended::new(Cause::EngineReset, ""));
        assert_eq!(s.ended().unwrap().cause, Cause::Stalled, "the first end stands");
        drop(a);
        assert_eq!(s.viewers(), 1);
        drop(b);
        assert_eq!(s.viewers(), 0);
    }

    #[test]
    fn owners_are_spread_and_agree() {
        let mut counts = [0; 4];
        for i in 0..4_000 {
            counts[ContentKey::infohash(&format!("{i:040x}")).owner(4)] += 1;
        }
        assert!(counts.iter().all(|c| (800..1_200).contains(c)), "{counts:?}");
    }

    #[test]
    fn a_long_key_is_cut_for_people() {
        let key = ContentKey::new(format!("url:{}", "é".repeat(500)));
        assert_eq!(key.display().chars().count(), 96);
    }
}
