//! Viewers who check every packet of a signed broadcast as it comes.

use std::{
    io::ErrorKind,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant, SystemTime},
};

use millrace_emulator::{
    ContentId,
    signed::{Report, Verifier},
};

use super::{Viewer, pool::path_of, wait_until};

/// How often a viewer that is sent nothing looks around.
const LOOK: Duration = Duration::from_millis(50);

/// What one viewer has seen.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// The status it was answered with; 0 before.
    pub(crate) status: u16,
    /// Of the packets.
    pub(crate) report: Report,
    /// The longest time without a byte, after the first, beyond what the machine
    /// itself stood still for.
    pub(crate) longest_gap: Duration,
    /// The server closed, or the connection broke.
    pub(crate) ended: bool,
}

/// Viewers, each on a thread of its own.
pub(crate) struct Audience {
    leave: Arc<AtomicBool>,
    viewers: Vec<(Arc<Mutex<Seen>>, JoinHandle<()>)>,
}

impl Audience {
    /// `count` viewers, spread over `ids`.
    pub(crate) fn watch(address: SocketAddr, ids: &[ContentId], count: usize) -> Self {
        Self::watch_at(address, ids, count, path_of)
    }

    /// The same by the paths that `path` makes.
    pub(crate) fn watch_at(
        address: SocketAddr,
        ids: &[ContentId],
        count: usize,
        path: fn(ContentId) -> String,
    ) -> Self {
        let leave = Arc::new(AtomicBool::new(false));
        let join = |id: &ContentId| {
            let (id, seen, leave) = (*id, Arc::<Mutex<Seen>>::default(), Arc::clone(&leave));
            let shared = Arc::clone(&seen);
            (seen, thread::spawn(move || watch(address, id, &path(id), &shared, &leave)))
        };
        Self { viewers: ids.iter().cycle().take(count).map(join).collect(), leave }
    }

    /// What each has seen so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.viewers.iter().map(|(seen, _)| lock(seen).clone()).collect()
    }

    /// Waits until each has received a picture.
    #[must_use]
    pub(crate) fn all_play_within(&self, limit: Duration) -> bool {
        wait_until(limit, || self.seen().iter().all(|s| s.report.first.is_some()))
    }

    /// All leave; what each has seen.
    pub(crate) fn leave(self) -> Vec<Seen> {
        self.leave.store(true, Ordering::Relaxed);
        let seen = self.seen();
        for (_, thread) in self.viewers {
            thread.join().expect("a viewer's thread does not panic");
        }
        seen
    }
}

/// Panics unless each has received every packet once, in order, whole, without
/// a jump, a pause longer than `gap`, or an end.
pub(crate) fn assert_undisturbed(seen: &[Seen], gap: Duration) {
    for (i, seen) in seen.iter().enumerate() {
        let is_fine = seen.report.is_unbroken()
            && seen.report.signalled_jumps == 0
            && seen.longest_gap <= gap
            && !seen.ended;
        assert!(is_fine, "viewer {i} was disturbed: {seen:#?}");
    }
}

fn watch(address: SocketAddr, id: ContentId, path: &str, seen: &Mutex<Seen>, leave: &AtomicBool) {
    let mut verifier = id.verifier().expect("a signed broadcast");
    let end = || lock(seen).ended = true;
    let Ok(mut viewer) = Viewer::ask(address, path) else { return end() };
    match viewer.head(Duration::from_secs(40)) {
        Ok((status, _)) => lock(seen).status = status,
        Err(_) => return end(),
    }
    let mut piece = vec![0; 64 << 10];
    let mut last: Option<Instant> = None;
    let mut stood_still = Duration::ZERO;
    while !leave.load(Ordering::Relaxed) {
        let looked = Instant::now();
        let read = viewer.read_some(&mut piece, looked + LOOK);
        let now = Instant::now();
        // Woken later than asked for, nobody can say what could have come.
        stood_still += (now - looked).saturating_sub(LOOK);
        let mut seen = lock(seen);
        if let Some(last) = last {
            seen.longest_gap = seen.longest_gap.max((now - last).saturating_sub(stood_still));
        }
        match read {
            Ok(1..) if seen.status != 200 => {}
            Ok(read @ 1..) => {
                last = Some(now);
                stood_still = Duration::ZERO;
                push(&mut verifier, &piece[..read], &mut seen);
            }
            Err(error) if error.kind() == ErrorKind::TimedOut => {}
            Ok(_) | Err(_) => {
                seen.ended = true;
                return;
            }
        }
    }
}

fn push(verifier: &mut Verifier, bytes: &[u8], seen: &mut Seen) {
    verifier.push(bytes, SystemTime::now());
    seen.report = verifier.report();
}

fn lock(seen: &Mutex<Seen>) -> std::sync::MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}
