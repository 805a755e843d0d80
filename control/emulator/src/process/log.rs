//! What the program says. In a container nobody may read it, for long or at
//! all: neither may that end the program or make it wait.

use std::{
    io::{self, Write},
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    time::Duration,
};

/// Lines that wait for a reader; what is more is lost.
const MAX_LINES: usize = 256;
/// For the last lines to be read.
const PATIENCE: Duration = Duration::from_millis(200);

#[derive(Debug)]
pub(super) struct Log(SyncSender<Item>);

enum Item {
    Line(String),
    /// Answered when all before it is written.
    Flush(SyncSender<()>),
}

impl Log {
    pub(super) fn start() -> Self {
        let (sender, receiver) = sync_channel(MAX_LINES);
        // Without a thread there are no lines, which is no reason to end.
        std::thread::Builder::new().name("log".to_owned()).spawn(move || write(&receiver)).ok();
        Self(sender)
    }

    pub(super) fn say(&self, line: &str) {
        self.0.try_send(Item::Line(line.to_owned())).ok();
    }

    pub(super) fn flush(&self) {
        let (done, wait) = sync_channel(1);
        if self.0.try_send(Item::Flush(done)).is_ok() {
            wait.recv_timeout(PATIENCE).ok();
        }
    }
}

fn write(lines: &Receiver<Item>) {
    for item in lines {
        match item {
            Item::Line(line) => writeln!(io::stderr(), "engine-emulator: {line}").ok(),
            Item::Flush(done) => done.send(()).ok(),
        };
    }
}
