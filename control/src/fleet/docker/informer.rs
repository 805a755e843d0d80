//! Who is in the fleet, kept true: events say when to look, and only the list
//! says what is there. So no event can be misread, and one that is lost costs
//! at most the time to the next look.

use std::{collections::HashSet, future::pending, pin::pin, sync::Arc, time::Duration};

use futures_util::StreamExt;
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};

use super::{DockerError, DockerUri, container::Found, daemon::Daemon};
use crate::fleet::Member;

/// Time between two looks when nothing happens.
const RELIST: Duration = Duration::from_secs(10);
/// From an event to the look that it asks for.
const AFTER_EVENT: Duration = Duration::from_millis(100);
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

/// The members, once known. An empty list as well when the first try failed.
type Roster = Option<Arc<[Member]>>;

/// Follows one daemon; ends when dropped.
#[derive(Debug)]
pub(crate) struct Informer {
    roster: watch::Receiver<Roster>,
    /// Held for the task in it.
    _follower: JoinSet<()>,
}

impl Informer {
    /// Begins to follow, on the runtime it is called on.
    pub(crate) fn start(uri: DockerUri) -> Self {
        let (tell, roster) = watch::channel(None);
        let mut follower = JoinSet::new();
        follower.spawn(follow(uri, tell));
        Self { roster, _follower: follower }
    }

    /// The engines that were there at the last successful look.
    pub(crate) fn members(&self) -> Arc<[Member]> {
        self.roster.borrow().clone().unwrap_or_default()
    }

    /// Whether there was a look, or one was tried in vain, and
    /// [`Self::changed`] has told of it.
    pub(crate) fn is_known(&self) -> bool {
        self.roster.borrow().is_some() && !self.roster.has_changed().unwrap_or(false)
    }

    /// Returns after the next change.
    pub(crate) async fn changed(&mut self) {
        // The other end lives as long as this one, in the task held above.
        if self.roster.changed().await.is_err() {
            pending().await
        }
    }
}

/// Asks and asks again. A daemon that does not answer takes nothing away:
/// engines go on without it.
async fn follow(uri: DockerUri, roster: watch::Sender<Roster>) {
    let mut teller = Teller { uri: uri.to_string(), roster, complained_of: HashSet::new(), is_lost: false };
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
    let (mut look_at, mut earliest) = (Instant::now(), Instant::now());
    let mut settled_at = Some(look_at + SETTLED);
    loop {
        tokio::select! {
            event = events.next() => {
                event.ok_or(DockerError::Closed)??;
                let now = Instant::now();
                look_at = look_at.min((now + AFTER_EVENT).max(earliest));
                settled_at = Some(now + SETTLED);
            }
            () = sleep_until(look_at) => {
                teller.found(daemon.engines().await?);
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
    roster: watch::Sender<Roster>,
    /// Containers whose fault is in the log already; those that are gone are
    /// forgotten.
    complained_of: HashSet<Arc<str>>,
    is_lost: bool,
}

impl Teller {
    fn found(&mut self, found: Found) {
        let before = std::mem::take(&mut self.complained_of);
        for (id, name, why) in found.unusable {
            if !before.contains(&id) {
                let remedy = why.remedy();
                tracing::warn!(container = %name, %why, remedy, "a container labelled as engine cannot be used");
            }
            self.complained_of.insert(id);
        }
        if std::mem::take(&mut self.is_lost) {
            tracing::info!(docker = self.uri, engines = found.members.len(), "Docker answers now");
        }
        let members: Arc<[Member]> = found.members.into();
        self.roster.send_if_modified(|roster| {
            let differs = roster.as_deref() != Some(&*members);
            if differs {
                *roster = Some(members);
            }
            differs
        });
    }

    fn lost(&mut self, error: &DockerError) {
        if !std::mem::replace(&mut self.is_lost, true) {
            let remedy = error.remedy();
            tracing::warn!(docker = self.uri, %error, remedy, "Docker does not answer; it is asked again until it does");
        }
        self.roster.send_if_modified(|roster| {
            let is_first = roster.is_none();
            roster.get_or_insert_default();
            is_first
        });
    }
}
