//! The signed broadcast: a synthetic transport stream in which every packet is
//! a pure function of its number, and a verifier of what a player received.
//!
//! ```text
//! two video frames: 2F packets       F = floor(rate × 40 ms / 1504 bit)
//!   0    1    2      3     4 … F+1   F+2    F+3   F+4 … 2F-1
//!   PAT  PMT  video  audio video …   video  audio video …
//!             PCR                    PCR
//! ```
//!
//! Twenty-five such pairs make a group of pictures, whose first video packet
//! is a random access point. So a PCR comes at least every 40 ms, PAT and PMT
//! every 80 ms, a group lasts 2 s at most, and the number of packets of each
//! PID before packet `n`, hence every continuity counter, follows from `n`.
//!
//! Each video and audio packet carries, in its last 27 bytes, its number, its
//! broadcast time and a checksum.

mod edit;
mod pace;
mod packet;
mod report;
mod signature;
mod tables;
mod verify;

pub use edit::{ClockJump, Edit, TableChange};
pub(crate) use edit::{Moment, has_pcr, null, shift_stamps};
pub use packet::{Broadcast, packet};
pub use report::Report;
pub use verify::Verifier;

/// When packet 0 of every broadcast was sent: 2024-01-01 00:00:00 UTC, in
/// seconds of unix time.
pub const EPOCH_UNIX_SECONDS: u64 = 1_704_067_200;

/// Bytes of a transport stream packet. Source: ISO/IEC 13818-1 §2.4.3.2.
pub const PACKET_BYTES: usize = 188;

/// PID of the programme map table.
pub const PMT_PID: u16 = 0x1000;
/// PID of the video stream, which carries the PCR too.
pub const VIDEO_PID: u16 = 0x0100;
/// PID of the audio stream.
pub const AUDIO_PID: u16 = 0x0101;
/// PID of null packets. Source: ISO/IEC 13818-1 table 2-3.
pub const NULL_PID: u16 = 0x1fff;
