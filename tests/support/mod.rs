//! What whole-system tests share: the real binary, viewers, and the kernel's
//! means to make things go wrong.
//!
//! Everything waits with deadlines, nothing sleeps for luck, and what was
//! started ends with the test.
#![allow(dead_code, unused_imports, reason = "each test file uses its own part")]

pub(crate) mod audience;
pub(crate) mod chromium;
pub(crate) mod command;
pub(crate) mod crowd;
pub(crate) mod delay;
pub(crate) mod docker;
pub(crate) mod engines;
pub(crate) mod hls;
pub(crate) mod log;
pub(crate) mod mutate;
mod netns;
pub(crate) mod own_fleet;
pub(crate) mod pool;
pub(crate) mod raw;
pub(crate) mod rows;
mod seccomp;
pub(crate) mod server;
pub(crate) mod shards;
pub(crate) mod sockets;
pub(crate) mod stage;
pub(crate) mod starts;
pub(crate) mod tool;
mod viewer;
mod wait;
pub(crate) mod watch;

pub(crate) use audience::{Audience, assert_undisturbed};
pub(crate) use netns::Netns;
pub(crate) use seccomp::deny_uring;
pub(crate) use server::{Answer, Server, get};
pub(crate) use viewer::Viewer;
pub(crate) use wait::{skip, wait_until};
