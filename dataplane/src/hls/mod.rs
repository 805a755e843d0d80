//! HLS: media segments are slices of the chain, and nothing is stored twice.

mod cutter;
mod list;
mod maker;
mod playlist;

pub(crate) use cutter::{Mark, Place};
pub(crate) use list::{Body, List, Shelf, Slice};
pub(crate) use maker::{Maker, Now};
