//! What an emulator is started with.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    str::FromStr,
    time::Duration,
};

use crate::{Content, DefaultContent, Process, Scenario};

/// Which engine's session rules are followed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Profile {
    /// A start by another player ends the older session of the content.
    V3_2_3,
    /// Sessions of one content live side by side, show the newest
    /// `playback_session_id`, and a stop of one ends all.
    #[default]
    V3_2_11,
}

impl Profile {
    /// The version as the engine tells it.
    #[must_use]
    pub const fn version(self) -> &'static str {
        match self {
            Self::V3_2_3 => "3.2.3",
            Self::V3_2_11 => "3.2.11",
        }
    }

    /// `major × 10⁶ + minor × 10⁴ + patch × 10²`.
    #[must_use]
    pub const fn code(self) -> u32 {
        match self {
            Self::V3_2_3 => 3_020_300,
            Self::V3_2_11 => 3_021_100,
        }
    }
}

impl FromStr for Profile {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        [Self::V3_2_3, Self::V3_2_11]
            .into_iter()
            .find(|p| p.version() == s)
            .ok_or_else(|| format!("unknown profile {s}: 3.2.3 or 3.2.11"))
    }
}

/// How long a healthy engine takes for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Start call for a content the engine has met before.
    pub start_known: Duration,
    /// A start call may take this much more or less.
    pub start_jitter: Duration,
    /// Start call for a content that is new to the engine.
    pub start_first: Duration,
    /// Start call that fails, where the scenario gives no time.
    pub start_failure: Duration,
    /// The same by infohash, which the swarm is asked for.
    pub start_failure_infohash: Duration,
    /// A new session is `idle` for so long.
    pub idle: Duration,
    /// It is then in `prebuf` for so long.
    pub prebuffer: Duration,
    /// Stream time that is sent at line speed when a reader comes.
    pub burst: Duration,
    /// Each engine is behind the broadcast by up to this, by its seed.
    pub lag: Duration,
    /// A session without a reader, request or plain stat ends after this.
    pub expiry: Duration,
    /// The body of a redirect comes this long after its head.
    pub redirect_body: Duration,
    /// A held redirect is closed after this.
    pub redirect_hold: Duration,
    /// Answer of a stop command.
    pub stop: Duration,
    /// Answer of version and status calls.
    pub api: Duration,
    /// A reader that takes nothing for so long loses its session.
    pub no_read: Duration,
    /// Mean duration of an HLS segment; each is a whole number of groups of
    /// pictures, and at least one.
    pub hls_segment: Duration,
    /// A poll for events without one is answered after this.
    pub event_hold: Duration,
    /// The port of an engine that is started anew opens after this.
    pub boot_port: Duration,
    /// Its calls are good after this, 500 until then.
    pub boot_api: Duration,
    /// `playlist_loaded` is true after this.
    pub boot_playlist: Duration,
    /// An engine that was killed for its memory is started anew after this.
    pub restart: Duration,
}

impl Timing {
    /// The defaults of a healthy engine.
    #[must_use]
    pub fn real() -> Self {
        Self {
            start_known: Duration::from_millis(400),
            start_jitter: Duration::from_millis(200),
            start_first: Duration::from_millis(4400),
            start_failure: Duration::from_millis(4600),
            start_failure_infohash: Duration::from_secs(28),
            idle: Duration::from_millis(200),
            prebuffer: Duration::from_secs(6),
            burst: Duration::from_secs(10),
            lag: Duration::from_secs(15),
            expiry: Duration::from_secs(60),
            redirect_body: Duration::from_millis(20),
            redirect_hold: Duration::from_secs(30),
            stop: Duration::from_millis(20),
            api: Duration::from_millis(2),
            no_read: Duration::from_secs(30),
            hls_segment: Duration::from_secs(5),
            event_hold: Duration::from_secs(15),
            boot_port: Duration::from_secs(2),
            boot_api: Duration::from_secs(5),
            boot_playlist: Duration::from_secs(15),
            restart: Duration::from_secs(5),
        }
    }

    /// For tests: a start takes 20 ms, the prebuffer 100 ms, no engine lags, and
    /// one that is started anew is good at once.
    #[must_use]
    pub fn fast() -> Self {
        Self {
            start_known: Duration::from_millis(20),
            start_jitter: Duration::ZERO,
            start_first: Duration::from_millis(20),
            start_failure: Duration::from_millis(50),
            start_failure_infohash: Duration::from_millis(300),
            idle: Duration::from_millis(10),
            prebuffer: Duration::from_millis(100),
            lag: Duration::ZERO,
            stop: Duration::from_millis(2),
            hls_segment: Duration::from_secs(2),
            event_hold: Duration::from_millis(500),
            boot_port: Duration::ZERO,
            boot_api: Duration::ZERO,
            boot_playlist: Duration::ZERO,
            restart: Duration::from_millis(300),
            ..Self::real()
        }
    }
}

/// A fleet of emulated engines in one process.
#[derive(Clone, Debug)]
pub struct EmulatorConfig {
    /// How many engines.
    pub engines: u16,
    /// Where all of them listen.
    pub address: IpAddr,
    /// Port of engine 0, the next ones following; 0 takes any free ports.
    pub first_port: u16,
    /// Where the control API listens, if anywhere.
    pub control: Option<SocketAddr>,
    /// The session rules.
    pub profile: Profile,
    /// How long things take.
    pub timing: Timing,
    /// All randomness follows from it.
    pub seed: u64,
    /// What content ids without a code play.
    pub content: DefaultContent,
    /// How all engines behave from the first moment on.
    pub scenario: Option<Scenario>,
    /// The process, where the control API may order things of it.
    pub process: Option<Process>,
}

impl Default for EmulatorConfig {
    /// One healthy engine on any free port of the loopback, in real time.
    fn default() -> Self {
        Self {
            engines: 1,
            address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            first_port: 0,
            control: None,
            profile: Profile::default(),
            timing: Timing::real(),
            seed: 1,
            content: Content::Clip,
            scenario: None,
            process: None,
        }
    }
}
