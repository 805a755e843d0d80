//! Reading an engine's HLS: what its playlists say.
//!
//! The way of a playlist: [`parse`] makes a [`MediaList`] of foreign bytes, or
//! a [`MasterList`] whose best variant leads to one.

mod list;
mod master;
mod uri;

mod attributes;

pub use list::{
    ListError, MAX_BODY, MAX_ENTRIES, MAX_LINE, MediaList, Playlist, Segment, Unsupported, parse,
};
pub use master::{MasterList, Muxing, Variant};
pub use uri::{MAX_URI, UriError, resolve};
