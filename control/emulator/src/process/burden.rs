//! What the program takes of the machine for nothing, so that a container's
//! limits and whoever watches them have something to do.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use serde::Deserialize;

use super::log::Log;

/// How often a burden is looked at again.
const TICK: Duration = Duration::from_millis(20);
const TICKS_A_SECOND: u64 = 50;
const PART: usize = 64 << 10;
/// Rounds of a computation that stand for some time, far below a tick.
const ROUNDS: u32 = 100_000;

/// What is taken; nothing by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Burden {
    /// Bytes of memory a second, for ever.
    pub leak: u64,
    /// Threads that compute.
    pub burn: u32,
    /// Threads that sleep.
    pub threads: u32,
    /// Bytes of disk.
    pub fill: u64,
}

/// The threads that bear it. Those of an older burden end as soon as there is
/// a newer one, and give back what they took.
#[derive(Debug)]
pub(super) struct Bearers {
    newest: Arc<AtomicU64>,
    cache: PathBuf,
    log: Arc<Log>,
}

/// What a thread has to know.
struct Bearer {
    number: u64,
    newest: Arc<AtomicU64>,
    log: Arc<Log>,
}

impl Bearers {
    pub(super) fn new(cache: PathBuf, log: Arc<Log>) -> Self {
        Self { newest: Arc::default(), cache, log }
    }

    pub(super) fn bear(&self, burden: Burden) {
        let number = self.newest.fetch_add(1, Ordering::Relaxed) + 1;
        self.log.say(&format!("bears {burden:?}"));
        let Burden { leak, burn, threads, fill } = burden;
        if leak > 0 {
            self.spawn(number, move |it| it.leak(leak));
        }
        if fill > 0 {
            let path = self.cache.join(format!("fill-{number}"));
            self.spawn(number, move |it| it.fill(&path, fill));
        }
        for _ in 0..burn {
            self.spawn(number, Bearer::burn);
        }
        for count in 0..threads {
            if !self.spawn(number, Bearer::sleep) {
                self.log.say(&format!("{count} of {threads} threads is all there are"));
                return;
            }
        }
    }

    fn spawn(&self, number: u64, bear: impl FnOnce(&Bearer) + Send + 'static) -> bool {
        let it = Bearer { number, newest: Arc::clone(&self.newest), log: Arc::clone(&self.log) };
        let spawned = thread::Builder::new().name("burden".to_owned()).spawn(move || bear(&it));
        if let Err(error) = &spawned {
            self.log.say(&format!("cannot start a thread: {error}"));
        }
        spawned.is_ok()
    }
}

impl Bearer {
    fn is_newest(&self) -> bool {
        self.newest.load(Ordering::Relaxed) == self.number
    }

    fn leak(&self, bytes_per_second: u64) {
        let mut leaked = Vec::new();
        let part = usize::try_from(bytes_per_second.div_ceil(TICKS_A_SECOND)).unwrap_or(usize::MAX);
        while self.is_newest() {
            // Not zeros, which the kernel would not have to keep.
            leaked.push(vec![1_u8; part]);
            thread::sleep(TICK);
        }
    }

    fn fill(&self, path: &Path, bytes: u64) {
        let mut written = 0;
        // An image need not have it.
        let made = path.parent().map_or(Ok(()), fs::create_dir_all);
        let filled = made.and_then(|()| File::create(path)).and_then(|mut file| {
            while written < bytes && self.is_newest() {
                file.write_all(&[1; PART])?;
                written += PART as u64;
            }
            Ok(())
        });
        match filled {
            Ok(()) => self.log.say(&format!("wrote {written} bytes to {}", path.display())),
            Err(error) => {
                self.log.say(&format!("cannot write {} beyond {written} bytes: {error}", path.display()));
            }
        }
        self.sleep();
        // It may never have been there.
        fs::remove_file(path).ok();
    }

    fn burn(&self) {
        let mut sum = 0_u32;
        while self.is_newest() {
            sum = std::hint::black_box((0..ROUNDS).fold(sum, |sum, i| sum.rotate_left(5) ^ i));
        }
    }

    fn sleep(&self) {
        while self.is_newest() {
            thread::sleep(TICK * 10);
        }
    }
}
