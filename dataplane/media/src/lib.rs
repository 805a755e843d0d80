//! What bytes mean: MPEG transport streams and HLS playlists, without I/O and
//! without a clock.
//!
//! Everything here is a pure function of the bytes and times it is given.
//! Foreign bytes never panic and never make anything grow without bound: what
//! cannot be understood is dropped and counted.
#![forbid(unsafe_code)]

pub mod hls;
pub mod ts;
