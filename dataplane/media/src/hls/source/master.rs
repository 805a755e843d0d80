//! Master playlists: which of several renditions to read.

use std::collections::BTreeMap;

use super::{ListError, MAX_ENTRIES, attributes::attribute};

/// A master playlist (RFC 8216 §4.3.4).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MasterList {
    /// In the order of the list, which is that of preference; at most
    /// [`MAX_ENTRIES`], and none when no URI of theirs could be read.
    pub variants: Vec<Variant>,
}

/// One variant of a programme.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variant {
    /// Path and query of its media playlist, as [`super::resolve`] makes them.
    pub uri: String,
    /// Peak rate in bits a second; 0 when it is not told.
    pub bandwidth_bps: u64,
    /// What its own segments carry, as far as the master playlist tells.
    pub muxing: Muxing,
}

/// What the segments of a variant carry. Later is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Muxing {
    /// Sound alone: all codecs are of sound, and there is no resolution.
    SoundOnly,
    /// Perhaps not all: each rendition of its sound or its pictures has a list
    /// of its own. Some have both all the same, an engine's for one.
    Apart,
    /// All there is, or nothing else is known.
    Muxed,
}

impl MasterList {
    /// The variant to read: of those that carry all there is the one of the
    /// highest rate, the first of equals; another only where there is no such.
    #[must_use]
    pub fn best(&self) -> Option<&Variant> {
        // The last of equals is what `max_by_key` gives.
        self.variants.iter().rev().max_by_key(|v| (v.muxing, v.bandwidth_bps))
    }
}

/// Collects what a master playlist says.
#[derive(Default)]
pub(super) struct Masters<'a> {
    /// With the attributes, whose groups may be told of later.
    variants: Vec<(String, &'a str)>,
    /// By type and group: whether a rendition is in the variants themselves.
    groups: BTreeMap<(&'a str, &'a str), bool>,
    renditions: usize,
}

impl<'a> Masters<'a> {
    pub(super) fn variant(&mut self, uri: String, attributes: &'a str) -> Result<(), ListError> {
        if self.variants.len() == MAX_ENTRIES {
            return Err(ListError::TooMany);
        }
        self.variants.push((uri, attributes));
        Ok(())
    }

    /// Source: RFC 8216 §4.3.4.1: a rendition without URI is in the media
    /// playlists of the variants that name its group.
    pub(super) fn rendition(&mut self, attributes: &'a str) -> Result<(), ListError> {
        if self.renditions == MAX_ENTRIES {
            return Err(ListError::TooMany);
        }
        self.renditions += 1;
        let get = |name| attribute(attributes, name);
        if let (Some(kind), Some(group)) = (get("TYPE"), get("GROUP-ID")) {
            *self.groups.entry((kind, group)).or_default() |= get("URI").is_none();
        }
        Ok(())
    }

    pub(super) fn finish(self) -> MasterList {
        let Self { variants, groups, .. } = self;
        let read = |(uri, attributes)| Variant {
            uri,
            bandwidth_bps: attribute(attributes, "BANDWIDTH").and_then(|b| b.parse().ok()).unwrap_or(0),
            muxing: muxing(attributes, &groups),
        };
        MasterList { variants: variants.into_iter().map(read).collect() }
    }
}

fn muxing(attributes: &str, groups: &BTreeMap<(&str, &str), bool>) -> Muxing {
    let is_apart = |kind| {
        let group = attribute(attributes, kind);
        group.is_some_and(|group| groups.get(&(kind, group)) == Some(&false))
    };
    let codecs = attribute(attributes, "CODECS").unwrap_or("");
    let is_sound = !codecs.is_empty() && codecs.split(',').all(|codec| is_of_sound(codec.trim()));
    if is_sound && attribute(attributes, "RESOLUTION").is_none() {
        Muxing::SoundOnly
    } else if is_apart("AUDIO") || is_apart("VIDEO") {
        Muxing::Apart
    } else {
        Muxing::Muxed
    }
}

/// Source: RFC 6381 §3.3, and the names that HLS has for sound.
fn is_of_sound(codec: &str) -> bool {
    ["mp4a", "ac-3", "ec-3", "opus", "Opus", "fLaC", "alac"].iter().any(|name| codec.starts_with(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hls::source::{Playlist, parse};

    fn master(lines: &str) -> MasterList {
        match parse(format!("#EXTM3U\n{lines}").as_bytes(), "/ace/m/x/k.m3u8") {
            Ok(Playlist::Master(list)) => list,
            other => panic!("{lines}: {other:?}"),
        }
    }

    const SOUND: &str = "#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"s\",NAME=\"S\",URI=\"/hls/m/x/k/audio.m3u8\"\n";
    const SOUND_INSIDE: &str = "#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"s\",NAME=\"S\",DEFAULT=YES\n";

    #[test]
    fn the_best_variant_is_the_fastest_that_has_it_all() {
        for (name, lines, best) in [
            (
                "the highest rate",
                "#EXT-X-STREAM-INF:BANDWIDTH=1\na\n#EXT-X-STREAM-INF:BANDWIDTH=3\nb\n#EXT-X-STREAM-INF:BANDWIDTH=2\nc\n".to_owned(),
                "/ace/m/x/b",
            ),
            (
                "the first of equals",
                "#EXT-X-STREAM-INF:BANDWIDTH=1\na\n#EXT-X-STREAM-INF:BANDWIDTH=1\nb\n".to_owned(),
                "/ace/m/x/a",
            ),
            (
                "no rate told",
                "#EXT-X-STREAM-INF:RESOLUTION=2x1\na\n#EXT-X-STREAM-INF:BANDWIDTH=x\nb\n".to_owned(),
                "/ace/m/x/a",
            ),
            (
                "a lower one with its sound",
                format!("#EXT-X-STREAM-INF:BANDWIDTH=9,AUDIO=\"s\"\na\n#EXT-X-STREAM-INF:BANDWIDTH=1\nb\n{SOUND}"),
                "/ace/m/x/b",
            ),
            (
                "sound in one of its renditions",
                format!("{SOUND}{SOUND_INSIDE}#EXT-X-STREAM-INF:BANDWIDTH=1\na\n#EXT-X-STREAM-INF:BANDWIDTH=9,AUDIO=\"s\"\nb\n"),
                "/ace/m/x/b",
            ),
            (
                "pictures rather than sound alone",
                format!("{SOUND}#EXT-X-STREAM-INF:BANDWIDTH=9,CODECS=\"mp4a.40.2,ac-3\"\na\n#EXT-X-STREAM-INF:BANDWIDTH=1,AUDIO=\"s\"\nb\n"),
                "/ace/m/x/b",
            ),
            (
                "sound alone rather than nothing",
                "#EXT-X-STREAM-INF:BANDWIDTH=9,CODECS=\"mp4a.40.2\"\na\n".to_owned(),
                "/ace/m/x/a",
            ),
            (
                "a comment between tag and URI",
                "#EXT-X-STREAM-INF:BANDWIDTH=1\n# well\n\n#EXT-X-NEW\nhttp://evil.example/a?b\n".to_owned(),
                "/a?b",
            ),
            (
                "one whose URI is of no use",
                "#EXT-X-STREAM-INF:BANDWIDTH=9\ndata:x\n#EXT-X-STREAM-INF:BANDWIDTH=1\nb\n".to_owned(),
                "/ace/m/x/b",
            ),
            (
                "key frames of their own are no variant",
                "#EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=99,URI=\"i\"\n#EXT-X-STREAM-INF:BANDWIDTH=1\nb\n".to_owned(),
                "/ace/m/x/b",
            ),
        ] {
            assert_eq!(master(&lines).best().map(|v| &*v.uri), Some(best), "{name}");
        }
    }

    /// As the emulator writes it: URLs of three kinds, and sound that is told
    /// of as apart although it is in the variants.
    #[test]
    fn hls_master() {
        let lines = format!(
            "#EXT-X-VERSION:3\n{SOUND}\
             #EXT-X-STREAM-INF:BANDWIDTH=4000000,RESOLUTION=1920x1080,CODECS=\"avc1.42c01f,mp4a.40.2\",AUDIO=\"s\"\n\
             http://10.77.0.9:6878/hls/m/x/k/0.m3u8\n\
             #EXT-X-STREAM-INF:BANDWIDTH=2000000,RESOLUTION=960x540,CODECS=\"avc1.42c01f,mp4a.40.2\",AUDIO=\"s\"\n\
             /hls/m/x/k/1.m3u8\n\
             #EXT-X-STREAM-INF:BANDWIDTH=1000000,RESOLUTION=480x270,CODECS=\"avc1.42c01f,mp4a.40.2\",AUDIO=\"s\"\n\
             ../../../hls/m/x/k/2.m3u8\n"
        );
        let list = master(&lines);
        let uris: Vec<_> = list.variants.iter().map(|v| (&*v.uri, v.muxing)).collect();
        let expected = ["/hls/m/x/k/0.m3u8", "/hls/m/x/k/1.m3u8", "/hls/m/x/k/2.m3u8"];
        assert_eq!(uris, expected.map(|uri| (uri, Muxing::Apart)));
        assert_eq!(list.best(), Some(&list.variants[0]));
        assert_eq!(list.best().map(|v| v.bandwidth_bps), Some(4_000_000));
    }
}
