//! What one media playlist has to keep. Source: RFC 8216 §4.3 and §6.2, bis,
//! and Apple's HLS authoring specification on live playlists.

use std::time::Duration;

use super::{
    Complaint, Media, low_latency,
    model::{ServerControl, total},
};

/// The newest version there is. Source: bis §8.
pub(super) const NEWEST_VERSION: u64 = 13;
/// Segments that a live playlist lists once there were so many.
const FEWEST_SEGMENTS: u64 = 6;
/// Target durations after which that many have been there, whatever their length.
const SETTLED: u32 = 8;
/// How far wall clock and durations may be apart.
const DRIFT: Duration = Duration::from_millis(500);

/// What is known of a playlist that it does not say itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expect {
    /// More will be added.
    pub(crate) live: bool,
    /// It is to have parts.
    pub(crate) low_latency: bool,
    /// So long ago was its stream's beginning.
    pub(crate) age: Duration,
}

/// All that is wrong with it.
pub(crate) fn check(media: &Media, expect: &Expect) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    versions(media, &mut complaints);
    target_duration(media, &mut complaints);
    sequences(media, expect, &mut complaints);
    ending(media, expect, &mut complaints);
    date_times(media, &mut complaints);
    window(media, expect, &mut complaints);
    names(media, &mut complaints);
    if let Some(control) = &media.server_control {
        hold_back(media, control, &mut complaints);
    }
    skip(media, &mut complaints);
    low_latency::check(media, expect, &mut complaints);
    complaints
}

/// Source: RFC 8216 §7.
fn versions(media: &Media, complaints: &mut Vec<Complaint>) {
    let version = media.version.unwrap_or(1);
    if !(1..=NEWEST_VERSION).contains(&version) {
        complaints.push(Complaint::new("version", format!("there is no version {version}")));
    }
    if let Some(most) = media.uses.iter().filter(|u| version < u.version).max_by_key(|u| u.version) {
        let text = format!("#{} takes version {}, it says {version}", most.what, most.version);
        complaints.push(Complaint::at(most.line, "version", text));
    }
}

/// Source: RFC 8216 §4.3.3.1; half a second is rounded up.
fn target_duration(media: &Media, complaints: &mut Vec<Complaint>) {
    let target = media.target_duration;
    if target.is_zero() {
        complaints.push(Complaint::new("target-duration", "it is 0"));
        return;
    }
    for segment in &media.segments {
        let rounded = segment.duration.saturating_add(Duration::from_millis(500)).as_secs();
        if target.as_secs() < rounded {
            let text = format!("{:?} is more than the target of {target:?}", segment.duration);
            complaints.push(Complaint::at(segment.line, "target-duration", text));
        }
    }
}

/// Numbers that a client of a live stream cannot do without. Source: RFC 8216 §6.2.2.
fn sequences(media: &Media, expect: &Expect, complaints: &mut Vec<Complaint>) {
    if !expect.live {
        return;
    }
    if media.media_sequence.is_none() {
        complaints.push(Complaint::new("media-sequence", "none in a live playlist"));
    }
    let discontinuity = media.segments.iter().find(|s| s.discontinuity);
    if let Some(segment) = discontinuity.filter(|_| media.discontinuity_sequence.is_none()) {
        let text = "none in a live playlist with a discontinuity";
        complaints.push(Complaint::at(segment.line, "discontinuity-sequence", text));
    }
}

fn ending(media: &Media, expect: &Expect, complaints: &mut Vec<Complaint>) {
    if expect.live && media.has_ended {
        complaints.push(Complaint::new("end-list", "the stream goes on"));
    }
    if let Some(kind) = media.playlist_type.as_ref().filter(|_| expect.live) {
        complaints.push(Complaint::new("playlist-type", format!("a live playlist of type {kind}")));
    }
    if !media.independent_segments {
        complaints.push(Complaint::new("independent-segments", "not said"));
    }
}

/// Each run between discontinuities begins with a wall clock time, and those
/// after it agree with the durations. Source: Apple, "Live playlists".
fn date_times(media: &Media, complaints: &mut Vec<Complaint>) {
    let mut expected: Option<Duration> = None;
    for (place, segment) in media.segments.iter().enumerate() {
        let begins = segment.discontinuity || (place == 0 && media.skipped.is_none());
        if begins {
            expected = None;
            if segment.date_time.is_none() {
                complaints.push(Complaint::at(
                    segment.line,
                    "date-time",
                    "none where a run of segments begins",
                ));
            }
        }
        if let (Some(said), Some(expected)) = (segment.date_time, expected) {
            check_drift(segment.line, said, expected, complaints);
        }
        // The first of a run is the anchor of it: what drifts adds up.
        let begun = expected.or(segment.date_time);
        expected = begun.map(|begun| begun.saturating_add(segment.duration));
    }
    let open = &media.open;
    if let (Some(said), Some(expected), false) = (open.date_time, expected, open.discontinuity) {
        check_drift(0, said, expected, complaints);
    }
}

fn check_drift(line: usize, said: Duration, expected: Duration, complaints: &mut Vec<Complaint>) {
    let drift = said.abs_diff(expected);
    if DRIFT < drift {
        let text = format!("{drift:?} from what the durations come to");
        complaints.push(Complaint::at(line, "date-time-drift", text));
    }
}

/// Source: Apple, "Live playlists": at least six segments.
fn window(media: &Media, expect: &Expect, complaints: &mut Vec<Complaint>) {
    let count = media.end().saturating_sub(media.first());
    let is_settled = media.target_duration.saturating_mul(SETTLED) <= expect.age;
    if expect.live && is_settled && count < FEWEST_SEGMENTS {
        complaints.push(Complaint::new("window", format!("{count} segments after {:?}", expect.age)));
    }
}

/// What players take a segment's kind from, and none twice.
fn names(media: &Media, complaints: &mut Vec<Complaint>) {
    let parts = media.segments.iter().flat_map(|s| &s.parts).chain(&media.open.parts);
    let segments = media.segments.iter().map(|s| (s.line, &s.uri));
    for (line, uri) in segments.chain(parts.map(|p| (p.line, &p.uri))) {
        let path = uri.split(['?', '#']).next().unwrap_or("");
        if !path.ends_with(".ts") {
            complaints.push(Complaint::at(line, "segment-name", format!("{uri} does not end in .ts")));
        }
    }
    let whole: Vec<_> = media.segments.iter().filter(|s| s.byte_range.is_none()).collect();
    for (place, segment) in whole.iter().enumerate() {
        if whole.iter().take(place).any(|s| s.uri == segment.uri) {
            complaints.push(Complaint::at(segment.line, "segment-twice", segment.uri.clone()));
        }
    }
}

/// Source: bis §4.4.3.8.
fn hold_back(media: &Media, control: &ServerControl, complaints: &mut Vec<Complaint>) {
    let (line, target) = (control.line, media.target_duration);
    if let Some(hold_back) = control.hold_back.filter(|h| *h < target.saturating_mul(3)) {
        let text = format!("{hold_back:?} is less than three times {target:?}");
        complaints.push(Complaint::at(line, "hold-back", text));
    }
    match control.can_skip_until {
        Some(until) if until < target.saturating_mul(6) => {
            let text = format!("{until:?} is less than six times {target:?}");
            complaints.push(Complaint::at(line, "skip-boundary", text));
        }
        None if control.can_skip_dateranges => {
            complaints.push(Complaint::at(line, "skip-boundary", "date ranges without one"));
        }
        _ => {}
    }
}

/// Only what is further from the end than the boundary may be skipped. Source: bis §6.2.5.1.
fn skip(media: &Media, complaints: &mut Vec<Complaint>) {
    let Some(skipped) = media.skipped else { return };
    let boundary = media.server_control.as_ref().and_then(|control| control.can_skip_until);
    let left = total(media.open.parts.iter().map(|p| p.duration)).saturating_add(media.duration());
    match boundary {
        None => complaints.push(Complaint::new("skip", "skipped segments without CAN-SKIP-UNTIL")),
        Some(_) if skipped == 0 => complaints.push(Complaint::new("skip", "it skips nothing")),
        Some(boundary) if left < boundary => {
            complaints
                .push(Complaint::new("skip", format!("{left:?} is left, the boundary is {boundary:?}")));
        }
        Some(_) => {}
    }
}
