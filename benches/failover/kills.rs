//! Kills the engines of streams, one by one and many at a time.

use std::time::{Duration, Instant, SystemTime};

use anyhow::{Result, ensure};
use millrace_emulator::{
    Content, ContentId, Scenario, broadcast_of,
    signed::{Broadcast, EPOCH_UNIX_SECONDS},
};

use crate::{
    Bytes, Options, SPARE,
    board::Board,
    outcome::Outcome,
    support::{
        process,
        scene::{SOON, Scene},
    },
    viewer::Viewer,
};

/// Between two looks at the viewers.
const TURN: Duration = Duration::from_millis(10);
/// A revived engine is soon found ready again.
const PROBES: &str = "MILLRACE_ENGINES_PROBE_INTERVAL=500ms";
/// Between two questions to the API.
const ASK_EVERY: Duration = Duration::from_millis(100);
/// An engine plays at least this long before it is killed: one that broke off
/// within 1.5 s would count as one that never really played.
const PLAYS: Duration = Duration::from_millis(1_700);
/// Kills come up to this much later, so that they meet a stream at any point of
/// a group of pictures, hence of the way to the next random access point.
const SPREAD: Duration = Duration::from_secs(2);
/// A gap that lasts longer is a viewer lost.
const LOST: Duration = Duration::from_secs(30);

/// A stream, its viewer, and whose turn it is.
struct Stream {
    id: ContentId,
    broadcast: Broadcast,
    viewer: Viewer,
    kills: u64,
    state: State,
}

#[derive(Clone, Copy)]
enum State {
    /// It plays; its engine, which is not `last`, is to be killed at `due`.
    Playing { due: Instant, last: Option<usize> },
    /// Its engine is dead, and the viewer waits.
    Killed { at: Instant, victim: usize },
    /// Its viewer is lost.
    Over,
}

/// Kills as many engines as the options say.
pub(crate) fn measure(kind: Bytes, options: &Options) -> Result<Outcome> {
    let scene = Scene::start(&options.common, options.engines, 1, &[PROBES])?;
    let scenario: Scenario = kind.scenario().parse()?;
    let content = Content::Signed { bitrate_bps: options.rate_bps };
    let ids = (0..options.streams as u64).map(|serial| ContentId::new(content, scenario, serial));
    let mut streams =
        ids.map(|id| Stream::begin(&scene, id, options.rate_bps)).collect::<Result<Vec<_>>>()?;
    await_all(&mut streams)?;

    let mut run = Run { scene, streams, planned: options.kills, begun: 0, outcome: Outcome::default() };
    let (start, busy) = (Instant::now(), process::busy_time_of_all()?);
    run.kill_all()?;
    run.outcome.seconds = start.elapsed().as_secs_f64();
    run.outcome.busy_cores = (process::busy_time_of_all()? - busy).as_secs_f64() / run.outcome.seconds;
    run.finish(options)
}

/// Waits until every viewer has got bytes.
fn await_all(streams: &mut [Stream]) -> Result<()> {
    let deadline = Instant::now() + SOON;
    for (place, stream) in streams.iter_mut().enumerate() {
        while stream.viewer.watch().report().last.is_none() {
            let end = stream.viewer.watch().end().map(str::to_owned);
            ensure!(end.is_none(), "{}: {}", stream.id, end.unwrap_or_default());
            ensure!(Instant::now() < deadline, "{} has not begun after {SOON:?}", stream.id);
            std::thread::sleep(TURN);
        }
        stream.state = State::Playing { due: next_kill(place), last: None };
    }
    Ok(())
}

/// When the engine is to be killed of a stream that has just gone on.
fn next_kill(turn: usize) -> Instant {
    // A low-discrepancy sequence: any stretch of it is spread evenly.
    let turn = (turn as u32).wrapping_mul(0x9E37_79B9);
    Instant::now() + PLAYS + SPREAD.mul_f64(f64::from(turn) / f64::from(u32::MAX))
}

impl Stream {
    fn begin(scene: &Scene, id: ContentId, rate_bps: u32) -> Result<Self> {
        let broadcast = Broadcast::new(broadcast_of(&id.infohash()), rate_bps);
        let viewer = Viewer::ask(scene.address, &id)?;
        let state = State::Playing { due: Instant::now(), last: None };
        Ok(Self { id, broadcast, viewer, kills: 0, state })
    }

    /// Number of the next packet to be broadcast.
    fn next_packet(&self) -> u64 {
        let epoch = SystemTime::UNIX_EPOCH + Duration::from_secs(EPOCH_UNIX_SECONDS);
        self.broadcast.packet_at(SystemTime::now().duration_since(epoch).unwrap_or_default())
    }
}

struct Run {
    scene: Scene,
    streams: Vec<Stream>,
    planned: usize,
    begun: usize,
    outcome: Outcome,
}

impl Run {
    fn kill_all(&mut self) -> Result<()> {
        let mut board = Board::of(&self.scene)?;
        let (mut asked, mut progress) = (Instant::now(), Instant::now());
        while !self.is_done() {
            if asked.elapsed() >= ASK_EVERY {
                (board, asked) = (Board::of(&self.scene)?, Instant::now());
            }
            let mut has_moved = false;
            for place in 0..self.streams.len() {
                has_moved |= self.step(place, &mut board);
            }
            if has_moved {
                progress = Instant::now();
            }
            let idle = progress.elapsed();
            ensure!(idle < 2 * LOST, "no engine could be killed for {idle:?}; {} are spare", board.spare);
            std::thread::sleep(TURN);
        }
        Ok(())
    }

    /// Whether nothing is left to do: each kill was made and is over, or no
    /// viewer is left.
    fn is_done(&self) -> bool {
        let mut states = self.streams.iter().map(|stream| stream.state);
        if self.begun < self.planned {
            return states.all(|state| matches!(state, State::Over));
        }
        !states.any(|state| matches!(state, State::Killed { .. }))
    }

    /// Moves one stream on; whether it moved.
    fn step(&mut self, place: usize, board: &mut Board) -> bool {
        let stream = &mut self.streams[place];
        let (gap, end) = {
            let watch = stream.viewer.watch();
            (watch.gap(), watch.end().map(str::to_owned))
        };
        if let Some(end) = end.filter(|_| !matches!(stream.state, State::Over)) {
            eprintln!("stream {place} after {} kills: {end}", stream.kills);
            return self.lose(place);
        }
        match (stream.state, gap) {
            (State::Killed { victim, .. }, Some(gap)) => {
                self.outcome.gaps_us.push(micros(gap));
                self.scene.emulator.revive(victim);
                stream.state = State::Playing { due: next_kill(self.begun), last: Some(victim) };
                true
            }
            (State::Killed { at, .. }, None) if at.elapsed() > LOST => {
                eprintln!("stream {place} after {} kills: nothing new for {LOST:?}", stream.kills);
                self.lose(place)
            }
            (State::Playing { due, last }, _) if due <= Instant::now() && self.begun < self.planned => {
                let victim = board.playing(&self.scene, &self.streams[place].id);
                match victim.filter(|_| SPARE <= board.spare) {
                    // What the API tells may be older than the latest kill.
                    Some(victim) if Some(victim) != last => {
                        board.spare -= 1;
                        self.kill(place, victim)
                    }
                    Some(_) | None => false,
                }
            }
            (State::Killed { .. } | State::Playing { .. } | State::Over, _) => false,
        }
    }

    fn kill(&mut self, place: usize, victim: usize) -> bool {
        let stream = &mut self.streams[place];
        let at = Instant::now();
        let silence = stream.viewer.watch().begin(at);
        if stream.kills > 0 {
            self.outcome.silences_us.push(micros(silence));
        }
        self.scene.emulator.kill(victim);
        // What was broadcast before may still be on its way.
        let packet = stream.next_packet();
        stream.viewer.watch().await_packet(packet);
        stream.kills += 1;
        stream.state = State::Killed { at, victim };
        self.begun += 1;
        true
    }

    fn lose(&mut self, place: usize) -> bool {
        let stream = &mut self.streams[place];
        if let State::Killed { victim, .. } = stream.state {
            self.scene.emulator.revive(victim);
        }
        stream.state = State::Over;
        self.outcome.viewers_lost += 1;
        true
    }

    /// Adds up what the viewers have found.
    fn finish(mut self, options: &Options) -> Result<Outcome> {
        for stream in &self.streams {
            let watch = stream.viewer.watch();
            if stream.kills > 0 {
                self.outcome.silences_us.push(micros(watch.silence()));
            }
            self.outcome.add(&watch.report(), watch.back_steps());
        }
        let asked = self.scene.metric("millrace_viewers_started_total")?;
        self.outcome.reconnects = asked.saturating_sub(options.streams as u64);
        let started = self.scene.metric("millrace_streams_started_total")?;
        self.outcome.restarts = started.saturating_sub(options.streams as u64);
        Ok(self.outcome)
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
