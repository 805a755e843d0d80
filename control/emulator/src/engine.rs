//! One emulated engine: its scenarios, sessions, counters and event log.

mod wanted;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::SocketAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

use crate::{
    Behaviour, Content, Counters, Profile, Scenario, Timing,
    behaviour::Fate,
    counters::ContentCounters,
    life::Boot,
    memory::Memory,
    player::Player,
    rng::{Rng, forty_hex},
    session::{Ended, Output, Phase, Session},
    source,
};

pub(crate) use wanted::Wanted;

const MAX_SESSIONS: usize = 1024;
const MAX_SCENARIOS: usize = 65_536;
const MAX_EVENTS: usize = 4096;

/// What a whole engine is doing, as its connections are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Life {
    /// Rises when the engine is killed: older connections get RST.
    pub(crate) generation: u64,
    pub(crate) alive: bool,
    pub(crate) paused: bool,
    /// Connections are taken from the backlog.
    pub(crate) accepts: bool,
}

pub(crate) struct Engine {
    pub(crate) index: usize,
    pub(crate) profile: Profile,
    pub(crate) timing: Timing,
    pub(crate) default_content: Content,
    /// Behind the broadcast by this.
    pub(crate) lag: Duration,
    pub(crate) life: watch::Sender<Life>,
    /// Told when a connection that was served ends.
    pub(crate) freed: Notify,
    /// Told when the engine's memory is used up.
    pub(crate) exhausted: Notify,
    state: Mutex<State>,
}

pub(crate) struct State {
    pub(crate) rng: Rng,
    scenario: Option<Scenario>,
    by_content: BTreeMap<String, Scenario>,
    /// How often that has changed, for streams that run.
    pub(crate) changes: u64,
    /// Infohash and key of starts not answered yet.
    pub(crate) pending: Vec<(String, String)>,
    pub(crate) memory: Memory,
    pub(crate) sessions: Vec<Session>,
    next_session: u64,
    /// Infohashes met, and when they were first loaded by infohash.
    known: BTreeMap<String, Instant>,
    pids: BTreeSet<u64>,
    pub(crate) counters: Counters,
    pub(crate) spare: ContentCounters,
    events: VecDeque<String>,
    pub(crate) connections: usize,
    /// Connections that are served, of those that are open.
    pub(crate) serving: u32,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    pub(crate) fate: Fate,
    pub(crate) fate_since: Instant,
    pub(crate) boot: Boot,
    /// How the last process ended; none while one runs.
    pub(crate) exit: Option<i32>,
    /// Sessions opened by this process.
    pub(crate) served: u64,
    /// [`Counters::bytes`] when this process or its fate began.
    pub(crate) bytes_before: u64,
}

impl Engine {
    pub(crate) fn new(
        index: usize,
        profile: Profile,
        timing: Timing,
        default_content: Content,
        seed: u64,
    ) -> Self {
        let mut rng = Rng::new(seed.wrapping_mul(0x1_0000_01b3) ^ u64::try_from(index).unwrap_or(0));
        let lag = rng.up_to(timing.lag);
        let now = Instant::now();
        Self {
            index,
            profile,
            timing,
            default_content,
            lag,
            life: watch::Sender::new(Life { generation: 0, alive: true, paused: false, accepts: true }),
            freed: Notify::new(),
            exhausted: Notify::new(),
            state: Mutex::new(State {
                rng,
                scenario: None,
                by_content: BTreeMap::new(),
                changes: 0,
                pending: Vec::new(),
                memory: Memory::default(),
                sessions: Vec::new(),
                next_session: 0,
                known: BTreeMap::new(),
                pids: BTreeSet::new(),
                counters: Counters::default(),
                spare: ContentCounters::default(),
                events: VecDeque::new(),
                connections: 0,
                serving: 0,
                address: SocketAddr::from(([0, 0, 0, 0], 0)),
                fate: Fate::Steady,
                fate_since: now,
                boot: Boot::done(now),
                exit: None,
                served: 0,
                bytes_before: 0,
            }),
        }
    }

    /// The state; held for moments only, never across an await.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_scenario(&self, content: Option<&str>, scenario: Scenario) {
        let mut state = self.state();
        state.memory.forget_catalogue();
        match content {
            None => {
                state.scenario = Some(scenario);
                state.fate = scenario.behaviour().fate;
                state.fate_since = Instant::now();
                state.served = 0;
                state.bytes_before = state.counters.bytes;
            }
            Some(id) => {
                let id = id.to_ascii_lowercase();
                if state.by_content.len() < MAX_SCENARIOS || state.by_content.contains_key(&id) {
                    state.by_content.insert(id, scenario);
                    state.changes += 1;
                }
            }
        }
    }

    /// Forgets what was set for a content.
    pub(crate) fn clear_scenario(&self, content: &str) {
        let mut state = self.state();
        if state.by_content.remove(&content.to_ascii_lowercase()).is_some() {
            state.changes += 1;
        }
    }

    /// Whether it has a session of a content, by id or infohash.
    pub(crate) fn plays(&self, content: &str) -> bool {
        let is_it = |name: &str| name.eq_ignore_ascii_case(content);
        self.state().sessions.iter().any(|s| is_it(&s.asked) || is_it(&s.infohash))
    }

    /// How the engine as a whole behaves.
    pub(crate) fn behaviour(&self) -> Behaviour {
        self.state().scenario.unwrap_or_default().behaviour()
    }

    pub(crate) fn counters(&self) -> Counters {
        let mut state = self.state();
        state.sweep(Instant::now(), &self.timing);
        let mut counters = state.counters.clone();
        counters.open_sessions = u64::try_from(state.sessions.len()).unwrap_or(u64::MAX);
        counters
    }

    pub(crate) fn events(&self) -> Vec<String> {
        self.state().events.iter().cloned().collect()
    }

    /// Forgets all sessions, as a process that ends does.
    pub(crate) fn forget_sessions(&self) {
        let mut state = self.state();
        state.sessions.clear();
        state.known.clear();
        state.memory = Memory::default();
        state.served = 0;
        state.bytes_before = state.counters.bytes;
    }
}

impl State {
    /// What was set for the engine itself.
    pub(crate) fn scenario(&self) -> Scenario {
        self.scenario.unwrap_or_default()
    }

    pub(crate) fn log(&mut self, event: String) {
        if self.events.len() == MAX_EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }

    /// Forgets sessions that are over.
    pub(crate) fn sweep(&mut self, now: Instant, timing: &Timing) {
        self.sessions.retain(|s| {
            let keep = s.phase(now, timing) != Phase::Over;
            if !keep {
                s.ended.send_replace(Ended::Closed);
            }
            keep
        });
    }

    /// The session of a player and a content, made if there is none. None when
    /// there are too many.
    pub(crate) fn open(
        &mut self,
        engine: &Engine,
        wanted: Wanted,
        player: &Player,
        output: Output,
        now: Instant,
    ) -> Option<&Session> {
        self.sweep(now, &engine.timing);
        let key = player.key.as_str();
        let same = |s: &Session| s.infohash == wanted.infohash && s.key == key;
        if let Some(at) = self.sessions.iter().position(same) {
            self.sessions[at].last_active = now;
            self.sessions[at].transcodes = wanted.transcodes;
            return self.sessions.get(at);
        }
        // A player watches one content; 3.2.3 gives a content one player.
        self.end(|s| s.key == key);
        if wanted.behaviour.profile.unwrap_or(engine.profile) == Profile::V3_2_3 {
            self.replace(|s| s.infohash == wanted.infohash);
        }
        self.memory.admit(&wanted.infohash, key);
        if let Some(most) = wanted.behaviour.max_contents {
            self.make_room(&wanted.infohash, most);
        }
        if self.sessions.len() >= MAX_SESSIONS {
            return None;
        }
        let number = self.next_session;
        self.next_session += 1;
        let random = self.rng.next();
        let lag = wanted.behaviour.lag.unwrap_or(engine.lag);
        let session = Session {
            number,
            content: wanted.content,
            engine: engine.index,
            transcodes: wanted.transcodes,
            key: key.to_owned(),
            ticket: format!("0.{:010}", self.rng.below(10_000_000_000)),
            playback_id: forty_hex(&format!("{random:x}")),
            behaviour: wanted.behaviour,
            started: now,
            last_active: now,
            holders: 0,
            has_reader: false,
            reads: 0,
            reading: None,
            seek: watch::Sender::new(None),
            stalled: None,
            ended: watch::Sender::new(Ended::Not),
            asked: wanted.asked,
            infohash: wanted.infohash,
            player: player.name(),
            output,
            began: source::now().saturating_sub(lag),
            reading_since: None,
            polls: 0,
        };
        self.log(format!(
            "session {number} {} {} {} {}",
            session.infohash, session.key, session.ticket, session.playback_id
        ));
        self.sessions.push(session);
        self.served += 1;
        let open = u64::try_from(self.sessions.len()).unwrap_or(u64::MAX);
        self.counters.peak_sessions = self.counters.peak_sessions.max(open);
        self.sessions.last()
    }

    /// Ends the sessions that `which` picks; their readers see the end.
    pub(crate) fn end(&mut self, which: impl Fn(&Session) -> bool) {
        let mut ended = Vec::new();
        self.sessions.retain(|s| {
            let goes = which(s);
            if goes {
                s.ended.send_replace(Ended::Closed);
                ended.push(s.number);
            }
            !goes
        });
        for number in ended {
            self.log(format!("end {number}"));
        }
    }

    /// Ends sessions as [`Self::end`] does, for the sake of another player.
    pub(crate) fn replace(&mut self, which: impl Fn(&Session) -> bool) {
        for session in self.sessions.iter().filter(|s| which(s)) {
            self.memory.replaced(session);
        }
        self.end(which);
    }

    /// A rival takes the session over, one of `infohash`.
    pub(crate) fn yield_to_rival(&mut self, number: u64, infohash: &str) {
        self.memory.rival_came(infohash);
        self.replace(|s| s.number == number);
    }

    /// Ends the oldest sessions until `infohash` is one of `most` contents.
    fn make_room(&mut self, infohash: &str, most: u32) {
        loop {
            let others: BTreeSet<_> =
                self.sessions.iter().map(|s| &s.infohash).filter(|i| *i != infohash).collect();
            let has_room = others.len() < usize::try_from(most).unwrap_or(usize::MAX);
            let oldest = self.sessions.iter().find(|s| s.infohash != infohash);
            match oldest.map(|s| s.infohash.clone()) {
                Some(oldest) if !has_room => self.end(|s| s.infohash == oldest),
                _ => return,
            }
        }
    }

    pub(crate) fn session(&mut self, number: u64) -> Option<&mut Session> {
        self.sessions.iter_mut().find(|s| s.number == number)
    }

    /// The session that `which` picks, behaving as its content is now set to.
    pub(crate) fn find(
        &mut self,
        engine: &Engine,
        now: Instant,
        which: impl Fn(&Session) -> bool,
    ) -> Option<&mut Session> {
        self.sweep(now, &engine.timing);
        let at = self.sessions.iter().position(which)?;
        let s = &self.sessions[at];
        let behaviour = self.wanted(&s.asked, &s.infohash, engine.default_content).behaviour;
        let session = self.sessions.get_mut(at)?;
        session.behaviour = behaviour;
        Some(session)
    }
}
