//! Who is in the fleet, kept true: events say when to look, and only the list
//! says what is there. So no event can be misread, and one that is lost costs
//! at most the time to the next look.

use std::{
    collections::{BTreeMap, HashSet},
    future::pending,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bollard::models::EventMessage;
use futures_util::StreamExt;
use millrace_boundary::Monotonic;
use tokio::{
    sync::{Notify, watch},
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};

use super::{
    DockerError, DockerUri,
    container::{Found, Seen},
    daemon::Daemon,
    events::{Hint, Hints, Known},
};
use crate::fleet::Member;

/// Time between two looks when nothing happens.
const RELIST: Duration = Duration::from_secs(10);
/// From an event to the look that it asks for.
const AFTER_EVENT: Duration = Duration::from_millis(100);
/// From a deed of our own to the look that shows it, whether or not an event
/// tells of it: what is listed sooner may show what was before.
const AFTER_DEED: Duration = Duration::from_millis(250);
/// Docker tells of a death before its list has forgotten the dead, and of an
/// event stream not at all when it begins: so it is looked at once more.
const SETTLED: Duration = Duration::from_secs(1);
/// Between two looks, whatever happens: containers that die again and again
/// cost the daemon two looks a second.
const LIST_PAUSE: Duration = Duration::from_millis(500);
/// First pause before a daemon that failed is asked again; doubles.
const RETRY_FIRST: Duration = Duration::from_millis(250);
/// Longest such pause.
const RETRY_LONGEST: Duration = Duration::from_secs(5);

/// Who is there, once known. Nobody as well when the first try failed.
#[derive(Clone, Debug, Default)]
struct Roster {
    members: Arc<[Member]>,
    seen: Arc<[Seen]>,
    /// When the look began that showed it.
    begun: Monotonic,
    lenders: Arc<BTreeMap<Arc<str>, Arc<str>>>,
}

/// Follows one daemon; ends when dropped.
#[derive(Debug)]
pub(crate) struct Informer {
    roster: watch::Receiver<Option<Roster>>,
    client: Client,
    hints: Arc<Mutex<Hints>>,
    acted: Arc<Notify>,
    started: Arc<Notify>,
    /// Held for the task in it.
    _follower: JoinSet<()>,
}

impl Informer {
    /// Begins to follow, on the runtime it is called on.
    pub(crate) fn start(uri: DockerUri) -> Self {
        let (roster, heard) = watch::channel(None);
        let (link, client) = watch::channel(Link::Lost { since: Monotonic::now(), why: None });
        let hints = Arc::<Mutex<Hints>>::default();
        let (acted, started) = (Arc::<Notify>::default(), Arc::<Notify>::default());
        let mut follower = JoinSet::new();
        let teller = Teller {
            uri: uri.to_string(),
            roster,
            link,
            hints: Arc::clone(&hints),
            acted: Arc::clone(&acted),
            started: Arc::clone(&started),
            complained_of: HashSet::new(),
            is_lost: false,
        };
        follower.spawn(follow(uri, teller));
        Self { roster: heard, client: Client(client), hints, acted, started, _follower: follower }
    }

    /// The engines that were there at the last successful look.
    pub(crate) fn members(&self) -> Arc<[Member]> {
        self.roster.borrow().as_ref().map(|roster| Arc::clone(&roster.members)).unwrap_or_default()
    }

    /// All containers with our label that were there then, oldest first.
    pub(crate) fn seen(&self) -> Arc<[Seen]> {
        self.roster.borrow().as_ref().map(|roster| Arc::clone(&roster.seen)).unwrap_or_default()
    }

    /// When the last successful look began: what happened since is not in it.
    pub(crate) fn looked_at(&self) -> Monotonic {
        self.roster.borrow().as_ref().map(|roster| roster.begun).unwrap_or_default()
    }

    /// Why the daemon does not answer, and what helps.
    pub(crate) fn refusal(&self) -> Option<(String, &'static str)> {
        match &*self.client.0.borrow() {
            Link::Lost { why, .. } => why.clone(),
            Link::Up(_) => None,
        }
    }

    /// The id of the container whose network this one uses, if it does.
    pub(crate) fn lender(&self, id: &str) -> Option<Arc<str>> {
        self.roster.borrow().as_ref()?.lenders.get(id).cloned()
    }

    /// What events told of deaths since this was called last, oldest first; the
    /// last 64. The roster alone says whether an engine is there.
    pub(crate) fn hints(&mut self) -> Vec<Hint> {
        self.hints.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Whether the daemon answers, as far as is known.
    pub(crate) fn docker_answers(&self) -> bool {
        self.unanswered_since().is_none()
    }

    /// Since when it does not; from the start on until it did so first.
    pub(crate) fn unanswered_since(&self) -> Option<Monotonic> {
        match *self.client.0.borrow() {
            Link::Lost { since, .. } => Some(since),
            Link::Up(_) => None,
        }
    }

    /// Something was done to a container: it is looked at what came of it.
    pub(crate) fn has_acted(&self) {
        self.acted.notify_one();
    }

    /// A container was made to run, and a stream may wait for what is in it: that
    /// is looked at without delay, and then as after any other deed. Told often
    /// before the look, it looks once.
    pub(crate) fn has_started(&self) {
        self.started.notify_one();
    }

    /// [`Self::has_acted`] for whoever wants a look now; told often, it looks once.
    pub(crate) fn nudge(&self) -> Arc<Notify> {
        Arc::clone(&self.acted)
    }

    /// The daemon for whoever has something to ask of it or to tell it.
    pub(crate) fn client(&self) -> Client {
        self.client.clone()
    }

    /// Whether there was a look, or one was tried in vain, and
    /// [`Self::changed`] has told of it.
    pub(crate) fn is_known(&self) -> bool {
        self.roster.borrow().is_some() && !self.roster.has_changed().unwrap_or(false)
    }

    /// Returns after the next look, by a hint, or when the daemon was lost.
    pub(crate) async fn changed(&mut self) {
        // The other end lives as long as this one, in the task held above.
        if self.roster.changed().await.is_err() {
            pending().await
        }
    }
}

#[derive(Debug)]
enum Link {
    /// It does not answer.
    Lost {
        since: Monotonic,
        /// In words, with what helps; not before it was asked.
        why: Option<(String, &'static str)>,
    },
    /// It answered the last question.
    Up(Daemon),
}

/// Whichever connection there is to the daemon; a clone follows the same.
#[derive(Clone, Debug)]
pub(crate) struct Client(watch::Receiver<Link>);

impl Client {
    /// The daemon, while it answers. Ask anew for each command: after a loss
    /// there is another.
    pub(crate) fn daemon(&self) -> Option<Daemon> {
        match &*self.0.borrow() {
            Link::Lost { .. } => None,
            Link::Up(daemon) => Some(daemon.clone()),
        }
    }

    /// Returns when it was lost or found; never once nobody follows it any more.
    pub(crate) async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            pending().await
        }
    }
}

/// Asks and asks again. A daemon that does not answer takes nothing away:
/// engines go on without it.
async fn follow(uri: DockerUri, mut teller: Teller) {
    let mut pause = RETRY_FIRST;
    loop {
        let begun = Instant::now();
        let Err(error) = watch_daemon(&uri, &mut teller).await;
        teller.lost(&error);
        // Events that end at once, again and again, are no reason to hurry.
        if begun.elapsed() > RETRY_LONGEST {
            pause = RETRY_FIRST;
        }
        sleep(pause).await;
        pause = (pause * 2).min(RETRY_LONGEST);
    }
}

/// One connection's life: a look, and another after each event and pause.
async fn watch_daemon(uri: &DockerUri, teller: &mut Teller) -> Result<std::convert::Infallible, DockerError> {
    let daemon = Daemon::connect(uri).await?;
    let mut events = pin!(daemon.events());
    let mut known = Known::default();
    let (acted, started) = (Arc::clone(&teller.acted), Arc::clone(&teller.started));
    let (mut look_at, mut earliest) = (Instant::now(), Instant::now());
    let mut settled_at = Some(look_at + SETTLED);
    loop {
        tokio::select! {
            event = events.next() => {
                let event = event.ok_or(DockerError::Closed)??;
                teller.heard(&event);
                if known.concerns(&event) {
                    let now = Instant::now();
                    look_at = look_at.min((now + AFTER_EVENT).max(earliest));
                    settled_at = Some(now + SETTLED);
                }
            }
            () = acted.notified() => {
                let now = Instant::now();
                look_at = look_at.min((now + AFTER_DEED).max(earliest));
                settled_at = Some(now + SETTLED);
            }
            // As rare as what is made to run, so no pause is kept before it.
            () = started.notified() => {
                look_at = Instant::now();
                settled_at = Some(look_at + AFTER_DEED);
            }
            () = sleep_until(look_at) => {
                let begun = Monotonic::now();
                let listing = daemon.engines().await?;
                known = listing.known;
                teller.found(listing.found, begun, &daemon);
                let now = Instant::now();
                earliest = now + LIST_PAUSE;
                look_at = settled_at.take().unwrap_or(now + RELIST).max(earliest);
            }
        }
    }
}

/// Tells the fleet who is in it, and the log what the operator can mend, each
/// thing once.
#[derive(Debug)]
struct Teller {
    uri: String,
    roster: watch::Sender<Option<Roster>>,
    link: watch::Sender<Link>,
    hints: Arc<Mutex<Hints>>,
    acted: Arc<Notify>,
    started: Arc<Notify>,
    /// Containers whose fault is in the log already; those that are gone are
    /// forgotten.
    complained_of: HashSet<Arc<str>>,
    /// The log says that it does not answer.
    is_lost: bool,
}

impl Teller {
    fn found(&mut self, found: Found, begun: Monotonic, daemon: &Daemon) {
        let before = std::mem::take(&mut self.complained_of);
        for (one, why) in found.unusable() {
            if !before.contains(&one.id) {
                let remedy = why.remedy();
                tracing::warn!(container = %one.name, %why, remedy, "a container labelled as engine cannot be used");
            }
            self.complained_of.insert(Arc::clone(&one.id));
        }
        if std::mem::take(&mut self.is_lost) {
            tracing::info!(docker = self.uri, engines = found.members.len(), "Docker answers now");
        }
        self.link.send_if_modified(|link| {
            let was_lost = matches!(link, Link::Lost { .. });
            if was_lost {
                *link = Link::Up(daemon.clone());
            }
            was_lost
        });
        // Told even when it is the same: whoever waits for a deed to show wants to
        // know of when this is.
        self.roster.send_replace(Some(Roster {
            members: found.members.into(),
            seen: found.seen.into(),
            lenders: found.lenders.into(),
            begun,
        }));
    }

    fn heard(&self, event: &EventMessage) {
        let mut hints = self.hints.lock().unwrap_or_else(PoisonError::into_inner);
        if hints.hear(event, Monotonic::now()) {
            self.roster.send_modify(|_| {});
        }
    }

    fn lost(&mut self, error: &DockerError) {
        if !std::mem::replace(&mut self.is_lost, true) {
            let remedy = error.remedy();
            tracing::warn!(docker = self.uri, %error, remedy, "Docker does not answer; it is asked again until it does");
        }
        let is_new = self.link.send_if_modified(|link| {
            let was_up = matches!(link, Link::Up(_));
            let why = Some((error.to_string(), error.remedy()));
            match link {
                Link::Lost { why: known, .. } => *known = why,
                Link::Up(_) => *link = Link::Lost { since: Monotonic::now(), why },
            }
            was_up
        });
        self.roster.send_if_modified(|roster| {
            let is_first = roster.is_none();
            roster.get_or_insert_default();
            is_first || is_new
        });
    }
}
