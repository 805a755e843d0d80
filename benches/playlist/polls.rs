//! Clients that poll a playlist: as fast as they are answered, and as players do.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::{
    Options,
    crowd::Crowd,
    stage::{Side, Stage},
    support::{process, quantiles::Quantiles},
};

/// A player asks again after half a target duration, which is 6 s.
const POLL_EVERY: Duration = Duration::from_secs(3);

/// What one side did in one round, or in the middle one of several.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub(crate) struct Polls {
    /// Requests for a second of the server's CPU time.
    pub(crate) per_cpu_second: f64,
    /// CPU time of the server, in seconds.
    pub(crate) cpu_s: f64,
    /// Requests for a second.
    pub(crate) per_second: f64,
    /// From request to answer.
    pub(crate) took: Quantiles,
}

/// How clients ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// Again with each answer.
    Closed,
    /// At their times, whatever the answers do.
    Live,
}

/// Interleaved rounds of all sides; of each the medians.
pub(crate) fn measure(
    stage: &Stage,
    pace: Pace,
    clients: usize,
    options: &Options,
) -> Result<Vec<(Side, Polls)>> {
    let mut rounds: Vec<(Side, Polls)> = Vec::new();
    for _ in 0..options.rounds() {
        for side in Side::ALL {
            let Some(pid) = stage.pid(side) else { continue };
            let mut crowd = stage.crowd(side, clients)?;
            rounds.push((side, round(&mut crowd, pid, pace, options.measured(pace))?));
        }
    }
    let of = |side: Side| rounds.iter().filter(|(of, _)| *of == side).map(|(_, polls)| *polls).collect();
    Ok(Side::ALL.into_iter().filter_map(|side| Some((side, middle(of(side))?))).collect())
}

fn round(crowd: &mut Crowd, pid: u32, pace: Pace, time: Duration) -> Result<Polls> {
    let (start, cpu) = (Instant::now(), process::run_time(pid)?);
    let took = match pace {
        Pace::Closed => closed(crowd, start + time)?,
        Pace::Live => live(crowd, start, time)?,
    };
    let (seconds, cpu_s) = (start.elapsed().as_secs_f64(), (process::run_time(pid)? - cpu).as_secs_f64());
    let requests = took.len() as f64;
    Ok(Polls {
        per_cpu_second: requests / cpu_s,
        cpu_s,
        per_second: requests / seconds,
        took: Quantiles::of(took),
    })
}

/// Each asks again as soon as it has its answer. They never sleep, so that no
/// server spends its time on waking them.
fn closed(crowd: &mut Crowd, end: Instant) -> Result<Vec<u64>> {
    let (mut answers, mut took) = (Vec::new(), Vec::new());
    crowd.ask_all()?;
    while Instant::now() < end {
        crowd.hear(Duration::ZERO, &mut answers)?;
        for answer in answers.drain(..) {
            took.push(micros(answer.took));
            crowd.ask(answer.place, Instant::now())?;
        }
    }
    Ok(took)
}

/// Each asks at its own point of every [`POLL_EVERY`]; what is late counts from
/// when it was due.
fn live(crowd: &mut Crowd, start: Instant, time: Duration) -> Result<Vec<u64>> {
    let (mut answers, mut took) = (Vec::new(), Vec::new());
    let count = u32::try_from(crowd.len()).context("too many clients")?;
    let due = |request: u32| start + POLL_EVERY * (request / count) + POLL_EVERY * (request % count) / count;
    let mut next = 0;
    loop {
        let now = Instant::now();
        if now >= start + time {
            return Ok(took);
        }
        let place = (next % count) as usize;
        if due(next) <= now && !crowd.waits(place) {
            crowd.ask(place, due(next))?;
            next += 1;
            continue;
        }
        let wait = due(next).saturating_duration_since(now).max(Duration::from_micros(50));
        crowd.hear(wait.min(start + time - now), &mut answers)?;
        took.extend(answers.drain(..).map(|answer| micros(answer.took)));
    }
}

pub(crate) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// Of each figure its median.
fn middle(rounds: Vec<Polls>) -> Option<Polls> {
    let took = |pick: fn(&Quantiles) -> u64| median(rounds.iter().map(|polls| pick(&polls.took) as f64));
    Some(Polls {
        per_cpu_second: median(rounds.iter().map(|polls| polls.per_cpu_second))?,
        cpu_s: median(rounds.iter().map(|polls| polls.cpu_s))?,
        per_second: median(rounds.iter().map(|polls| polls.per_second))?,
        took: Quantiles {
            p50_us: took(|took| took.p50_us)? as u64,
            p99_us: took(|took| took.p99_us)? as u64,
            max_us: took(|took| took.max_us)? as u64,
        },
    })
}

/// The middle one of some figures; none of none.
pub(crate) fn median(figures: impl Iterator<Item = f64>) -> Option<f64> {
    let mut figures: Vec<_> = figures.collect();
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied()
}
