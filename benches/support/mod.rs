//! What the benches share: a transport stream at its rate, an engine that plays
//! it, and child processes that end with us.
#![allow(dead_code, reason = "each bench uses its own part")]

pub(crate) mod feed;
pub(crate) mod process;
pub(crate) mod source;
