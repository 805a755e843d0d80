//! Segments written to many viewers without a copy.

mod interest;
mod viewer;
mod wheel;

pub(crate) use interest::Interest;
pub(crate) use wheel::{Arrival, Fanout};
