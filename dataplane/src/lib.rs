//! The sharded data plane: one pinned executor per core reads each stream once
//! and fans it out to every viewer. No tokio, no locks.
#![deny(unsafe_code)]

mod config;
mod context;
mod fanout;
mod hls;
mod http;
mod inbox;
mod ingest;
mod rt;
mod segment;
mod shard;
mod slice;
mod stream;
mod turns;

pub use config::{Config, HlsConfig, StreamConfig, ViewerConfig};
pub use http::players::{Patience, PlayerRule};
pub use shard::{Prepared, ShardSeed, StartError, prepare};
pub use slice::run_beside_shards;
