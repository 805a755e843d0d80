//! Reading a stream from an engine, once for everybody.

mod body;
mod engine;
mod lease;
mod life;
pub(crate) mod pace;
mod session;

pub(crate) use session::Session;
