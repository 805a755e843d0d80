//! What the benches share: a transport stream at its rate, an engine that plays
//! it, child processes that end with us, questions to a server, and quantiles.
#![allow(dead_code, reason = "each bench uses its own part")]

pub(crate) mod feed;
pub(crate) mod http;
pub(crate) mod process;
pub(crate) mod quantiles;
pub(crate) mod source;
