//! One engine, seen from the outside.

mod blame;
mod crowding;
mod estimate;
mod event;
mod life;

#[cfg(test)]
mod simulation;

pub(crate) use crowding::Crowding;
pub(crate) use event::{Admission, Effect, Event};
pub(crate) use life::{Ailment, Life};
