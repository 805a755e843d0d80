//! Streams of units, and where they are cut.

use millrace_media::ts::Continuity;

use super::*;

const LENGTHS: Lengths = Lengths {
    segment: Duration::from_secs(4),
    longest: Duration::from_secs(6),
    part: Duration::from_secs(1),
};

/// A stream of 25 units a second, and what was cut of it.
struct Stream {
    cutter: Cutter,
    cuts: Vec<Cut>,
    offset: u64,
    at: Duration,
    /// Ticks that are added to each time stamp.
    shift: u64,
}

impl Stream {
    fn new(lengths: Lengths) -> Self {
        Self { cutter: Cutter::new(lengths), cuts: Vec::new(), offset: 0, at: Duration::ZERO, shift: 0 }
    }

    fn unit(&mut self, random_access: bool) {
        let ticks = u64::try_from(self.at.as_nanos() * 9 / 100_000).unwrap();
        let place = Place {
            point: JoinPoint { offset: self.offset, pcr: None, continuity: Continuity::new() },
            at: self.at,
            time: Some((ticks + self.shift) % STAMP_MODULUS),
            independent: false,
        };
        self.cutter.on(Mark::Unit(place), &mut self.cuts);
        if random_access {
            self.cutter.on(Mark::RandomAccess(self.offset), &mut self.cuts);
        }
        self.offset += 1_880;
        self.at += Duration::from_millis(40);
    }

    /// So many units, of which every `group`th can be decoded by itself.
    fn run(&mut self, units: usize, group: usize) {
        (0..units).for_each(|unit| self.unit(unit % group == 0));
    }

    fn breaks(&mut self) {
        self.cutter.on(Mark::Break, &mut self.cuts);
    }

    /// Lengths of the segments in units, with `!` where one does not go on from
    /// the one before, `~` where no random access unit begins it, and how many
    /// units after it are in none.
    fn segments(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut begun: Option<(Place, bool)> = None;
        for cut in &self.cuts {
            let (place, is_break, until) = match cut {
                Cut::Part { .. } => continue,
                Cut::Begin(place) => (place, false, None),
                Cut::Segment { next, is_break, until, .. } => (next, *is_break, *until),
            };
            if let Some((before, is_break)) = begun.replace((place.clone(), is_break)) {
                let until = until.unwrap_or(place.point.offset);
                let units = (until - before.point.offset) / 1_880;
                let left_out = match (place.point.offset - until) / 1_880 {
                    0 => String::new(),
                    units => format!("-{units}"),
                };
                let signs = [(is_break, '!'), (!before.independent, '~')];
                let signs: String = signs.iter().filter(|(is, _)| *is).map(|(_, sign)| *sign).collect();
                found.push(format!("{units}{left_out}{signs}"));
            }
        }
        found
    }

    /// Lengths of parts in units, segment by segment.
    fn parts(&self) -> Vec<Vec<u64>> {
        let (mut all, mut last) = (Vec::new(), None);
        let mut parts = Vec::new();
        for cut in &self.cuts {
            let (place, ends) = match cut {
                Cut::Begin(place) => {
                    last = Some(place.point.offset);
                    continue;
                }
                Cut::Part { next, .. } => (next, false),
                Cut::Segment { next, .. } => (next, true),
            };
            parts.push((place.point.offset - last.replace(place.point.offset).unwrap()) / 1_880);
            if ends {
                all.push(std::mem::take(&mut parts));
            }
        }
        all
    }
}

#[test]
fn segments_end_before_random_access_units_and_are_short_at_first() {
    for (name, group, expected) in [
        ("every second", 25, &["25", "50", "75", "100", "100"][..]),
        ("every two seconds", 50, &["50", "50", "100", "100", "100"]),
        ("a little less: 3.84 s are nearer to 4 s than 5.76 s", 48, &["48", "96", "96", "96", "96"]),
        ("every 2.6 seconds: 5.2 s are nearer than that", 65, &["65", "65", "130", "130"]),
        ("every 3.2 seconds: two would be too long", 80, &["80", "80", "80"]),
        ("every 5 seconds", 125, &["125", "125", "125"]),
    ] {
        let mut stream = Stream::new(LENGTHS);
        stream.run(25 * 25, group);
        assert_eq!(&stream.segments()[..expected.len()], expected, "{name}");
        assert_eq!(stream.cutter.target_duration(), Some(Duration::from_secs(6)), "{name}");
    }
}

#[test]
fn the_target_duration_follows_the_first_segment_and_then_stays() {
    let mut stream = Stream::new(LENGTHS);
    stream.run(25 * 40, 25 * 8);
    assert_eq!(stream.segments(), ["200", "200", "200", "200"]);
    assert_eq!(stream.cutter.target_duration(), Some(Duration::from_secs(8)));
    // Further apart later on: cut by time.
    stream.run(25 * 20, 25 * 20);
    assert_eq!(stream.segments()[4..], ["200", "200", "200~"]);
    assert_eq!(stream.cutter.target_duration(), Some(Duration::from_secs(8)));
}

#[test]
fn without_random_access_units_it_is_cut_by_time() {
    let mut stream = Stream::new(LENGTHS);
    stream.run(25 * 60, usize::MAX);
    // All but the very first unit, which `run` makes one.
    assert_eq!(stream.segments(), ["300", "300~", "300~", "300~"]);
    let mut stream = Stream::new(LENGTHS);
    (0..25 * 40).for_each(|_| stream.unit(false));
    assert_eq!(stream.segments(), ["300~", "300~"], "twelve seconds are waited for one");
    assert!(stream.cutter.target_duration() == Some(Duration::from_secs(12)));
}

#[test]
fn what_does_not_go_on_ends_a_segment_at_the_next_random_access_unit() {
    let mut stream = Stream::new(LENGTHS);
    stream.run(500, 50);
    stream.unit(true);
    stream.run(20, 50);
    stream.breaks();
    // What cannot be decoded is left out, and what may be cut short; the clock is another one.
    stream.shift = 1 << 32;
    (0..5).for_each(|_| stream.unit(false));
    stream.run(300, 50);
    let segments = stream.segments();
    assert_eq!(segments[..6], ["50", "50", "100", "100", "100", "100"], "{segments:?}");
    assert_eq!(segments[6..], ["20-6", "100!", "100"], "{segments:?}");
    let lengths = stream.cuts.iter().filter_map(|cut| match cut {
        Cut::Segment { length, until: Some(_), .. } => Some(*length),
        _ => None,
    });
    assert_eq!(lengths.collect::<Vec<_>>(), [Duration::from_millis(20 * 40)]);

    // A segment of one unit keeps it.
    let mut stream = Stream::new(LENGTHS);
    stream.run(500, 50);
    stream.unit(true);
    stream.breaks();
    stream.shift = 1 << 32;
    stream.run(300, 50);
    let segments = stream.segments();
    assert_eq!(segments[6..], ["1", "100!", "100"], "{segments:?}");
}

#[test]
fn parts_are_as_long_as_they_may_be_and_add_up() {
    let mut stream = Stream::new(LENGTHS);
    stream.run(25 * 25, 80);
    assert_eq!(stream.parts()[0], [25, 25, 25, 5]);
    for (units, parts) in stream.segments().iter().zip(stream.parts()) {
        assert_eq!(parts.iter().sum::<u64>().to_string(), *units);
        let (last, others) = parts.split_last().unwrap();
        assert!(others.iter().all(|part| *part == 25) && *last <= 25, "{parts:?}");
    }
    let mut stream = Stream::new(Lengths { part: Duration::ZERO, ..LENGTHS });
    stream.run(25 * 25, 80);
    assert!(stream.parts().iter().all(|parts| parts.len() == 1), "none are made");
}

#[test]
fn time_stamps_tell_lengths_across_their_end_unless_the_clock_says_otherwise() {
    let place = |at: f64, time: Option<u64>| Place {
        point: JoinPoint { offset: 0, pcr: None, continuity: Continuity::new() },
        at: Duration::from_secs_f64(at),
        time,
        independent: true,
    };
    for (name, from, to, expected) in [
        ("by stamps", (1.0, Some(0)), (4.9, Some(360_000)), 4.0),
        ("across their end", (1.0, Some(STAMP_MODULUS - 90_000)), (3.1, Some(90_000)), 2.0),
        ("without stamps", (1.0, None), (3.1, Some(5)), 2.1),
        ("stamps of another clock", (1.0, Some(0)), (3.0, Some(900_000)), 2.0),
        ("stamps that go back", (1.0, Some(900_000)), (3.0, Some(0)), 2.0),
    ] {
        let length = place(to.0, to.1).since(&place(from.0, from.1)).as_secs_f64();
        assert!((length - expected).abs() < 1e-6, "{name}: {length}");
    }
}

proptest::proptest! {
    #[test]
    fn whatever_comes_no_segment_or_part_is_longer_than_it_may_be(
        marks in proptest::collection::vec((0u8..8, 0u64..3_000), 1..400),
        group in 1usize..200,
    ) {
        let mut stream = Stream::new(LENGTHS);
        for (place, (what, skip)) in marks.iter().enumerate() {
            match what {
                0 => stream.breaks(),
                1 => stream.at += Duration::from_millis(*skip),
                _ => (0..10).for_each(|unit| stream.unit((place * 10 + unit) % group == 0)),
            }
        }
        let mut last: Option<u64> = None;
        let mut parts = Duration::ZERO;
        for cut in &stream.cuts {
            let place = match cut {
                Cut::Begin(place) => place,
                Cut::Part { length, next } => {
                    parts += *length;
                    proptest::prop_assert!(*length <= LENGTHS.part, "{cut:?}");
                    next
                }
                Cut::Segment { length, part_length, next, .. } => {
                    let target = stream.cutter.target_duration().unwrap();
                    proptest::prop_assert!(*part_length <= LENGTHS.part && *length <= target, "{cut:?}");
                    proptest::prop_assert_eq!(parts + *part_length, *length);
                    parts = Duration::ZERO;
                    next
                }
            };
            let offset = place.point.offset;
            proptest::prop_assert!(last.replace(offset).is_none_or(|last| last < offset), "nothing is empty");
        }
    }
}
