//! Multivariant playlists. Source: RFC 8216 §4.3.4, bis §4.4.6, and Apple's
//! HLS authoring specification on multivariant playlists.

use std::collections::BTreeMap;

use super::{
    Complaint,
    lines::{Attributes, Content, Line},
    playlist::Once,
    rules::NEWEST_VERSION,
    tags::{Tag, Times},
    values,
};

/// Codecs of pictures, by how their names begin.
const PICTURES: &[&str] = &["avc1", "avc3", "hvc1", "hev1", "mp4v", "av01", "vp09", "dvh1", "dvhe"];

/// A multivariant playlist.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Multivariant {
    /// Its variant streams, in order.
    pub(crate) variants: Vec<Variant>,
    version: Option<u64>,
    renditions: Vec<(usize, Attributes)>,
}

/// A variant stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Variant {
    /// The line of its tag.
    pub(crate) line: usize,
    /// Its media playlist.
    pub(crate) uri: String,
    attributes: Attributes,
}

/// Reads a multivariant playlist.
pub(super) fn read(lines: &[Line<'_>], complaints: &mut Vec<Complaint>) -> Multivariant {
    let mut read = Multivariant::default();
    let mut once = Once::default();
    let mut open: Option<Variant> = None;
    for line in lines {
        let number = line.number;
        match line.content {
            Content::Uri(uri) => match open.take() {
                Some(variant) => read.variants.push(Variant { uri: uri.to_owned(), ..variant }),
                None => {
                    complaints.push(Complaint::at(number, "tag-missing", "#EXT-X-STREAM-INF before a URI"))
                }
            },
            Content::Tag(tag, value) => {
                if let Some(variant) = open.take() {
                    complaints.push(Complaint::at(variant.line, "tag-missing", "the URI of a variant"));
                }
                if tag.times == Times::Once {
                    once.count(number, tag, complaints);
                }
                let attributes = Attributes::read(number, tag, value, complaints);
                open = read.tag(number, tag, value, attributes);
            }
        }
    }
    if let Some(variant) = open {
        complaints.push(Complaint::at(variant.line, "tag-missing", "the URI of a variant"));
    }
    if read.variants.is_empty() {
        complaints.push(Complaint::at(1, "tag-missing", "#EXT-X-STREAM-INF"));
    }
    read
}

impl Multivariant {
    /// Takes a tag; a variant that still needs its URI is given back.
    fn tag(&mut self, line: usize, tag: &Tag, value: &str, attributes: Attributes) -> Option<Variant> {
        match tag.name {
            "EXT-X-STREAM-INF" => return Some(Variant { line, uri: String::new(), attributes }),
            "EXT-X-VERSION" => self.version = values::integer(value),
            "EXT-X-MEDIA" => self.renditions.push((line, attributes)),
            _ => {}
        }
        None
    }

    /// All that is wrong with it, where `peaks` has the highest rate of a
    /// segment of some variants, in bit/s, by URI.
    pub(crate) fn check(&self, peaks: &BTreeMap<String, u64>) -> Vec<Complaint> {
        let mut complaints = Vec::new();
        if let Some(version) = self.version.filter(|v| !(1..=NEWEST_VERSION).contains(v)) {
            complaints.push(Complaint::new("version", format!("there is no version {version}")));
        }
        for variant in &self.variants {
            bandwidth(variant, peaks.get(&variant.uri).copied(), &mut complaints);
            codecs(variant, &mut complaints);
            picture(variant, &mut complaints);
            self.groups(variant, &mut complaints);
        }
        complaints
    }

    /// Groups that a variant names are there. Source: RFC 8216 §4.3.4.2.
    fn groups(&self, variant: &Variant, complaints: &mut Vec<Complaint>) {
        for kind in ["AUDIO", "VIDEO", "SUBTITLES", "CLOSED-CAPTIONS"] {
            let Some(group) = variant.attributes.text(kind) else { continue };
            let is_it = |a: &Attributes| a.text("TYPE") == Some(kind) && a.text("GROUP-ID") == Some(group);
            let is_none = kind == "CLOSED-CAPTIONS" && group == "NONE";
            if !is_none && !self.renditions.iter().any(|(_, a)| is_it(a)) {
                let text = format!("no #EXT-X-MEDIA of {kind} group {group:?}");
                complaints.push(Complaint::at(variant.line, "group", text));
            }
        }
    }
}

fn bandwidth(variant: &Variant, peak: Option<u64>, complaints: &mut Vec<Complaint>) {
    let Some(bandwidth) = variant.attributes.integer("BANDWIDTH") else { return };
    let average = variant.attributes.integer("AVERAGE-BANDWIDTH");
    let text = match (peak, average) {
        _ if bandwidth == 0 => "it is 0".to_owned(),
        (Some(peak), _) if bandwidth < peak => format!("{bandwidth} where a segment has {peak} bit/s"),
        (_, Some(average)) if bandwidth < average => format!("the average of {average} is above {bandwidth}"),
        _ => return,
    };
    complaints.push(Complaint::at(variant.line, "bandwidth", text));
}

/// Source: Apple, and RFC 6381 §3.
fn codecs(variant: &Variant, complaints: &mut Vec<Complaint>) {
    let text = match variant.attributes.text("CODECS") {
        None => "none".to_owned(),
        Some(codecs) => match codecs.split(',').find(|codec| !is_codec(codec)) {
            Some(codec) => format!("{codec:?} is none"),
            None => return,
        },
    };
    complaints.push(Complaint::at(variant.line, "codecs", text));
}

fn is_codec(codec: &str) -> bool {
    let (kind, rest) = codec.split_once('.').map_or((codec, None), |(kind, rest)| (kind, Some(rest)));
    let is_hex = |text: &str| text.bytes().all(|b| b.is_ascii_hexdigit());
    match kind {
        // Profile, constraints and level, two digits each.
        "avc1" | "avc3" => rest.is_some_and(|r| r.len() == 6 && is_hex(r)),
        "hvc1" | "hev1" => {
            rest.is_some_and(|r| 4 <= r.split('.').count() && r.split('.').all(|p| !p.is_empty()))
        }
        // Object type and, of MPEG-4 audio, the kind of it.
        "mp4a" | "mp4v" => rest.is_some_and(|r| {
            let (object, audio) = r.split_once('.').unwrap_or((r, "2"));
            object.len() == 2 && is_hex(object) && values::integer(audio).is_some()
        }),
        _ => {
            let is_plain =
                |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
            kind.len() == 4 && codec.split('.').all(is_plain)
        }
    }
}

/// Size and rate of the picture, if there is one. Source: Apple.
fn picture(variant: &Variant, complaints: &mut Vec<Complaint>) {
    let codecs = variant.attributes.text("CODECS").unwrap_or("");
    let has_picture = codecs.split(',').any(|codec| PICTURES.iter().any(|p| codec.starts_with(p)));
    match variant.attributes.text("RESOLUTION").map(values::resolution) {
        None if has_picture => {
            complaints.push(Complaint::at(variant.line, "resolution", "none, but a picture"));
        }
        Some(Some((0, _) | (_, 0))) => {
            complaints.push(Complaint::at(variant.line, "resolution", "it is empty"))
        }
        _ => {}
    }
    if let Some(rate) = variant.attributes.text("FRAME-RATE") {
        let decimals = rate.split_once('.').map_or(0, |(_, decimals)| decimals.len());
        let is_zero = values::seconds(rate).is_some_and(|r| r.is_zero());
        if 3 < decimals || is_zero {
            complaints.push(Complaint::at(variant.line, "frame-rate", rate));
        }
    }
}
