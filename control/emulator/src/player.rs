//! Who asks an engine, and what it does for all of a player's or a content's
//! requests alike.

use std::net::IpAddr;

use tokio::sync::watch;

use crate::{
    Behaviour,
    engine::{Engine, State},
    rng::md5_hex,
    session::{Ended, Session},
};

/// Who asks: as the engine tells players apart, and as counters name them.
#[derive(Clone, Debug)]
pub(crate) struct Player {
    /// The pid, if one was given.
    pub(crate) pid: Option<String>,
    pub(crate) key: String,
    pub(crate) peer: IpAddr,
}

impl Player {
    pub(crate) fn new(pid: Option<&str>, peer: IpAddr) -> Self {
        Self { pid: pid.map(str::to_owned), key: player_key(pid, peer), peer }
    }

    /// Its name in counters.
    pub(crate) fn name(&self) -> String {
        self.pid.clone().unwrap_or_else(|| format!("address {}", self.peer))
    }
}

/// The key of a player: MD5 of its address as text when it gave no pid.
fn player_key(pid: Option<&str>, peer: IpAddr) -> String {
    match pid {
        None => md5_hex(peer.to_canonical().to_string()),
        Some(pid) => md5_hex(format!("player {pid}")),
    }
}

impl State {
    /// How a content that plays is set to behave; healthy when none does.
    pub(crate) fn set_for_session(&self, engine: &Engine, infohash: &str) -> Behaviour {
        let playing = self.sessions.iter().find(|s| s.infohash == infohash);
        playing.map_or_else(Behaviour::default, |s| {
            self.wanted(&s.asked, &s.infohash, engine.default_content).behaviour
        })
    }

    /// False for so many of a hundred.
    pub(crate) fn luck(&mut self, error_percent: u32) -> bool {
        error_percent == 0 || u64::from(error_percent) <= self.rng.below(100)
    }

    /// Takes the sessions that `which` picks; their readers go on until the
    /// senders that are returned say so.
    pub(crate) fn take(&mut self, which: impl Fn(&Session) -> bool) -> Vec<watch::Sender<Ended>> {
        let (taken, left) = std::mem::take(&mut self.sessions).into_iter().partition(|s| which(s));
        self.sessions = left;
        let taken: Vec<Session> = taken;
        for session in &taken {
            self.log(format!("end {}", session.number));
        }
        taken.into_iter().map(|s| s.ended).collect()
    }
}
