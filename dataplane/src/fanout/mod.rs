//! Segments written to many viewers without a copy.

mod arrivals;
mod interest;
mod room;
mod slots;
mod viewer;
mod wheel;

pub(crate) use arrivals::Arrival;
pub(crate) use interest::Interest;
pub(crate) use wheel::Fanout;
