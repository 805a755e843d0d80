//! A client that fetches all that a stream lists, in order, and has everything
//! checked. It shows nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::{Duration, Instant},
};

use super::{
    Complaint, Media, Part, Segment, delta,
    history::History,
    http::{Answer, Connection, resolve},
    playlist::{self, Playlist},
    report::{Fetched, Finding, Report, Settings},
    rules::{self, Expect},
    segment::Claim,
    stream::Chain,
    ts::PACKET,
};

/// Longest chain of redirections.
const REDIRECTIONS: usize = 5;
/// Types that a playlist may have. Source: RFC 8216 §4.
const PLAYLIST_TYPES: &[&str] = &["application/vnd.apple.mpegurl", "audio/mpegurl"];

/// A client of one stream.
#[derive(Debug)]
pub(crate) struct Client {
    address: SocketAddr,
    connection: Connection,
    settings: Settings,
    began: Instant,
    /// Path and query of the media playlist.
    media: String,
    /// Path of the multivariant playlist, and the URI that it has for the media playlist.
    master: Option<(String, String, playlist::Playlist)>,
    history: History,
    chain: Chain,
    /// Number of the next segment to fetch.
    next: Option<u64>,
    parts: BTreeMap<(String, Option<String>), Vec<u8>>,
    asked_again: BTreeSet<u64>,
    report: Report,
}

impl Client {
    /// Fetches the playlist at `path`, of either kind; from a multivariant one
    /// it goes on to its first variant.
    pub(crate) fn open(address: SocketAddr, path: &str, settings: Settings) -> Self {
        let mut client = Self {
            address,
            connection: Connection::new(address),
            settings,
            began: Instant::now(),
            media: path.to_owned(),
            master: None,
            history: History::new(settings.poll.saturating_mul(2)),
            chain: Chain::default(),
            next: None,
            parts: BTreeMap::new(),
            asked_again: BTreeSet::new(),
            report: Report::default(),
        };
        let Some((target, answer)) = client.fetch(path, None) else { return client };
        client.check_type(&target, &answer);
        let (playlist, complaints) = playlist::parse(&answer.body);
        client.media = without_directives(&target);
        if let Playlist::Multivariant(multivariant) = &playlist {
            let text = String::from_utf8_lossy(&answer.body).into_owned();
            let complaints: Vec<_> =
                complaints.into_iter().chain(multivariant.check(&BTreeMap::new())).collect();
            client.find(&target, &text, complaints);
            client.report.playlists.push((client.began.elapsed(), text));
            let uri = multivariant.variants.first().map(|v| v.uri.clone()).unwrap_or_default();
            client.media = client.resolve(&target, &uri).unwrap_or_default();
            client.master = Some((target, uri, playlist));
        }
        client
    }

    /// Reloads and fetches until `span` has passed.
    pub(crate) fn watch(&mut self, span: Duration) {
        let end = Instant::now() + span;
        while Instant::now() < end {
            let begun = Instant::now();
            self.turn();
            let is_held = self.settings.blocking && self.settings.poll < begun.elapsed();
            if !is_held {
                std::thread::sleep(self.settings.poll.min(end.saturating_duration_since(Instant::now())));
            }
        }
    }

    /// The stream stands still from now on for so long, and that is no fault.
    pub(crate) fn pause(&mut self, span: Duration) {
        let now = self.began.elapsed();
        self.history.pause(now, now + span);
    }

    /// Reloads once and fetches all that is new.
    pub(crate) fn turn(&mut self) {
        let directives = self.directives();
        let before = self.history.last().map(|m| (m.end(), m.open.parts.len()));
        let Some((target, media, text)) = self.load(&directives) else { return };
        let expect = self.expect();
        self.find(&target, &text, rules::check(&media, &expect));
        let Some(whole) = self.whole(&target, &text, media) else { return };
        if let Some((number, part)) = before.filter(|_| directives.contains("_HLS_msn")) {
            self.check_held(&target, &whole, number, part);
        }
        let complaints = self.history.reload(&whole, self.began.elapsed());
        self.find(&target, &text, complaints);
        self.fetch_new(&whole);
        self.ask_again(self.settings.poll.saturating_mul(3));
    }

    /// Ends with what can only be told then.
    pub(crate) fn finish(mut self) -> Report {
        self.ask_again(Duration::MAX);
        if let Some((target, uri, Playlist::Multivariant(multivariant))) = self.master.take() {
            let complaints = multivariant.check(&BTreeMap::from([(uri, self.peak())]));
            let new =
                complaints.into_iter().filter(|c| !self.report.findings.iter().any(|f| f.complaint == *c));
            let new = new.collect();
            self.find(&target, "", new);
        }
        self.report.connections = self.connection.opened;
        self.report
    }

    /// The highest rate of a segment in bit/s.
    fn peak(&self) -> u64 {
        let rate = |s: &Fetched| {
            let bits = u64::try_from(s.length).unwrap_or(u64::MAX).saturating_mul(8_000);
            bits.checked_div(u64::try_from(s.duration.as_millis()).unwrap_or(u64::MAX)).unwrap_or(0)
        };
        self.report.segments.iter().map(rate).max().unwrap_or(0)
    }

    fn expect(&self) -> Expect {
        let expect = self.settings.expect;
        Expect { age: expect.age.saturating_add(self.began.elapsed()), ..expect }
    }

    /// What the next reload asks of the server. Source: bis §6.2.5.
    fn directives(&self) -> String {
        let Some(last) = self.history.last() else { return String::new() };
        let control = last.server_control.clone().unwrap_or_default();
        let mut directives = Vec::new();
        if self.settings.blocking && control.can_block_reload {
            directives.push(format!("_HLS_msn={}", last.end()));
            if last.part_target.is_some() {
                directives.push(format!("_HLS_part={}", last.open.parts.len()));
            }
        }
        if self.settings.delta && control.can_skip_until.is_some() {
            directives.push("_HLS_skip=YES".to_owned());
        }
        directives.join("&")
    }

    /// Fetches the media playlist with these directives, and parses it.
    pub(crate) fn load(&mut self, directives: &str) -> Option<(String, Media, String)> {
        let joint = match directives {
            "" => "",
            _ if self.media.contains('?') => "&",
            _ => "?",
        };
        let asked = format!("{}{joint}{directives}", self.media);
        let (target, answer) = self.fetch(&asked, None)?;
        if target != asked {
            // Redirected: that is where it is from now on.
            self.media = without_directives(&target);
        }
        self.check_type(&target, &answer);
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        let (media, complaints) = playlist::parse_media(&answer.body);
        self.report.playlists.push((self.began.elapsed(), text.clone()));
        let is_readable = complaints.is_empty();
        self.find(&target, &text, complaints);
        // What follows from a playlist that is none is no news.
        (is_readable || !media.segments.is_empty()).then_some((target, media, text))
    }

    /// Makes a delta update whole, and compares that with a whole playlist.
    fn whole(&mut self, target: &str, text: &str, media: Media) -> Option<Media> {
        if media.skipped.is_none() {
            return Some(media);
        }
        self.report.updates += 1;
        let old = self.history.last().cloned().unwrap_or_default();
        let made = match delta::apply(&old, &media) {
            Ok(made) => made,
            Err(complaint) => {
                self.find(target, text, vec![complaint]);
                return None;
            }
        };
        let (_, whole, _) = self.load("")?;
        self.find(target, text, delta::compare(&whole, &made));
        Some(made)
    }

    /// A reload that was held back has what it was held back for. Source: bis §6.2.5.2.
    fn check_held(&mut self, target: &str, whole: &Media, number: u64, part: usize) {
        let has_part = whole.part_target.is_some() && part < whole.parts(number).len();
        if whole.end() <= number && !has_part {
            let text = format!("answered before there was number {number}, part {part}");
            self.find(target, "", vec![Complaint::new("held-reload", text)]);
        }
    }

    fn fetch_new(&mut self, whole: &Media) {
        for (number, segment) in whole.numbered() {
            if number < *self.next.get_or_insert(number) {
                continue;
            }
            if self.settings.parts {
                self.fetch_parts(&segment.parts);
            }
            self.fetch_segment(number, segment, whole.independent_segments);
            self.next = Some(number.saturating_add(1));
        }
        if self.settings.parts {
            self.fetch_parts(&whole.open.parts);
            if let Some(hint) = whole.hints.iter().find(|h| h.is_part && !h.is_range) {
                self.fetch_parts(&[Part { uri: hint.uri.clone(), ..Part::default() }]);
            }
            let listed =
                whole.segments.iter().flat_map(|s| &s.parts).chain(&whole.open.parts).map(|p| &p.uri);
            let named: BTreeSet<_> = listed.chain(whole.hints.iter().map(|h| &h.uri)).collect();
            self.parts.retain(|(uri, _), _| named.contains(uri));
        }
    }

    fn fetch_segment(&mut self, number: u64, segment: &Segment, independent: bool) {
        let claim =
            Claim { independent, duration: Some(segment.duration), tolerance: self.settings.tolerance };
        let range = byte_range(segment.byte_range.as_deref(), 0);
        let Some((target, bytes)) = self.fetch_media(&segment.uri, range) else {
            self.chain = Chain::default();
            return;
        };
        let (_, mut complaints) = self.chain.push(number, &bytes, &claim, segment.discontinuity);
        let own = segment.parts.iter().map(|p| self.parts.get(&(p.uri.clone(), p.byte_range.clone())));
        let own: Option<Vec<_>> = own.collect();
        if let Some(parts) = own.filter(|parts| !parts.is_empty()) {
            let whole: Vec<u8> = parts.into_iter().flatten().copied().collect();
            if whole != bytes {
                let text = format!("the parts of number {number} are not its bytes");
                complaints.push(Complaint::new("part-bytes", text));
            }
        }
        let (at, duration, discontinuity) = (self.began.elapsed(), segment.duration, segment.discontinuity);
        self.find(&target, "", complaints);
        let length = bytes.len();
        let bytes = if self.settings.keep { bytes } else { Vec::new() };
        self.report.segments.push(Fetched { number, target, at, duration, discontinuity, length, bytes });
    }

    /// Fetches those that were not yet.
    fn fetch_parts(&mut self, parts: &[Part]) {
        let mut end = 0;
        for part in parts.iter().filter(|p| !p.gap) {
            let range = byte_range(part.byte_range.as_deref(), end);
            end = range.map_or(0, |(offset, length)| offset.saturating_add(length));
            let key = (part.uri.clone(), part.byte_range.clone());
            if self.parts.contains_key(&key) {
                continue;
            }
            let Some((target, bytes)) = self.fetch_media(&part.uri, range) else { continue };
            if bytes.is_empty() || !bytes.len().is_multiple_of(PACKET) {
                let text = format!("{} bytes are no whole packets", bytes.len());
                self.find(&target, "", vec![Complaint::new("part-length", text)]);
            }
            self.report.parts += 1;
            self.parts.insert(key, bytes);
        }
    }

    /// Fetches once more what has left the list, shortly before it may be gone.
    fn ask_again(&mut self, within: Duration) {
        let now = self.began.elapsed();
        for removed in self.history.owed(now) {
            if within < removed.until.saturating_sub(now) || !self.asked_again.insert(removed.number) {
                continue;
            }
            let Some(target) = self.resolve(&self.media.clone(), &removed.uri) else { continue };
            let answer = self.connection.get(&target, None, self.settings.limit);
            self.report.owed += 1;
            let complaint = match answer.map(|a| a.status) {
                Ok(200) => continue,
                Ok(status) => {
                    let left = removed.until.saturating_sub(now);
                    let text =
                        format!("status {status} for number {}, owed for {left:?} more", removed.number);
                    Complaint::new("removed-gone", text)
                }
                Err(why) => Complaint::new("http", why),
            };
            self.find(&target, "", vec![complaint]);
        }
    }

    /// Media by its URI in the media playlist.
    fn fetch_media(&mut self, uri: &str, range: Option<(u64, u64)>) -> Option<(String, Vec<u8>)> {
        let target = self.resolve(&self.media.clone(), uri)?;
        let (target, answer) = self.fetch(&target, range)?;
        if answer.header("content-type") != Some("video/mp2t") {
            let text = format!("{:?} instead of video/mp2t", answer.header("content-type"));
            self.find(&target, "", vec![Complaint::new("content-type", text)]);
        }
        Some((target, answer.body))
    }

    fn check_type(&mut self, target: &str, answer: &Answer) {
        let kind = answer.header("content-type").unwrap_or("").to_ascii_lowercase();
        let kind = kind.split(';').next().unwrap_or("").trim();
        if !PLAYLIST_TYPES.contains(&kind) {
            let text = format!("a playlist of type {kind:?}");
            self.find(target, "", vec![Complaint::new("content-type", text)]);
        }
    }

    fn resolve(&mut self, base: &str, uri: &str) -> Option<String> {
        let target = resolve(base, uri, self.address);
        if target.is_none() {
            self.find(base, "", vec![Complaint::new("other-server", uri)]);
        }
        target
    }

    /// Fetches, follows redirections, and complains of all but a whole answer.
    fn fetch(&mut self, target: &str, range: Option<(u64, u64)>) -> Option<(String, Answer)> {
        let mut target = target.to_owned();
        for _ in 0..=REDIRECTIONS {
            let answer = match self.connection.get(&target, range, self.settings.limit) {
                Ok(answer) => answer,
                Err(why) => {
                    self.find(&target, "", vec![Complaint::new("http", why)]);
                    return None;
                }
            };
            let length = u64::try_from(answer.body.len()).unwrap_or(u64::MAX);
            let text = match (answer.status, range) {
                (301 | 302 | 303 | 307 | 308, _) => {
                    target = self.resolve(&target, answer.header("location").unwrap_or(""))?;
                    continue;
                }
                (200 | 206, _) if answer.header("content-encoding").is_some() => {
                    "encoded, unasked".to_owned()
                }
                (200, None) => return Some((target, answer)),
                (206, Some((_, wanted))) if wanted == length => return Some((target, answer)),
                (status, _) => format!("status {status} with {length} bytes"),
            };
            self.find(&target, "", vec![Complaint::new("http", text)]);
            return None;
        }
        self.find(&target, "", vec![Complaint::new("http", "redirected for ever")]);
        None
    }

    /// Notes complaints about what came from `target` and had this text.
    fn find(&mut self, target: &str, text: &str, complaints: Vec<Complaint>) {
        let at = self.began.elapsed();
        for complaint in complaints {
            let line = complaint.line.checked_sub(1).and_then(|place| text.lines().nth(place));
            let line = line.unwrap_or("").to_owned();
            self.report.findings.push(Finding { complaint, target: target.to_owned(), at, line });
        }
    }
}

/// A path and query less what a reload asks of the server.
fn without_directives(target: &str) -> String {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let kept: Vec<_> = query.split('&').filter(|q| !q.is_empty() && !q.starts_with("_HLS_")).collect();
    if kept.is_empty() { path.to_owned() } else { format!("{path}?{}", kept.join("&")) }
}

/// Offset and length of a byte range; without an offset it begins at `end`.
fn byte_range(range: Option<&str>, end: u64) -> Option<(u64, u64)> {
    let (length, offset) = range.map(|r| r.split_once('@').map_or((r, None), |(l, o)| (l, Some(o))))?;
    let offset = offset.map_or(Some(end), |offset| offset.parse().ok())?;
    Some((offset, length.parse().ok()?))
}
