//! The place of one engine that Millrace runs itself: what is done to its
//! container, and when.

mod event;
mod life;

#[cfg(test)]
mod simulation;

pub(crate) use event::{Ail, Deed, Effect, Event, Fault, Leave, Look, Order, Sense, Then, Tidings};
pub(crate) use life::{Life, Limits, Stage};
