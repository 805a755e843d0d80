//! HTTP as players and engines speak it.

pub(crate) mod content;
pub(crate) mod players;
pub(crate) mod request;
pub(crate) mod response;
pub(crate) mod server;
mod url;
