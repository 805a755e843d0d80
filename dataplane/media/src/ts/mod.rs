//! MPEG-2 transport streams, after ISO/IEC 13818-1.
//!
//! The way of a byte: [`Aligner`] cuts what was read into whole packets, in
//! place; [`Indexer`] looks at each packet once and tells what a reader has to
//! know of them: the PSI in force, the PCR, and the points where a viewer may
//! join. [`Formats`] tells what a playlist has to know of the streams.

mod align;
mod packet;
mod pcr;

mod continuity;
mod formats;
mod indexer;
mod pes;
mod preface;
mod psi;

mod clock;
mod picture;
mod section;
mod tables;

pub use align::{Aligned, Aligner, MAX_PENDING};
pub use continuity::{Continuity, ContinuityChecker, Verdict};
pub use formats::{AudioFormat, Formats, FrameRate, VideoFormat};
pub use indexer::{Event, IndexStats, Indexer, JoinPoint};
pub use packet::{NULL_PACKET, PACKET_LEN, Packet, Pid, SYNC_BYTE};
pub use pcr::Pcr;
pub use pes::{STAMP_HZ, STAMP_MODULUS, decode_time};
pub use preface::Discontinuity;
pub use psi::{Program, Psi, Stream, StreamKind, VideoCodec};
