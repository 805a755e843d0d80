//! What ffmpeg makes of a real programme, with the exceptions that it needs.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use crate::{
    assert_only, changed, rules,
    support::{
        hls::{
            Complaint, Media,
            history::History,
            playlist::parse_media,
            rules::{Expect, check},
            segment::Claim,
            stream::Chain,
        },
        tool::{Scratch, Tool, has, run},
        wait_until,
    },
};

/// H.264 and AAC, with an IDR picture every 1.6 s for 12.8 s.
const CLIP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/control/emulator/data/clip.ts");
const SOON: Duration = Duration::from_secs(20);
/// Why ffmpeg's playlists are not quite right: zones are written `+0000`.
const OF_PLAYLISTS: &[&str] = &["date-time-form"];
/// And its segments: each begins with an SDT before its PAT.
const OF_SEGMENTS: &[&str] = &["segment-pat"];

fn arguments<'a>(before: &[&'a str], listed: &'a str, flags: &'a str) -> Vec<&'a str> {
    let base = ["-nostdin", "-v", "error"];
    let input = ["-i", CLIP, "-c", "copy", "-f", "hls", "-hls_time", "1", "-hls_list_size", listed];
    [&base[..], before, &input[..], &["-hls_flags", flags, "-hls_segment_filename"]].concat()
}

fn except(mut complaints: Vec<Complaint>, rules: &[&str]) -> Vec<Complaint> {
    complaints.retain(|c| !rules.contains(&c.rule));
    complaints
}

fn read(text: &str, age: Duration) -> (Media, Vec<Complaint>) {
    let (media, mut complaints) = parse_media(text.as_bytes());
    complaints.extend(check(&media, &Expect { live: true, low_latency: false, age }));
    (media, complaints)
}

/// What is said of the segments that `media` lists, as `edit` leaves them.
fn segments(media: &Media, dir: &Path, edit: impl Fn(u64, &mut Vec<u8>)) -> Vec<Complaint> {
    let mut chain = Chain::default();
    let mut complaints = Vec::new();
    for (number, segment) in media.numbered() {
        let mut bytes = fs::read(dir.join(&segment.uri)).unwrap();
        edit(number, &mut bytes);
        let claim = Claim {
            independent: media.independent_segments,
            duration: Some(segment.duration),
            tolerance: Duration::from_millis(50),
        };
        complaints.extend(chain.push(number, &bytes, &claim, segment.discontinuity).1);
    }
    complaints
}

#[test]
fn segments_of_ffmpeg_pass_and_mutated_ones_do_not() {
    if !has("ffmpeg") {
        return;
    }
    let scratch = Scratch::new();
    let path = |name: &str| scratch.path().join(name).display().to_string();
    let (pattern, playlist) = (path("%d.ts"), path("live.m3u8"));
    let flags = "independent_segments+program_date_time+omit_endlist";
    let mut arguments = arguments(&[], "0", flags);
    arguments.extend([pattern.as_str(), playlist.as_str()]);
    let outcome = run("ffmpeg", &arguments, SOON);
    assert!(outcome.status.success() && outcome.stderr.is_empty(), "{outcome:#?}");

    let text = fs::read_to_string(&playlist).unwrap();
    let (media, complaints) = read(&text, SOON);
    assert_eq!(rules(&complaints), OF_PLAYLISTS.iter().copied().collect(), "{complaints:#?}");
    assert_eq!(media.segments.len(), 8, "{text}");
    let complaints = segments(&media, scratch.path(), |_, _| {});
    assert_eq!(rules(&complaints), OF_SEGMENTS.iter().copied().collect(), "{complaints:#?}");

    for (name, from, to, rule) in [
        ("a short target", "TARGETDURATION:2", "TARGETDURATION:1", "target-duration"),
        ("an end", "#EXT-X-INDEPENDENT", "#EXT-X-ENDLIST\n#EXT-X-INDEPENDENT", "end-list"),
        ("an old version", "VERSION:6", "VERSION:2", "version"),
        ("no name", "5.ts", "5", "segment-name"),
        ("durations that do not add up", "#EXTINF:1.600000", "#EXTINF:0.900000", "date-time-drift"),
    ] {
        let (_, complaints) = read(&changed(name, &text, from, to), SOON);
        assert_only(name, &except(complaints, OF_PLAYLISTS), rule);
    }
    // ffmpeg begins each segment with SDT, PAT, PMT and the picture.
    for (name, edit, rule) in [
        ("a packet less", (|b| drop(b.drain(188 * 50..188 * 51))) as fn(&mut Vec<u8>), "continuity"),
        ("a byte less", |b| b.truncate(b.len() - 1), "segment-length"),
        ("no sync byte", |b| b[188 * 50] = 0, "segment-sync"),
        ("no picture at first", |b| drop(b.drain(188 * 3..188 * 4)), "segment-random-access"),
        ("a damaged PMT", |b| b[188 * 2 + 12] ^= 1, "segment-psi"),
    ] {
        let complaints = segments(&media, scratch.path(), |number, bytes| {
            if number == 4 {
                edit(bytes);
            }
        });
        let found = rules(&except(complaints.clone(), OF_SEGMENTS));
        assert!(found.contains(rule), "{name}: {complaints:#?}");
    }
}

#[test]
fn a_live_list_of_ffmpeg_passes_over_its_reloads() {
    if !has("ffmpeg") {
        return;
    }
    let scratch = Scratch::new();
    let path = |name: &str| scratch.path().join(name).display().to_string();
    let (pattern, playlist) = (path("%d.ts"), path("live.m3u8"));
    let flags = "independent_segments+program_date_time+omit_endlist";
    // Four times as fast as it plays.
    let mut arguments = arguments(&["-readrate", "4"], "5", flags);
    arguments.extend([pattern.as_str(), playlist.as_str()]);
    let ffmpeg = Tool::start("ffmpeg", &arguments);
    let (mut history, began) = (History::new(Duration::from_secs(5)), Instant::now());
    let mut complaints = Vec::new();
    let mut reloads = 0;
    let is_over = wait_until(SOON, || {
        let Ok(text) = fs::read_to_string(&playlist) else { return false };
        let (media, found) = read(&text, Duration::ZERO);
        complaints.extend(except(found, OF_PLAYLISTS));
        complaints.extend(history.reload(&media, began.elapsed()));
        reloads += 1;
        8 <= media.end()
    });
    assert!(is_over, "{:?}", ffmpeg.ends_within(SOON));
    assert_only("live", &complaints, "");
    assert!(reloads > 5, "{reloads}");
    let last = history.last().unwrap();
    assert_eq!((last.first(), last.end()), (3, 8));
    let owed: Vec<_> = history.owed(began.elapsed()).iter().map(|r| r.number).collect();
    assert_eq!(owed, [0, 1, 2]);
}
