//! Media playlists as text, after RFC 8216 and its second edition
//! (draft-pantos-hls-rfc8216bis) for parts.

use std::{
    fmt::Write,
    io::Write as _,
    sync::{Arc, OnceLock},
    time::{Duration, SystemTime},
};

use flate2::{Compression, write::GzEncoder};

use super::{
    answer::Written,
    list::{List, MediaSegment, Part},
};

/// A playlist, and the answers that have it.
#[derive(Debug)]
pub(crate) struct Playlist {
    pub(crate) text: Box<[u8]>,
    /// Changes with the text: `"12.3"`, quotes included.
    pub(crate) etag: String,
    /// Plain and compressed, for connections that close and for those that stay.
    answers: [[OnceLock<Written>; 2]; 2],
}

impl Playlist {
    fn new(text: String, etag: String) -> Self {
        Self { text: text.into_bytes().into(), etag, answers: Default::default() }
    }

    /// The answer of this kind, which `write` makes of the text for whoever asks
    /// first.
    pub(crate) fn written(&self, gzip: bool, open: bool, write: impl FnOnce(&[u8]) -> Written) -> &Written {
        self.answers[usize::from(gzip)][usize::from(open)].get_or_init(|| match gzip {
            true => write(&compressed(&self.text)),
            false => write(&self.text),
        })
    }
}

fn compressed(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    // To memory, so this cannot fail.
    encoder.write_all(text).ok();
    encoder.finish().unwrap_or_default()
}

/// Of the newest segments within so many target durations parts are named too
/// (rfc8216bis §4.4.4.9).
const PARTS_WITHIN: u32 = 3;
/// What is older than so many target durations may be skipped in an update
/// (rfc8216bis §4.4.3.8: at least six).
const SKIP_UNTIL: u32 = 6;

/// Players stay so many parts behind the newest one (rfc8216bis §4.4.3.8: at
/// least two, better three).
const HOLD_BACK_PARTS: u32 = 3;

/// How many segments a delta update leaves out.
pub(super) fn skipped(list: &List) -> usize {
    let until = list.target_duration * SKIP_UNTIL;
    let mut behind: Duration = list.open.parts.iter().map(|part| part.duration).sum();
    let newest_first = list.listed().iter().rev();
    // One that lies across the boundary stays.
    let kept = newest_first.take_while(|segment| {
        let is_within = behind < until;
        behind += segment.duration;
        is_within
    });
    list.listed().len() - kept.count()
}

/// The media playlist, with the first `skipped` segments left out if given.
pub(super) fn media(list: &List, skipped: Option<usize>) -> Playlist {
    let mut text = String::with_capacity(256 + list.listed().len() * 160);
    head(&mut text, list, skipped.is_some());
    if let Some(skipped) = skipped {
        line(&mut text, format_args!("#EXT-X-SKIP:SKIPPED-SEGMENTS={skipped}"));
    }
    let parts_from = parts_from(list);
    for (place, segment) in list.listed().iter().enumerate().skip(skipped.unwrap_or(0)) {
        write_segment(&mut text, segment, place >= parts_from);
    }
    if !list.part_target.is_zero() {
        write_open(&mut text, list);
    }
    let etag = format!(
        "\"{}.{}{}\"",
        list.open_sequence(),
        list.open.parts.len(),
        if skipped.is_some() { "d" } else { "" }
    );
    Playlist::new(text, etag)
}

fn head(text: &mut String, list: &List, is_delta: bool) {
    line(text, format_args!("#EXTM3U"));
    line(text, format_args!("#EXT-X-VERSION:{}", if is_delta { 9 } else { 6 }));
    line(text, format_args!("#EXT-X-TARGETDURATION:{}", list.target_duration.as_secs()));
    let skip = (list.target_duration * SKIP_UNTIL).as_secs_f64();
    let control = format!("#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,CAN-SKIP-UNTIL={skip:.1}");
    if list.part_target.is_zero() {
        line(text, format_args!("{control}"));
    } else {
        let (part, behind) = (list.part_target, list.part_target * HOLD_BACK_PARTS);
        line(text, format_args!("{control},PART-HOLD-BACK={:.3}", behind.as_secs_f64()));
        line(text, format_args!("#EXT-X-PART-INF:PART-TARGET={:.3}", part.as_secs_f64()));
    }
    let first = list.listed().first();
    line(text, format_args!("#EXT-X-MEDIA-SEQUENCE:{}", first.map_or(list.open_sequence(), |s| s.sequence)));
    line(text, format_args!("#EXT-X-DISCONTINUITY-SEQUENCE:{}", list.discontinuities));
    if list.listed().iter().all(|segment| segment.independent) {
        line(text, format_args!("#EXT-X-INDEPENDENT-SEGMENTS"));
    }
}

/// The first of the listed segments of which parts are named.
fn parts_from(list: &List) -> usize {
    if list.part_target.is_zero() {
        return usize::MAX;
    }
    let within = list.target_duration * PARTS_WITHIN;
    let mut behind: Duration = list.open.parts.iter().map(|part| part.duration).sum();
    let newest_first = list.listed().iter().rev();
    let with_parts = newest_first.take_while(|segment| {
        behind += segment.duration;
        behind <= within
    });
    list.listed().len() - with_parts.count()
}

fn write_segment(text: &mut String, segment: &MediaSegment, with_parts: bool) {
    write_beginning(text, segment.is_break, segment.wall);
    if with_parts {
        write_parts(text, segment.sequence, &segment.parts);
    }
    line(text, format_args!("#EXTINF:{:.5},", segment.duration.as_secs_f64()));
    line(text, format_args!("{}.ts", segment.sequence));
}

fn write_open(text: &mut String, list: &List) {
    let sequence = list.open_sequence();
    if !list.open.parts.is_empty() {
        write_beginning(text, list.open.is_break, list.open.wall);
        write_parts(text, sequence, &list.open.parts);
    }
    let next = list.open.parts.len();
    line(text, format_args!("#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"{sequence}.{next}.ts\""));
}

fn write_beginning(text: &mut String, is_break: bool, wall: SystemTime) {
    if is_break {
        line(text, format_args!("#EXT-X-DISCONTINUITY"));
    }
    line(text, format_args!("#EXT-X-PROGRAM-DATE-TIME:{}", humantime::format_rfc3339_millis(wall)));
}

fn write_parts(text: &mut String, sequence: u64, parts: &[Arc<Part>]) {
    for (number, part) in parts.iter().enumerate() {
        let duration = part.duration.as_secs_f64();
        let independent = if part.independent { ",INDEPENDENT=YES" } else { "" };
        line(
            text,
            format_args!("#EXT-X-PART:DURATION={duration:.5},URI=\"{sequence}.{number}.ts\"{independent}"),
        );
    }
}

fn line(text: &mut String, words: std::fmt::Arguments<'_>) {
    // To memory, so this cannot fail.
    writeln!(text, "{words}").ok();
}

/// The multivariant playlist of a viewer with this token.
pub(super) fn multivariant(list: &List, token: &str) -> String {
    let mut text = String::with_capacity(256);
    line(&mut text, format_args!("#EXTM3U"));
    line(&mut text, format_args!("#EXT-X-VERSION:6"));
    let rates = list.listed().iter().map(|segment| {
        let seconds = segment.duration.as_secs_f64().max(0.1);
        (segment.body.len() * 8, seconds)
    });
    let (mut peak, mut bits, mut time) = (0.0_f64, 0, 0.0);
    for (of_it, seconds) in rates {
        peak = peak.max(of_it as f64 / seconds);
        bits += of_it;
        time += seconds;
    }
    let mean = bits as f64 / time.max(0.1);
    let peak = (peak * PEAK_MARGIN).ceil();
    // To memory, so this cannot fail.
    write!(text, "#EXT-X-STREAM-INF:BANDWIDTH={peak:.0},AVERAGE-BANDWIDTH={mean:.0}").ok();
    if let Some(codecs) = list.formats.codecs() {
        write!(text, ",CODECS=\"{codecs}\"").ok();
    }
    if let Some(video) = &list.formats.video {
        write!(text, ",RESOLUTION={}x{}", video.width, video.height).ok();
        if let Some(rate) = video.frame_rate {
            write!(text, ",FRAME-RATE={rate}").ok();
        }
    }
    text.push('\n');
    line(&mut text, format_args!("hls/{token}/index.m3u8"));
    text
}

/// Segments to come may be larger than those that were.
const PEAK_MARGIN: f64 = 1.2;
