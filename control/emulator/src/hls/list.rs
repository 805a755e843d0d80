//! Playlists as text.

use std::{fmt::Write, time::Duration};

use super::{Rendition, VARIANTS, cuts::Show, feed::Feed};
use crate::behaviour::{HlsFault, OddList};

/// A playlist without segments.
pub(super) fn empty() -> String {
    "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:7\n#EXT-X-MEDIA-SEQUENCE:0\n".to_owned()
}

/// The master playlist: URLs of all kinds, and a rendition of the sound.
pub(super) fn master(origin: &str, infohash: &str, key: &str, feed: Feed) -> String {
    let url = |rendition: Rendition| format!("/hls/m/{infohash}/{key}/{}.m3u8", rendition.name());
    let mut text = String::from("#EXTM3U\n#EXT-X-VERSION:3\n");
    let audio = url(Rendition::Audio);
    writeln!(
        text,
        "#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"sound\",NAME=\"Sound\",DEFAULT=YES,AUTOSELECT=YES,URI=\"{audio}\""
    )
    .ok();
    for v in 0..VARIANTS {
        let bandwidth = feed.variant(v).bitrate_bps();
        let height = 1080 >> v;
        // Writing to a string cannot fail.
        writeln!(
            text,
            "#EXT-X-STREAM-INF:BANDWIDTH={bandwidth},RESOLUTION={}x{height},CODECS=\"avc1.42c01f,mp4a.40.2\",AUDIO=\"sound\"",
            height * 16 / 9
        )
        .ok();
        let path = url(Rendition::Variant(v));
        match v {
            0 => writeln!(text, "{origin}{path}").ok(),
            1 => writeln!(text, "{path}").ok(),
            // Relative to /ace/m/<infohash>/<key>.m3u8.
            _ => writeln!(text, "../../..{path}").ok(),
        };
    }
    text
}

impl Show {
    /// The media playlist, with the URLs that `path` makes of numbers.
    pub(super) fn playlist(&self, edge: Duration, path: impl Fn(u64) -> String, origin: &str) -> String {
        let odd = |kind: OddList| match self.fault {
            HlsFault::OddList(it) => it == kind || it == OddList::All,
            _ => false,
        };
        let listed = self.listed(edge);
        let durations: Vec<_> = listed.iter().map(|&(_, n)| self.piece(n).duration).collect();
        let longest = durations.iter().max().map_or(0, |d| d.as_secs() + u64::from(d.subsec_nanos() > 0));
        let target = if odd(OddList::ShortTarget) { 1 } else { longest };
        let mut text = String::new();
        if odd(OddList::Bom) {
            text.push('\u{feff}');
        }
        text.push_str("#EXTM3U\n");
        if !odd(OddList::NoVersion) {
            text.push_str("#EXT-X-VERSION:3\n");
        }
        let sequence = listed.first().map_or(0, |&(number, _)| number);
        // Writing to a string cannot fail.
        write!(text, "#EXT-X-TARGETDURATION:{target}\n#EXT-X-MEDIA-SEQUENCE:{sequence}\n").ok();
        let is_tagged = matches!(self.fault, HlsFault::Discontinuity { tagged: true, .. });
        for (&(number, n), duration) in listed.iter().zip(&durations) {
            if is_tagged && self.is_break(n) {
                text.push_str("#EXT-X-DISCONTINUITY\n");
            }
            if odd(OddList::Comments) {
                text.push_str("# a comment\n\n#EXT-X-UNHEARD-OF:A=1,B=\"x,y\"\n");
            }
            let url = path(number);
            let seconds = duration.as_secs_f64();
            if odd(OddList::Integers) {
                writeln!(text, "#EXTINF:{seconds:.0},").ok();
            } else {
                writeln!(text, "#EXTINF:{seconds:.6},").ok();
            }
            if odd(OddList::Relative) {
                // Of three levels up is the root, from /ace/m/<infohash>/.
                writeln!(text, "../../..{url}").ok();
            } else {
                writeln!(text, "{origin}{url}").ok();
            }
        }
        if odd(OddList::Crlf) { text.replace('\n', "\r\n") } else { text }
    }
}
