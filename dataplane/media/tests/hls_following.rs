//! A follower lives through sources that do everything sources do, with seeded
//! chance: each segment has its turn once and in order, or a break says that it
//! is not so. `SIM_SEED=7` plays one seed again.

use std::{collections::VecDeque, time::Duration};

use millrace_media::hls::source::{
    Break, Effect, Event, Fetch, Follower, IN_FLIGHT, Playlist, Ticket, Verdict, parse,
};

/// Length of a run, and of one step, in milliseconds.
const RUN: u64 = 900_000;
const STEP: u64 = 250;
/// A source that is well for so long has to be followed closely.
const WELL: u64 = 45_000;
/// By how many segments what was delivered may lie behind then.
const CLOSE: u64 = 16;
/// How many segments may come twice where numbers begin anew.
const TWICE: u64 = 3;

/// SplitMix64.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn one_of<const N: usize>(&mut self, choices: [u64; N]) -> u64 {
        choices[index(self.below(N as u64))]
    }
}

fn index(n: u64) -> usize {
    usize::try_from(n).expect("an index")
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Naming {
    /// As engines do: when numbers change, so do the names.
    ByNumber,
    ByContent,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    /// No answer, or one that is no list.
    Down,
    Empty,
    /// The list as it was when so many segments had been made.
    Repeat(u64),
    /// The list of so many segments ago.
    Back(u64),
    /// Each segment twice.
    Duplicate,
    /// The last so many again and again, since so many had been made.
    Loop(u64, u64),
}

/// A source, by what it makes: segment `c` of the programme is its c-th.
struct Source {
    rng: Rng,
    naming: Naming,
    /// Milliseconds.
    durations: Vec<u64>,
    mean: u64,
    is_varying: bool,
    next_at: u64,
    window: u64,
    /// Number of segment 0, and what names begin with.
    offset: i64,
    prefix: u64,
    /// Nothing older is listed.
    base: u64,
    fault: Fault,
    fault_until: u64,
    /// When a fault ended, or something was renamed.
    well_since: u64,
    next_fault: u64,
}

impl Source {
    fn new(seed: u64) -> Self {
        let mut rng = Rng(seed);
        let naming = if rng.below(2) == 0 { Naming::ByNumber } else { Naming::ByContent };
        let mean = rng.one_of([1000, 2000, 5000, 5000, 10_000]);
        let (is_varying, window) = (rng.below(3) != 0, 4 + rng.below(14));
        let mut source = Self {
            rng,
            naming,
            durations: Vec::new(),
            mean,
            is_varying,
            next_at: 0,
            window,
            offset: if seed % 3 == 2 { 1000 } else { 0 },
            prefix: 0,
            base: 0,
            fault: Fault::None,
            fault_until: 0,
            well_since: 0,
            next_fault: 60_000,
        };
        for _ in 0..20 {
            source.make();
        }
        source.next_at = source.mean;
        source
    }

    fn made(&self) -> u64 {
        self.durations.len() as u64
    }

    fn make(&mut self) {
        let spread = if self.is_varying { self.rng.below(self.mean / 4) } else { self.mean / 8 };
        let duration = self.mean - self.mean / 8 + spread;
        self.durations.push(duration);
        self.next_at += duration;
    }

    fn step(&mut self, now: u64) {
        while self.next_at <= now {
            self.make();
        }
        if self.fault != Fault::None && self.fault_until <= now {
            if let Fault::Loop(_, since) = self.fault {
                // Numbers went on meanwhile, one for each segment made.
                assert!(since <= self.made());
            }
            self.fault = Fault::None;
            self.well_since = now;
        }
        if self.fault == Fault::None && self.next_fault <= now {
            self.begin_fault(now);
        }
    }

    fn begin_fault(&mut self, now: u64) {
        let lasts = 1000 + self.rng.below(60_000);
        self.next_fault = now + lasts + WELL + self.rng.below(20_000);
        self.fault_until = now + lasts;
        self.well_since = now;
        let made = self.made();
        self.fault = match self.rng.below(11) {
            0 => Fault::Down,
            1 => Fault::Empty,
            2 => Fault::Repeat(made),
            3 => Fault::Back(1 + self.rng.below(5)),
            4 => Fault::Duplicate,
            5 if self.naming == Naming::ByContent => Fault::Loop(self.window.min(8), made),
            6 | 7 => {
                self.offset += 50;
                Fault::None
            }
            8 => {
                self.prefix += 1;
                Fault::None
            }
            // As far back as cannot be taken for an old list.
            _ if 40 < self.number(made) => {
                self.base = made - 3;
                self.offset = -(self.base as i64);
                Fault::None
            }
            _ => Fault::None,
        };
    }

    fn number(&self, c: u64) -> u64 {
        u64::try_from(c as i64 + self.offset).expect("a number of a segment that is listed")
    }

    fn name(&self, c: u64) -> String {
        let name = if self.naming == Naming::ByNumber { self.number(c) } else { c };
        format!("/{}/{name}.ts", self.prefix)
    }

    fn list(&mut self) -> Option<String> {
        let (made, mut times) = (self.made(), 1);
        let newest = match self.fault {
            Fault::Down => return None,
            Fault::Empty => return Some("#EXTM3U\n#EXT-X-TARGETDURATION:5\n".to_owned()),
            Fault::Repeat(made) => made,
            Fault::Back(by) => made - by.min(made - self.base - 1),
            Fault::Duplicate => {
                times = 2;
                made
            }
            Fault::None | Fault::Loop(..) => made,
        };
        let first = newest.saturating_sub(self.window).max(self.base);
        let mut text = String::from("#EXTM3U\n");
        if self.rng.below(2) == 0 {
            text += &format!(
                "#EXT-X-TARGETDURATION:{}
",
                self.mean * 5 / 4 / 1000
            );
        }
        text += &format!(
            "#EXT-X-MEDIA-SEQUENCE:{}
",
            self.number(first)
        );
        for c in first..newest {
            let c = match self.fault {
                Fault::Loop(lap, since) if since <= c => since - lap + (c - since) % lap,
                _ => c,
            };
            for _ in 0..times {
                let duration = self.durations[index(c)];
                text += &format!("#EXTINF:{}.{:03},\n{}\n", duration / 1000, duration % 1000, self.name(c));
            }
        }
        Some(text)
    }

    /// What is behind a URI now, if it still is.
    fn find(&self, uri: &str) -> Option<u64> {
        let first = self.made().saturating_sub(self.window + 5).max(self.base);
        (first..self.made()).find(|&c| self.name(c) == uri)
    }
}

/// What the follower asked for.
struct Asked {
    fetch: Fetch,
    content: Option<u64>,
    until: u64,
}

struct Caller {
    seed: u64,
    now: u64,
    follower: Follower,
    asked: Vec<Asked>,
    /// Fetched, and not yet delivered.
    bytes: Vec<(Ticket, u64)>,
    turn: VecDeque<(Ticket, Option<Break>)>,
    last_ticket: Option<Ticket>,
    delivered: Option<u64>,
    count: u64,
    breaks: u64,
}

impl Caller {
    fn on(&mut self, event: Event<'_>, source: &mut Source) {
        let mut effects = Vec::new();
        self.follower.on(event, Duration::from_millis(self.now), &mut effects);
        for effect in effects {
            match effect {
                Effect::Fetch(fetch) => {
                    let is_lost = source.rng.below(20) == 0;
                    let content = source.find(&fetch.uri).filter(|_| !is_lost);
                    let until = self.now + 50 + source.rng.below(source.mean * 4 / 5);
                    self.asked.push(Asked { fetch, content, until });
                }
                Effect::Turn { ticket, breaks } => {
                    assert!(self.last_ticket < Some(ticket), "{}: turns in order", self.at());
                    self.last_ticket = Some(ticket);
                    self.turn.push_back((ticket, breaks));
                }
                Effect::Skip(ticket) => {
                    self.turn.retain(|(t, _)| *t != ticket);
                    self.bytes.retain(|(t, _)| *t != ticket);
                }
            }
        }
        assert!(self.asked.len() <= IN_FLIGHT, "{}", self.at());
        while let Some((ticket, breaks)) = self.turn.front().copied()
            && let Some(at) = self.bytes.iter().position(|(t, _)| *t == ticket)
        {
            self.turn.pop_front();
            let (_, content) = self.bytes.remove(at);
            self.deliver(content, breaks);
        }
        assert!(self.bytes.len() <= IN_FLIGHT && self.turn.len() <= 1, "{}", self.at());
    }

    fn deliver(&mut self, content: u64, breaks: Option<Break>) {
        if let Some(last) = self.delivered {
            let is_right = match breaks {
                None => content == last + 1,
                Some(Break::Renumbered | Break::Unsure) => last < content + TWICE,
                Some(Break::Tagged | Break::Missed | Break::Skipped | Break::Replaced) => last < content,
            };
            assert!(is_right, "{}: {content} after {last} with {breaks:?}", self.at());
        }
        self.delivered = Some(content);
        self.count += 1;
        self.breaks += u64::from(breaks.is_some_and(|why| why != Break::Unsure));
    }

    fn at(&self) -> String {
        format!("SIM_SEED={} at {} ms", self.seed, self.now)
    }

    /// Reports what has ended, and asks for the list when it is time.
    fn step(&mut self, source: &mut Source) {
        while let Some(at) = self.asked.iter().position(|a| a.until <= self.now) {
            let Asked { fetch, content, .. } = self.asked.remove(at);
            match content {
                Some(content) => {
                    self.bytes.push((fetch.ticket, content));
                    self.on(Event::Fetched(fetch.ticket), source);
                }
                None => self.on(Event::Failed(fetch.ticket), source),
            }
        }
        let now = Duration::from_millis(self.now);
        if self.follower.poll_at().is_some_and(|at| now < at) {
            return;
        }
        match source.list().map(|text| parse(text.as_bytes(), "/k.m3u8")) {
            Some(Ok(Playlist::Media(list))) => self.on(Event::Listed { list: &list, asked: now }, source),
            Some(other) => panic!("{}: {other:?}", self.at()),
            None => self.on(Event::NotListed { asked: now }, source),
        }
        let next = self.follower.poll_at().expect("the list has not ended");
        assert!(now + Duration::from_secs(1) <= next, "{}: asked too often", self.at());
    }
}

fn live_through(seed: u64) -> (u64, u64) {
    let mut source = Source::new(seed);
    let mut caller = Caller {
        seed,
        now: 0,
        follower: Follower::new(),
        asked: Vec::new(),
        bytes: Vec::new(),
        turn: VecDeque::new(),
        last_ticket: None,
        delivered: None,
        count: 0,
        breaks: 0,
    };
    while caller.now < RUN {
        source.step(caller.now);
        caller.step(&mut source);
        if source.fault == Fault::None && source.well_since + WELL <= caller.now {
            let behind = source.made() - caller.delivered.map_or(0, |c| c + 1);
            assert!(behind <= CLOSE, "{}: {behind} segments behind", caller.at());
            let verdict = caller.follower.verdict(Duration::from_millis(caller.now));
            assert_eq!(verdict, Verdict::Live, "{}", caller.at());
        }
        caller.now += STEP;
    }
    (caller.count, caller.breaks)
}

#[test]
fn every_segment_is_delivered_once_and_in_order_or_behind_a_break() {
    let seeds = match std::env::var("SIM_SEED").ok().and_then(|seed| seed.parse().ok()) {
        Some(seed) => seed..seed + 1,
        None => 0..256,
    };
    let all = seeds.clone().map(live_through).fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    println!("{} segments, {} breaks in {} runs", all.0, all.1, seeds.end - seeds.start);
    // Breaks are what faults cost, not what following costs.
    assert!(all.1 * 10 < all.0, "{all:?}");
}
