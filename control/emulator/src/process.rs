//! The program as a process of its own, as in a container: what it says, how it
//! ends by itself, and what it takes of the machine. An emulator within another
//! program has none of that.

mod burden;
mod log;

use std::{path::PathBuf, sync::Arc, time::Duration};

pub use burden::Burden;

use burden::Bearers;
use log::Log;

/// A handle on the process; clones are the same one.
#[derive(Clone, Debug)]
pub struct Process(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    log: Arc<Log>,
    bearers: Bearers,
}

impl Process {
    /// What is to fill the disk goes into `cache`.
    #[must_use]
    pub fn new(cache: PathBuf) -> Self {
        let log = Arc::new(Log::start());
        Self(Arc::new(Inner { bearers: Bearers::new(cache, Arc::clone(&log)), log }))
    }

    /// A line on standard error, or nowhere when nobody reads it; never waits.
    pub fn say(&self, line: &str) {
        self.0.log.say(line);
    }

    /// Waits until what was said is written, for a moment at most.
    pub fn flush(&self) {
        self.0.log.flush();
    }

    /// Puts another burden in place of the one before.
    pub fn bear(&self, burden: Burden) {
        self.0.bearers.bear(burden);
    }

    /// Ends the process by itself after this time, without a word to anybody
    /// who is connected.
    pub fn end(&self, after: Duration, status: i32) {
        let this = self.clone();
        let end = move || {
            std::thread::sleep(after);
            this.say(&format!("a fault of its own after {after:?}, status {status}"));
            this.flush();
            std::process::exit(status)
        };
        if let Err(error) = std::thread::Builder::new().name("end".to_owned()).spawn(end) {
            self.say(&format!("cannot end by itself: {error}"));
        }
    }
}
