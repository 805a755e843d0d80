//! Delta updates. Source: bis §6.2.5.1 and §6.3.7.

use super::{Complaint, Media, Part, Segment};

/// The whole playlist that `update` stands for, where `old` is the whole one
/// before. An update that skips nothing is whole.
pub(crate) fn apply(old: &Media, update: &Media) -> Result<Media, Complaint> {
    if update.skipped.is_none() {
        return Ok(update.clone());
    }
    let mut segments = Vec::new();
    for number in update.first()..update.first_listed() {
        let Some(segment) = old.segment(number) else {
            return Err(Complaint::new("delta", format!("it skips number {number}, which was never listed")));
        };
        // Its parts were further from the end than those that are listed.
        segments.push(Segment { parts: Vec::new(), ..segment.clone() });
    }
    segments.extend(update.segments.iter().cloned());
    Ok(Media { segments, skipped: None, ..update.clone() })
}

/// How a playlist that was put together differs from the whole one of the same
/// moment; nothing when the latter has gone on.
pub(crate) fn compare(whole: &Media, made: &Media) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    let mut complain = |line, text: String| complaints.push(Complaint::at(line, "delta", text));
    if whole.end() != made.end() || whole.open.parts.len() != made.open.parts.len() {
        return complaints;
    }
    let head = |m: &Media| {
        (
            m.target_duration,
            m.first(),
            m.discontinuity_sequence,
            m.part_target,
            m.independent_segments,
            m.has_ended,
        )
    };
    if head(whole) != head(made) {
        complain(0, format!("{:?} instead of {:?}", head(made), head(whole)));
    }
    for ((number, is), (_, due)) in made.numbered().zip(whole.numbered()) {
        if bare(is) != bare(due) || !are_same(&is.parts, &due.parts) {
            complain(is.line, format!("number {number} is not the same"));
        }
    }
    if !are_same(&made.open.parts, &whole.open.parts) {
        complain(0, "other parts at the end".to_owned());
    }
    complaints
}

fn bare(segment: &Segment) -> Segment {
    Segment { line: 0, parts: Vec::new(), ..segment.clone() }
}

fn are_same(one: &[Part], other: &[Part]) -> bool {
    let bare = |part: &Part| Part { line: 0, ..part.clone() };
    one.len() == other.len() && one.iter().zip(other).all(|(a, b)| bare(a) == bare(b))
}
