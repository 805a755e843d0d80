//! The least HTTP client a test needs, on a blocking socket.

use std::{io::Read, net::TcpStream};

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (n, v) = line.split_once(':')?;
            n.eq_ignore_ascii_case(name).then(|| v.trim())
        })
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    /// The code of a refusal, after a look at its shape.
    pub(crate) fn problem(&self) -> String {
        let json = self.json();
        let error = &json["error"];
        for field in ["code", "message", "remedy"] {
            assert!(error[field].as_str().is_some_and(|s| !s.is_empty()), "{field}: {self:?}");
        }
        assert_eq!(self.header("access-control-allow-origin"), Some("*"), "{self:?}");
        error["code"].as_str().unwrap().to_owned()
    }
}

/// Reads answers off a connection, one after the other.
pub(crate) struct Reader {
    pub(crate) socket: TcpStream,
    buffer: Vec<u8>,
}

impl Reader {
    pub(crate) fn new(socket: TcpStream) -> Self {
        Self { socket, buffer: Vec::new() }
    }

    /// The next answer.
    pub(crate) fn answer(&mut self) -> Answer {
        self.try_answer(true).expect("an answer")
    }

    /// The next answer, or none when the connection ends before its head does.
    pub(crate) fn try_answer(&mut self, has_body: bool) -> Option<Answer> {
        let head_end = loop {
            if let Some(at) = self.buffer.windows(4).position(|w| w == b"\r\n\r\n") {
                break at + 4;
            }
            if !self.fill() {
                return None;
            }
        };
        let head = String::from_utf8(self.buffer.drain(..head_end).collect()).unwrap();
        let status = head[9..12].parse().unwrap();
        let mut answer = Answer { status, head, body: Vec::new() };
        let length = answer.header("content-length").map_or(0, |v| v.parse().unwrap());
        if has_body {
            while self.buffer.len() < length {
                assert!(self.fill(), "the body is whole: {answer:?}");
            }
            answer.body = self.buffer.drain(..length).collect();
        }
        Some(answer)
    }

    /// Whether the peer has closed and nothing is left to read.
    pub(crate) fn is_closed(&mut self) -> bool {
        self.buffer.is_empty() && !self.fill()
    }

    fn fill(&mut self) -> bool {
        let mut chunk = [0u8; 16 << 10];
        match self.socket.read(&mut chunk) {
            Ok(n @ 1..) => {
                self.buffer.extend_from_slice(&chunk[..n]);
                true
            }
            Ok(0) | Err(_) => false,
        }
    }
}
