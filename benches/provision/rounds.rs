//! Streams that ask for an engine, one after the other.

use std::{
    thread::sleep,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, Result, bail, ensure};
use millrace_emulator::Scenario;
use serde_json::Value;

use crate::{
    case::Case,
    outcome::{Outcome, Round},
    rig::{
        Viewer,
        crowd::Crowd,
        docker::{Call, DockerProxy},
        own_fleet::{OwnFleet, json_at},
        server::Server,
        stage::{path, signed},
    },
    support::process,
};

const RATE: u32 = 1_000_000;
const PACKET: usize = 188;
/// For a stream to begin, and for the fleet to come to rest.
const SOON: Duration = Duration::from_secs(30);
/// Between two looks at the fleet.
const LOOK: Duration = Duration::from_millis(50);
/// Rounds begin up to this much after the fleet came to rest: at any point
/// between two ticks of whatever ticks.
const SPREAD: Duration = Duration::from_millis(500);
/// Of the stream that has the engine which always runs; rounds count from 1.
const HOLDER: u64 = 0;

/// Runs a case.
pub(crate) fn measure(case: Case, fleet: &mut OwnFleet, rounds: usize) -> Result<Outcome> {
    fleet.config = case.settings();
    let proxy = DockerProxy::new(&fleet.docker.socket());
    let server = fleet.serve(Some(&proxy.uri()), &[]);
    let mut run = Run { case, fleet, proxy, server };
    let holder = Crowd::new();
    if case.is_taken() {
        run.hold(&holder)?;
    }
    run.come_to_rest()?;
    let mut outcome = Outcome::default();
    let cpu = process::cpu_time(run.server.pid())?;
    for serial in 1..=rounds {
        outcome.rounds.push(run.round(serial)?);
        run.come_to_rest()?;
        sleep(spread(serial));
    }
    outcome.cpu = process::cpu_time(run.server.pid())?.saturating_sub(cpu);
    if case.is_taken() {
        let seen = holder.seen(0);
        ensure!(seen.end.is_none(), "the stream beside has ended: {seen:#?}");
    }
    drop(holder);
    // Its containers go with it.
    let (status, _) = run.server.terminate();
    ensure!(status.success(), "the server ended with {status}");
    Ok(outcome)
}

/// Spread evenly over [`SPREAD`], whatever stretch of rounds is looked at.
fn spread(serial: usize) -> Duration {
    let turn = (serial as u32).wrapping_mul(0x9E37_79B9);
    SPREAD.mul_f64(f64::from(turn) / f64::from(u32::MAX))
}

struct Run<'a> {
    case: Case,
    fleet: &'a OwnFleet,
    proxy: DockerProxy,
    server: Server,
}

impl Run<'_> {
    /// A stream takes the engine that always runs, for as long as the crowd is there.
    fn hold(&self, crowd: &Crowd) -> Result<()> {
        self.wait("the first engine", || self.count(|engine| engine["state"] == "ready") > 0)?;
        let id = signed(RATE, Scenario::healthy(), HOLDER);
        let verifier = id.verifier().context("a signed stream")?;
        let place = crowd.ask(self.server.address(), &path(&id), verifier);
        self.wait("the stream beside", || crowd.seen(place).first_byte.is_some())
    }

    /// One stream, from its request to its first packet.
    fn round(&self, serial: usize) -> Result<Round> {
        let id = signed(RATE, Scenario::healthy(), serial as u64);
        let calls_before = self.proxy.calls().len();
        let asked = Instant::now();
        let mut viewer = Viewer::ask(self.server.address(), &path(&id))?;
        let (status, _) = viewer.head(SOON)?;
        ensure!(status == 200, "round {serial}: status {status}; the log:\n{}", self.server.log());
        viewer.read_exact(PACKET, SOON)?;
        let first_byte = asked.elapsed();
        let calls = self.proxy.calls_after(calls_before);

        let (need, queued) = self.slot_of(&id.to_string())?;
        ensure!(queued == self.case.is_taken(), "round {serial}: it was another case: queued is {queued}");
        let mut docker = Vec::new();
        for route in self.case.calls() {
            docker.push(took(&calls, route).with_context(|| format!("round {serial}: no {route}"))?);
        }
        let boot = if self.case.boots() { self.boot(&calls)? } else { Duration::ZERO };
        Ok(Round { need, first_byte, docker, boot })
    }

    /// From the request of a stream to its slot, and whether it had to wait for it.
    fn slot_of(&self, id: &str) -> Result<(Duration, bool)> {
        let mut found = None;
        self.wait("the session's timeline", || {
            let newest = json_at(self.server.address(), "/api/v1/sessions?limit=1");
            let newest = &newest["sessions"][0];
            let (Some(key), Some(session)) = (newest["key"].as_str(), newest["session"].as_str()) else {
                return false;
            };
            if key.contains(id) {
                found = slot_in(&json_at(self.server.address(), &format!("/api/v1/sessions/{session}")));
            }
            found.is_some()
        })?;
        found.context("no slot in the timeline")
    }

    /// From Docker's word that the newest container runs until its engine listens.
    fn boot(&self, calls: &[Call]) -> Result<Duration> {
        let start = calls.iter().find(|call| call.route == "POST /containers/{id}/start");
        let start = start.context("nothing was started")?;
        let container = start.target.split('/').rev().nth(1).context("a container's id")?;
        let runs_since = start.at.elapsed().saturating_sub(start.took.context("it was not answered")?);
        let running = SystemTime::now() - runs_since;
        let log = self.fleet.docker.docker(&["logs", "--timestamps", container]);
        let line = log.lines().find(|line| line.contains("engine 0 http://")).context("it never listened")?;
        let listened = second_of_day(line).with_context(|| format!("no time: {line}"))?;
        let running = running.duration_since(SystemTime::UNIX_EPOCH)?.as_secs_f64() % DAY;
        // Across midnight as well; listening before Docker has said so is no time.
        let boot = (listened - running + DAY / 2.0).rem_euclid(DAY) - DAY / 2.0;
        Ok(Duration::from_secs_f64(boot.max(0.0)))
    }

    /// Waits until the next stream finds what the case is about.
    fn come_to_rest(&self) -> Result<()> {
        let (free, paused, all) = self.case.at_rest();
        self.wait("the fleet at rest", || {
            let is_free = |engine: &Value| engine["state"] == "ready" && engine["slots"]["taken"] == 0;
            self.count(is_free) == free
                && self.count(|engine| engine["state"] == "paused") == paused
                && self.count(|_| true) == all
                && self.is_so_in_docker(paused, all)
        })
    }

    /// The table says at once what Docker takes a while for.
    fn is_so_in_docker(&self, paused: usize, all: usize) -> bool {
        let containers = self.fleet.containers();
        let frozen = containers.iter().filter(|(_, state)| state == "paused").count();
        let idle = ["POST /containers/{id}/pause", "DELETE /containers/{id}", "POST /containers/{id}/stop"];
        containers.len() == all
            && frozen == paused
            && idle.iter().all(|route| self.proxy.under_way(route) == 0)
    }

    fn count(&self, is_it: impl Fn(&Value) -> bool) -> usize {
        let answer = json_at(self.server.address(), "/api/v1/engines");
        answer["engines"].as_array().map_or(0, |all| all.iter().filter(|engine| is_it(engine)).count())
    }

    fn wait(&self, what: &str, mut is_so: impl FnMut() -> bool) -> Result<()> {
        let deadline = Instant::now() + SOON;
        while !is_so() {
            if Instant::now() >= deadline {
                let engines = json_at(self.server.address(), "/api/v1/engines");
                bail!("{what}: not within {SOON:?}: {engines:#}\nthe log:\n{}", self.server.log());
            }
            sleep(LOOK);
        }
        Ok(())
    }
}

const DAY: f64 = 86_400.0;

/// Of a line that begins like `2025-01-31T23:59:59.123456789Z`.
fn second_of_day(line: &str) -> Option<f64> {
    let (_, time) = line.split_once('T')?;
    let (time, _) = time.split_once('Z')?;
    let mut seconds = 0.0;
    for part in time.split(':') {
        seconds = seconds * 60.0 + part.parse::<f64>().ok()?;
    }
    Some(seconds)
}

/// When a session got its first slot, and whether it had waited for it.
fn slot_in(session: &Value) -> Option<(Duration, bool)> {
    let timeline = session["timeline"].as_array()?;
    let queued = timeline.iter().any(|note| note["what"] == "queued");
    let slot = timeline.iter().find(|note| note["engine"].is_number())?;
    Some((Duration::from_secs_f64(slot["at_seconds"].as_f64()?), queued))
}

/// How long the first call of `route` took.
fn took(calls: &[Call], route: &str) -> Option<Duration> {
    calls.iter().find(|call| call.route == route)?.took
}
