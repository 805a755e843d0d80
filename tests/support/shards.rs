//! Whole shards in this process, between viewers and a table made by hand.

use std::{
    net::SocketAddr,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use millrace_boundary::{
    Doorbell, EngineEntry, EngineId, EngineState, EngineTable, Epoch, FromShard, Inbox, Mailbox, SessionNote,
    ShardId, ShardSample, Slots, ToShard, mailbox,
};
use millrace_dataplane::{Config, HlsConfig, StreamConfig, ViewerConfig, prepare};

use super::wait_until;

/// Messages of shards that may wait for this test.
const MAIL: usize = 65_536;

/// Running shards, and what they have said.
pub(crate) struct Shards {
    pub(crate) address: SocketAddr,
    mailboxes: Vec<Mailbox<ToShard>>,
    inbox: Inbox<FromShard>,
    epoch: u64,
    /// What happened to sessions, with the time at which it was heard.
    pub(crate) notes: Vec<(Instant, SessionNote)>,
    /// Who waited, as told between samples.
    pub(crate) demands: Vec<(ShardId, u32)>,
    /// The newest sample of each shard.
    pub(crate) samples: Vec<Option<Box<ShardSample>>>,
}

impl Shards {
    /// Starts `count` of them on a free port. They end with the process.
    pub(crate) fn start(count: u16, stream: StreamConfig, viewer: ViewerConfig) -> Self {
        let listen = ([127, 0, 0, 1], 0).into();
        let (to_control, inbox) = mailbox(MAIL, &Doorbell::new().expect("a descriptor"));
        let config = Config { listen, stream, viewer, hls: HlsConfig::default() };
        let prepared = prepare(config, count, to_control).expect("shards");
        for (place, seed) in prepared.seeds.into_iter().enumerate() {
            let run = move || seed.run(|_| {}).expect("a driver");
            thread::Builder::new().name(format!("shard-{place}")).spawn(run).expect("a thread");
        }
        Self {
            address: prepared.address,
            mailboxes: prepared.mailboxes,
            inbox,
            epoch: 0,
            notes: Vec::new(),
            demands: Vec::new(),
            samples: (0..count).map(|_| None).collect(),
        }
    }

    /// Gives all shards their next table.
    pub(crate) fn publish(&mut self, engines: &[EngineEntry], growing: bool) {
        self.publish_to(|_| true, engines, growing);
    }

    /// Gives some of them their next table.
    pub(crate) fn publish_to(
        &mut self,
        which: impl Fn(ShardId) -> bool,
        engines: &[EngineEntry],
        growing: bool,
    ) {
        self.epoch += 1;
        let table = Arc::new(EngineTable { epoch: Epoch(self.epoch), growing, engines: engines.into() });
        for (_, mailbox) in (0..).zip(&self.mailboxes).filter(|(shard, _)| which(ShardId(*shard))) {
            mailbox.offer(ToShard::Table(Arc::clone(&table))).expect("an empty queue");
        }
    }

    /// Tells all shards to end a session.
    pub(crate) fn stop(&self, session: &str) {
        let session = u64::from_str_radix(session, 16).expect("a session's id");
        for mailbox in &self.mailboxes {
            mailbox.offer(ToShard::Stop { session }).expect("an empty queue");
        }
    }

    /// Listens until `condition` holds, or `limit` has passed.
    #[track_caller]
    pub(crate) fn until(&mut self, what: &str, limit: Duration, condition: impl Fn(&Self) -> bool) {
        let is_so = wait_until(limit, || {
            while let Some(message) = self.inbox.take() {
                self.hear(message);
            }
            condition(self)
        });
        let told: Vec<_> =
            self.notes.iter().map(|(_, n)| (n.shard.0, &n.session[..4], n.what, &n.detail)).collect();
        assert!(is_so, "not within {limit:?}: {what}; demands {:?}, notes {told:#?}", self.demands);
    }

    fn hear(&mut self, message: FromShard) {
        match message {
            FromShard::Session(note) => self.notes.push((Instant::now(), *note)),
            FromShard::Demand { shard, waiting } => self.demands.push((shard, waiting)),
            FromShard::Sample(sample) => {
                let shard = usize::from(sample.shard.0);
                self.samples[shard] = Some(sample);
            }
            FromShard::Adopted { .. }
            | FromShard::Connection(_)
            | FromShard::Evidence { .. }
            | FromShard::Performance(_)
            | FromShard::Drained { .. } => {}
        }
    }

    /// The sessions to which `what` has happened, with their shards, in the order
    /// in which that was heard.
    pub(crate) fn sessions(&self, what: &str) -> Vec<(ShardId, String)> {
        let notes = self.notes.iter().filter(|(_, note)| note.what == what);
        notes.map(|(_, note)| (note.shard, note.session.clone())).collect()
    }

    /// When `what` was last heard of.
    pub(crate) fn last(&self, what: &str) -> Option<Instant> {
        self.notes.iter().rev().find(|(_, note)| note.what == what).map(|(at, _)| *at)
    }

    /// The newest word of each shard on who waits, between samples.
    pub(crate) fn demand(&self) -> u32 {
        let of = |shard| self.demands.iter().rev().find(|(told, _)| *told == ShardId(shard));
        let shards = 0..u16::try_from(self.samples.len()).expect("few shards");
        shards.filter_map(|shard| of(shard).map(|(_, waiting)| *waiting)).sum()
    }
}

/// Engines at `addresses` that are ready and play `capacity` streams each.
pub(crate) fn entries(addresses: &[SocketAddr], capacity: u32) -> Vec<EngineEntry> {
    let entry = |(id, address): (u32, &SocketAddr)| EngineEntry {
        id: EngineId(id),
        name: format!("e{id}").into(),
        address: *address,
        source: None,
        state: EngineState::Ready,
        slots: Slots::new(capacity),
        start_failures: 0,
        first_byte: Duration::ZERO,
    };
    (0..).zip(addresses).map(entry).collect()
}
