//! Where a chain goes on, and what of it is seen when.

use millrace_media::ts::{ContinuityChecker, PACKET_LEN, Packet, Pcr, Verdict as Count};

use super::{super::ahead::PIECE, *};
use crate::{
    config::{HlsConfig, StreamConfig},
    segment::tests::{Maker, read},
};

const SECOND: u64 = 27_000_000;

fn limits() -> Limits {
    let config = StreamConfig::default();
    Limits { time: config.window, bytes: config.window_bytes, segments: u64::MAX }
}

fn cut() -> crate::hls::Maker {
    crate::hls::Maker::new(Arc::default(), &HlsConfig::default(), u64::MAX, crate::hls::Comes::Steadily)
}

/// What a viewer reads of a stream that begins with `first` and goes on in
/// `pieces`, and how many jumps were mended.
fn seen<'a>(first: &[u8], pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<u8>, u64) {
    let mut candidate = Candidate::new();
    candidate.push(first);
    let window = Arc::<Window>::default();
    let now = Monotonic(Duration::from_secs(1));
    let mut chain = Chain::begin(Arc::clone(&window), cut(), candidate, now).unwrap();
    for piece in pieces {
        chain.append(piece, now).unwrap();
    }
    chain.flush(now).unwrap();
    window.set_filling(false);
    let (mut cursor, _) = window.join(Duration::from_secs(1_000)).unwrap();
    (read(&mut cursor), chain.mended())
}

/// Places where the counters break, and packets that signal a discontinuity.
fn breaks_and_signals(bytes: &[u8]) -> (usize, usize) {
    let packets = bytes.as_chunks::<PACKET_LEN>().0;
    let mut checker = ContinuityChecker::new();
    let breaks = packets.iter().filter(|p| matches!(checker.check(Packet::new(p)), Count::Error { .. }));
    (breaks.count(), packets.iter().filter(|p| Packet::new(p).discontinuity()).count())
}

#[test]
fn a_clock_that_jumps_without_a_word_is_mended_and_jitter_is_not() {
    // At 25 packets a second the clock would stand at 120 s.
    let ticks = |millis: u64| millis * SECOND / 1_000;
    for (name, clock, jumps) in [
        ("goes on", ticks(120_000), 0),
        ("50 ms of jitter", ticks(119_950), 0),
        ("two seconds lost", ticks(122_000), 0),
        ("ten seconds on", ticks(130_000), 1),
        ("ten seconds back", ticks(110_000), 1),
        ("from zero", 0, 1),
        ("from the end of its range", Pcr::MODULUS - SECOND * 40, 1),
    ] {
        let mut maker = Maker::new();
        maker.set_clock(100 * SECOND);
        let first = [maker.psi(0), maker.run(500, 50)].concat();
        maker.set_clock(clock);
        let second = [maker.run(10, 100), maker.psi(0), maker.run(500, 50)].concat();
        let (bytes, mended) = seen(&first, second.chunks(7 * PACKET_LEN));
        assert_eq!(mended, jumps, "{name}");
        // Without a jump nothing is held back; else all before the next join point.
        let expected = if jumps == 0 { 1_012 } else { 1_000 + 3 };
        assert_eq!(bytes.len() / PACKET_LEN, expected, "{name}");
        let (breaks, signals) = breaks_and_signals(&bytes);
        assert_eq!(breaks, 0, "{name}");
        assert_eq!(signals > 0, jumps > 0, "{name}");
    }
}

#[test]
fn a_source_that_begins_anew_is_mended_wherever_its_bytes_are_split() {
    let lap = || {
        let mut maker = Maker::new();
        (0..4).flat_map(|_| [maker.psi(0), maker.run(13, 13)].concat()).collect::<Vec<_>>()
    };
    let stream = [lap(), lap(), lap(), lap(), lap()].concat();
    for first in [60, 61, 62, 63, 100, 300] {
        for piece in 1..60 {
            let (first, rest) = stream.split_at(first * PACKET_LEN);
            let (bytes, mended) = seen(first, rest.chunks(piece * PACKET_LEN));
            let (breaks, signals) = breaks_and_signals(&bytes);
            // At each of four places PAT, PMT and video say so.
            let place = format!("{} packets first, then {piece} at a time", first.len() / PACKET_LEN);
            assert_eq!((mended, breaks, signals), (4, 0, 12), "{place}");
            // Nothing is left out, or one group where a read ends between PAT and PMT.
            let packets = bytes.len() / PACKET_LEN;
            assert!((300 - 2 - 4 * 15..=300 + 4).contains(&packets), "{place}: {packets}");
        }
    }
}

#[test]
fn a_break_that_is_told_is_signalled_unless_what_comes_goes_on() {
    let mut maker = Maker::new();
    let stream: Vec<u8> = (0..6).flat_map(|_| [maker.psi(0), maker.run(50, 50)].concat()).collect();
    let lap = 52;
    let packets = |from: usize, to: usize| &stream[from * PACKET_LEN..to * PACKET_LEN];
    // What comes first ends at a packet, what follows begins at one, and where
    // that is signalled it goes on at one.
    for (name, end, from, join) in [
        ("nothing is missing", 2 * lap, 2 * lap, None),
        ("nothing, within a group", 2 * lap + 9, 2 * lap + 9, None),
        ("a group comes again", 2 * lap, lap, None),
        ("part of one comes again", 2 * lap + 9, 2 * lap, None),
        ("a group is missing", 2 * lap, 3 * lap, Some(3 * lap + 2)),
        ("part of one is missing", 2 * lap + 9, 3 * lap, Some(3 * lap + 2)),
        ("it goes on within a group", 2 * lap, 3 * lap + 9, Some(4 * lap + 2)),
    ] {
        for piece in 1..60 {
            let mut candidate = Candidate::new();
            candidate.push(packets(0, end));
            let window = Arc::<Window>::default();
            let now = Monotonic(Duration::from_secs(1));
            let mut chain = Chain::begin(Arc::clone(&window), cut(), candidate, now).unwrap();
            chain.break_off(now).unwrap();
            for piece in packets(from, 6 * lap).chunks(piece * PACKET_LEN) {
                chain.append(piece, now).unwrap();
            }
            window.set_filling(false);
            let (mut cursor, _) = window.join(Duration::from_secs(1_000)).unwrap();
            let seen = read(&mut cursor);
            let place = format!("{name}, {piece} at a time");
            assert_eq!(breaks_and_signals(&seen).0, 0, "{place}");
            match join {
                None => assert!(stream.ends_with(&seen), "{place}"),
                Some(join) => {
                    assert!(seen.ends_with(packets(join, 6 * lap)), "{place}");
                    assert!(breaks_and_signals(&seen).1 > 0, "{place}");
                }
            }
            assert_eq!(chain.mended(), 0, "{place}: the clock is not to blame");
        }
    }
}

#[test]
fn another_source_that_begins_where_the_chain_ends_goes_on_there() {
    let mut maker = Maker::new();
    let lap = 52;
    let mut stream = [maker.psi(0), maker.run(50, 50), maker.psi(0), maker.run(16, 50)].concat();
    // Whoever lacks these sixteen pictures and their PSI sees it by neither the
    // clock nor the pictures' counters.
    maker.set_clock(50 * SECOND / 25);
    stream.extend(maker.run(34, 34));
    stream.extend((0..4).flat_map(|_| [maker.psi(0), maker.run(50, 50)].concat()));
    let packets = |from: usize, to: usize| &stream[from * PACKET_LEN..to * PACKET_LEN];
    for (name, end, from, join) in [
        ("at a group", 3 * lap, 3 * lap, None),
        ("within one", 3 * lap + 9, 3 * lap + 9, None),
        ("a group later", 3 * lap, 4 * lap, Some(4 * lap + 2)),
        ("a picture later", 3 * lap + 9, 3 * lap + 10, Some(4 * lap + 2)),
        ("sixteen pictures later", 3 * lap + 9, 3 * lap + 25, Some(4 * lap + 2)),
        ("where only PAT and PMT tell", lap, lap + 18, Some(2 * lap + 2)),
    ] {
        let mut first = Candidate::new();
        first.push(packets(0, end));
        let window = Arc::<Window>::default();
        let now = Monotonic(Duration::from_secs(1));
        let mut chain = Chain::begin(Arc::clone(&window), cut(), first, now).unwrap();
        chain.flush(now).unwrap();
        let mut other = Candidate::new();
        other.push(packets(from, 6 * lap));
        assert_eq!(chain.fit(&other) == Fit::Exact(0), join.is_none(), "{name}");
        chain.splice(other, now).unwrap();
        chain.flush(now).unwrap();
        window.set_filling(false);
        let seen = read(&mut window.join(Duration::from_secs(1_000)).unwrap().0);
        let (breaks, signals) = breaks_and_signals(&seen);
        assert_eq!((breaks, signals > 0), (0, join.is_some()), "{name}");
        match join {
            None => assert!(stream.ends_with(&seen), "{name}"),
            Some(join) => assert!(seen.ends_with(packets(join, 6 * lap)), "{name}"),
        }
    }
}

/// Seconds until what comes is found to starve: `trickle` PAT and PMT, which
/// have no clock, each second, behind twenty seconds in real time.
fn starves(trickle: usize) -> Option<u64> {
    let start = Monotonic(Duration::from_secs(1_000));
    let mut maker = Maker::new();
    let mut candidate = Candidate::new();
    candidate.push(&[maker.psi(0), maker.run(25, 25)].concat());
    let mut chain = Chain::begin(Arc::default(), cut(), candidate, start).unwrap();
    (1..120).find(|second| {
        let now = start + Duration::from_secs(*second);
        let packets = match second {
            0..20 => maker.run(25, 25),
            _ => (0..trickle).flat_map(|_| maker.psi(0)).collect(),
        };
        chain.append(&packets, now).unwrap();
        let verdict = chain.look(limits(), now);
        verdict == Some(Verdict::Starving)
    })
}

#[test]
fn a_trickle_starves_though_no_clock_says_so_and_a_stream_that_lost_its_clock_does_not() {
    let found = starves(1);
    assert!(found.is_some_and(|second| (22..40).contains(&second)), "{found:?}");
    assert_eq!(starves(25), None);
}

#[test]
fn what_is_held_back_is_given_out_in_time_when_no_clock_comes() {
    let start = Monotonic(Duration::from_secs(1_000));
    let mut maker = Maker::new();
    let mut candidate = Candidate::new();
    candidate.push(&[maker.psi(0), maker.run(25, 25)].concat());
    let mut chain = Chain::begin(Arc::default(), cut(), candidate, start).unwrap();
    // Counters from the start again, and no clock.
    chain.append(&Maker::new().psi(0), start).unwrap();
    let published = [0, 500, 999, 1_000].map(|millis| {
        chain.look(limits(), start + Duration::from_millis(millis));
        chain.writer().published() / PACKET_LEN as u64
    });
    assert_eq!(published, [27, 27, 27, 29]);
}

#[test]
fn a_stock_is_read_four_times_as_fast_as_it_plays() {
    let start = Monotonic(Duration::from_secs(1_000));
    let mut maker = Maker::new();
    let mut candidate = Candidate::new();
    candidate.push(&[maker.psi(0), maker.run(25 * 20, 50)].concat());
    let mut chain = Chain::begin(Arc::default(), cut(), candidate, start).unwrap();
    chain.flush(start).unwrap();
    chain.look(limits(), start);
    assert_eq!(chain.leisure(start), None, "a prebuffer");
    chain.append(&maker.run(25 * 40, 50), start).unwrap();
    chain.look(limits(), start);
    // 4,700 bytes a second: what is read at once plays for seconds.
    assert_eq!(chain.leisure(start), Some(LEISURE_MOST), "a minute");
    // With four hundred packets to each of its own.
    chain.append(&NULL_PACKET.repeat(1_500 * 400), start).unwrap();
    let pause = chain.leisure(start).unwrap();
    let pace = AHEAD_LIMIT as f64 / pause.as_secs_f64();
    let own = chain.writer().published() as f64 / chain.writer().head().as_secs_f64();
    assert!((3.9..4.1).contains(&(pace / own)), "{pause:?}: {pace} of {own}");
}

#[test]
fn what_a_source_had_brought_is_published_by_and_by_and_all_of_it_before_what_follows() {
    let start = Monotonic(Duration::from_secs(1_000));
    let mut maker = Maker::new();
    let all = [maker.psi(0), maker.run(1_000, 50)].concat();
    let (had, follows) = all.split_at(900 * PACKET_LEN);
    for pumps in 0..8 {
        let mut candidate = Candidate::new();
        candidate.push(had);
        let window = Arc::<Window>::default();
        let mut chain = Chain::begin(Arc::clone(&window), cut(), candidate, start).unwrap();
        let mut published = vec![chain.writer().published()];
        for _ in 0..pumps {
            let has_more = chain.pump(start).unwrap();
            assert_eq!(has_more, chain.has_backlog(), "{pumps}");
            published.push(chain.writer().published());
        }
        let pieces = (1..=pumps + 1).map(|pieces| (pieces * PIECE).min(had.len()) as u64);
        assert_eq!(published, pieces.collect::<Vec<_>>(), "{pumps}");
        chain.append(follows, start).unwrap();
        assert!(!chain.has_backlog(), "{pumps}");
        window.set_filling(false);
        assert!(
            read(&mut window.join(Duration::from_secs(1_000)).unwrap().0).ends_with(&all[2 * PACKET_LEN..]),
            "{pumps}"
        );
    }
}

#[test]
fn hls_players_see_a_stream_once_what_was_sent_ahead_is_read() {
    let start = Monotonic(Duration::from_secs(1_000));
    // Seconds of stream that come within each twentieth of a second, and what
    // players have listed after it.
    let (steadily, by_segment) = (crate::hls::Comes::Steadily, crate::hls::Comes::BySegment);
    for (name, how, comes, seen) in [
        ("six seconds at once", steadily, &[6, 0, 0][..], &[0, 0, 4][..]),
        ("twelve, in pieces", steadily, &[2, 4, 6, 0, 0, 0], &[0, 0, 0, 0, 8, 8]),
        ("with a pause in between", steadily, &[2, 0, 10, 0, 0], &[0, 0, 0, 0, 8]),
        ("without an end", steadily, &[2; 21], &[[0; 20].as_slice(), &[24]].concat()),
        ("two segments, and one that is late", by_segment, &[6, 0, 6, 0, 0], &[0, 0, 8, 8, 8]),
    ] {
        let shelf = Arc::<crate::hls::Shelf>::default();
        let cut = crate::hls::Maker::new(Arc::clone(&shelf), &HlsConfig::default(), u64::MAX, how);
        let mut maker = Maker::new();
        let mut candidate = Candidate::new();
        candidate.push(&maker.psi(0));
        let window = Arc::<Window>::default();
        let mut chain = Chain::begin(Arc::clone(&window), cut, candidate, start).unwrap();
        let listed = comes.iter().enumerate().map(|(tick, seconds)| {
            let now = start + Duration::from_millis(50) * u32::try_from(tick).unwrap();
            chain.append(&maker.run(seconds * 25, 50), now).unwrap();
            if how == by_segment && tick == 2 {
                chain.land();
            }
            chain.look(limits(), now);
            assert_eq!(window.is_open(), shelf.list().is_some(), "{name}: TS and HLS alike");
            let Some(list) = shelf.list() else { return 0 };
            let newest = list.listed().last().unwrap();
            let live = newest.wall + newest.duration;
            assert!(live <= SystemTime::now(), "{name}: its end is told to be in the future");
            list.listed().iter().map(|segment| segment.duration.as_secs()).sum()
        });
        assert_eq!(listed.collect::<Vec<_>>(), seen, "{name}");
    }
}

#[test]
fn lost_packets_are_no_jump_and_nothing_more_is_lost() {
    let mut maker = Maker::new();
    let first = [maker.psi(0), maker.run(50, 50)].concat();
    maker.run(3, 50);
    let psi = maker.psi(0);
    maker.psi(0);
    let second = [psi, maker.psi(0), maker.run(50, 25)].concat();
    for piece in 1..60 {
        let (bytes, mended) = seen(&first, second.chunks(piece * PACKET_LEN));
        assert_eq!((mended, bytes.len()), (0, first.len() + second.len() - 2 * PACKET_LEN), "{piece}");
    }
}
