//! A small server of a live stream, right but for the faults that it is told.

use std::{
    fmt::Write as _,
    io::{BufRead, BufReader, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use millrace_emulator::signed::{Broadcast, Edit, PACKET_BYTES as PACKET, Verifier};

const RATE: u32 = 200_000;
const ID: u64 = 9;
/// Packets of a segment: one group of pictures.
const SEGMENT: u64 = 60;
/// Packets of a part: three of them make a segment.
const PART: u64 = 20;
/// A packet lasts so many microseconds.
const PACKET_MICROS: u64 = 7_520;
/// Segments listed.
const LISTED: u64 = 15;
/// How long all of the stream has been there when a server starts.
pub(crate) const AGE: Duration = Duration::from_secs(20);

/// What a server does wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Fault {
    #[default]
    None,
    /// Each segment lacks a packet in the middle.
    LosesPackets,
    /// Segments are gone when they are no longer listed.
    ForgetsSegments,
    /// The list no longer moves.
    StandsStill,
    /// Reloads are answered at once.
    HoldsNothing,
    /// Delta updates skip a segment too many.
    SkipsTooMuch,
    /// A part lacks its last packet.
    ShortParts,
    /// A part lacks its last byte.
    OddParts,
    /// Segments are said to be on another server.
    Elsewhere,
    /// A playlist is told to be text.
    PlainText,
    /// The connection ends in the middle of a segment.
    BreaksOff,
    /// The multivariant playlist tells of less than there is.
    NarrowBand,
}

/// What a server makes of parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parts {
    None,
    /// Each has a name of its own.
    Files,
    /// Each is a range of its segment.
    Ranges,
}

/// A running server. Dropped, it ends.
pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
    is_over: Arc<AtomicBool>,
    accepting: Option<thread::JoinHandle<()>>,
    served: Arc<Served>,
}

struct Served {
    fault: Fault,
    parts: Parts,
    began: Instant,
    broadcast: Broadcast,
    /// Targets asked for.
    asked: Mutex<Vec<String>>,
}

/// The broadcast that it serves.
fn broadcast() -> Broadcast {
    Broadcast::new(ID, RATE).edited(Edit::LongGroups(Duration::from_millis(480)))
}

/// Proves that broadcast.
pub(crate) fn verifier() -> Verifier {
    Verifier::of(broadcast())
}

/// Packets `from..to` of that broadcast.
pub(crate) fn packets(from: u64, to: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    for n in from..to {
        let mut packet = [0; PACKET];
        broadcast().write(n, &mut packet);
        bytes.extend(packet);
    }
    bytes
}

/// The bytes that a request wants.
fn range(request: &str) -> Option<std::ops::RangeInclusive<usize>> {
    let (_, range) = request.split_once("Range: bytes=")?;
    let (from, to) = range.lines().next()?.split_once('-')?;
    Some(from.parse().ok()?..=to.parse().ok()?)
}

impl Origin {
    /// One with this fault, with or without parts.
    pub(crate) fn start(fault: Fault, parts: Parts) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let began = Instant::now().checked_sub(AGE).unwrap();
        let served =
            Arc::new(Served { fault, parts, began, broadcast: broadcast(), asked: Mutex::default() });
        let is_over = Arc::new(AtomicBool::new(false));
        let (over, serving) = (Arc::clone(&is_over), Arc::clone(&served));
        let accepting = thread::spawn(move || {
            for socket in listener.incoming() {
                if over.load(Ordering::Relaxed) {
                    return;
                }
                let serving = Arc::clone(&serving);
                // Ends with its client.
                thread::spawn(move || serving.converse(socket.unwrap()));
            }
        });
        Self { address, is_over, accepting: Some(accepting), served }
    }

    /// Targets asked for so far.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.served.asked.lock().unwrap().clone()
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        TcpStream::connect(self.address).ok();
        self.accepting.take().map(thread::JoinHandle::join);
    }
}

impl Served {
    fn converse(&self, socket: TcpStream) {
        let mut reader = BufReader::new(&socket);
        loop {
            let mut request = String::new();
            while !request.ends_with("\r\n\r\n") {
                if reader.read_line(&mut request).unwrap_or(0) == 0 {
                    return;
                }
            }
            let target = request.split(' ').nth(1).unwrap().to_owned();
            self.asked.lock().unwrap().push(target.clone());
            let (path, query) = target.split_once('?').unwrap_or((&target, ""));
            if path == "/go.m3u8" {
                let head = format!("HTTP/1.1 302 Found\r\nLocation: a/live.m3u8?session=1&{query}\r\n");
                (&socket).write_all(format!("{head}Content-Length: 0\r\n\r\n").as_bytes()).unwrap();
                continue;
            }
            let (status, kind, body) = match range(&request) {
                Some(range) => self.range(path, range),
                None => self.answer(path, query),
            };
            let kind =
                if self.fault == Fault::PlainText && kind.contains("mpegurl") { "text/plain" } else { kind };
            let head = format!("HTTP/1.1 {status}\r\nContent-Type: {kind}\r\n");
            let is_cut = self.fault == Fault::BreaksOff && kind == "video/mp2t";
            let body_sent = if is_cut { &body[..body.len() / 2] } else { &body[..] };
            let mut bytes = format!("{head}Content-Length: {}\r\n\r\n", body.len()).into_bytes();
            if path.ends_with("live.m3u8") {
                bytes = format!("{head}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n", body.len()).into_bytes();
            }
            bytes.extend_from_slice(body_sent);
            if path.ends_with("live.m3u8") {
                bytes.extend_from_slice(b"\r\n0\r\n\r\n");
            }
            if (&socket).write_all(&bytes).is_err() || is_cut {
                return;
            }
        }
    }

    fn answer(&self, path: &str, query: &str) -> (&'static str, &'static str, Vec<u8>) {
        let playlist = "application/vnd.apple.mpegurl";
        let name = path.strip_prefix("/a/").unwrap_or("");
        match (path, name.strip_suffix(".ts")) {
            ("/master.m3u8", _) => ("200 OK", playlist, self.multivariant("a/live.m3u8").into_bytes()),
            ("/moved.m3u8", _) => ("200 OK", playlist, self.multivariant("go.m3u8").into_bytes()),
            ("/a/live.m3u8", _) => ("200 OK", playlist, self.playlist(query).into_bytes()),
            (_, Some(name)) => self
                .media(name)
                .map_or(("404 Not Found", "text/plain", Vec::new()), |bytes| ("200 OK", "video/mp2t", bytes)),
            _ => ("404 Not Found", "text/plain", Vec::new()),
        }
    }

    /// Bytes of a segment, as far as that is there.
    fn range(
        &self,
        path: &str,
        range: std::ops::RangeInclusive<usize>,
    ) -> (&'static str, &'static str, Vec<u8>) {
        let number: u64 = path.trim_start_matches("/a/").trim_end_matches(".ts").parse().unwrap();
        let there = (self.parts() * PART).saturating_sub(number * SEGMENT).min(SEGMENT);
        let bytes = packets(number * SEGMENT, number * SEGMENT + there);
        ("206 Partial Content", "video/mp2t", bytes.get(range).unwrap_or_default().to_vec())
    }

    fn multivariant(&self, uri: &str) -> String {
        let bandwidth = if self.fault == Fault::NarrowBand { 199_000 } else { 201_000 };
        format!(
            "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH={bandwidth},CODECS=\"avc1.42c01f,mp4a.40.2\",RESOLUTION=640x360\n\
             {uri}\n"
        )
    }

    /// Whole parts that there are.
    fn parts(&self) -> u64 {
        let mut age = self.began.elapsed();
        if self.fault == Fault::StandsStill {
            age = age.min(AGE + Duration::from_secs(1));
        }
        u64::try_from(age.as_micros()).unwrap() / PACKET_MICROS / PART
    }

    fn playlist(&self, query: &str) -> String {
        let directive = |name: &str| query.split('&').find_map(|d| d.strip_prefix(name)?.strip_prefix('='));
        let number = |name: &str| directive(name).and_then(|n| n.parse::<u64>().ok());
        let each = SEGMENT / PART;
        if let Some(msn) = number("_HLS_msn").filter(|_| self.fault != Fault::HoldsNothing) {
            let due = msn * each + number("_HLS_part").map_or(each, |part| part + 1);
            while self.parts() < due {
                thread::sleep(Duration::from_millis(5));
            }
        }
        self.list(directive("_HLS_skip").is_some())
    }

    fn list(&self, is_delta: bool) -> String {
        let (each, parts) = (SEGMENT / PART, self.parts());
        let end = parts / each;
        let first = end.saturating_sub(LISTED);
        let duration = |packets: u64| format!("{:.5}", (packets * PACKET_MICROS) as f64 / 1e6);
        let mut text = format!(
            "#EXTM3U\n#EXT-X-VERSION:9\n#EXT-X-INDEPENDENT-SEGMENTS\n#EXT-X-TARGETDURATION:1\n\
             #EXT-X-MEDIA-SEQUENCE:{first}\n#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,CAN-SKIP-UNTIL=6.0"
        );
        if self.parts != Parts::None {
            write!(text, ",PART-HOLD-BACK=0.5\n#EXT-X-PART-INF:PART-TARGET={}", duration(PART)).unwrap();
        }
        text.push('\n');
        let skipped = if is_delta { 1 + u64::from(self.fault == Fault::SkipsTooMuch) } else { 0 };
        if is_delta {
            writeln!(text, "#EXT-X-SKIP:SKIPPED-SEGMENTS={skipped}").unwrap();
        }
        // Bytes of a part.
        let length = PART * 188;
        let is_ranges = self.parts == Parts::Ranges;
        let part = |text: &mut String, number: u64, part: u64| {
            let place = match is_ranges {
                true => format!("\"{number}.ts\",BYTERANGE=\"{length}@{}\"", part * length),
                false => format!("\"{number}.{part}.ts\""),
            };
            let independent = if part == 0 { ",INDEPENDENT=YES" } else { "" };
            writeln!(text, "#EXT-X-PART:DURATION={},URI={place}{independent}", duration(PART)).unwrap();
        };
        for number in first + skipped..end {
            let millis = number * SEGMENT * PACKET_MICROS / 1000;
            let (minute, second, milli) = (millis / 60_000, millis / 1000 % 60, millis % 1000);
            writeln!(text, "#EXT-X-PROGRAM-DATE-TIME:2024-01-01T00:{minute:02}:{second:02}.{milli:03}Z")
                .unwrap();
            // Three target durations are seven segments at the most.
            if self.parts != Parts::None && end <= number + 6 {
                (0..each).for_each(|p| part(&mut text, number, p));
            }
            let server = if self.fault == Fault::Elsewhere { "http://127.0.0.1:1/" } else { "" };
            writeln!(text, "#EXTINF:{},\n{server}{number}.ts", duration(SEGMENT)).unwrap();
        }
        if self.parts != Parts::None {
            (0..parts % each).for_each(|p| part(&mut text, end, p));
            let next = parts % each;
            let place = match is_ranges {
                true => format!("\"{end}.ts\",BYTERANGE-START={}", next * length),
                false => format!("\"{end}.{next}.ts\""),
            };
            writeln!(text, "#EXT-X-PRELOAD-HINT:TYPE=PART,URI={place}").unwrap();
        }
        text
    }

    /// A segment `7`, or a part `7.0` once it is there.
    fn media(&self, name: &str) -> Option<Vec<u8>> {
        let each = SEGMENT / PART;
        let (number, part) = name.split_once('.').map_or((name, None), |(number, part)| (number, Some(part)));
        let number: u64 = number.parse().ok()?;
        let first = (self.parts() / each).saturating_sub(LISTED);
        // One more is kept, for those that are on their way.
        if self.fault == Fault::ForgetsSegments && number + 1 < first {
            return None;
        }
        if let Some(part) = part {
            let part: u64 = part.parse().ok().filter(|p| *p < each)?;
            let stood = Instant::now();
            while self.parts() <= number * each + part {
                if Duration::from_secs(2) < stood.elapsed() {
                    return None;
                }
                thread::sleep(Duration::from_millis(5));
            }
            let from = number * SEGMENT + part * PART;
            let short = u64::from(self.fault == Fault::ShortParts && part == 1);
            let mut bytes = packets(from, from + PART - short);
            if self.fault == Fault::OddParts && part == 1 {
                bytes.pop();
            }
            return Some(bytes);
        }
        if self.parts() / each <= number {
            return None;
        }
        let from = number * SEGMENT;
        debug_assert!(self.broadcast.is_table(from));
        let mut bytes = packets(from, from + SEGMENT);
        if self.fault == Fault::LosesPackets {
            bytes.drain(30 * PACKET..31 * PACKET);
        }
        Some(bytes)
    }
}
