//! A stream that finds no slot waits while the fleet grows: it gets the next
//! slot that is free, in its turn, and a plain answer once there will be none.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    collections::HashSet,
    fs,
    time::{Duration, Instant},
};

use millrace_boundary::{Cause, ShardId, StreamState};
use millrace_dataplane::{Patience, PlayerRule, StreamConfig, ViewerConfig};
use support::{
    Viewer,
    pool::{engines, healthy, path_of, signed},
    shards::{Shards, entries},
};

mod support;

/// For what takes a moment: it is not about time.
const SOON: Duration = Duration::from_secs(20);
/// From a table, or a slot that becomes free, to the last one who gets a slot of
/// it. A look at the clock that would find it anyway comes after 100 ms.
const SERVED: Duration = Duration::from_millis(50);
/// Slots of each engine but the first.
const EACH: usize = 3;

/// How long shards, emulators and this thread were kept from a core while they
/// could have run, all together. What was late by no more says nothing about the
/// shards.
fn kept_waiting() -> Duration {
    let own = fs::read_to_string("/proc/thread-self/comm").unwrap();
    let tasks = fs::read_dir("/proc/self/task").unwrap().flatten();
    let waited = |task: fs::DirEntry| -> Option<u64> {
        let name = fs::read_to_string(task.path().join("comm")).ok()?;
        let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
        let is_concerned = name.starts_with("shard-") || name.starts_with("engine-emu") || name == own;
        text.split_whitespace().nth(1)?.parse().ok().filter(|_| is_concerned)
    };
    Duration::from_nanos(tasks.filter_map(waited).sum())
}

fn stream() -> StreamConfig {
    StreamConfig { linger: Duration::ZERO, longest_start: Duration::from_secs(90), ..Default::default() }
}

/// Each shard's share of `sessions`, in order.
fn by_shard(sessions: &[(ShardId, String)]) -> [Vec<&str>; 2] {
    [0, 1].map(|shard| {
        let own = sessions.iter().filter(|(of, _)| *of == ShardId(shard));
        own.map(|(_, session)| session.as_str()).collect()
    })
}

/// Those who have had a slot are the first of those who came, on each shard.
#[track_caller]
fn assert_in_order(shards: &Shards) {
    let (came, served) = (shards.sessions("queued"), shards.sessions("slot"));
    for (came, served) in by_shard(&came).iter().zip(by_shard(&served)) {
        assert_eq!(served, came[..served.len()], "out of order");
    }
}

#[test]
fn forty_streams_that_wait_are_served_in_order_as_engines_come() {
    let emulator = engines(10);
    let table = entries(&emulator.addresses(), u32::try_from(EACH).unwrap());
    table[0].slots.set_capacity(1);
    let mut shards = Shards::start(2, stream(), ViewerConfig::default());
    let ask = |shards: &Shards, serial| Viewer::ask(shards.address, &path_of(healthy(serial))).unwrap();
    shards.until("shards run", SOON, |s| s.samples.iter().all(Option::is_some));

    shards.publish(&table[..1], true);
    let mut playing = vec![ask(&shards, 0)];
    shards.until("the first one plays", SOON, |s| s.sessions("plays").len() == 1);
    let mut viewers = Vec::new();
    for place in 1..=40 {
        viewers.push(ask(&shards, u64::try_from(place).unwrap()));
        shards.until("it waits", SOON, |s| s.sessions("queued").len() == place);
    }
    shards.until("control knows", Duration::from_secs(1), |s| s.demand() == 40);
    for (shard, came) in (0..).zip(by_shard(&shards.sessions("queued"))) {
        assert!(came.len() >= 10, "too few on shard {shard} to tell anything: {}", came.len());
        let told = shards.demands.iter().filter(|(of, _)| *of == ShardId(shard)).map(|(_, n)| *n);
        let told: Vec<_> = told.collect();
        assert!(told[0] == 1 && told.is_sorted_by(|a, b| a < b), "shard {shard} has told {told:?}");
    }
    assert_eq!(shards.sessions("slot").len(), 0);
    let queued = |s: &Shards| {
        let streams = s.samples.iter().flatten().flat_map(|s| &s.streams);
        streams.filter(|s| s.state == StreamState::Queued && s.engine.is_none()).count()
    };
    let waiting = |s: &Shards| s.samples.iter().flatten().map(|s| s.waiting).sum::<u32>();
    shards.until("samples say so too", SOON, |s| queued(s) == 40 && waiting(s) == 40);

    // Four engines, then three: all of their slots are taken, and no other ones.
    let mut served = 0;
    for engines in [1..5, 5..8] {
        served += engines.len() * EACH;
        let (began, kept) = (Instant::now(), kept_waiting());
        shards.publish(&table[..engines.end], true);
        shards.until("all new slots are had", SOON, |s| s.sessions("slot").len() == served);
        let took = shards.last("slot").unwrap() - began;
        let kept = kept_waiting() - kept;
        assert!(took < SERVED + kept, "{took:?} to serve {served}; kept from a core for {kept:?}");
        assert_in_order(&shards);
        let [one, other] = by_shard(&shards.sessions("slot")).map(|served| served.len());
        assert!(one >= served / 4 && other >= served / 4, "a shard starves: {one} and {other}");
        let left = u32::try_from(40 - served).unwrap();
        shards.until("control knows", Duration::from_secs(1), |s| s.demand() == left);
    }

    // Slots that others leave, one by one; the first is that of the full engine.
    playing.extend(viewers.drain(..served));
    for _ in 0..6 {
        let kept = kept_waiting();
        drop(playing.remove(0));
        served += 1;
        shards.until("its slot is had", SOON, |s| s.sessions("slot").len() == served);
        let ended = shards.last("ended").unwrap();
        let took = shards.last("slot").unwrap().saturating_duration_since(ended);
        let kept = kept_waiting() - kept;
        assert!(took < SERVED + kept, "{took:?} for a slot; kept from a core for {kept:?}");
    }
    assert_in_order(&shards);
    let (came, had) = (shards.sessions("queued"), shards.sessions("slot"));
    assert_eq!(had.iter().collect::<HashSet<_>>().len(), served, "a slot was had twice");
    playing.extend(viewers.drain(..6));
    for viewer in &mut playing {
        let (status, _) = viewer.head(SOON).unwrap();
        assert_eq!(status, 200);
        assert_eq!(viewer.read_exact(188 * 10, SOON).unwrap()[0], 0x47);
    }

    // Whoever is left has its answer at once, and so has whoever comes.
    let left = 40 - served;
    assert!(left > 5 && viewers.len() == left, "{left}");
    let began = Instant::now();
    shards.publish(&table[..8], false);
    shards.until("nobody waits", Duration::from_secs(1), |s| s.demand() == 0);
    viewers.push(ask(&shards, 99));
    for mut viewer in viewers {
        let (status, headers) = viewer.head(Duration::from_secs(2)).unwrap();
        let retry = headers.iter().find(|(name, _)| name == "retry-after").unwrap();
        assert!(status == 503 && retry.1.parse::<u32>().unwrap() >= 1, "{status}, {retry:?}");
        let body = viewer.read_for(Duration::from_secs(2)).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(json["error"]["cause"], "engines_full");
    }
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    let refused = |s: &Shards| s.notes.iter().filter(|n| n.1.ended == Some(Cause::EnginesFull)).count();
    shards.until("each has ended once", SOON, |s| refused(s) == left + 1);
    assert_eq!(came.len(), 40);
    assert_eq!(shards.sessions("queued").len(), 40, "nobody waits for what will not come");
    // Each that was played and left, and nothing else, was stopped; the rest play.
    let taken: u32 = table.iter().map(|engine| engine.slots.taken()).sum();
    assert_eq!(usize::try_from(taken).unwrap(), playing.len());
}

#[test]
fn a_slot_that_one_shard_frees_is_had_on_another_at_once() {
    let emulator = engines(1);
    let table = entries(&emulator.addresses(), 1);
    let mut shards = Shards::start(2, stream(), ViewerConfig::default());
    shards.publish(&table, true);
    shards.until("shards run", SOON, |s| s.samples.iter().all(Option::is_some));
    let ask = |shards: &Shards, serial| Viewer::ask(shards.address, &path_of(healthy(serial))).unwrap();
    let mut viewers = vec![ask(&shards, 0)];
    shards.until("the first one plays", SOON, |s| s.sessions("plays").len() == 1);
    for place in 1..=4 {
        // One that waits on the other shard than the one that plays.
        let (player, playing) = shards.sessions("plays").pop().unwrap();
        let mut serial = 1_000 * u64::try_from(place).unwrap();
        viewers.push(loop {
            let came = shards.sessions("queued").len();
            let viewer = ask(&shards, serial);
            shards.until("it waits", SOON, |s| s.sessions("queued").len() == came + 1);
            if shards.sessions("queued").last().unwrap().0 != player {
                break viewer;
            }
            let ended = shards.sessions("ended").len();
            drop(viewer);
            shards.until("it leaves", SOON, |s| s.sessions("ended").len() == ended + 1);
            serial += 1;
        });
        // Its shard has just looked, and does so again in 100 ms.
        let (stopped, kept) = (Instant::now(), kept_waiting());
        shards.stop(&playing);
        shards.until("the slot is had", SOON, |s| s.sessions("slot").len() == place);
        let took = shards.last("slot").unwrap() - stopped;
        let kept = kept_waiting() - kept;
        assert!(took < SERVED + kept, "{took:?} for a slot; kept from a core for {kept:?}");
        shards.until("it plays", SOON, |s| s.sessions("plays").len() == place + 1);
    }
}

#[test]
fn one_that_can_do_nothing_with_what_is_free_holds_nobody_up() {
    let emulator = engines(1);
    let table = entries(&emulator.addresses(), 20);
    let mut shards = Shards::start(2, stream(), ViewerConfig::default());
    shards.publish(&table, true);
    shards.until("shards run", SOON, |s| s.samples.iter().all(Option::is_some));
    // The only engine fails with these: they wait for another one.
    let fails = |serial| path_of(signed("http-500-all".parse().unwrap(), serial));
    let mut viewers = Vec::new();
    for place in 1..=4 {
        let path = fails(u64::try_from(place).unwrap());
        viewers.push(Viewer::ask(shards.address, &path).unwrap());
        shards.until("it waits", SOON, |s| s.demand() == u32::try_from(place).unwrap());
    }
    let stuck = shards.sessions("failed");
    assert!(by_shard(&stuck).iter().all(|of| !of.is_empty()), "{stuck:?}");
    let before = shards.sessions("slot").len();
    for place in 1..=8 {
        let kept = kept_waiting();
        viewers.push(Viewer::ask(shards.address, &path_of(healthy(place))).unwrap());
        let served = usize::try_from(place).unwrap();
        // It does not overtake, so it is offered the slot when they have had theirs.
        shards.until("it has a slot", SOON, |s| s.sessions("slot").len() == before + served);
        let newest = shards.sessions("slot").pop().unwrap();
        assert_eq!(shards.sessions("queued").last(), Some(&newest));
        let took = shards.last("slot").unwrap() - shards.last("queued").unwrap();
        let kept = kept_waiting() - kept;
        assert!(took < SERVED + kept, "{took:?} for a slot; kept from a core for {kept:?}");
    }
    let played = shards.sessions("slot").split_off(before);
    assert!(by_shard(&played).iter().all(|of| !of.is_empty()), "{played:?}");
    assert!(played.iter().all(|session| !stuck.contains(session)));
    assert_eq!(shards.sessions("ended").len(), 0);
}

#[test]
fn a_shard_that_is_stuck_holds_the_others_up_for_a_moment() {
    let emulator = engines(1);
    let table = entries(&emulator.addresses(), 1);
    let mut shards = Shards::start(2, stream(), ViewerConfig::default());
    shards.publish(&[], true);
    shards.until("shards run", SOON, |s| s.samples.iter().all(Option::is_some));
    let mut viewers = Vec::new();
    let is_spread = |s: &Shards| by_shard(&s.sessions("queued")).iter().all(|of| !of.is_empty());
    for place in 1.. {
        viewers.push(Viewer::ask(shards.address, &path_of(healthy(place))).unwrap());
        shards.until("it waits", SOON, |s| s.sessions("queued").len() == viewers.len());
        if is_spread(&shards) {
            break;
        }
    }
    let youngest = shards.sessions("queued").pop().unwrap();
    let began = Instant::now();
    // The other one, where all the others wait, knows nothing of the engine.
    shards.publish_to(|shard| shard == youngest.0, &table, true);
    shards.until("the slot is had", Duration::from_secs(2), |s| s.sessions("slot") == [youngest.clone()]);
    let took = shards.last("slot").unwrap() - began;
    assert!(took >= Duration::from_millis(80), "{took:?}: the others were not waited for");
}

#[test]
fn a_crowd_that_waits_costs_control_few_words() {
    let mut shards = Shards::start(2, stream(), ViewerConfig::default());
    shards.publish(&[], true);
    shards.until("shards run", SOON, |s| s.samples.iter().all(Option::is_some));
    let began = Instant::now();
    let crowd: Vec<_> = (0..200)
        .map(|serial| Viewer::ask(shards.address, &path_of(healthy(1_000 + serial))).unwrap())
        .collect();
    shards.until("all are told of", SOON, |s| s.demand() == 200);
    let most = 2 * (2 + usize::try_from(began.elapsed().as_millis()).unwrap() / 20);
    assert!(shards.demands.len() <= most, "{} words, and {most} are enough", shards.demands.len());
    let words = shards.demands.len();
    drop(crowd);
    shards.until("none is left", SOON, |s| s.demand() == 0 && s.sessions("ended").len() == 200);
    let left = |s: &Shards| s.notes.iter().filter(|n| n.1.ended == Some(Cause::ViewersLeft)).count();
    assert_eq!(left(&shards), 200);
    assert!(shards.demands.len() > words);
}

#[test]
fn a_viewer_of_a_stream_that_waits_is_treated_as_one_of_any_slow_start() {
    let (budget, longest) = (Duration::from_secs(1), Duration::from_secs(4));
    let stream = StreamConfig { start_budget: budget, longest_start: longest, ..stream() };
    let rule = PlayerRule { agent: "curl/8".into(), patience: Patience::Headers(Duration::from_millis(500)) };
    let mut shards = Shards::start(1, stream, ViewerConfig { players: vec![rule], ..Default::default() });
    shards.publish(&[], true);
    shards.until("the shard runs", SOON, |s| s.samples.iter().all(Option::is_some));
    let began = Instant::now();
    let mut viewer = Viewer::ask(shards.address, &path_of(healthy(1))).unwrap();
    let (status, _) = viewer.head(SOON).unwrap();
    assert_eq!((status, began.elapsed() >= Duration::from_millis(500)), (200, true));
    let filler = viewer.read_exact(188 * 2, SOON).unwrap();
    assert_eq!((filler[0], filler[188], shards.sessions("ended").len()), (0x47, 0x47, 0));
    shards.until("over at last", SOON, |s| s.sessions("ended").len() == 1);
    // A growing fleet is progress: the longest budget, and not the usual one.
    let took = shards.last("ended").unwrap() - began;
    assert!((longest..longest + Duration::from_secs(3)).contains(&took), "{took:?}");
    assert_eq!(shards.notes.last().unwrap().1.ended, Some(Cause::NoEngine));
    assert_eq!(viewer.read_for(SOON).unwrap().len() % 188, 0, "closed, behind whole packets");
    shards.until("nobody waits", SOON, |s| s.demand() == 0 && s.demands.len() == 2);
}
