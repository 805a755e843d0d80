//! What the benches share: a transport stream at its rate, an engine that plays
//! it, emulated engines behind a server, child processes that end with us, the
//! socket options of floors, questions to a server, viewers, options, quantiles
//! and budgets.
#![allow(dead_code, reason = "each bench uses its own part")]

pub(crate) mod budget;
pub(crate) mod feed;
pub(crate) mod histogram;
pub(crate) mod http;
pub(crate) mod options;
pub(crate) mod process;
pub(crate) mod quantiles;
pub(crate) mod scene;
pub(crate) mod socket;
pub(crate) mod source;
pub(crate) mod viewer;
