//! All that may cross between the control thread and a shard.
//!
//! Plain data, one kind of mailbox, and the engine slots that every shard
//! reserves by compare-and-swap. Queues are bounded and an offer never blocks,
//! so each message says what its loss costs.
#![forbid(unsafe_code)]

mod bucket;
mod cause;
mod engine;
mod mailbox;
mod message;
mod performance;
mod sample;
mod time;

pub use bucket::Bucket;
pub use cause::{Cause, ViewerEnd};
pub use engine::{
    EngineEntry, EngineEvidence, EngineId, EngineState, EngineTable, Epoch, NotPicked, Output, SlotGuard,
    Slots,
};
pub use mailbox::{Doorbell, Inbox, Mailbox, Refused, mailbox};
pub use message::{FromShard, HandedConnection, SessionNote, ShardId, ToShard};
pub use performance::{Operation, OperationSample, Outcome, Recorder, SecondSample};
pub use sample::{
    BlockedContent, Counters, Driver, ShardSample, StreamSample, StreamState, latency_histogram,
};
pub use time::Monotonic;
