//! Media segments at full speed, beside a bare `sendfile` of as many bytes.

use std::{
    net::{SocketAddrV4, TcpStream},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use crate::{
    Options,
    crowd::{Crowd, first_answer, next_answer},
    polls::{Pace, median},
    stage::{Stage, floor, manifest, playlist_in},
    support::process::{self, Process},
};

/// Of the newest segments so many are fetched, in turn.
const SEGMENTS: usize = 3;

/// What came of one side, in the middle one of its rounds.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub(crate) struct Delivery {
    /// CPU time of the server for 2³⁰ bytes, in seconds.
    pub(crate) cpu_s_per_gib: f64,
    /// CPU time of the server, in seconds.
    pub(crate) cpu_s: f64,
    /// Bytes of segments.
    pub(crate) bytes: f64,
}

/// Clients of ours, and of the floor, in turn.
pub(crate) fn measure(stage: &Stage, clients: usize, options: &Options) -> Result<(Delivery, Delivery)> {
    let mut floor: Option<(Process, SocketAddrV4)> = None;
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..options.rounds() {
        let newest = Newest::find(stage)?;
        let mut crowd = newest.crowd(stage.scene.address, clients)?;
        ours.push(round(&mut crowd, stage.scene.pid(), options.measured(Pace::Closed))?);
        drop(crowd);
        // Segments of a stream of constant rate are alike, so the first ones' sizes do.
        let (process, address) = match &floor {
            Some(running) => running,
            None => floor.insert(newest.floor(options)?),
        };
        let mut crowd = Crowd::new()?;
        for _ in 0..clients {
            crowd.join(TcpStream::connect(*address)?, "/")?;
        }
        bare.push(round(&mut crowd, process.pid(), options.measured(Pace::Closed))?);
    }
    Ok((middle(&ours)?, middle(&bare)?))
}

/// Each asks again as soon as it has one, and none of them sleeps.
fn round(crowd: &mut Crowd, pid: u32, time: Duration) -> Result<Delivery> {
    let cpu = process::run_time(pid)?;
    let (end, mut answers, mut bytes) = (Instant::now() + time, Vec::new(), 0);
    crowd.ask_all()?;
    while Instant::now() < end {
        crowd.hear(Duration::ZERO, &mut answers)?;
        for answer in answers.drain(..) {
            bytes += answer.bytes;
            crowd.ask(answer.place, Instant::now())?;
        }
    }
    // Of segments that are under way the part that has come.
    let bytes = (bytes + crowd.under_way()) as f64;
    let cpu_s = (process::run_time(pid)? - cpu).as_secs_f64();
    Ok(Delivery { cpu_s_per_gib: cpu_s / bytes * f64::from(1 << 30), cpu_s, bytes })
}

fn middle(rounds: &[Delivery]) -> Result<Delivery> {
    let of = |pick: fn(&Delivery) -> f64| median(rounds.iter().map(pick)).context("no round");
    Ok(Delivery {
        cpu_s_per_gib: of(|round| round.cpu_s_per_gib)?,
        cpu_s: of(|round| round.cpu_s)?,
        bytes: of(|round| round.bytes)?,
    })
}

/// The newest segments of stream 0.
struct Newest {
    paths: Vec<String>,
    sizes: Vec<usize>,
}

impl Newest {
    fn find(stage: &Stage) -> Result<Self> {
        let (socket, text) = first_answer(stage.scene.address, &manifest(0))?;
        let playlist = playlist_in(&text)?;
        let text = next_answer(&socket, &playlist)?;
        let (directory, _) = playlist.rsplit_once('/').context("a path without a directory")?;
        let names: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
        let newest = &names[names.len().saturating_sub(SEGMENTS)..];
        let paths: Vec<_> = newest.iter().map(|name| format!("{directory}/{name}")).collect();
        let mut crowd = Crowd::new()?;
        crowd.join(socket, "/")?;
        let (mut sizes, mut answers) = (Vec::new(), Vec::new());
        for path in &paths {
            crowd.wants(0, path);
            crowd.ask_all()?;
            while crowd.waits(0) {
                crowd.hear(Duration::from_secs(1), &mut answers)?;
            }
            sizes.extend(answers.drain(..).map(|answer| usize::try_from(answer.bytes).unwrap_or(0)));
        }
        Ok(Self { paths, sizes })
    }

    fn crowd(&self, address: SocketAddrV4, clients: usize) -> Result<Crowd> {
        let mut crowd = Crowd::new()?;
        for place in 0..clients {
            crowd.join(TcpStream::connect(address)?, &self.paths[place % self.paths.len()])?;
        }
        Ok(crowd)
    }

    fn floor(&self, options: &Options) -> Result<(Process, SocketAddrV4)> {
        let mut args = vec!["send".to_owned(), format!("--cpu={}", options.common.server_cpu)];
        args.extend(self.sizes.iter().map(|size| format!("--size={size}")));
        floor(&args)
    }
}
