//! What a playlist with parts has to keep. Source: bis §4.4.3.7 to §4.4.5.4 and
//! its appendix on the low-latency server configuration profile.

use std::time::Duration;

use super::{
    Complaint, Media, Part, Segment,
    model::{ServerControl, total},
    rules::Expect,
};

/// How far the parts of a segment may be from its duration, for rounding.
const ROUNDING: Duration = Duration::from_millis(20);
/// Of the part target, what a part has at least, in hundredths.
const LEAST: u32 = 85;

/// Adds all that is wrong with parts.
pub(super) fn check(media: &Media, expect: &Expect, complaints: &mut Vec<Complaint>) {
    let first = media.segments.iter().flat_map(|s| &s.parts).chain(&media.open.parts).next();
    let target = match (media.part_target, first) {
        (Some(target), _) if target.is_zero() => {
            complaints.push(Complaint::new("part-target", "it is 0"));
            return;
        }
        (Some(target), _) => target,
        (None, Some(part)) => {
            complaints.push(Complaint::at(part.line, "part-target", "parts without #EXT-X-PART-INF"));
            return;
        }
        (None, None) => {
            if expect.low_latency {
                complaints.push(Complaint::new("part-target", "no parts in a low-latency playlist"));
            }
            return;
        }
    };
    control(media, target, complaints);
    for segment in &media.segments {
        durations(&segment.parts, target, complaints);
        sum(segment, complaints);
        independence(media, &segment.parts, complaints);
    }
    durations(&media.open.parts, target, complaints);
    independence(media, &media.open.parts, complaints);
    ages(media, complaints);
    hints(media, expect, complaints);
}

fn control(media: &Media, target: Duration, complaints: &mut Vec<Complaint>) {
    let none = ServerControl::default();
    let control = media.server_control.as_ref().unwrap_or(&none);
    let line = control.line;
    if !control.can_block_reload {
        complaints.push(Complaint::at(line, "block-reload", "parts without CAN-BLOCK-RELOAD=YES"));
    }
    if control.can_skip_until.is_none() {
        complaints.push(Complaint::at(line, "skip-boundary", "parts without CAN-SKIP-UNTIL"));
    }
    match control.part_hold_back {
        None => complaints.push(Complaint::at(line, "part-hold-back", "none beside #EXT-X-PART-INF")),
        Some(hold_back) if hold_back < target.saturating_mul(3) => {
            let text = format!("{hold_back:?} is less than three times {target:?}");
            complaints.push(Complaint::at(line, "part-hold-back", text));
        }
        Some(_) => {}
    }
}

/// None is longer than the target, and only some are much shorter.
fn durations(parts: &[Part], target: Duration, complaints: &mut Vec<Complaint>) {
    for (place, part) in parts.iter().enumerate() {
        let next = parts.get(place + 1);
        let may_be_short = part.independent || part.gap || next.is_none_or(|next| next.gap);
        let is_short = part.duration.saturating_mul(100) < target.saturating_mul(LEAST);
        if target < part.duration || (is_short && !may_be_short) {
            let text = format!("{:?} where the target is {target:?}", part.duration);
            complaints.push(Complaint::at(part.line, "part-duration", text));
        }
    }
}

fn sum(segment: &Segment, complaints: &mut Vec<Complaint>) {
    let sum = total(segment.parts.iter().map(|p| p.duration));
    if !segment.parts.is_empty() && ROUNDING < sum.abs_diff(segment.duration) {
        let text = format!("the parts come to {sum:?}, the segment to {:?}", segment.duration);
        complaints.push(Complaint::at(segment.line, "part-sum", text));
    }
}

/// A segment that can be decoded by itself has a first part that can.
fn independence(media: &Media, parts: &[Part], complaints: &mut Vec<Complaint>) {
    if let Some(part) = parts.first().filter(|p| media.independent_segments && !p.independent && !p.gap) {
        let text = "the first one of an independent segment is not";
        complaints.push(Complaint::at(part.line, "part-independent", text));
    }
}

/// Parts are listed within three target durations of the end, and only there.
fn ages(media: &Media, complaints: &mut Vec<Complaint>) {
    let span = media.target_duration.saturating_mul(3);
    let mut behind = total(media.open.parts.iter().map(|p| p.duration));
    for segment in media.segments.iter().rev() {
        let with = behind.saturating_add(segment.duration);
        match segment.parts.first() {
            Some(part) if span < behind => {
                let text = format!("of a segment that ended {behind:?} before the end");
                complaints.push(Complaint::at(part.line, "part-age", text));
            }
            None if with <= span => {
                let text = format!("none for a segment that began {with:?} before the end");
                complaints.push(Complaint::at(segment.line, "part-missing", text));
            }
            _ => {}
        }
        behind = with;
    }
}

/// The next part is hinted at, by a name that is not taken, unless it is over.
fn hints(media: &Media, expect: &Expect, complaints: &mut Vec<Complaint>) {
    let mut hints = media.hints.iter().filter(|h| h.is_part);
    let first = hints.next();
    if let Some(second) = hints.next() {
        complaints.push(Complaint::at(second.line, "preload-hint", "two parts at once"));
    }
    let Some(hint) = first else {
        if expect.live && !media.has_ended {
            complaints.push(Complaint::new("preload-hint", "none"));
        }
        return;
    };
    if media.has_ended {
        complaints.push(Complaint::at(hint.line, "preload-hint", "beside #EXT-X-ENDLIST"));
    }
    let mut parts = media.segments.iter().flat_map(|s| &s.parts).chain(&media.open.parts);
    if parts.any(|p| p.uri == hint.uri && !hint.is_range) {
        complaints.push(Complaint::at(hint.line, "preload-hint", "at a part that is there"));
    }
}
