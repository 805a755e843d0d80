//! Answers: what stands before a stream, and refusals in one JSON shape.

use millrace_boundary::Cause;
use serde_json::json;

use crate::stream::Ended;

/// Stands before every stream; the end of the connection is its end.
///
/// No length and no ranges, so that players take it as live; `no` to buffering
/// for an nginx in front; see RFC 9112 §6.3 for the framing.
pub(crate) const STREAM_HEAD: &[u8] = b"HTTP/1.1 200 OK\r\n\
    Content-Type: video/mp2t\r\n\
    Cache-Control: no-store\r\n\
    Connection: close\r\n\
    X-Accel-Buffering: no\r\n\
    X-Content-Type-Options: nosniff\r\n\
    Access-Control-Allow-Origin: *\r\n\
    Access-Control-Expose-Headers: Content-Length, Date, Millrace-Session\r\n";

/// [`STREAM_HEAD`] of one session.
pub(crate) fn stream_head(session: Option<crate::stream::SessionId>) -> Vec<u8> {
    let mut head = Vec::with_capacity(STREAM_HEAD.len() + 48);
    head.extend_from_slice(STREAM_HEAD);
    if let Some(session) = session {
        head.extend_from_slice(format!("Millrace-Session: {session}\r\n").as_bytes());
    }
    head.extend_from_slice(b"\r\n");
    head
}

/// Answer to a CORS preflight.
pub(crate) const PREFLIGHT: &[u8] = b"HTTP/1.1 204 No Content\r\n\
    Access-Control-Allow-Origin: *\r\n\
    Access-Control-Allow-Methods: GET, HEAD, OPTIONS\r\n\
    Access-Control-Allow-Headers: *\r\n\
    Access-Control-Max-Age: 86400\r\n\
    Connection: close\r\n\r\n";

/// An answer without a stream.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    status: u16,
    code: &'static str,
    message: String,
    remedy: &'static str,
    cause: Option<Cause>,
    retry_after: Option<u32>,
    allow: bool,
}

impl Refusal {
    fn new(status: u16, code: &'static str, message: impl Into<String>, remedy: &'static str) -> Self {
        Self { status, code, message: message.into(), remedy, cause: None, retry_after: None, allow: false }
    }

    /// Not HTTP, or not HTTP that we understand.
    pub(crate) fn bad_request(message: &str) -> Self {
        Self::new(400, "bad_request", message, "Send a plain HTTP/1.1 request.")
    }

    /// A parameter is missing or has a value that it cannot have.
    pub(crate) fn bad_parameter(message: impl Into<String>, remedy: &'static str) -> Self {
        Self::new(400, "bad_parameter", message, remedy)
    }

    /// The request line is over its limit.
    pub(crate) fn line_too_long() -> Self {
        Self::new(414, "uri_too_long", "the request line is longer than 8 KiB", "Send a shorter address.")
    }

    /// The head is over one of its limits.
    pub(crate) fn head_too_large(message: &str) -> Self {
        Self::new(431, "head_too_large", message, "Send fewer or shorter headers.")
    }

    /// The head did not arrive in time.
    pub(crate) fn too_slow() -> Self {
        let message = "the request did not arrive within 10 seconds";
        Self::new(408, "request_timeout", message, "Send the whole request at once.")
    }

    /// There is nothing at this address.
    pub(crate) fn not_found(message: &str, remedy: &'static str) -> Self {
        Self::new(404, "not_found", message, remedy)
    }

    /// The path has a meaning, the method not.
    pub(crate) fn method_not_allowed(method: &str) -> Self {
        let message = format!("{} is not possible here", method.chars().take(16).collect::<String>());
        Self { allow: true, ..Self::new(405, "method_not_allowed", message, "Use GET or HEAD.") }
    }

    /// A stream cannot be given.
    pub(crate) fn of(cause: Cause, detail: &str) -> Self {
        let (status, remedy, retry_after) = terms(cause);
        Self {
            cause: Some(cause),
            retry_after: Some(retry_after),
            ..Self::new(status, cause.as_str(), detail, remedy)
        }
    }

    /// What a stream's end means for one that was never sent anything.
    pub(crate) fn ended(ended: &Ended) -> Self {
        let mut refusal = Self::of(ended.cause, &ended.detail);
        if let Some(wait) = ended.retry_after {
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            refusal.retry_after = Some(u32::try_from(seconds).unwrap_or(u32::MAX).max(1));
        }
        refusal
    }

    /// The HTTP status.
    #[cfg(test)]
    pub(crate) fn status(&self) -> u16 {
        self.status
    }

    /// The whole answer; the connection closes after it.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut error = json!({ "code": self.code, "message": self.message, "remedy": self.remedy });
        if let Some(cause) = self.cause {
            error["cause"] = json!(cause);
        }
        if let Some(seconds) = self.retry_after {
            error["retry_after_seconds"] = json!(seconds);
        }
        let body = format!("{}\n", json!({ "error": error }));
        let mut head = format!(
            "HTTP/1.1 {} {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
             Cache-Control: no-store\r\nConnection: close\r\nAccess-Control-Allow-Origin: *\r\n",
            self.status,
            reason(self.status),
            body.len()
        );
        if let Some(seconds) = self.retry_after {
            head.push_str(&format!("Retry-After: {seconds}\r\n"));
        }
        if self.allow {
            head.push_str("Allow: GET, HEAD, OPTIONS\r\n");
        }
        head.push_str("\r\n");
        head.push_str(&body);
        head.into_bytes()
    }
}

/// Status, remedy and seconds to wait, by cause.
fn terms(cause: Cause) -> (u16, &'static str, u32) {
    match cause {
        Cause::NoEngine => (503, "Check that engines run and can be reached.", 5),
        Cause::EnginesFull => (503, "Wait until a stream ends, or add engines.", 10),
        Cause::AtCapacity => (503, "Wait until viewers leave, or raise the limit.", 10),
        Cause::ShuttingDown => (503, "Ask again when the server is back.", 5),
        Cause::Stopped => (503, "Ask again to start it anew.", 5),
        Cause::EngineUnreachable
        | Cause::EngineSilent
        | Cause::EngineError
        | Cause::EngineClosed
        | Cause::EngineReset => (502, "Ask again: another engine will be tried.", 5),
        Cause::ContentUnavailable => (404, "Check the id, or try again later.", 30),
        Cause::NoPeers | Cause::PeersWithoutData => {
            (504, "Try again later: nobody gives this content now.", 30)
        }
        Cause::ContentBlocked => (503, "Wait: this content has failed too often of late.", 30),
        Cause::ContentRestricted => (403, "This content needs an option that the engines lack.", 300),
        Cause::StartFailed | Cause::NotTransportStream | Cause::SessionLost => {
            (502, "Try again later: the source is broken.", 15)
        }
        Cause::StartTimeout => (504, "Try again later: the swarm has no data now.", 15),
        Cause::Stalled | Cause::ViewersLeft | Cause::Merged | Cause::ContentEnded => (503, "Ask again.", 1),
    }
}

/// The words for a status (RFC 9110 §15).
pub(crate) fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        414 => "URI Too Long",
        431 => "Request Header Fields Too Large",
        502 => "Bad Gateway",
        504 => "Gateway Timeout",
        _ => "Service Unavailable",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cause_has_a_whole_answer_with_its_words() {
        for &cause in Cause::ALL {
            let bytes = Refusal::of(cause, "engine 3: \"quoted\"\r\nand broken").to_bytes();
            let text = String::from_utf8(bytes).unwrap();
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            assert!(head.contains(&format!("Content-Length: {}", body.len())));
            assert!(head.contains("Retry-After: "), "{head}");
            let json: serde_json::Value = serde_json::from_str(body).unwrap();
            assert_eq!(json["error"]["cause"], cause.as_str());
            assert!(json["error"]["retry_after_seconds"].as_u64().unwrap() > 0);
        }
    }

    #[test]
    fn a_stream_head_says_live_and_nothing_else() {
        let head = String::from_utf8(stream_head(Some(crate::stream::SessionId(10)))).unwrap();
        assert!(head.contains("Content-Type: video/mp2t\r\n"));
        assert!(head.ends_with("Millrace-Session: 000000000000000a\r\n\r\n"));
        for absent in ["Content-Length:", "Accept-Ranges", "Transfer-Encoding", "icy"] {
            assert!(!head.contains(absent), "{absent}");
        }
    }
}
