//! Reading an engine's HLS: what its playlists say, and what to fetch next.
//!
//! The way of a playlist: [`parse`] makes a [`MediaList`] of foreign bytes, or
//! a [`MasterList`] whose best variant leads to one; the [`Follower`] gets each
//! media list as it arrives, and names the segments to fetch, in order and each
//! once, and the places where their bytes do not follow each other.

mod list;
mod master;
mod uri;

mod follow;

mod attributes;
mod line;
mod poll;
mod seen;

pub use follow::{Effect, Event, FollowStats, Follower, Verdict};
pub use line::{Attempt, Break, Fetch, IN_FLIGHT, Ticket, WAITING_MOST};
pub use list::{
    ListError, MAX_BODY, MAX_ENTRIES, MAX_LINE, MediaList, Playlist, Segment, Unsupported, parse,
};
pub use master::{MasterList, Muxing, Variant};
pub use uri::{MAX_URI, UriError, resolve};
