//! Reading a stream from engines, once for everybody.
//!
//! `life` says what is to be done; `session` does it, with a `source` for each
//! engine that is asked or read, one of which writes the `chain`.

mod adrift;
mod ahead;
mod back_off;
mod chain;
mod ending;
mod engine;
mod event;
mod feeding;
mod gauges;
mod hls;
mod jumps;
mod lease;
mod life;
mod losses;
mod memory;
pub(crate) mod pace;
mod polling;
pub(crate) mod queue;
mod reader;
mod session;
mod source;
mod start_times;
mod timeline;
mod watch;

pub(crate) use losses::Losses;
pub(crate) use memory::Memory;
pub(crate) use reader::READ_LIMIT;
pub(crate) use session::Session;
pub(crate) use start_times::StartTimes;
