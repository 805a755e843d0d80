//! Choices for an engine as a whole. They hold when set for an engine, from
//! that moment on; in a content id they say nothing.

use std::time::Duration;

/// What becomes of an engine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fate {
    /// Nothing.
    #[default]
    Steady,
    /// It starts anew, at once: refuses, then answers 500, then is good. In
    /// the second half of the errors `get_version` is good already.
    BootSlow {
        /// Refuses for so long.
        refuses: Duration,
        /// Answers 500 for so long after that.
        fails: Duration,
    },
    /// It starts anew, and its port never opens.
    BootNever,
    /// All its sockets get RST; after `down` it is back, without sessions.
    Crash {
        /// When.
        after: Duration,
        /// For so long its port refuses.
        down: Duration,
    },
    /// It crashes again and again.
    CrashLoop {
        /// Runs for so long.
        up: Duration,
        /// Refuses for so long.
        down: Duration,
    },
    /// It is killed, status 137, with more than so many sessions or after so
    /// many bytes.
    Oom {
        /// At most; none for any number.
        sessions: Option<u32>,
        /// At most; none for any number.
        bytes: Option<u64>,
    },
    /// It ages with the sessions it served.
    Degrade {
        /// From so many on; at five times as many the API hangs.
        sessions: u32,
        /// Reported memory grows by so much with each.
        megabytes: u32,
    },
    /// It is short of CPU: all takes so many times its time, streams come in
    /// clumps of 500 ms.
    CpuStarved(u32),
    /// Its network is gone.
    NetworkLost {
        /// For so long; none for ever.
        lasting: Option<Duration>,
        /// New starts fail after this.
        start_fails: Duration,
    },
    /// Callers that are not on the loopback get 500 `Internal…`.
    AccessDenied,
    /// When it starts anew, its port is this much higher.
    PortDrift(u16),
    /// It goes on for so long after it was told to end.
    SlowShutdown(Duration),
    /// Starts answer 500, and streams stall one after another, so far apart.
    DiskFull(Duration),
}

/// What `get_status` and `get_network_connection_status` answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Status {
    /// That all is well.
    #[default]
    Usual,
    /// Status 500.
    Error,
    /// `access denied`.
    AccessDenied,
    /// `playlist_loaded: false`.
    NotLoaded,
    /// `connected: false`.
    Disconnected,
    /// The truth, six seconds late.
    Slow,
    /// Nothing.
    Hang,
    /// Something that is no JSON.
    Invalid,
}

impl Status {
    /// All kinds with their names.
    pub const ALL: [(&'static str, Self); 7] = [
        ("500", Self::Error),
        ("access-denied", Self::AccessDenied),
        ("not-loaded", Self::NotLoaded),
        ("disconnected", Self::Disconnected),
        ("slow", Self::Slow),
        ("hang", Self::Hang),
        ("invalid", Self::Invalid),
    ];
}

/// What `get_version` tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    /// That of the engine's profile, on Linux.
    #[default]
    Usual,
    /// 3.1.49.
    Old,
    /// That of the profile, on Android.
    Android,
}
