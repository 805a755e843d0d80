//! An AceStream engine emulator: hundreds of engines in one process, with the
//! HTTP interface, the timing and the faults of real ones.
//!
//! [`Emulator::start`] runs a fleet on a thread of its own. How an engine
//! behaves towards a content is chosen in this order: what was set for the
//! content ([`Emulator::set_scenario`]), what its id says ([`ContentId`]), what
//! was set for the engine ([`Emulator::set_engine_scenario`]), healthy.
//!
//! A [`Scenario`] is a row of a catalogue; its [`Behaviour`] is one choice for
//! each phase of an engine's work, and the code of a phase looks at its own
//! choice only. So a new scenario is a row, and at most a new choice.
//!
//! What befalls an engine as a whole, its [`Fate`], begins when it is set for the
//! engine. [`Chaos`] sets scenarios by a plan, for runs of days. All of that takes
//! place within the emulator; what is done to a [`Process`] of its own is real: it
//! ends, and a [`Burden`] takes memory, CPU, threads and disk.
//!
//! What is played is a pure function of infohash and time, equal on every
//! engine, and comes in two kinds ([`Content`]): a real programme for players
//! and decoders, and a signed broadcast whose every packet [`signed::Verifier`]
//! can prove to be there, once, in order, and whole. A scenario may edit the
//! programme ([`Edit`]), which the verifier then knows too, or damage it on its
//! way ([`Damage`]), which the verifier finds; both are the same on every engine,
//! except where a scenario is about engines that differ (`unmatched`).
#![forbid(unsafe_code)]

mod behaviour;
mod catalogue;
mod chaos;
mod cli;
mod clip;
mod command;
mod config;
mod content_id;
mod control;
mod counters;
mod damage;
mod delivery;
mod distort;
mod emulator;
mod engine;
mod events;
mod fleet;
mod gate;
mod hls;
mod http;
mod life;
mod memory;
mod play;
mod player;
mod process;
mod pump;
mod ready;
mod rng;
mod scenario;
mod serve;
mod service;
mod session;
pub mod signed;
mod source;
mod start;
mod stat;
mod wire;

pub use behaviour::{
    Accept, BadJson, Behaviour, Body, ContentType, Events, Fate, Framing, Head, HlsFault, Lookup, Missing,
    NotReady, Odd, OddList, Ready, Redirect, Rival, Sequence, Start, StartAnswer, StatFault, StatTypes,
    Status, Stop, Swarm, Urls, Version, Wire,
};
pub use chaos::Chaos;
pub use cli::cli;
pub use config::{EmulatorConfig, Profile, Timing};
pub use content_id::{ContentId, NotCoded, infohash_of};
pub use counters::{ContentCounters, Counters, Misuse, PathKind, PlayerCounters};
pub use damage::{Damage, Every, Loss, Timeline};
pub use delivery::{At, Cut, Delivery, End, Gaps, Leap, Pace};
pub use emulator::{Emulator, EmulatorError};
pub use process::{Burden, Process};
pub use scenario::{Scenario, ScenarioError};
pub use signed::Edit;
pub use source::{Content, DefaultContent, broadcast_of};
