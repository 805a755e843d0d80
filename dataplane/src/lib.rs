//! The sharded data plane: one pinned executor per core.

mod config;
mod shard;

pub use config::{Config, StreamConfig, ViewerConfig};
pub use shard::{Prepared, ShardSeed, StartError, prepare};
