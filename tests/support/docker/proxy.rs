//! A socket in front of the daemon's: it counts what is asked of the daemon,
//! and plays the faults that a healthy daemon does not have.
//!
//! Each connection has a thread, which passes request after request on to a
//! connection of its own and each answer back as it comes, also those without
//! an end, and those that stop being HTTP.

mod body;
mod carry;
mod route;

use std::{
    fs,
    net::Shutdown,
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::super::tool::Scratch;

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// The daemon gets it only when the fault is lifted.
    Hang,
    /// The daemon gets it, and its answer comes only when the fault is lifted.
    Lose,
    /// The answer begins so much later.
    Delay(Duration),
    /// The daemon does not get it; this status and message are the answer.
    Answer(u16, String),
    /// The head of the answer comes, and of its body nothing.
    Swallow,
    /// Each line of the answer's body comes twice.
    Duplicate,
    /// The connection ends after so many bytes of the answer's body.
    Truncate(usize),
}

impl Act {
    /// The daemon's words when its disk is full.
    pub(crate) fn disk_full() -> Self {
        let layer = "/var/lib/docker/overlay2/2bb6c7f1a5-init";
        Self::Answer(500, format!("mkdir {layer}: no space left on device"))
    }
}

/// How often a fault is played.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Times {
    /// Until it is lifted.
    Always,
    /// For the next so many requests.
    Next(u32),
}

/// A request that came.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) at: Instant,
    /// Method and path with its names replaced: `GET /containers/{id}/stats`.
    pub(crate) route: String,
    /// As sent.
    pub(crate) target: String,
    /// Until the last byte of the answer was passed on; none before that.
    pub(crate) took: Option<Duration>,
}

struct Rule {
    route: String,
    act: Act,
    times: Times,
    number: u64,
}

/// A client's connection, and what it waits for.
struct Open {
    number: u64,
    stream: UnixStream,
    route: String,
    /// The index of its request among all calls.
    call: usize,
}

#[derive(Default)]
struct State {
    calls: Vec<Call>,
    rules: Vec<Rule>,
    open: Vec<Open>,
    /// Of rules and connections.
    numbers: u64,
}

struct Shared {
    upstream: PathBuf,
    state: Mutex<State>,
}

/// The proxy. Dropped, it ends with all of its connections.
pub(crate) struct DockerProxy {
    scratch: Scratch,
    shared: Arc<Shared>,
    listening: Option<(UnixListener, JoinHandle<()>)>,
}

impl DockerProxy {
    /// One in front of the socket at `upstream`, which may come later.
    pub(crate) fn new(upstream: &Path) -> Self {
        let shared = Arc::new(Shared { upstream: upstream.to_owned(), state: Mutex::default() });
        let mut proxy = Self { scratch: Scratch::new(), shared, listening: None };
        proxy.open();
        proxy
    }

    /// Where it listens.
    pub(crate) fn socket(&self) -> PathBuf {
        self.scratch.path().join("docker.sock")
    }

    /// The same as Docker's clients want it.
    pub(crate) fn uri(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// Refuses connections, and ends those that are there.
    pub(crate) fn close(&mut self) {
        if let Some((listener, accepting)) = self.listening.take() {
            rustix::net::shutdown(&listener, rustix::net::Shutdown::Both).ok();
            accepting.join().expect("it does not panic");
        }
        self.cut("*");
    }

    /// Takes connections again after [`Self::close`].
    pub(crate) fn open(&mut self) {
        if self.listening.is_some() {
            return;
        }
        fs::remove_file(self.socket()).ok();
        let listener = UnixListener::bind(self.socket()).expect("our own directory");
        let (ours, shared) = (listener.try_clone().expect("a descriptor"), Arc::clone(&self.shared));
        let accepting = thread::spawn(move || accept(&listener, &shared));
        self.listening = Some((ours, accepting));
    }

    /// Plays `act` on requests of `route`, `*` being all of them. Of several
    /// that fit and are not used up, the last one set is played.
    pub(crate) fn play(&self, route: &str, act: Act, times: Times) {
        let mut state = self.shared.state();
        state.numbers += 1;
        let number = state.numbers;
        state.rules.push(Rule { route: route.to_owned(), act, times, number });
    }

    /// Lifts all faults; whatever hangs goes on.
    pub(crate) fn lift(&self) {
        self.shared.state().rules.clear();
    }

    /// Ends the connections on which an answer to `route` is awaited or under
    /// way, `*` being all connections; says how many.
    pub(crate) fn cut(&self, route: &str) -> usize {
        let state = self.shared.state();
        let these: Vec<_> = state.open.iter().filter(|open| route == "*" || open.route == route).collect();
        these.iter().for_each(|open| drop(open.stream.shutdown(Shutdown::Both)));
        these.len()
    }

    /// All requests so far, in order.
    pub(crate) fn calls(&self) -> Vec<Call> {
        self.shared.state().calls.clone()
    }

    /// Those since the first `seen`.
    pub(crate) fn calls_after(&self, seen: usize) -> Vec<Call> {
        self.shared.state().calls.iter().skip(seen).cloned().collect()
    }

    /// How many requests of `route` there were, `*` being all of them.
    pub(crate) fn count(&self, route: &str) -> usize {
        self.shared.state().calls.iter().filter(|call| route == "*" || call.route == route).count()
    }

    /// The same from `since` on, for a rate over a time.
    pub(crate) fn count_since(&self, route: &str, since: Instant) -> usize {
        let fits = |call: &&Call| (route == "*" || call.route == route) && since <= call.at;
        self.shared.state().calls.iter().filter(fits).count()
    }

    /// How many answers to `route` are awaited or under way.
    pub(crate) fn under_way(&self, route: &str) -> usize {
        self.shared.state().open.iter().filter(|open| open.route == route).count()
    }
}

impl Drop for DockerProxy {
    fn drop(&mut self) {
        self.lift();
        self.close();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a request; says what becomes of it, and by which rule.
    fn called(&self, connection: u64, route: String, target: &str) -> Option<(Act, u64)> {
        let mut state = self.state();
        let index = state.calls.len();
        let call = Call { at: Instant::now(), route: route.clone(), target: target.to_owned(), took: None };
        state.calls.push(call);
        let fits =
            |rule: &&mut Rule| rule.times != Times::Next(0) && (rule.route == "*" || rule.route == route);
        let played = state.rules.iter_mut().rev().find(fits).map(|rule| {
            if let Times::Next(left) = &mut rule.times {
                *left -= 1;
            }
            (rule.act.clone(), rule.number)
        });
        if let Some(open) = state.open.iter_mut().find(|open| open.number == connection) {
            (open.route, open.call) = (route, index);
        }
        played
    }

    /// The answer on a connection is complete.
    fn answered(&self, connection: u64) {
        let mut state = self.state();
        let State { open, calls, .. } = &mut *state;
        if let Some(open) = open.iter_mut().find(|open| open.number == connection) {
            open.route.clear();
            if let Some(call) = calls.get_mut(open.call) {
                call.took = Some(call.at.elapsed());
            }
        }
    }

    fn is_lifted(&self, rule: u64) -> bool {
        !self.state().rules.iter().any(|other| other.number == rule)
    }
}

/// Takes connections until the listener is shut down.
fn accept(listener: &UnixListener, shared: &Arc<Shared>) {
    while let Ok((client, _)) = listener.accept() {
        let Ok(stream) = client.try_clone() else { continue };
        let number = {
            let mut state = shared.state();
            state.numbers += 1;
            let number = state.numbers;
            state.open.push(Open { number, stream, route: String::new(), call: 0 });
            number
        };
        let shared = Arc::clone(shared);
        thread::spawn(move || {
            // Its end shows at both ends, and that is all there is to say.
            carry::carry(&shared, number, &client).ok();
            client.shutdown(Shutdown::Both).ok();
            shared.state().open.retain(|open| open.number != number);
        });
    }
}
