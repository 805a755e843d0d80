use std::fmt::Write;

use super::*;
use crate::hls::source::{Attempt, IN_FLIGHT, WAITING_MOST, parse};

/// A list whose first segment has the number `first`. Of each name in
/// `segments` the URI is made; `!` before it is a discontinuity, `=4.5` behind
/// it the duration, which is 5 s else.
fn list(first: u64, segments: &str) -> MediaList {
    let mut text = format!("#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXT-X-MEDIA-SEQUENCE:{first}\n");
    for segment in segments.split_whitespace() {
        let (name, duration) = segment.split_once('=').unwrap_or((segment, "5"));
        let tag = if name.starts_with('!') { "#EXT-X-DISCONTINUITY\n" } else { "" };
        let name = name.trim_start_matches('!');
        writeln!(text, "{tag}#EXTINF:{duration},\n/{name}").unwrap();
    }
    match parse(text.as_bytes(), "/").unwrap().media() {
        Some(list) => list.clone(),
        None => panic!("{text}"),
    }
}

/// A list whose segments have their numbers for names, and 5 s each.
fn numbered(numbers: std::ops::Range<u64>) -> MediaList {
    let names: Vec<_> = numbers.clone().map(|n| n.to_string()).collect();
    list(numbers.start, &names.join(" "))
}

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A follower, and what was asked of the caller.
#[derive(Default)]
struct Run {
    follower: Follower,
    /// Asked for, and neither fetched nor failed.
    asked: Vec<Fetch>,
    /// In the order of their turns, with their breaks; those given up have a
    /// cross.
    turns: Vec<(Ticket, String)>,
    names: Vec<(Ticket, String)>,
}

impl Run {
    fn on(&mut self, event: Event<'_>, now: u64) -> &mut Self {
        let mut effects = Vec::new();
        self.follower.on(event, secs(now), &mut effects);
        for effect in effects {
            match effect {
                Effect::Fetch(fetch) => {
                    self.names.push((fetch.ticket, fetch.uri[1..].to_owned()));
                    self.asked.push(fetch);
                }
                Effect::Turn { ticket, breaks } => {
                    let name = &self.names.iter().find(|(t, _)| *t == ticket).unwrap().1;
                    let name = breaks.map_or(name.clone(), |b| format!("{b:?}:{name}"));
                    self.turns.push((ticket, name));
                }
                Effect::Skip(ticket) => {
                    self.turns.iter_mut().filter(|(t, _)| *t == ticket).for_each(|(_, name)| name.push('x'));
                }
            }
        }
        assert!(self.asked.len() <= IN_FLIGHT);
        self
    }

    fn listed(&mut self, list: &MediaList, now: u64) -> &mut Self {
        self.on(Event::Listed { list, asked: secs(now) }, now)
    }

    /// The oldest that was asked for succeeds.
    fn fetched(&mut self, now: u64) -> &mut Self {
        let ticket = self.asked.remove(0).ticket;
        self.on(Event::Fetched(ticket), now)
    }

    /// One that was asked for fails.
    fn failed(&mut self, index: usize, now: u64) -> &mut Self {
        let ticket = self.asked.remove(index).ticket;
        self.on(Event::Failed(ticket), now)
    }

    /// All that is due succeeds.
    fn all_fetched(&mut self, now: u64) -> &mut Self {
        while !self.asked.is_empty() {
            self.fetched(now);
        }
        self
    }

    /// What had its turn since the last call.
    fn turns(&mut self) -> String {
        let names: Vec<_> = self.turns.drain(..).map(|(_, name)| name).collect();
        names.join(" ")
    }

    fn asked(&self) -> String {
        self.asked.iter().map(|f| &f.uri[1..]).collect::<Vec<_>>().join(" ")
    }

    fn verdict(&self, now: u64) -> Verdict {
        self.follower.verdict(secs(now))
    }

    fn poll_at(&self) -> Option<f64> {
        self.follower.poll_at().map(|at| at.as_secs_f64())
    }
}

/// Has followed segments 0 to 19, with the newest at 100 s; `duration` makes
/// that of a number.
fn following(duration: impl Fn(u64) -> String) -> Run {
    let named = |from: u64, to: u64| {
        let names: Vec<_> = (from..to).map(|n| format!("{n}={}", duration(n))).collect();
        list(from, &names.join(" "))
    };
    let mut run = Run::default();
    for to in 3..=20u64 {
        run.listed(&named(to.saturating_sub(8), to), to * 5).all_fetched(to * 5);
    }
    let expected: Vec<_> = (0..20).map(|n| n.to_string()).collect();
    assert_eq!(run.turns(), expected.join(" "));
    run
}

fn alike(_: u64) -> String {
    "5".to_owned()
}

/// As those of an engine.
fn apart(n: u64) -> String {
    format!("{}", 4.5 + (n * 7 % 11) as f64 / 10.0)
}

#[test]
fn the_newest_segments_of_the_first_list_are_due() {
    for (name, first, expected) in [
        ("three", numbered(0..3), "0 1 2"),
        ("three of many", numbered(4..20), "17 18 19"),
        ("fewer", numbered(7..8), "7"),
        ("ten seconds of short ones", list(0, "a=2 b=2 c=2 d=2 e=2 f=2 g=2"), "c d e f g"),
        (
            "ten of very short ones",
            list(0, &(0..30).map(|n| format!("{n}=0.1 ")).collect::<String>()),
            "20 21 22 23 24 25 26 27 28 29",
        ),
        ("three long ones", list(0, "a=60 b=60 c=60 d=60"), "b c d"),
        ("a discontinuity inside", list(0, "a b c !d"), "b c Tagged:d"),
        ("the first of all follows nothing", list(0, "a !b c d"), "b c d"),
        ("each once", list(0, "a a b b c c d d"), "b c d"),
    ] {
        assert_eq!(Run::default().listed(&first, 0).all_fetched(0).turns(), expected, "{name}");
    }
}

#[test]
fn every_segment_has_its_turn_once_and_in_order() {
    for (name, lists, expected) in [
        ("one by one", vec![numbered(0..3), numbered(0..4), numbered(1..5)], "0 1 2 3 4"),
        ("several at once", vec![numbered(0..3), numbered(2..9)], "0 1 2 3 4 5 6 7 8"),
        ("none", vec![numbered(0..3), list(0, ""), numbered(0..4)], "0 1 2 3"),
        (
            "none for long",
            vec![numbered(0..3), numbered(0..3), list(0, ""), numbered(0..4)],
            "0 1 2 Unsure:3",
        ),
        ("just the next", vec![numbered(0..3), numbered(3..6)], "0 1 2 3 4 5"),
        ("one that left unseen", vec![numbered(0..3), numbered(4..6)], "0 1 2 Missed:4 5"),
        ("twice in a list", vec![numbered(0..3), list(0, "0 1 2 3 3 4 4")], "0 1 2 3 4"),
        ("later in a list", vec![numbered(0..3), list(0, "0 1 2 1 3")], "0 1 2 3"),
        ("with tokens", vec![list(0, "a?1 b?1"), list(0, "a?2 b?2 c?2")], "a?1 b?1 c?2"),
        ("a name again, of another length", vec![list(0, "a b c"), list(1, "b c a=4")], "a b c a"),
        ("the last one replaced", vec![list(0, "a b c"), list(0, "a b d e")], "a b c Replaced:d e"),
        ("an entry of no use", vec![list(0, "a b"), list(0, "a b \u{7f} c")], "a b Tagged:c"),
    ] {
        let mut run = Run::default();
        for (at, list) in (0..).step_by(5).zip(&lists) {
            run.listed(list, at).all_fetched(at);
        }
        assert_eq!(run.turns(), expected, "{name}");
    }
}

#[test]
fn hls_not_ready() {
    let mut run = Run::default();
    assert_eq!(run.poll_at(), Some(0.0));
    let not_listed = |at: u64| Event::NotListed { asked: secs(at) };
    // Held for a minute, then an error, then no segments.
    run.on(not_listed(0), 60);
    assert_eq!((run.verdict(60), run.poll_at()), (Verdict::Starting, Some(1.0)));
    run.on(not_listed(61), 61).listed(&list(0, ""), 62);
    assert_eq!((run.verdict(300), run.poll_at()), (Verdict::Starting, Some(65.0)));
    assert_eq!(run.listed(&numbered(0..3), 65).all_fetched(65).turns(), "0 1 2");
    assert_eq!(run.verdict(65), Verdict::Live);
}

#[test]
fn hls_missing_segments() {
    let mut run = Run::default();
    run.listed(&numbered(0..4), 0);
    assert_eq!(run.asked(), "1 2");
    // Once is no harm.
    run.failed(0, 1);
    assert_eq!((run.asked(), run.asked[1].attempt), ("2 1".to_owned(), Attempt::Second));
    let ticket = run.asked.remove(1).ticket;
    assert_eq!(run.on(Event::Fetched(ticket), 1).turns(), "1 2");
    assert_eq!(run.asked(), "2 3");
    // The second one in flight fails twice, before the first is there.
    run.failed(1, 2).failed(1, 2);
    assert_eq!((run.asked(), run.turns()), ("2".to_owned(), String::new()));
    run.fetched(3).listed(&numbered(0..6), 5).all_fetched(5);
    assert_eq!((run.turns(), run.follower.stats().skipped), ("Skipped:4 5".to_owned(), 1));
    // A report too many means nothing.
    run.on(Event::Failed(ticket), 6).on(Event::Fetched(ticket), 6).on(Event::Failed(ticket), 6);
    assert_eq!((run.turns(), run.follower.stats().skipped), (String::new(), 1));
}

#[test]
fn hls_short_segment() {
    let mut run = Run::default();
    // The first breaks off when it has its turn, twice; the next is there already.
    run.listed(&numbered(0..3), 0);
    let next = run.asked.remove(1).ticket;
    run.on(Event::Fetched(next), 1).failed(0, 1).failed(0, 1);
    assert_eq!(run.turns(), "0x Skipped:1 2");
    // All of them do: nothing wedges.
    run.failed(0, 2).failed(0, 2).listed(&numbered(0..6), 5);
    while !run.asked.is_empty() {
        run.failed(0, 6);
    }
    assert_eq!(run.turns(), "Skipped:3x Skipped:4x Skipped:5x");
    assert_eq!(run.listed(&numbered(0..7), 10).all_fetched(10).turns(), "Skipped:6");
}

#[test]
fn hls_slow_segment() {
    let mut run = Run::default();
    run.listed(&numbered(0..3), 0);
    assert_eq!(run.asked(), "0 1");
    assert_eq!(run.fetched(7).asked(), "1 2");
    // Each takes longer than it lasts, and the list shows six: what leaves it
    // before it is asked for is missed.
    for n in 1..=12u64 {
        run.listed(&numbered(n.saturating_sub(3)..n + 3), 7 + 5 * n);
    }
    assert_eq!(run.asked(), "1 2");
    assert_eq!(run.all_fetched(70).turns(), "0 1 2 Missed:9 10 11 12 13 14");
    assert_eq!(run.follower.stats().left, 6);
}

#[test]
fn hls_discontinuity() {
    let mut run = following(alike);
    run.listed(&list(18, "18 19 !20 21"), 105).all_fetched(105);
    assert_eq!(run.turns(), "Tagged:20 21");
    run.listed(&list(19, "19 !20 21 22"), 110).all_fetched(110);
    assert_eq!(run.turns(), "22", "the tag of one that is known");
    // Between two lists that have nothing in common the sequence tells.
    let told = |sequence: u64, list: MediaList| MediaList { discontinuity_sequence: Some(sequence), ..list };
    for (name, before, after, expected) in [
        ("the same", told(4, list(23, "23 24")), told(4, list(25, "25 26")), "23 24 25 26"),
        ("one more", told(4, list(23, "23 24")), told(5, list(25, "25 26")), "23 24 Tagged:25 26"),
        ("with its tag", told(4, list(23, "23 !24")), told(5, list(25, "25")), "23 Tagged:24 25"),
        ("not told", list(23, "23 24"), told(5, list(25, "25 26")), "23 24 25 26"),
    ] {
        let mut run = Run::default();
        run.listed(&before, 0).listed(&after, 5).all_fetched(5);
        assert_eq!(run.turns(), expected, "{name}");
    }
}

#[test]
fn hls_sequence_reset() {
    for (name, mut run, first, expected) in [
        ("other bytes under old names", following(apart), list(0, "0=5 1=5.1 2=4.7"), "Renumbered:2"),
        ("too far back to be waited for", following(alike), numbered(0..3), "Renumbered:2"),
        ("other names", following(alike), list(0, "a b c"), "Renumbered:c"),
    ] {
        let next = list(1, "1=5.1 2=4.7 3=5.1 4=5");
        let next = if first.segments[0].uri == "/a" { list(1, "b c 3=5.1 4=5") } else { next };
        let next = if name.starts_with("too") { numbered(1..5) } else { next };
        run.listed(&first, 105).listed(&next, 110).all_fetched(110);
        assert_eq!(run.turns(), format!("{expected} 3 4"), "{name}");
        assert_eq!((run.verdict(110), run.follower.stats().renumbered), (Verdict::Live, 1), "{name}");
    }
    // Too near to be known from an old list: what comes next may follow or not.
    let mut run = following(alike);
    for end in 13..=21 {
        run.listed(&numbered(10..end), 5 * end + 40).all_fetched(5 * end + 40);
    }
    assert_eq!(run.turns(), "Unsure:20");
    run.listed(&numbered(11..22), 150).all_fetched(150);
    assert_eq!(run.turns(), "21", "it is in doubt once");
    // So that the list looks as before, for three segments.
    let mut run = following(alike);
    run.listed(&numbered(12..20), 106).listed(&numbered(12..20), 109).listed(&numbered(13..21), 115);
    assert_eq!(run.turns(), "Unsure:20");
    let mut run = following(alike);
    run.listed(&numbered(12..20), 103).listed(&numbered(12..20), 106).listed(&numbered(13..21), 109);
    assert_eq!(run.turns(), "20", "as late as a list may be");
    // Half a minute was slept through.
    let mut run = following(alike);
    run.listed(&list(0, "a b c d e f g h i"), 131).all_fetched(131);
    assert_eq!(run.turns(), "Renumbered:d e f g h i");
}

#[test]
fn hls_sequence_jump() {
    let mut run = following(alike);
    // The list is the old one under new numbers and names, one segment further.
    run.listed(&numbered(63..71), 105).listed(&numbered(64..72), 110).all_fetched(110);
    assert_eq!(run.turns(), "Renumbered:70 71");
    // Under new numbers alone it is still known.
    let mut run = following(alike);
    run.listed(&list(63, "13 14 15 16 17 18 19 20"), 105).all_fetched(105);
    assert_eq!(run.turns(), "20");
    run.listed(&list(72, "a b"), 115).all_fetched(115);
    assert_eq!(run.turns(), "Missed:a b");
    // What is due when they jump is in the list under other names.
    let mut run = following(alike);
    run.listed(&numbered(15..24), 105).listed(&numbered(64..75), 110).all_fetched(110);
    assert_eq!(run.turns(), "20 21 Renumbered:72 73 74");
}

#[test]
fn hls_sequence_back() {
    for duration in [alike, apart] {
        let named = |from: u64, to: u64| {
            list(from, &(from..to).map(|n| format!("{n}={} ", duration(n))).collect::<String>())
        };
        let mut run = following(duration);
        for n in 15..20 {
            run.listed(&named(n - 8, n), 5 * n + 30).all_fetched(5 * n + 30);
        }
        assert_eq!(
            (run.turns(), run.asked(), run.verdict(117)),
            (String::new(), String::new(), Verdict::Live)
        );
        run.listed(&named(12, 20), 130).listed(&named(13, 21), 135).all_fetched(135);
        let is_proven = duration(0) != duration(1);
        assert_eq!(run.turns(), if is_proven { "20" } else { "Unsure:20" });
    }
    // Durations prove that it is the old list, however far back.
    let mut run = following(apart);
    let old: String = (3..7).map(|n| format!("{n}={} ", apart(n))).collect();
    assert_eq!(run.listed(&list(3, &old), 105).turns(), "");
    assert_eq!(run.verdict(118), Verdict::Stale { since_new: secs(18) });
}

#[test]
fn hls_sequence_repeat() {
    let mut run = following(alike);
    for at in (103..160).step_by(3) {
        run.listed(&numbered(12..20), at);
        assert_eq!(run.poll_at(), Some((at + 3) as f64), "half the target duration while it does not change");
        let stale = Verdict::Stale { since_new: secs(at - 100) };
        assert_eq!(run.verdict(at), if at < 118 { Verdict::Live } else { stale });
    }
    run.listed(&numbered(18..32), 160).all_fetched(160);
    assert_eq!(run.turns(), "20 21 22 23 24 25 26 27 28 29 30 31");
    assert_eq!((run.verdict(160), run.poll_at()), (Verdict::Live, Some(166.0)));
}

#[test]
fn hls_sequence_duplicate() {
    // As the emulator does it: each segment twice, while the first number
    // rises by one a segment, so that numbers slide under the names.
    let twice = |from: u64, to: u64| list(from, &(from..to).map(|n| format!("{n} {n} ")).collect::<String>());
    for mut run in [following(alike), Run::default()] {
        for n in 20..40 {
            run.listed(&twice(n - 8, n + 1), 5 * n + 5).all_fetched(5 * n + 5);
            assert_eq!(run.verdict(5 * n + 5), Verdict::Live);
        }
        let turns = run.turns();
        let expected: Vec<_> = (20..40).map(|n| n.to_string()).collect();
        assert!(turns.ends_with(&expected.join(" ")), "{turns}");
        assert!(!turns.contains(':'), "{turns}");
    }
}

#[test]
fn numbers_given_to_other_segments_begin_anew() {
    let mut run = following(alike);
    run.listed(&list(13, "a b c d e f g h"), 105).listed(&list(14, "b c d e f g h i"), 110).all_fetched(110);
    assert_eq!(run.turns(), "Renumbered:h i");
}

#[test]
fn two_sources_of_lists_by_turns_repeat_nothing() {
    let mut run = following(alike);
    for n in 0..6u64 {
        run.listed(&list(5000 + n, &format!("a{n} a{} a{}", n + 1, n + 2)), 105 + 10 * n)
            .all_fetched(105 + 10 * n);
        run.listed(&numbered(n + 13..n + 21), 110 + 10 * n).all_fetched(110 + 10 * n);
    }
    let turns = run.turns();
    let mut names: Vec<_> = turns.split(' ').map(|t| t.rsplit(':').next().unwrap()).collect();
    let count = names.len();
    assert!(12 <= count, "{turns}");
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count, "{turns}");
}

#[test]
fn hls_403_and_500_after_stop_and_idle_expiry() {
    let mut run = following(alike);
    for at in (106..118).step_by(3) {
        run.on(Event::NotListed { asked: secs(at) }, at);
        assert_eq!((run.verdict(at), run.poll_at()), (Verdict::Live, Some((at + 3) as f64)));
    }
    assert_eq!(run.verdict(118), Verdict::Stale { since_new: secs(18) });
}

#[test]
fn hls_loop() {
    let mut run = following(alike);
    // Numbers go on, names are those of the last minute; first with the last
    // segment still there, then without.
    let mut names: Vec<_> = (12..20).collect();
    for lap in 0..24u64 {
        names.push(8 + lap % 12);
        let window: Vec<_> = names[names.len() - 8..].iter().map(u64::to_string).collect();
        run.listed(&list(13 + lap, &window.join(" ")), 105 + 5 * lap);
        let expected = match lap {
            0 | 1 => Verdict::Live,
            _ => Verdict::Looping,
        };
        assert_eq!((run.verdict(105 + 5 * lap), run.asked()), (expected, String::new()), "{lap}");
    }
    // It ends.
    run.listed(&list(40, "13 14 15 16 17 18 19 new"), 230).all_fetched(230);
    assert_eq!((run.turns(), run.verdict(230)), ("Replaced:new".to_owned(), Verdict::Live));
}

#[test]
fn a_list_that_ends_is_played_to_its_end() {
    let ended = |list: MediaList| MediaList { is_ended: true, ..list };
    let mut run = following(alike);
    run.listed(&ended(numbered(13..22)), 105);
    assert_eq!((run.verdict(200), run.poll_at()), (Verdict::Live, None));
    assert_eq!(run.all_fetched(106).turns(), "20 21");
    run.listed(&numbered(14..30), 110).on(Event::NotListed { asked: secs(110) }, 110);
    assert_eq!((run.verdict(110), run.asked()), (Verdict::Ended, String::new()));
    // One that has ended already is played from its beginning, with all it has.
    let mut run = Run::default();
    let long = ended(numbered(0..300));
    for at in 0.. {
        let Some(poll_at) = run.follower.poll_at() else { break };
        assert!(poll_at <= secs(at) && at < 10, "{poll_at:?}");
        run.listed(&long, at);
        assert!(run.poll_at().is_none_or(|poll| (at as f64) + 1.0 < poll), "while there is no room");
        run.all_fetched(at);
    }
    let expected: Vec<_> = (0..300).map(|n| n.to_string()).collect();
    assert_eq!((run.turns(), run.verdict(10)), (expected.join(" "), Verdict::Ended));
    for empty in
        [Run::default().listed(&ended(list(0, "")), 0), following(alike).listed(&ended(list(0, "")), 105)]
    {
        assert_eq!(empty.verdict(105), Verdict::Ended);
    }
}

#[test]
fn what_is_due_is_bounded_and_taken_when_there_is_room() {
    let mut run = following(alike);
    run.listed(&numbered(10..400), 105);
    assert_eq!(run.follower.stats().due, 20 + WAITING_MOST as u64);
    assert_eq!(run.poll_at(), Some(111.0));
    run.fetched(106);
    assert_eq!(run.poll_at(), Some(106.0), "at once, now that there is room");
    for at in 106..115 {
        run.all_fetched(at).listed(&numbered(10..400), at);
    }
    run.all_fetched(115);
    let expected: Vec<_> = (20..400).map(|n| n.to_string()).collect();
    assert_eq!(run.turns(), expected.join(" "));
}

#[test]
fn lists_are_asked_for_as_the_standard_says() {
    let lasting = |target: u64, segments: &str| MediaList { target: secs(target), ..list(0, segments) };
    let mut run = Run::default();
    for (name, list, asked, now, expected) in [
        ("the first", lasting(6, "a b c"), 0, 2, 6.0),
        ("not changed", lasting(6, "a b c"), 6, 7, 9.0),
        ("changed", lasting(6, "a b c d"), 9, 9, 15.0),
        ("ever so long", lasting(60, "a b c d e"), 15, 16, 25.0),
        ("ever so short", lasting(1, "a b c d e"), 25, 25, 26.0),
        ("without segments", lasting(6, ""), 26, 26, 29.0),
    ] {
        run.listed(&list, asked).all_fetched(now);
        assert_eq!(run.poll_at(), Some(expected), "{name}");
    }
}
