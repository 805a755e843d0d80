//! Successive playlists, and delta updates.

use std::time::Duration;

use crate::{
    assert_only, changed,
    playlists::PARTS,
    support::{
        hls::{Complaint, Media, delta, history::History, playlist::parse_media},
        mutate::{Random, mutated},
    },
};

fn read(text: &str) -> Media {
    let (media, complaints) = parse_media(text.as_bytes());
    assert_only(text, &complaints, "");
    media
}

/// Segments `first` and on, four seconds each; before number 3 there is a discontinuity.
fn listed(first: u64, count: u64) -> String {
    let discontinuities = u64::from(3 < first);
    let mut text = format!(
        "#EXTM3U\n#EXT-X-VERSION:6\n#EXT-X-INDEPENDENT-SEGMENTS\n#EXT-X-TARGETDURATION:4\n\
         #EXT-X-MEDIA-SEQUENCE:{first}\n#EXT-X-DISCONTINUITY-SEQUENCE:{discontinuities}\n"
    );
    for number in first..first + count {
        if number == 3 {
            text.push_str("#EXT-X-DISCONTINUITY\n");
        }
        let second = number * 4;
        let time = format!("2026-01-02T03:{:02}:{:02}.000Z", second / 60, second % 60);
        text.push_str(&format!("#EXT-X-PROGRAM-DATE-TIME:{time}\n#EXTINF:4.0,\n{number}.ts\n"));
    }
    text
}

const SECOND: Duration = Duration::from_secs(1);

/// What is said of `text`, a target duration after `before`.
fn after(before: &str, text: &str) -> Vec<Complaint> {
    let mut history = History::new(SECOND / 2);
    let before = read(before);
    assert_only("the first", &history.reload(&before, SECOND), "");
    history.reload(&read(text), SECOND + before.target_duration)
}

#[test]
fn a_window_that_slides_is_no_fault() {
    let mut history = History::new(SECOND / 2);
    for turn in 0..12 {
        let media = read(&listed(turn, 6));
        assert_only("slid", &history.reload(&media, u32::try_from(turn).unwrap() * 4 * SECOND), "");
        assert_only("same", &history.reload(&media, u32::try_from(turn).unwrap() * 4 * SECOND + SECOND), "");
    }
    for (name, before, text) in [
        ("grown", listed(0, 6), listed(0, 7)),
        ("the discontinuity left", listed(3, 6), listed(4, 6)),
        ("two left and one came", listed(0, 7), listed(2, 6)),
        ("all left", listed(0, 6), listed(6, 6)),
        (
            "a time less",
            listed(0, 6),
            changed("", &listed(1, 6), "#EXT-X-PROGRAM-DATE-TIME:2026-01-02T03:00:08.000Z\n", ""),
        ),
        ("ended", listed(0, 6), listed(0, 6) + "#EXT-X-ENDLIST\n"),
    ] {
        assert_only(name, &after(&before, &text), "");
    }
}

#[test]
fn every_fault_of_a_reload_is_found() {
    let (before, good) = (listed(2, 6), listed(3, 6));
    assert_only("good", &after(&before, &good), "");
    for (name, from, to, rule) in [
        ("another target", "DURATION:4", "DURATION:5", "constant"),
        ("no longer independent", "#EXT-X-INDEPENDENT-SEGMENTS\n", "", "constant"),
        (
            "a server that can more",
            "#EXT-X-IND",
            "#EXT-X-SERVER-CONTROL:HOLD-BACK=12\n#EXT-X-IND",
            "constant",
        ),
        ("a number too high", "MEDIA-SEQUENCE:3", "MEDIA-SEQUENCE:4", "sequence"),
        ("a number too low", "MEDIA-SEQUENCE:3", "MEDIA-SEQUENCE:2", "sequence"),
        ("numbers begin anew", "MEDIA-SEQUENCE:3", "MEDIA-SEQUENCE:0", "sequence"),
        ("segments nobody saw", "MEDIA-SEQUENCE:3", "MEDIA-SEQUENCE:9", "sequence"),
        ("another name", "\n5.ts", "\n5.ts?x", "segment-changed"),
        ("another duration", "#EXTINF:4.0,\n5.ts", "#EXTINF:3.9,\n5.ts", "segment-changed"),
        ("another time", "03:00:20.000Z", "03:00:20.001Z", "segment-changed"),
        (
            "a discontinuity more",
            "#EXT-X-PROGRAM-DATE-TIME:2026-01-02T03:00:20",
            "#EXT-X-DISCONTINUITY\n#EXT-X-PROGRAM-DATE-TIME:2026-01-02T03:00:20",
            "segment-changed",
        ),
        ("a discontinuity less", "#EXT-X-DISCONTINUITY\n", "", "segment-changed"),
        (
            "a discontinuity counted too early",
            "DISCONTINUITY-SEQUENCE:0",
            "DISCONTINUITY-SEQUENCE:1",
            "discontinuities",
        ),
    ] {
        assert_only(name, &after(&before, &changed(name, &good, from, to)), rule);
    }
    let uncounted = changed("", &listed(4, 6), "DISCONTINUITY-SEQUENCE:1", "DISCONTINUITY-SEQUENCE:0");
    for (name, before, text, rule) in [
        ("a discontinuity not counted", listed(3, 6), uncounted, "discontinuities"),
        ("the last one left", listed(0, 7), listed(0, 6), "sequence"),
        ("hardly anything left", listed(0, 6), listed(4, 2), "removed-early"),
        ("on behind the end", listed(0, 6) + "#EXT-X-ENDLIST\n", listed(0, 7), "constant"),
    ] {
        assert_only(name, &after(&before, &text), rule);
    }
}

#[test]
fn a_stream_that_stands_still_is_found_unless_it_is_known() {
    let stood = |until: Duration, pause: Option<(Duration, Duration)>| {
        let mut history = History::new(SECOND / 2);
        assert_only("the first", &history.reload(&read(&listed(0, 6)), SECOND), "");
        if let Some((from, to)) = pause {
            history.pause(from, to);
        }
        history.reload(&read(&listed(0, 6)), until)
    };
    // One and a half target durations, and the grace.
    assert_only("in time", &stood(7 * SECOND, None), "");
    assert_only("late", &stood(8 * SECOND, None), "stale");
    assert_only("known", &stood(30 * SECOND, Some((SECOND, 28 * SECOND))), "");
    assert_only("known for less", &stood(30 * SECOND, Some((SECOND, 20 * SECOND))), "stale");
    let mut history = History::new(SECOND / 2);
    history.reload(&read(&listed(0, 6)), SECOND);
    assert_only("a change that is late", &history.reload(&read(&listed(0, 7)), 8 * SECOND), "stale");
    assert_only("and then goes on", &history.reload(&read(&listed(0, 8)), 12 * SECOND), "");
}

#[test]
fn what_left_the_list_is_owed_for_its_duration_and_the_playlist_s() {
    let mut history = History::new(SECOND);
    history.reload(&read(&listed(0, 7)), 4 * SECOND);
    history.reload(&read(&listed(2, 6)), 8 * SECOND);
    // Last seen at 4 s; its own 4 s and the 28 s of the longest list.
    let owed = history.owed(8 * SECOND);
    let told: Vec<_> = owed.iter().map(|r| (r.number, r.uri.as_str(), r.until)).collect();
    assert_eq!(told, [(0, "0.ts", 36 * SECOND), (1, "1.ts", 36 * SECOND)]);
    assert_eq!(history.owed(36 * SECOND), []);
    assert_eq!(history.last().unwrap().first(), 2);
}

/// The low-latency playlist one part later.
fn next_part(text: &str) -> String {
    let hint = "#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"26.1.ts\"\n";
    let part = "#EXT-X-PART:DURATION=1.0,URI=\"26.1.ts\"\n#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"27.0.ts\"\n";
    changed("", text, hint, part)
}

#[test]
fn every_fault_of_parts_over_reloads_is_found() {
    let whole =
        "#EXTINF:2.0,\n26.ts\n#EXT-X-PART:DURATION=1.0,URI=\"27.0.ts\",INDEPENDENT=YES\n#EXT-X-PRELOAD";
    let next = next_part(PARTS);
    let closed = changed("", &next, "#EXT-X-PRELOAD", whole);
    let closed = changed("", &closed, "HINT:TYPE=PART,URI=\"27.0.ts\"", "HINT:TYPE=PART,URI=\"27.1.ts\"");
    for (name, before, text) in
        [("a part more", PARTS, &next), ("a segment more", next.as_str(), &closed), ("both", PARTS, &closed)]
    {
        assert_only(name, &after(before, text), "");
    }
    let early = changed("", &closed, "#EXT-X-PART:DURATION=1.0,URI=\"26.1.ts\"\n", "");
    let early = changed("", &early, "#EXTINF:2.0,\n26.ts", "#EXTINF:1.0,\n26.ts");
    for (name, before, text, rule) in [
        ("a part less", next.as_str(), PARTS.to_owned(), "part-changed"),
        ("another name", PARTS, changed("", &next, "26.0.ts", "26.00.ts"), "part-changed"),
        ("another duration", PARTS, changed("", &next, "1.0,URI=\"26.0", "0.9,URI=\"26.0"), "part-changed"),
        ("not what was hinted at", PARTS, changed("", &next, "\"26.1.ts\"", "\"26.9.ts\""), "hint-broken"),
        ("another segment than was hinted at", PARTS, early, "hint-broken"),
    ] {
        assert_only(name, &after(before, &text), rule);
    }
    let behind = "#EXT-X-PART:DURATION=0.2,URI=\"24.2.ts\"\n";
    let grown = changed("", PARTS, behind, &format!("{behind}#EXT-X-PART:DURATION=0.1,URI=\"24.3.ts\"\n"));
    assert_only("a part of a whole segment", &after(PARTS, &grown), "part-changed");
}

#[test]
fn delta_updates_make_the_whole_playlist() {
    let old = read(&listed(2, 10));
    let full = read(&listed(3, 10));
    let time = |second| format!("#EXT-X-PROGRAM-DATE-TIME:2026-01-02T03:00:{second}.000Z\n#EXTINF:4.0,\n");
    let skipped = format!("#EXT-X-DISCONTINUITY\n{}3.ts\n{}4.ts\n", time(12), time(16));
    let text = changed("", &listed(3, 10), &skipped, "#EXT-X-SKIP:SKIPPED-SEGMENTS=2\n");
    let update = read(&changed("", &text, "VERSION:6", "VERSION:9"));
    assert_eq!((update.first(), update.first_listed(), update.end()), (3, 5, 13));
    let made = delta::apply(&old, &update).unwrap();
    assert_only("made whole", &delta::compare(&full, &made), "");
    assert_eq!(made.segments.len(), 10);
    assert!(made.segments[0].discontinuity);
    assert_eq!(delta::apply(&old, &full), Ok(full.clone()), "no update at all");

    let unknown = delta::apply(&read(&listed(4, 10)), &update).unwrap_err();
    assert_only("skips what was never there", &[unknown], "delta");
    for (name, from, to) in [
        ("skips one too few", "SKIPPED-SEGMENTS=2", "SKIPPED-SEGMENTS=1"),
        ("counts discontinuities", "DISCONTINUITY-SEQUENCE:0", "DISCONTINUITY-SEQUENCE:1"),
        ("another duration", "#EXTINF:4.0,\n7.ts", "#EXTINF:3.9,\n7.ts"),
        ("another name", "7.ts", "77.ts"),
    ] {
        let made = delta::apply(&old, &read(&changed(name, &text, from, to))).unwrap();
        // One that is a segment short has another end, so it is met by number.
        let full = if name.starts_with("skips") { read(&listed(3, 9)) } else { full.clone() };
        assert_only(name, &delta::compare(&full, &made), "delta");
    }
    let parts = read(PARTS);
    assert_only("the same parts", &delta::compare(&parts, &parts), "");
    let other = read(&changed("", PARTS, "26.0.ts", "26.00.ts"));
    assert_only("another part at the end", &delta::compare(&parts, &other), "delta");
    assert_only("it has gone on", &delta::compare(&read(&next_part(PARTS)), &parts), "");
}

#[test]
fn no_playlists_make_it_panic() {
    let mut random = Random(3);
    let mut history = History::new(SECOND);
    let greatest = |text: &str, tag: &str| changed("", text, tag, &format!("{tag}1844674407370955161"));
    let skipping = changed("", PARTS, "#EXTINF:", "#EXT-X-SKIP:SKIPPED-SEGMENTS=5\n#EXTINF:");
    let mut last = Media::default();
    for round in 0..3_000 {
        let list = match round % 4 {
            0 => listed(round, 8),
            1 => PARTS.to_owned(),
            2 => greatest(&listed(5, 8), "MEDIA-SEQUENCE:"),
            _ => greatest(&skipping, "SEGMENTS="),
        };
        let (media, _) = parse_media(&mutated(&mut random, list.as_bytes()));
        history.reload(&media, u32::try_from(round).unwrap() * SECOND);
        if let Ok(made) = delta::apply(&last, &media) {
            delta::compare(&last, &made);
        }
        last = media;
    }
    history.owed(SECOND);
}
