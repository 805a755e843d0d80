//! What successive playlists of one stream have to keep. Source: RFC 8216
//! §6.2.1 and §6.2.2, bis §4.4.5.3.

use std::{collections::BTreeMap, time::Duration};

use super::{Complaint, Media, Part, Segment};

/// A segment that has left the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Removed {
    /// Its media sequence number.
    pub(crate) number: u64,
    /// As it was listed.
    pub(crate) uri: String,
    /// It can be fetched until then at the least, by the clock of [`History::reload`].
    pub(crate) until: Duration,
}

/// The playlists of one stream so far. Times are since any one moment.
#[derive(Debug)]
pub(crate) struct History {
    /// A change may be seen so much late.
    grace: Duration,
    pauses: Vec<(Duration, Duration)>,
    last: Option<(Media, Duration)>,
    /// When the last segment came.
    grown_at: Duration,
    is_stale: bool,
    /// The longest playlist with each listed segment.
    longest: BTreeMap<u64, Duration>,
    removed: Vec<Removed>,
}

impl History {
    /// None yet. Who asks every so often sees a change that much late: `grace`.
    pub(crate) fn new(grace: Duration) -> Self {
        Self {
            grace,
            pauses: Vec::new(),
            last: None,
            grown_at: Duration::ZERO,
            is_stale: false,
            longest: BTreeMap::new(),
            removed: Vec::new(),
        }
    }

    /// The stream is known to have stood still for that time.
    pub(crate) fn pause(&mut self, from: Duration, to: Duration) {
        self.pauses.push((from, to));
    }

    /// The latest playlist, and when it came.
    pub(crate) fn last(&self) -> Option<&Media> {
        self.last.as_ref().map(|(media, _)| media)
    }

    /// Segments that are to be fetched still at `at`, though no longer listed.
    pub(crate) fn owed(&self, at: Duration) -> Vec<Removed> {
        self.removed.iter().filter(|r| at < r.until).cloned().collect()
    }

    /// Takes the next playlist, no delta update, which came at `at`.
    pub(crate) fn reload(&mut self, media: &Media, at: Duration) -> Vec<Complaint> {
        let mut complaints = Vec::new();
        let last = self.last.take();
        match &last {
            None => self.grown_at = at,
            Some((old, seen)) => {
                constants(old, media, &mut complaints);
                if is_continued(old, media, &mut complaints) {
                    segments(old, media, &mut complaints);
                    parts(old, media, &mut complaints);
                    discontinuities(old, media, &mut complaints);
                    self.remove(old, media, *seen, &mut complaints);
                }
                self.pace(old, media, at, &mut complaints);
            }
        }
        let duration = media.duration();
        for (number, _) in media.numbered() {
            let longest = self.longest.entry(number).or_default();
            *longest = duration.max(*longest);
        }
        self.longest.retain(|number, _| media.first() <= *number);
        self.last = Some((media.clone(), at));
        complaints
    }

    /// Notes what has left; it did so after `seen`, when it was last listed.
    fn remove(&mut self, old: &Media, new: &Media, seen: Duration, complaints: &mut Vec<Complaint>) {
        let gone: Vec<_> = old.numbered().filter(|(number, _)| *number < new.first()).collect();
        let shortest = new.target_duration.saturating_mul(3);
        if !gone.is_empty() && !new.has_ended && new.duration() < shortest {
            let text = format!("{:?} left, less than three target durations", new.duration());
            complaints.push(Complaint::new("removed-early", text));
        }
        for (number, segment) in gone {
            let longest = self.longest.get(&number).copied().unwrap_or_default();
            let until = seen.saturating_add(segment.duration).saturating_add(longest);
            self.removed.push(Removed { number, uri: segment.uri.clone(), until });
        }
    }

    /// A segment comes at least every one and a half target durations.
    fn pace(&mut self, old: &Media, new: &Media, at: Duration, complaints: &mut Vec<Complaint>) {
        let limit = new.target_duration.saturating_mul(3) / 2;
        let waited = at.saturating_sub(self.grown_at).saturating_sub(self.paused(self.grown_at, at));
        let is_late = limit.saturating_add(self.grace) < waited && !old.has_ended;
        if is_late && !self.is_stale {
            complaints.push(Complaint::new("stale", format!("no new segment for {waited:?}")));
        }
        self.is_stale = is_late;
        if old.end() < new.end() {
            self.grown_at = at;
            self.is_stale = false;
        }
    }

    /// How long it stood still, of that time.
    fn paused(&self, from: Duration, to: Duration) -> Duration {
        self.pauses.iter().map(|(begin, end)| to.min(*end).saturating_sub(from.max(*begin))).sum()
    }
}

/// What may not change at all.
fn constants(old: &Media, new: &Media, complaints: &mut Vec<Complaint>) {
    let control = |m: &Media| {
        let control = m.server_control.clone().unwrap_or_default();
        format!("{:?}", super::model::ServerControl { line: 0, ..control })
    };
    let said = |m: &Media| {
        [
            ("#EXT-X-TARGETDURATION", format!("{:?}", m.target_duration)),
            ("#EXT-X-PART-INF", format!("{:?}", m.part_target)),
            ("#EXT-X-INDEPENDENT-SEGMENTS", m.independent_segments.to_string()),
            ("#EXT-X-PLAYLIST-TYPE", format!("{:?}", m.playlist_type)),
            ("#EXT-X-SERVER-CONTROL", control(m)),
        ]
    };
    for ((what, before), (_, now)) in said(old).into_iter().zip(said(new)) {
        if before != now {
            complaints.push(Complaint::new("constant", format!("{what} was {before}, is {now}")));
        }
    }
    if old.has_ended && (!new.has_ended || old.end() != new.end()) {
        complaints.push(Complaint::new("constant", "it goes on behind #EXT-X-ENDLIST"));
    }
}

/// Whether segments can be told by their numbers: these never fall, and rise by
/// as many as were removed.
fn is_continued(old: &Media, new: &Media, complaints: &mut Vec<Complaint>) -> bool {
    let text = if new.first() < old.first() {
        format!("fell from {} to {}", old.first(), new.first())
    } else if new.end() < old.end() {
        format!("the last segment was {}, is {}", old.end().saturating_sub(1), new.end().saturating_sub(1))
    } else if old.end() < new.first() {
        format!("segments {} to {} were never listed", old.end(), new.first() - 1)
    } else {
        let Some(first) = new.segments.first() else { return true };
        let is_it = |s: &Segment| s.uri == first.uri && s.byte_range == first.byte_range;
        match old.numbered().find(|(_, s)| is_it(s)) {
            Some((number, _)) if number != new.first_listed() => {
                format!("{} was number {number}, is {}", first.uri, new.first_listed())
            }
            _ => return true,
        }
    };
    complaints.push(Complaint::new("sequence", text));
    false
}

/// What is listed under one number stays as it is.
fn segments(old: &Media, new: &Media, complaints: &mut Vec<Complaint>) {
    for (number, now) in new.numbered() {
        let Some(before) = old.segment(number) else { continue };
        let is_moved = matches!((before.date_time, now.date_time), (Some(a), Some(b)) if a != b);
        let what = if before.uri != now.uri || before.byte_range != now.byte_range {
            "URI"
        } else if before.duration != now.duration {
            "duration"
        } else if is_moved {
            "date and time"
        } else if before.discontinuity != now.discontinuity {
            "discontinuity"
        } else {
            continue;
        };
        complaints.push(Complaint::at(now.line, "segment-changed", format!("the {what} of number {number}")));
    }
}

/// Parts stay as they are until they leave all together; a hint comes true.
fn parts(old: &Media, new: &Media, complaints: &mut Vec<Complaint>) {
    let is_same = |a: &Part, b: &Part| {
        (&a.uri, a.duration, a.independent, &a.byte_range)
            == (&b.uri, b.duration, b.independent, &b.byte_range)
    };
    for number in new.first_listed().max(old.first_listed())..=old.end() {
        let (before, now) = (old.parts(number), new.parts(number));
        // Once parts are listed no longer they are not looked at.
        if now.is_empty() && number < new.end() {
            continue;
        }
        let is_open = number == old.end();
        let lines = || now.first().map_or(0, |p| p.line);
        if now.len() < before.len() || (!is_open && now.len() != before.len()) {
            let text = format!("number {number} had {}, has {}", before.len(), now.len());
            complaints.push(Complaint::at(lines(), "part-changed", text));
        }
        if let Some((_, part)) = before.iter().zip(now).find(|(before, now)| !is_same(before, now)) {
            complaints.push(Complaint::at(part.line, "part-changed", format!("of number {number}")));
        }
    }
    hint(old, new, complaints);
}

/// What was hinted at is what came next.
fn hint(old: &Media, new: &Media, complaints: &mut Vec<Complaint>) {
    let Some(hint) = old.hints.iter().find(|h| h.is_part) else { return };
    let place = old.open.parts.len();
    let rest = new.parts(old.end()).get(place);
    // The hinted one may be the first of the next segment. Source: bis §4.4.5.3.
    let is_closed = 0 < place && old.end() < new.end() && new.parts(old.end()).len() == place;
    let came = if is_closed { new.parts(old.end().saturating_add(1)).first() } else { rest };
    if let Some(part) = came.filter(|p| p.uri != hint.uri) {
        let text = format!("{} was hinted at, {} came", hint.uri, part.uri);
        complaints.push(Complaint::at(part.line, "hint-broken", text));
    }
}

/// The discontinuity sequence rises by the tags that were removed.
fn discontinuities(old: &Media, new: &Media, complaints: &mut Vec<Complaint>) {
    let gone = old.numbered().filter(|(number, s)| *number < new.first() && s.discontinuity).count();
    let (before, now) = (old.discontinuity_sequence.unwrap_or(0), new.discontinuity_sequence.unwrap_or(0));
    let due = before.saturating_add(u64::try_from(gone).unwrap_or(u64::MAX));
    if now != due {
        let text = format!("was {before}, is {now}, and {gone} were removed");
        complaints.push(Complaint::new("discontinuities", text));
    }
}
