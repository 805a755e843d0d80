//! Answers rewritten byte by byte, as the choices of the HTTP level want it,
//! and redirects.

use std::time::{Duration, SystemTime};

use tokio::time::timeout;

use crate::{
    Behaviour,
    behaviour::{Odd, Redirect, Wire},
    engine::Engine,
    http::{Conn, Request, date_at, head},
    serve::{LINGER, Next, origin, send},
};

/// A client that still waits for a redirect's end after this reads its body.
const REDIRECT_PATIENCE: Duration = Duration::from_secs(2);

/// What rewrites the answers of a connection.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Style(Wire);

impl Style {
    /// That of a content, over that of its engine.
    pub(crate) fn of(engine: Wire, content: Wire) -> Self {
        Self(Wire {
            odd: content.odd.or(engine.odd),
            gzips: content.gzips || engine.gzips,
            server: content.server.or(engine.server),
            clock_ahead: content.clock_ahead.max(engine.clock_ahead),
            ..engine
        })
    }

    /// Whether the connection ends with the answer.
    pub(crate) fn closes(&self) -> bool {
        self.0.odd == Some(Odd::Http10)
    }

    /// Rewrites an answer: its whole head, and its whole body or none of it.
    pub(crate) fn rewrite(&self, answer: &[u8]) -> Option<Vec<u8>> {
        let is_plain = self.0.odd.is_none() && self.0.server.is_none() && self.0.clock_ahead.is_zero();
        if is_plain && !self.0.gzips {
            return None;
        }
        let end = answer.windows(4).position(|w| w == b"\r\n\r\n")?;
        let text = std::str::from_utf8(&answer[..end]).ok()?;
        let mut lines: Vec<String> = text.split("\r\n").map(str::to_owned).collect();
        let mut body = answer[end + 4..].to_vec();
        if let Some(server) = self.0.server {
            set(&mut lines, "Server", server);
        }
        if !self.0.clock_ahead.is_zero() {
            set(&mut lines, "Date", &date_at(SystemTime::now() + self.0.clock_ahead));
        }
        if self.0.gzips && !body.is_empty() && lines.iter().any(|l| l == "Content-Type: application/json") {
            body = gzip(&body);
            set(&mut lines, "Content-Length", &body.len().to_string());
            lines.push("Content-Encoding: gzip".to_owned());
        }
        let newline = self.oddness(&mut lines, &mut body);
        let mut out = lines.join(newline).into_bytes();
        out.extend_from_slice(newline.repeat(2).as_bytes());
        out.extend_from_slice(&body);
        Some(out)
    }

    /// Makes the head odd; says how its lines end.
    fn oddness(&self, lines: &mut Vec<String>, body: &mut Vec<u8>) -> &'static str {
        match self.0.odd {
            None => {}
            Some(Odd::BareLf) => return "\n",
            Some(Odd::NoReason) => {
                let status: Vec<_> = lines[0].split(' ').take(2).collect();
                lines[0] = status.join(" ");
            }
            Some(Odd::Http10) => lines[0] = lines[0].replace("HTTP/1.1", "HTTP/1.0"),
            Some(Odd::NoDate) => lines.retain(|l| !l.starts_with("Date: ")),
            Some(Odd::Duplicates) => {
                let headers = lines[1..].to_vec();
                lines.extend(headers);
            }
            Some(Odd::LengthAndChunks) => {
                let has = |lines: &[String], name: &str| lines.iter().any(|l| l.starts_with(name));
                if has(lines, "Transfer-Encoding: ") {
                    lines.push("Content-Length: 1000".to_owned());
                } else if has(lines, "Content-Length: ") {
                    lines.push("Transfer-Encoding: chunked".to_owned());
                    let mut chunks = format!("{:x}\r\n", body.len()).into_bytes();
                    // A chunk of no bytes is the last one.
                    if body.is_empty() {
                        chunks.extend_from_slice(b"\r\n");
                    } else {
                        chunks.extend_from_slice(body);
                        chunks.extend_from_slice(b"\r\n0\r\n\r\n");
                    }
                    *body = chunks;
                }
            }
        }
        "\r\n"
    }
}

fn set(lines: &mut [String], name: &str, value: &str) {
    for line in lines.iter_mut().filter(|l| l.split_once(": ").is_some_and(|(n, _)| n == name)) {
        *line = format!("{name}: {value}");
    }
}

/// Sends a redirect to `path` the way the engine does: the body is announced by
/// no length and comes a little after the head, so that a client that reads it
/// can be told from one that hangs up.
pub(crate) async fn redirect(
    engine: &Engine,
    conn: &mut Conn,
    request: &Request,
    behaviour: &Behaviour,
    path: &str,
) -> Next {
    let origin = origin(conn, request, behaviour);
    let (status, to) = match behaviour.wire.redirect {
        Redirect::Usual => ("302 Found", format!("{origin}{path}")),
        Redirect::Relative => ("302 Found", path.to_owned()),
        Redirect::Loop => ("302 Found", format!("{origin}{}", request.target)),
        Redirect::OffHost => ("302 Found", format!("https://evil.example{path}")),
        Redirect::Status(status) => (status, format!("{origin}{path}")),
    };
    let lines = format!("{}Location: {to}\r\nAccess-Control-Allow-Origin: *\r\n\r\n", head(status));
    if send(engine, conn, lines.as_bytes()).await == Next::Close {
        return Next::Close;
    }
    let held = behaviour.redirect_held;
    let pause = engine.timing.redirect_body;
    let waits = if held {
        let patience = REDIRECT_PATIENCE.min(engine.timing.redirect_hold);
        conn.wait(patience).await
    } else {
        if !conn.wait(pause).await {
            return Next::Close;
        }
        let text = format!("Redirect to {to}");
        if conn.write_all(text.as_bytes(), engine.timing.no_read).await.is_err()
            || !conn.wait(4 * pause).await
        {
            return Next::Close;
        }
        conn.finish();
        // A client that closes with our bytes unread sends RST.
        timeout(LINGER, conn.closed()).await == Ok(true)
    };
    if waits {
        engine.state().counters.misuse.read_3xx_body += 1;
    }
    if held && waits {
        conn.wait(engine.timing.redirect_hold.saturating_sub(REDIRECT_PATIENCE)).await;
    }
    Next::Close
}

/// `bytes` as gzip, stored and not compressed. Source: RFC 1952 §2, RFC 1951 §3.2.4.
fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    let mut blocks = bytes.chunks(usize::from(u16::MAX)).peekable();
    while let Some(block) = blocks.next() {
        out.push(u8::from(blocks.peek().is_none()));
        let len = u16::try_from(block.len()).unwrap_or(u16::MAX);
        out.extend_from_slice(&len.to_le_bytes());
        out.extend_from_slice(&(!len).to_le_bytes());
        out.extend_from_slice(block);
    }
    out.extend_from_slice(&crc32(bytes).to_le_bytes());
    out.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes());
    out
}

/// Source: RFC 1952 §8.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |c, _| (c >> 1) ^ (0xedb8_8320 & (c & 1).wrapping_neg()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::answer;

    #[test]
    fn the_checksum_is_that_of_gzip() {
        // printf 123456789 | gzip -c | tail -c 8 | xxd
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn healthy_answers_are_left_alone() {
        let healthy = Wire::default();
        assert_eq!(Style::of(healthy, healthy).rewrite(&answer("200 OK", "application/json", "{}")), None);
    }

    #[test]
    fn each_oddness_keeps_the_body() {
        for (name, odd) in Odd::ALL {
            let style = Style::of(Wire::default(), Wire { odd: Some(odd), ..Wire::default() });
            let text = style.rewrite(&answer("200 OK", "application/json", "{\"a\": 1}")).unwrap();
            let text = String::from_utf8(text).unwrap();
            assert!(text.contains("{\"a\": 1}"), "{name}: {text}");
            assert_ne!(text.as_bytes(), answer("200 OK", "application/json", "{\"a\": 1}"), "{name}");
        }
    }
}
