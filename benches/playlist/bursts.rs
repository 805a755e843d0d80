//! Clients that all wait for the same thing: the first segment of a cold stream,
//! or the next part.

use std::{
    net::TcpStream,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};

use crate::{
    crowd::{Answer, Crowd, next_answer},
    polls::{median, micros},
    stage::{Stage, manifest, viewer},
    support::{process, quantiles::Quantiles},
};

/// For one thing to come.
const SOON: Duration = Duration::from_secs(20);

/// How the answers of one burst, or of the middle one of several, came.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub(crate) struct Burst {
    /// From the first answer to each.
    pub(crate) after_first: Quantiles,
    /// CPU time of the server for all of them, questions included, in milliseconds.
    pub(crate) cpu_ms: f64,
}

/// Clients ask at once for a stream that nobody has asked for, and one more just
/// before: it waits as the first, so its answer tells that there is a segment.
pub(crate) fn cold(stage: &Stage, clients: usize, rounds: usize) -> Result<Burst> {
    let mut bursts = Vec::new();
    for stream in 1..=rounds as u64 {
        let mut crowd = Crowd::new()?;
        for _ in 0..=clients {
            crowd.join(TcpStream::connect(stage.scene.address)?, &manifest(stream))?;
        }
        bursts.push(burst(&mut crowd, stage.scene.pid())?);
    }
    middle(&bursts)
}

/// Viewers ask for a playlist that has the next part, time and again.
pub(crate) fn reloads(stage: &Stage, clients: usize, rounds: usize) -> Result<Burst> {
    let address = stage.scene.address;
    let (mut crowd, mut paths) = (Crowd::new()?, Vec::new());
    for _ in 0..clients {
        let (socket, path) = viewer(address, &manifest(0))?;
        crowd.join(socket, &path)?;
        paths.push(path);
    }
    let (socket, path) = viewer(address, &manifest(0))?;
    let mut bursts = Vec::new();
    for _ in 0..rounds {
        let text = next_answer(&socket, &path)?;
        let (sequence, part) = hinted(&text).with_context(|| format!("no hint of a part:\n{text}"))?;
        for (place, path) in paths.iter().enumerate() {
            crowd.wants(place, &format!("{path}?_HLS_msn={sequence}&_HLS_part={part}"));
        }
        bursts.push(burst(&mut crowd, stage.scene.pid())?);
    }
    middle(&bursts)
}

/// All ask, and all are answered.
fn burst(crowd: &mut Crowd, pid: u32) -> Result<Burst> {
    let cpu = process::run_time(pid)?;
    let (deadline, mut answers) = (Instant::now() + SOON, Vec::with_capacity(crowd.len()));
    crowd.ask_all()?;
    while answers.len() < crowd.len() {
        let left = deadline.saturating_duration_since(Instant::now());
        ensure!(!left.is_zero(), "{} of {} are answered after {SOON:?}", answers.len(), crowd.len());
        // Once they come, nobody sleeps, whom the server would have to wake.
        crowd.hear(if answers.is_empty() { left } else { Duration::ZERO }, &mut answers)?;
    }
    let first = answers.iter().map(|answer| answer.at).min().context("nobody asked")?;
    let after = |answer: &Answer| micros(answer.at - first);
    Ok(Burst {
        after_first: Quantiles::of(answers.iter().map(after).collect()),
        cpu_ms: (process::run_time(pid)? - cpu).as_secs_f64() * 1_000.0,
    })
}

/// Numbers of the segment and the part that come next.
fn hinted(playlist: &str) -> Option<(u64, u64)> {
    let hint = playlist.lines().find_map(|line| line.strip_prefix("#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\""))?;
    let (sequence, part) = hint.strip_suffix(".ts\"")?.split_once('.')?;
    Some((sequence.parse().ok()?, part.parse().ok()?))
}

fn middle(bursts: &[Burst]) -> Result<Burst> {
    let of = |pick: fn(&Burst) -> f64| median(bursts.iter().map(pick)).context("no burst");
    Ok(Burst {
        after_first: Quantiles {
            p50_us: of(|burst| burst.after_first.p50_us as f64)? as u64,
            p99_us: of(|burst| burst.after_first.p99_us as f64)? as u64,
            max_us: of(|burst| burst.after_first.max_us as f64)? as u64,
        },
        cpu_ms: of(|burst| burst.cpu_ms)?,
    })
}
