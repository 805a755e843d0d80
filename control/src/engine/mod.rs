//! One engine, seen from the outside.

mod blame;
mod estimate;
mod life;

#[cfg(test)]
mod simulation;

pub(crate) use life::{Admission, Effect, Event, Life};
