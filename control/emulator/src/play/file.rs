//! A session's content as a file.

use std::time::Duration;

use tokio::sync::watch;

use super::Reader;
use crate::{
    http::{Conn, head},
    pump::Pump,
    serve::Next,
    session::Ended,
};

impl Reader<'_> {
    /// Sends a file, or a part of it, as a server of files does.
    pub(super) async fn play_file(
        mut self,
        conn: &mut Conn,
        length: Duration,
        range: Option<&str>,
        ended: &mut watch::Receiver<Ended>,
    ) -> Next {
        let size = self.source.file_bytes(length);
        let part = range.map(|range| part_of(range, size));
        let (status, (from, to)) = match part {
            None => ("200 OK", (0, size)),
            Some(Some(part)) => ("206 Partial Content", part),
            Some(None) => {
                let lines = format!("Content-Range: bytes */{size}\r\nContent-Length: 0\r\n\r\n");
                let answer = format!("{}{lines}", head("416 Range Not Satisfiable"));
                conn.write_all(answer.as_bytes(), self.patience()).await.ok();
                return Next::Close;
            }
        };
        let mut text = head(status);
        text.push_str("Content-Type: video/mp2t\r\nAccept-Ranges: bytes\r\n");
        if range.is_some() {
            text.push_str(&format!("Content-Range: bytes {from}-{}/{size}\r\n", to - 1));
        }
        text.push_str(&format!("Content-Length: {}\r\n\r\n", to - from));
        self.count_playback();
        if conn.write_all(text.as_bytes(), self.patience()).await.is_err() {
            return Next::Close;
        }
        self.pump = Pump::of_file(self.source, &self.behaviour, self.source.file_start(), from, to);
        self.pump_all(conn, ended).await;
        Next::Close
    }
}

/// The first byte of a range and the one after the last, of a file of `size`
/// bytes, if the range can be had. Source: RFC 9110 §14.1.2.
fn part_of(range: &str, size: u32) -> Option<(u32, u32)> {
    let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
    // Beyond the end is as good as the end.
    let number = |text: &str| Some(u32::try_from(text.parse::<u64>().ok()?).unwrap_or(u32::MAX));
    let part = match (first.trim(), last.trim()) {
        ("", count) => (size - number(count)?.min(size), size),
        (first, "") => (number(first)?, size),
        (first, last) => (number(first)?, number(last)?.saturating_add(1).min(size)),
    };
    (part.0 < part.1).then_some(part)
}
