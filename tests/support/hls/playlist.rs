//! The parser of playlists. It reads on whatever is wrong, and complains.

use std::time::Duration;

use super::{
    Complaint, Media, Part, Segment,
    lines::{self, Attributes, Content, Line},
    model::{Hint, Open, ServerControl, Use},
    multivariant::{self, Multivariant},
    tags::{Scope, Tag, Times},
    values,
};

/// Longest of all target durations, so that sums stay sane: a day.
const LONGEST_TARGET: u64 = 86_400;

/// A playlist of either kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Playlist {
    /// It lists segments.
    Media(Box<Media>),
    /// It lists media playlists.
    Multivariant(Multivariant),
}

/// Reads a playlist. What was read is only worth something without complaints.
pub(crate) fn parse(bytes: &[u8]) -> (Playlist, Vec<Complaint>) {
    let mut complaints = Vec::new();
    let text = lines::decode(bytes, &mut complaints);
    let lines = lines::split(&text, &mut complaints);
    let is_of = |line: &Line<'_>, of: &[Scope]| matches!(line.content, Content::Tag(tag, _) if of.contains(&tag.scope));
    let of_media = lines.iter().find(|l| is_of(l, &[Scope::Media, Scope::Segment]));
    let of_multivariant = lines.iter().any(|l| is_of(l, &[Scope::Multivariant]));
    if let Some(line) = of_media.filter(|_| of_multivariant) {
        complaints.push(Complaint::at(
            line.number,
            "mixed",
            "tags of a media and of a multivariant playlist",
        ));
    }
    let playlist = if of_multivariant && of_media.is_none() {
        Playlist::Multivariant(multivariant::read(&lines, &mut complaints))
    } else {
        Playlist::Media(Box::new(read(&lines, &mut complaints)))
    };
    (playlist, complaints)
}

/// Reads a playlist that is to be a media playlist.
pub(crate) fn parse_media(bytes: &[u8]) -> (Media, Vec<Complaint>) {
    match parse(bytes) {
        (Playlist::Media(media), complaints) => (*media, complaints),
        (Playlist::Multivariant(_), mut complaints) => {
            complaints.push(Complaint::at(
                1,
                "mixed",
                "a multivariant playlist where a media playlist was due",
            ));
            (Media::default(), complaints)
        }
    }
}

/// Counts tags that may come once.
#[derive(Debug, Default)]
pub(super) struct Once(Vec<&'static str>);

impl Once {
    pub(super) fn count(&mut self, number: usize, tag: &Tag, complaints: &mut Vec<Complaint>) {
        if self.0.contains(&tag.name) {
            complaints.push(Complaint::at(number, "tag-twice", format!("#{}", tag.name)));
        }
        self.0.push(tag.name);
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.0.contains(&name)
    }
}

/// Reads a media playlist.
fn read(lines: &[Line<'_>], complaints: &mut Vec<Complaint>) -> Media {
    let mut reader =
        Reader { media: Media::default(), once: Once::default(), next: Next::default(), complaints };
    for line in lines {
        match line.content {
            Content::Tag(tag, value) => reader.tag(line.number, tag, value),
            Content::Uri(uri) => reader.uri(line.number, uri),
        }
    }
    reader.end()
}

/// What is known of the next segment.
#[derive(Debug, Default)]
struct Next {
    once: Once,
    line: usize,
    duration: Option<Duration>,
    date_time: Option<Duration>,
    discontinuity: bool,
    byte_range: Option<String>,
    parts: Vec<Part>,
}

struct Reader<'a> {
    media: Media,
    once: Once,
    next: Next,
    complaints: &'a mut Vec<Complaint>,
}

impl Reader<'_> {
    fn complain(&mut self, line: usize, rule: &'static str, text: impl Into<String>) {
        self.complaints.push(Complaint::at(line, rule, text));
    }

    fn tag(&mut self, line: usize, tag: &'static Tag, value: &str) {
        match tag.times {
            Times::Once => self.once.count(line, tag, self.complaints),
            Times::OnceASegment => self.next.once.count(line, tag, self.complaints),
            Times::Many => {}
        }
        if tag.scope == Scope::Segment && self.next.line == 0 {
            self.next.line = line;
        }
        self.check_order(line, tag);
        let attributes = Attributes::read(line, tag, value, self.complaints);
        self.note_use(line, tag, value, &attributes);
        match tag.scope {
            Scope::Segment => self.segment_tag(line, tag, value, &attributes),
            _ => self.media_tag(line, tag, value, &attributes),
        }
    }

    /// Where the order of tags matters.
    fn check_order(&mut self, line: usize, tag: &Tag) {
        let behind = match tag.name {
            "EXT-X-MEDIA-SEQUENCE" | "EXT-X-DISCONTINUITY-SEQUENCE" | "EXT-X-SKIP"
                if !self.media.segments.is_empty() || self.next.line != 0 =>
            {
                "the first segment"
            }
            "EXT-X-DISCONTINUITY" | "EXT-X-PROGRAM-DATE-TIME" | "EXT-X-KEY" | "EXT-X-MAP"
                if !self.next.parts.is_empty() =>
            {
                "a part of its segment"
            }
            "EXT-X-PART" if self.next.once.has("EXTINF") => "#EXTINF of its segment",
            _ => return,
        };
        self.complain(line, "tag-order", format!("#{} behind {behind}", tag.name));
    }

    /// Features by the version they take. Source: RFC 8216 §7, bis §8.
    fn note_use(&mut self, line: usize, tag: &'static Tag, value: &str, attributes: &Attributes) {
        let has = |names: &[&str]| names.iter().any(|name| attributes.has(name));
        let version = match tag.name {
            "EXTINF" if value.split(',').next().unwrap_or("").contains('.') => 3,
            "EXT-X-BYTERANGE" | "EXT-X-I-FRAMES-ONLY" => 4,
            "EXT-X-KEY" if has(&["KEYFORMAT", "KEYFORMATVERSIONS"]) => 5,
            "EXT-X-KEY" if has(&["IV"]) => 2,
            "EXT-X-MAP" if self.once.has("EXT-X-I-FRAMES-ONLY") => 5,
            "EXT-X-MAP" => 6,
            "EXT-X-DEFINE" if has(&["QUERYPARAM"]) => 11,
            "EXT-X-DEFINE" => 8,
            "EXT-X-SKIP" if has(&["RECENTLY-REMOVED-DATERANGES"]) => 10,
            "EXT-X-SKIP" => 9,
            _ => return,
        };
        self.media.uses.push(Use { line, version, what: tag.name });
    }

    fn media_tag(&mut self, line: usize, tag: &Tag, value: &str, attributes: &Attributes) {
        let number = values::integer(value);
        let media = &mut self.media;
        match tag.name {
            "EXT-X-VERSION" => media.version = number,
            "EXT-X-TARGETDURATION" => {
                media.target_duration = Duration::from_secs(number.unwrap_or(0).min(LONGEST_TARGET));
            }
            // One that cannot be read is there all the same.
            "EXT-X-MEDIA-SEQUENCE" => media.media_sequence = Some(number.unwrap_or(0)),
            "EXT-X-DISCONTINUITY-SEQUENCE" => media.discontinuity_sequence = Some(number.unwrap_or(0)),
            "EXT-X-INDEPENDENT-SEGMENTS" => media.independent_segments = true,
            "EXT-X-ENDLIST" => media.has_ended = true,
            "EXT-X-PLAYLIST-TYPE" => {
                media.playlist_type = Some(value.to_owned());
                if !matches!(value, "EVENT" | "VOD") {
                    self.complain(line, "tag-value", format!("a playlist type {value:?}"));
                }
            }
            "EXT-X-PART-INF" => media.part_target = attributes.seconds("PART-TARGET"),
            "EXT-X-SERVER-CONTROL" => media.server_control = Some(server_control(line, attributes)),
            "EXT-X-SKIP" => media.skipped = attributes.integer("SKIPPED-SEGMENTS"),
            "EXT-X-PRELOAD-HINT" => media.hints.push(Hint {
                line,
                is_part: attributes.text("TYPE") == Some("PART"),
                uri: attributes.text("URI").unwrap_or("").to_owned(),
                is_range: attributes.has("BYTERANGE-START") || attributes.has("BYTERANGE-LENGTH"),
            }),
            _ => {}
        }
    }

    fn segment_tag(&mut self, line: usize, tag: &Tag, value: &str, attributes: &Attributes) {
        match tag.name {
            "EXTINF" => {
                let duration = value.split_once(',').and_then(|(duration, _)| values::seconds(duration));
                if duration.is_none() {
                    self.complain(line, "tag-value", format!("#EXTINF:{value}"));
                }
                self.next.duration = Some(duration.unwrap_or_default());
            }
            "EXT-X-DISCONTINUITY" => self.next.discontinuity = true,
            "EXT-X-BYTERANGE" => {
                self.check_range(line, value);
                self.next.byte_range = Some(value.to_owned());
            }
            "EXT-X-PROGRAM-DATE-TIME" => self.date_time(line, value),
            "EXT-X-PART" => {
                let byte_range = attributes.text("BYTERANGE").map(str::to_owned);
                if let Some(range) = &byte_range {
                    self.check_range(line, range);
                }
                self.next.parts.push(Part {
                    line,
                    uri: attributes.text("URI").unwrap_or("").to_owned(),
                    duration: attributes.seconds("DURATION").unwrap_or_default(),
                    byte_range,
                    independent: attributes.is_yes("INDEPENDENT"),
                    gap: attributes.is_yes("GAP"),
                });
            }
            _ => {}
        }
    }

    /// `<length>[@<offset>]`. Source: RFC 8216 §4.3.2.2.
    fn check_range(&mut self, line: usize, range: &str) {
        let (length, offset) = range.split_once('@').unwrap_or((range, "0"));
        if values::integer(length).is_none() || values::integer(offset).is_none() {
            self.complain(line, "tag-value", format!("a byte range {range:?}"));
        }
    }

    fn date_time(&mut self, line: usize, value: &str) {
        match values::date_time(value) {
            Some(time) => {
                self.next.date_time = Some(time.since_epoch);
                if !time.is_exact {
                    let text = format!("{value}: not as 2010-02-19T14:54:23.031+08:00");
                    self.complain(line, "date-time-form", text);
                }
            }
            None => self.complain(line, "tag-value", format!("{value:?} is no time with a zone")),
        }
    }

    fn uri(&mut self, line: usize, uri: &str) {
        let next = std::mem::take(&mut self.next);
        if next.duration.is_none() {
            self.complain(line, "tag-missing", "#EXTINF before a segment");
        }
        self.media.segments.push(Segment {
            line,
            uri: uri.to_owned(),
            duration: next.duration.unwrap_or_default(),
            date_time: next.date_time,
            discontinuity: next.discontinuity,
            byte_range: next.byte_range,
            parts: next.parts,
        });
    }

    /// What is left belongs to a segment that is not whole yet.
    fn end(mut self) -> Media {
        let next = std::mem::take(&mut self.next);
        if next.duration.is_some() || next.byte_range.is_some() {
            self.complain(next.line, "tag-missing", "the URI of the last segment");
        }
        let is_left = next.date_time.is_some() || next.discontinuity;
        if is_left && next.parts.is_empty() && self.media.hints.is_empty() {
            self.complain(next.line, "tag-order", "a tag of a segment behind the last one");
        }
        if !self.once.has("EXT-X-TARGETDURATION") {
            self.complain(1, "tag-missing", "#EXT-X-TARGETDURATION");
        }
        let Next { date_time, discontinuity, parts, .. } = next;
        self.media.open = Open { date_time, discontinuity, parts };
        self.media
    }
}

fn server_control(line: usize, attributes: &Attributes) -> ServerControl {
    ServerControl {
        line,
        can_block_reload: attributes.is_yes("CAN-BLOCK-RELOAD"),
        can_skip_until: attributes.seconds("CAN-SKIP-UNTIL"),
        can_skip_dateranges: attributes.is_yes("CAN-SKIP-DATERANGES"),
        hold_back: attributes.seconds("HOLD-BACK"),
        part_hold_back: attributes.seconds("PART-HOLD-BACK"),
    }
}
