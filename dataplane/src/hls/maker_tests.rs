//! A chain as it is cut, and what players are shown of it.

use std::collections::BTreeMap;

use millrace_media::ts::PACKET_LEN;

use super::{
    super::{list::Slice, playlist},
    *,
};
use crate::segment::{Window, tests::Maker as Packets};

const START: Monotonic = Monotonic(Duration::from_secs(1_000));

/// A chain that is written and cut, 25 packets a second.
struct Scene {
    packets: Packets,
    writer: ChainWriter,
    maker: Maker,
    shelf: Arc<Shelf>,
    written: Vec<u8>,
    window: Arc<Window>,
    /// What comes later than this is not live yet.
    live: Duration,
}

impl Scene {
    fn new(limit: u64) -> Self {
        Self::coming(Comes::Steadily, limit)
    }

    fn coming(comes: Comes, limit: u64) -> Self {
        let (shelf, window) = (Arc::<Shelf>::default(), Arc::<Window>::default());
        Self {
            packets: Packets::new(),
            writer: ChainWriter::new(Arc::clone(&window), START).unwrap(),
            maker: Maker::new(Arc::clone(&shelf), &HlsConfig::default(), limit, comes),
            shelf,
            written: Vec::new(),
            window,
            live: Duration::MAX,
        }
    }

    fn now(&self) -> Now {
        let passed = self.writer.head();
        Now {
            monotonic: START + passed,
            wall: SystemTime::UNIX_EPOCH + Duration::from_secs(60) + passed,
            live: passed,
        }
    }

    fn write(&mut self, bytes: &[u8]) {
        let now = self.now();
        self.written.extend_from_slice(bytes);
        self.writer.append(bytes, now.monotonic).unwrap();
        let now = Now { live: self.writer.head().min(self.live), ..now };
        self.maker.advance(&mut self.writer, now).unwrap();
    }

    /// So many seconds with a random access unit every two, and PAT and PMT
    /// before each if `with_psi`.
    fn play(&mut self, seconds: usize, with_psi: bool) {
        for _ in 0..seconds / 2 {
            let has_psi = with_psi || self.written.is_empty();
            let mut group = if has_psi { self.packets.psi(0) } else { Vec::new() };
            group.extend(self.packets.run(50, 50));
            self.write(&group);
        }
    }

    fn list(&self) -> Arc<List> {
        self.shelf.list().unwrap()
    }

    fn text(&self) -> String {
        String::from_utf8(self.list().playlist(|| ()).text.to_vec()).unwrap()
    }
}

fn bytes(body: &Body) -> Vec<u8> {
    body.beginning(usize::MAX).unwrap()
}

#[test]
fn segments_are_the_stream_itself_with_pat_and_pmt_before_each() {
    for with_psi in [true, false] {
        let mut scene = Scene::new(u64::MAX);
        scene.play(40, with_psi);
        let list = scene.list();
        let mut whole = Vec::new();
        for segment in &list.segments {
            let of_it = bytes(&segment.body);
            assert_eq!(of_it.len() as u64, segment.body.len());
            let pids: Vec<_> =
                of_it.as_chunks::<PACKET_LEN>().0.iter().map(|p| Packet::new(p).pid().get()).collect();
            assert_eq!(pids[..3], [0, 0x100, 0x101], "{with_psi}");
            assert!(Packet::first_of(&of_it[2 * PACKET_LEN..]).unwrap().random_access());
            // The first ones lie in two segments of the chain.
            assert_eq!(segment.body.preface.is_empty(), with_psi && segment.sequence > 0);
            let parts: Vec<_> = segment.parts.iter().flat_map(|part| bytes(&part.body)).collect();
            assert!(parts == of_it, "parts are all of a segment");
            let time: Duration = segment.parts.iter().map(|part| part.duration).sum();
            assert_eq!(time, segment.duration);
            whole.extend_from_slice(&of_it[segment.body.preface.len()..]);
        }
        let written = &scene.written[2 * PACKET_LEN..];
        assert!(written.starts_with(&whole), "nothing is missing, twice, or changed");
        let open: Vec<_> = list.open.parts.iter().flat_map(|part| bytes(&part.body)).collect();
        let open = if with_psi { &open[..] } else { &open[2 * PACKET_LEN..] };
        assert!(written[whole.len()..].starts_with(open));
    }
}

#[test]
fn a_segment_begins_with_pat_and_pmt_side_by_side() {
    // Of PAT, PMT, video, audio and null packets; small letters are without payload.
    for (packets, found) in [
        ("PM", Some(2)),
        ("VPMM", Some(3)),
        ("PMPM", Some(2)),
        ("PMNv", Some(4)),
        ("PNPM", Some(2)),
        ("PNM", None),
        ("PaM", None),
        ("PMA", None),
        ("Pm", None),
        ("M", None),
        ("P", None),
        ("", None),
    ] {
        let bytes: Vec<u8> = packets.chars().flat_map(packet).collect();
        assert_eq!(psi_before(&bytes, Pid::new(0x100).unwrap()), found, "{packets}");
    }
}

fn packet(kind: char) -> [u8; PACKET_LEN] {
    let pid = match kind.to_ascii_uppercase() {
        'P' => 0_u16,
        'M' => 0x100,
        'V' => 0x101,
        'A' => 0x102,
        _ => 0x1fff,
    };
    let [high, low] = pid.to_be_bytes();
    let flags = if kind.is_ascii_lowercase() { 0x20 } else { 0x10 };
    let mut packet = [0xff; PACKET_LEN];
    packet[..5].copy_from_slice(&[0x47, high, low, flags, 183]);
    packet
}

#[test]
fn a_playlist_reads_as_the_standard_has_it() {
    let mut scene = Scene::new(u64::MAX);
    scene.play(10, true);
    let expected = "\
#EXTM3U
#EXT-X-VERSION:6
#EXT-X-TARGETDURATION:6
#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,CAN-SKIP-UNTIL=36.0,PART-HOLD-BACK=3.000
#EXT-X-PART-INF:PART-TARGET=1.000
#EXT-X-MEDIA-SEQUENCE:0
#EXT-X-DISCONTINUITY-SEQUENCE:0
#EXT-X-INDEPENDENT-SEGMENTS
#EXT-X-PROGRAM-DATE-TIME:1970-01-01T00:00:58.040Z
#EXT-X-PART:DURATION=1.00000,URI=\"0.0.ts\",INDEPENDENT=YES
#EXT-X-PART:DURATION=1.00000,URI=\"0.1.ts\"
#EXTINF:2.00000,
0.ts
#EXT-X-PROGRAM-DATE-TIME:1970-01-01T00:01:00.040Z
#EXT-X-PART:DURATION=1.00000,URI=\"1.0.ts\",INDEPENDENT=YES
#EXT-X-PART:DURATION=1.00000,URI=\"1.1.ts\"
#EXTINF:2.00000,
1.ts
#EXT-X-PROGRAM-DATE-TIME:1970-01-01T00:01:02.040Z
#EXT-X-PART:DURATION=1.00000,URI=\"2.0.ts\",INDEPENDENT=YES
#EXT-X-PART:DURATION=1.00000,URI=\"2.1.ts\"
#EXT-X-PART:DURATION=1.00000,URI=\"2.2.ts\",INDEPENDENT=YES
#EXT-X-PART:DURATION=1.00000,URI=\"2.3.ts\"
#EXTINF:4.00000,
2.ts
#EXT-X-PROGRAM-DATE-TIME:1970-01-01T00:01:06.040Z
#EXT-X-PART:DURATION=1.00000,URI=\"3.0.ts\",INDEPENDENT=YES
#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"3.1.ts\"
";
    assert_eq!(scene.text(), expected);
    let multivariant = playlist::multivariant(&scene.list(), "TOKEN");
    let lines: Vec<_> = multivariant.lines().collect();
    assert_eq!((lines[0], lines[3]), ("#EXTM3U", "hls/TOKEN/index.m3u8"));
    assert!(lines[2].starts_with("#EXT-X-STREAM-INF:BANDWIDTH="), "{multivariant}");
}

#[test]
fn what_has_left_the_playlist_is_kept_while_somebody_asks_and_bounded() {
    let play = |limit: u64, is_asked_for: bool| {
        let mut scene = Scene::new(limit);
        for _ in 0..100 {
            if is_asked_for {
                scene.shelf.note_asked(scene.now().monotonic);
            }
            scene.play(2, true);
            let head = scene.writer.head();
            scene.writer.trim(head, Duration::from_secs(10), u64::MAX);
        }
        let list = scene.list();
        let listed: Duration = list.listed().iter().map(|segment| segment.duration).sum();
        let bytes: u64 = list.segments.iter().map(|segment| segment.body.len()).sum();
        assert!(scene.text().contains(&format!("#EXT-X-MEDIA-SEQUENCE:{}\n", list.listed()[0].sequence)));
        (list.first, list.listed().len(), listed.as_secs(), bytes)
    };
    let (before, listed, seconds, _) = play(u64::MAX, true);
    assert_eq!((listed, seconds), (6, 24));
    // As long as the playlist and itself and a target duration: 24 s, 4 s and 6 s.
    assert!((8..=9).contains(&before), "{before} are kept behind the playlist");
    // The chain's first segment of 256 KiB holds all of it, so nothing has left.
    let (before, ..) = play(u64::MAX, false);
    assert!((8..=9).contains(&before), "{before}");
    let (before, listed, _, bytes) = play(4 * 25 * PACKET_LEN as u64 * 4, true);
    assert_eq!(before, 0);
    assert!(listed >= LEAST_KEPT && bytes <= 4 * 25 * PACKET_LEN as u64 * 4, "{listed}, {bytes}");
}

#[test]
fn a_segment_is_kept_for_as_long_as_the_longest_playlist_that_it_was_in() {
    let mut scene = Scene::new(u64::MAX);
    // Longest playlist, when it left, and its own duration, by sequence number.
    let mut known = BTreeMap::<u64, (Duration, Option<Monotonic>, Duration)>::new();
    let mut gone = Vec::new();
    // Groups of two seconds, then of six, which make longer playlists, and so on.
    for seconds in [[2; 60].as_slice(), &[6; 12], &[2; 60], &[6; 12], &[2; 60]].concat() {
        scene.shelf.note_asked(scene.now().monotonic);
        let group = [scene.packets.psi(0), scene.packets.run(25 * seconds, 25 * seconds)].concat();
        scene.write(&group);
        let (Some(list), now) = (scene.shelf.list(), scene.now().monotonic) else { continue };
        let lasts: Duration = list.listed().iter().map(|segment| segment.duration).sum();
        let first_listed = list.listed()[0].sequence;
        for segment in &list.segments {
            let (longest, left, _) =
                known.entry(segment.sequence).or_insert((Duration::ZERO, None, segment.duration));
            if segment.sequence < first_listed {
                left.get_or_insert(now);
            } else {
                *longest = lasts.max(*longest);
            }
        }
        let oldest = list.segments[0].sequence;
        while let Some(first) = known.first_entry().filter(|first| *first.key() < oldest) {
            let (sequence, (longest, left, duration)) = first.remove_entry();
            let kept = now.since(left.unwrap());
            assert!(kept >= longest + duration, "{sequence}: {kept:?} of {longest:?} and {duration:?}");
            gone.push(kept);
        }
    }
    assert!(gone.len() > 60, "{}", gone.len());
    // From 24 s and 2 s to 36 s and 6 s, and a target duration each.
    assert!(gone.iter().all(|kept| (32..=48).contains(&kept.as_secs())), "{gone:?}");
}

#[test]
fn nobody_asks_and_segments_go_with_the_chains_window() {
    let mut scene = Scene::new(u64::MAX);
    // 2 MiB and more, so that segments of the chain end.
    scene.play(900, true);
    let head = scene.writer.head();
    scene.writer.trim(head, Duration::from_secs(10), u64::MAX);
    let oldest = |scene: &Scene| scene.list().segments[0].body.slices[0].segment.sequence();
    scene.play(20, true);
    assert!(oldest(&scene) > 0);
    drop(scene.window);
}

#[test]
fn a_break_is_told_and_counted_once_it_has_left() {
    let mut scene = Scene::new(u64::MAX);
    scene.play(20, true);
    let mut other = Packets::new();
    other.set_clock(27_000_000 * 5_000);
    scene.packets = other;
    scene.play(20, true);
    let text = scene.text();
    assert_eq!(text.matches("#EXT-X-DISCONTINUITY\n").count(), 1, "{text}");
    assert!(text.contains("#EXT-X-DISCONTINUITY-SEQUENCE:0\n"));
    let list = scene.list();
    let broken: Vec<_> = list.segments.windows(2).filter(|pair| pair[1].is_break).collect();
    let [[before, behind]] = broken[..] else { panic!("{} breaks", broken.len()) };
    let (before_end, begin) = (before.body.slices.last().unwrap(), &behind.body.slices[0]);
    let at = |slice: &Slice, place: usize| slice.segment.start() + place as u64;
    let left_out = at(begin, begin.from) - at(before_end, before_end.to);
    assert_eq!(left_out, PACKET_LEN as u64, "the picture before the break may be cut short");
    let parts: Vec<_> = before.parts.iter().flat_map(|part| bytes(&part.body)).collect();
    assert!(parts == bytes(&before.body) && before.parts.iter().all(|part| part.body.len() > 0));
    scene.play(60, true);
    let text = scene.text();
    assert!(text.contains("#EXT-X-DISCONTINUITY-SEQUENCE:1\n") && !text.contains("#EXT-X-DISCONTINUITY\n"));
}

#[test]
fn what_an_engine_sends_ahead_is_shown_as_it_becomes_live() {
    let mut scene = Scene::new(u64::MAX);
    scene.live = Duration::from_secs(30);
    scene.play(300, true);
    let shown = |scene: &Scene| {
        let list = scene.list();
        let time: Duration = list.segments.iter().map(|segment| segment.duration).sum();
        (list.segments[0].sequence, time.as_secs())
    };
    assert_eq!(shown(&scene), (0, 28), "five minutes are there");
    for live in 31..=60 {
        let now = Now { live: Duration::from_secs(live), ..scene.now() };
        let had = scene.list().open_sequence();
        scene.maker.advance(&mut scene.writer, now).unwrap();
        assert!(scene.list().open_sequence() <= had + 1, "at {live} s");
    }
    assert_eq!(scene.list().segments.last().unwrap().sequence, 15);
}

#[test]
fn an_update_leaves_out_what_is_old_and_adds_up_to_the_whole() {
    let mut scene = Scene::new(u64::MAX);
    scene.maker.window = Duration::from_secs(80);
    scene.play(200, true);
    let list = scene.list();
    let whole = scene.text();
    let delta = String::from_utf8(list.delta(|| ()).text.to_vec()).unwrap();
    let skipped: usize =
        delta.lines().find_map(|l| l.strip_prefix("#EXT-X-SKIP:SKIPPED-SEGMENTS=")).unwrap().parse().unwrap();
    assert!(skipped > 5 && delta.contains("#EXT-X-VERSION:9\n"), "{delta}");
    let names = |text: &str| {
        text.lines()
            .filter(|l| l.ends_with(".ts") && !l.starts_with('#'))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&whole)[skipped..], names(&delta));
    assert_ne!(list.delta(|| ()).etag, list.playlist(|| ()).etag);
    // A short playlist is not worth an update.
    let mut scene = Scene::new(u64::MAX);
    scene.play(60, true);
    assert_eq!(scene.list().delta(|| ()).text, scene.list().playlist(|| ()).text);
}

#[test]
fn what_comes_a_segment_at_a_time_has_no_parts() {
    for (comes, has_parts) in [(Comes::Steadily, true), (Comes::BySegment, false)] {
        let mut scene = Scene::coming(comes, u64::MAX);
        scene.play(12, true);
        let text = scene.text();
        for tag in ["#EXT-X-PART:", "#EXT-X-PART-INF:", "#EXT-X-PRELOAD-HINT:", ",PART-HOLD-BACK="] {
            assert_eq!(text.contains(tag), has_parts, "{comes:?}: {tag}: {text}");
        }
    }
}
