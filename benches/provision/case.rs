//! Where the fleet stands when a stream asks, and what may then be expected.

use std::time::Duration;

use crate::rig::own_fleet;

/// Where the engine comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Case {
    /// One is ready and has nothing to do.
    Idle,
    /// One is paused, and the others are taken.
    Warm,
    /// There is none beside those taken: one is made.
    Cold,
}

/// Longest times from the request to the slot.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    /// The median, with what Docker takes.
    pub(crate) whole_p50: Option<Duration>,
    /// The 99th percentile, without it.
    pub(crate) ours_p99: Option<Duration>,
}

impl Case {
    /// In the order of the table.
    pub(crate) const ALL: [Self; 3] = [Self::Idle, Self::Warm, Self::Cold];

    /// The word in the output.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Warm => "warm",
            Self::Cold => "cold",
        }
    }

    /// Of the server, as TOML below `[docker]`: one stream an engine, and a fleet
    /// that is back where it was as soon as it may.
    pub(crate) fn settings(self) -> String {
        let (most, paused) = match self {
            Self::Idle => (1, 0),
            Self::Warm => (2, 1),
            Self::Cold => (2, 0),
        };
        format!(
            "network = \"host\"\nports = \"{}\"\nstop_grace = \"1s\"\n\
             [engines]\ncapacity = 1\n[streams]\nlinger = \"0s\"\n\
             [fleet]\nmin = 1\nmax = {most}\npaused = {paused}\nspare_slots = 0\nforecast = false\n\
             cooldown = \"0s\"\nmin_life = \"0s\"\nsustained = \"0s\"\nsurplus = \"0s\"\n\
             starts_per_minute = 6000\n",
            own_fleet::ports(),
        )
    }

    /// Whether another stream has the engine that always runs.
    pub(crate) fn is_taken(self) -> bool {
        self != Self::Idle
    }

    /// Engines by state between two rounds: ready ones without a stream, paused
    /// ones, and all.
    pub(crate) fn at_rest(self) -> (usize, usize, usize) {
        match self {
            Self::Idle => (1, 0, 1),
            Self::Warm => (0, 1, 2),
            Self::Cold => (0, 0, 1),
        }
    }

    /// What Docker has to be asked for.
    pub(crate) fn calls(self) -> &'static [&'static str] {
        match self {
            Self::Idle => &[],
            Self::Warm => &["POST /containers/{id}/unpause"],
            Self::Cold => &["POST /containers/create", "POST /containers/{id}/start"],
        }
    }

    /// Whether a new engine boots.
    pub(crate) fn boots(self) -> bool {
        self == Self::Cold
    }

    /// What it may take.
    pub(crate) fn budget(self) -> Budget {
        let ms = |millis| Some(Duration::from_millis(millis));
        match self {
            Self::Idle => Budget { whole_p50: None, ours_p99: ms(50) },
            Self::Warm => Budget { whole_p50: ms(100), ours_p99: ms(100) },
            // A wait for the next event, look or probe would show.
            Self::Cold => Budget { whole_p50: None, ours_p99: ms(200) },
        }
    }
}
