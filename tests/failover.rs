//! The loss of an engine is a non-event: whatever becomes of it, viewers go on
//! with the next packet.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    fs,
    path::Path,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use millrace_emulator::{ContentId, Scenario};
use serde_json::Value;
use support::{
    Server,
    crowd::{Crowd, assert_unbroken},
    engines::EngineProcess,
    stage::{path, signed},
    wait_until,
};

mod support;

const RATE: u32 = 2_000_000;
const SOON: Duration = Duration::from_secs(20);
const VIEWERS: usize = 200;
/// Every loss shows in the log, as it should.
const LOSSES: &[&str] = &["engine turned"];

/// Engines as processes, and the server in front of them.
struct Fleet {
    engines: Vec<EngineProcess>,
    server: Server,
}

impl Fleet {
    fn start(count: usize, cpus: &str, config: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let engines: Vec<_> =
            (0..count).map(|n| EngineProcess::start(&["--fast", "--seed", &n.to_string()])).collect();
        let name = format!("failover-{}-{}.toml", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::write(&file, format!("[engines]\nprobe_interval = \"500ms\"\n{config}")).unwrap();
        let mut args = vec!["--config".to_owned(), file.display().to_string()];
        args.extend(["--listen", "127.0.0.1:0", "--cpus", cpus].map(str::to_owned));
        for engine in &engines {
            args.extend(["--engine".to_owned(), format!("http://{}", engine.address())]);
        }
        let args: Vec<_> = args.iter().map(String::as_str).collect();
        let server = LOSSES.iter().fold(Server::start(&args), |server, text| server.allow(text));
        fs::remove_file(file).unwrap();
        let fleet = Self { engines, server };
        fleet.wait_ready(count);
        fleet
    }

    fn api(&self, path: &str) -> Value {
        let answer = self.server.get(&format!("/api/v1/{path}"));
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        serde_json::from_slice(&answer.body).unwrap()
    }

    #[track_caller]
    fn wait_ready(&self, count: usize) {
        let ready = || {
            let engines = self.api("engines");
            engines["engines"].as_array().unwrap().iter().filter(|e| e["state"] == "ready").count()
        };
        assert!(wait_until(SOON, || ready() == count), "{} of {count} engines are ready", ready());
    }

    /// The engine that plays the only stream, once it is live.
    #[track_caller]
    fn playing(&self) -> usize {
        let mut engine = None;
        let is_live = wait_until(SOON, || {
            let streams = self.api("streams");
            engine = streams["streams"][0]["engine"].as_u64();
            streams["streams"][0]["state"] == "live" && engine.is_some()
        });
        assert!(is_live, "{}", self.api("streams"));
        usize::try_from(engine.unwrap()).unwrap()
    }

    fn watch(&self, id: &ContentId, viewers: usize) -> Crowd {
        let crowd = Crowd::new();
        for _ in 0..viewers {
            crowd.ask(self.server.address(), &path(id), id.verifier().unwrap());
        }
        crowd.wait_all(SOON, "the stream begins", |seen| seen.bytes > 0);
        crowd
    }
}

/// Nobody has lost or repeated a packet, left, or been without bytes for longer
/// than `silence`.
#[track_caller]
fn assert_unaware(crowd: &Crowd, silence: Duration, run: Duration) {
    for (place, seen) in crowd.all().iter().enumerate() {
        let name = format!("viewer {place}");
        assert_unbroken(&name, seen, RATE, run);
        assert_eq!(seen.end, None, "{name}: {seen:#?}");
        assert!(seen.longest_gap <= silence, "{name}: {:?} without a byte", seen.longest_gap);
    }
}

#[test]
fn fifty_engines_killed_in_a_row_cost_no_viewer_a_packet() {
    let mut fleet = Fleet::start(3, "0,1", "");
    let id = signed(RATE, Scenario::healthy(), 1);
    let crowd = fleet.watch(&id, VIEWERS);
    let began = Instant::now();
    for kill in 0..50 {
        let victim = fleet.playing();
        let before: Vec<_> = crowd.all().iter().map(|seen| seen.report.last).collect();
        fleet.engines[victim].kill();
        // The next engine plays when every viewer has something newer.
        let goes_on = wait_until(SOON, || {
            fleet.playing() != victim
                && crowd.all().iter().zip(&before).all(|(seen, last)| seen.report.last > *last)
        });
        assert!(goes_on, "kill {kill}: {}", fleet.api("streams"));
        // Long enough for the play to count as one.
        let played = Instant::now() + Duration::from_millis(1_600);
        fleet.engines[victim].restart();
        fleet.wait_ready(3);
        std::thread::sleep(played.saturating_duration_since(Instant::now()));
    }
    let silent = crowd.all().iter().map(|seen| seen.longest_gap).max().unwrap();
    eprintln!("50 kills in {:?}, {silent:?} without a byte at most", began.elapsed());
    assert_unaware(&crowd, Duration::from_secs(1), Duration::from_secs(60));
    let metrics = fleet.server.metrics();
    assert_eq!(metrics["millrace_viewers_started_total"], VIEWERS as f64, "nobody had to connect again");
    assert_eq!(metrics["millrace_streams_started_total"], 1.0, "it is one session from first to last");
}

#[test]
fn an_engine_that_hangs_under_its_viewers_is_left_within_seconds() {
    let fleet = Fleet::start(3, "0", "");
    let id = signed(RATE, Scenario::healthy(), 2);
    let crowd = fleet.watch(&id, VIEWERS);
    for _ in 0..3 {
        let victim = fleet.playing();
        fleet.engines[victim].freeze();
        assert!(
            wait_until(Duration::from_secs(10), || fleet.playing() != victim),
            "{}",
            fleet.api("streams")
        );
        fleet.engines[victim].thaw();
        fleet.wait_ready(3);
    }
    // Detection takes three seconds, and filler comes from the first on.
    assert_unaware(&crowd, Duration::from_secs(2), Duration::from_secs(10));
}
