//! HLS: media segments are slices of the chain, and nothing is stored twice.
//!
//! The shard that writes a chain cuts it ([`cutter`]), and shows what there is
//! ([`maker`], [`list`]); every shard answers players from that ([`serve`]).

mod answer;
mod cutter;
mod desk;
mod list;
mod maker;
mod playlist;
mod request;
mod serve;
mod token;

pub(crate) use cutter::{Mark, Place};
pub(crate) use list::{Shelf, Slice};
pub(crate) use maker::{Comes, Maker, Now};
pub(crate) use request::{Ask, Want, is_hls, want};
pub(crate) use serve::Hall;
pub(crate) use token::Seal;
