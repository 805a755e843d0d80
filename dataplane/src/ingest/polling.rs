//! Asking an engine how a session does, for as long as it lasts.
//!
//! On a task of its own: whatever the engine makes of it, no byte waits.

use std::{rc::Rc, time::Duration};

use millrace_boundary::{Cause, Monotonic};

use super::{
    engine::{self, Failure, Stat},
    session::Session,
    source::Source,
};
use crate::{
    context::{Context, random},
    rt::sleep,
};

/// Between two questions while somebody waits for the stream to start.
const EAGER: Duration = Duration::from_secs(1);
/// Between two questions while it plays.
const CALM: Duration = Duration::from_secs(5);
/// Up to so many milliseconds less.
const UNEVEN: u64 = 1_000;

/// Asks until the source has ended.
pub(super) async fn poll(source: Rc<Source>, session: Rc<Session>, context: Rc<Context>, path: String) {
    let mut judge = Judge::default();
    let mut failures = 0u32;
    while !source.is_stopped() && session.has(&source) {
        let asked = Monotonic::now();
        match engine::stat(source.address, &path).await {
            Ok(stat) => {
                failures = 0;
                let finding = judge.look(&stat);
                source.stat.replace(Some(stat));
                session.told(&context, &source, finding);
            }
            Err(Failure { cause: Cause::SessionLost, .. }) => {
                session.told(&context, &source, Finding::Lost);
                return;
            }
            // It says nothing about the stream; asked less often it costs less.
            Err(_) => failures = (failures + 1).min(4),
        }
        // Streams that began together are not asked about together for ever.
        let pause = if session.is_waiting_for(&source) {
            EAGER
        } else {
            CALM - Duration::from_millis(random() % UNEVEN)
        };
        let took = Monotonic::now().since(asked);
        sleep((pause * (1 << failures)).saturating_sub(took).max(Duration::from_millis(200))).await;
    }
}

/// What an answer means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// Nothing new.
    Nothing,
    /// The engine gets somewhere: more of the prebuffer, or of the content.
    Progress,
    /// The session has failed, as the engine says.
    Failed(String),
    /// The engine has forgotten the session.
    Lost,
}

/// Tells progress from answers in a row.
#[derive(Debug, Default)]
struct Judge {
    downloaded: u64,
    progress: u32,
}

impl Judge {
    fn look(&mut self, stat: &Stat) -> Finding {
        if matches!(&*stat.status, "err" | "error") {
            return Finding::Failed(stat.error.clone().unwrap_or_else(|| "no reason given".to_owned()));
        }
        // Both may step back; only what was never reached before counts.
        let downloaded = stat.downloaded.unwrap_or(0);
        let progress = stat.progress.unwrap_or(0).min(100);
        let is_more = downloaded > self.downloaded || progress > self.progress;
        self.downloaded = self.downloaded.max(downloaded);
        self.progress = self.progress.max(progress);
        if is_more { Finding::Progress } else { Finding::Nothing }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_what_was_never_reached_before() {
        let stat = |downloaded, progress| Stat {
            status: "prebuf".to_owned(),
            downloaded: Some(downloaded),
            progress: Some(progress),
            ..Stat::default()
        };
        let mut judge = Judge::default();
        for (name, answer, finding) in [
            ("nothing yet", stat(0, 0), Finding::Nothing),
            ("bytes", stat(16_384, 0), Finding::Progress),
            ("the same", stat(16_384, 0), Finding::Nothing),
            ("a step back", stat(0, 0), Finding::Nothing),
            ("where it was", stat(16_384, 0), Finding::Nothing),
            ("prebuffer", stat(16_384, 3), Finding::Progress),
            ("more than all", stat(16_384, 4_000_000), Finding::Progress),
            ("more than all again", stat(16_384, 5_000_000), Finding::Nothing),
        ] {
            assert_eq!(judge.look(&answer), finding, "{name}");
        }
        let failed = Stat { status: "err".to_owned(), error: Some("x".to_owned()), ..Stat::default() };
        assert_eq!(judge.look(&failed), Finding::Failed("x".to_owned()));
    }
}
