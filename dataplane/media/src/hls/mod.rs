//! HTTP Live Streaming, after RFC 8216.

pub mod source;
