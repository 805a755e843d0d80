//! Answers to HLS players.

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    hls::{
        list::{Body, Slice},
        playlist::Playlist,
    },
    http::response::{PREFLIGHT, Refusal, reason},
    stream::{SessionId, Stream},
};

/// The media type of a playlist (RFC 8216 §4).
const PLAYLIST_TYPE: &str = "application/vnd.apple.mpegurl";
/// The media type of a media segment (RFC 3555).
const MEDIA_TYPE: &str = "video/mp2t";

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    /// All of it but for media from the chain; many may share them.
    pub(crate) bytes: Bytes,
    /// How many of the bytes an answer to HEAD has.
    pub(crate) head: usize,
    /// Media from the chain of a stream, which follow the bytes.
    pub(crate) media: Option<(Arc<Stream>, Vec<Slice>)>,
}

/// An answer that many get: its bytes, and how many of them are the head.
#[derive(Debug)]
pub(crate) struct Written {
    bytes: Bytes,
    head: usize,
}

impl Answer {
    /// A playlist for whoever does not have it yet.
    pub(crate) fn playlist(playlist: &Playlist, gzip: bool, has: Option<&[u8]>, open: bool) -> Self {
        let etag = &playlist.etag;
        if has.is_some_and(|has| names(has, etag)) {
            return Self::own(head(304, open, format_args!("ETag: {etag}\r\nCache-Control: no-cache\r\n")));
        }
        let Written { bytes, head } = playlist.written(gzip, open, |text| {
            let encoding = if gzip { "Content-Encoding: gzip\r\n" } else { "" };
            let head = head(
                200,
                open,
                format_args!(
                    "Content-Type: {PLAYLIST_TYPE}\r\nContent-Length: {}\r\n{encoding}ETag: {etag}\r\n\
                     Vary: Accept-Encoding\r\nCache-Control: no-cache\r\n",
                    text.len()
                ),
            );
            Written { bytes: [&head, text].concat().into(), head: head.len() }
        });
        Self { bytes: bytes.clone(), head: *head, media: None }
    }

    /// A playlist that is this viewer's alone, of this session.
    pub(crate) fn own_playlist(text: &str, session: SessionId, open: bool) -> Self {
        let fields = format_args!(
            "Content-Type: {PLAYLIST_TYPE}\r\nContent-Length: {}\r\nCache-Control: no-store\r\n\
             Millrace-Session: {session}\r\n",
            text.len()
        );
        Self::own(head(200, open, fields)).followed_by(text.as_bytes())
    }

    /// What a playlist's head would be, of which nothing is known yet.
    pub(crate) fn playlist_head(open: bool) -> Self {
        let fields = format_args!("Content-Type: {PLAYLIST_TYPE}\r\nCache-Control: no-store\r\n");
        Self::own(head(200, open, fields))
    }

    /// A media segment or a part, which never changes under its name.
    pub(crate) fn media(body: Body, stream: Arc<Stream>, seconds: u64, open: bool) -> Self {
        let fields = format_args!(
            "Content-Type: {MEDIA_TYPE}\r\nContent-Length: {}\r\nCache-Control: max-age={seconds}\r\n",
            body.len()
        );
        let Body { preface, slices } = body;
        Self { media: Some((stream, slices)), ..Self::own(head(200, open, fields)).followed_by(&preface) }
    }

    /// Asks again at another address.
    pub(crate) fn elsewhere(location: &str, open: bool) -> Self {
        let fields = format_args!("Location: {location}\r\nContent-Length: 0\r\nCache-Control: no-store\r\n");
        Self::own(head(307, open, fields))
    }

    /// Why there is nothing.
    pub(crate) fn refusal(refusal: &Refusal) -> Self {
        Self::own(refusal.to_bytes())
    }

    /// What a CORS preflight is answered.
    pub(crate) fn preflight() -> Self {
        Self::own(PREFLIGHT.to_vec())
    }

    fn own(bytes: Vec<u8>) -> Self {
        Self { head: bytes.len(), bytes: bytes.into(), media: None }
    }

    /// The same with these bytes behind its head.
    fn followed_by(self, body: &[u8]) -> Self {
        Self { bytes: [&self.bytes, body].concat().into(), ..self }
    }
}

/// Whether a list of entity tags has this one, or stands for any.
fn names(list: &[u8], etag: &str) -> bool {
    let tags = list.split(|b| *b == b',').map(<[u8]>::trim_ascii);
    tags.into_iter().any(|tag| tag == b"*" || tag.strip_prefix(b"W/").unwrap_or(tag) == etag.as_bytes())
}

fn head(status: u16, open: bool, fields: std::fmt::Arguments<'_>) -> Vec<u8> {
    let connection = if open { "keep-alive" } else { "close" };
    format!(
        "HTTP/1.1 {status} {}\r\n{fields}Connection: {connection}\r\nX-Content-Type-Options: nosniff\r\n\
         Access-Control-Allow-Origin: *\r\nAccess-Control-Expose-Headers: Content-Length, Date, ETag, \
         Millrace-Session\r\n\r\n",
        reason(status)
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_validator_matches_its_own_tag_and_no_other() {
        for (list, matches) in [
            ("\"5.1\"", true),
            ("W/\"5.1\"", true),
            ("\"4.0\", \"5.1\"", true),
            ("*", true),
            ("\"5.10\"", false),
            ("5.1", false),
            ("", false),
        ] {
            assert_eq!(names(list.as_bytes(), "\"5.1\""), matches, "{list}");
        }
    }
}
