//! Asking an engine for a playlist, and what its answer means.

use std::{rc::Rc, time::Duration};

use millrace_boundary::{Cause, Monotonic};
use millrace_media::hls::source::{ListError, MAX_BODY, MediaList, Playlist, Unsupported, parse};

use crate::{
    context::Context,
    ingest::engine::{Failure, Pool, path_and_query},
    rt::{sleep, within},
};

/// Redirects followed, and master playlists that lead to the next.
const STEPS: usize = 5;
/// An engine whose list was there has this long for the next one.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// Between two questions while there is no list: at first, and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(4);

/// A media playlist of an engine, by its address.
pub(super) struct Listing {
    /// Where it is; a master playlist and redirects are behind us.
    pub(super) path: String,
    pub(super) list: MediaList,
    /// When it was asked for.
    pub(super) asked: Monotonic,
}

/// The first list that has segments.
///
/// An engine that is not ready holds the request, answers 500, or sends a text
/// or a list without segments: all but the first are told to `refused` and asked
/// again.
pub(super) async fn first(
    context: &Context,
    pool: &Pool,
    path: &str,
    deadline: Monotonic,
    refused: impl Fn(&Failure),
) -> Result<Listing, Failure> {
    let mut pause = FIRST_PAUSE;
    loop {
        let left = deadline.since(Monotonic::now());
        let last = match ask(context, pool, path, left).await {
            Ok(listing) if listing.list.segments.is_empty() && !listing.list.is_ended => {
                Failure::new(Cause::StartFailed, "engine sends a playlist without segments")
            }
            Ok(listing) => return Ok(listing),
            Err(failure) if is_unready(&failure) => failure,
            Err(failure) => return Err(failure),
        };
        refused(&last);
        if Monotonic::now() + pause >= deadline {
            return Err(last);
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

fn is_unready(failure: &Failure) -> bool {
    failure.cause == Cause::StartFailed && !failure.detail.contains("failed to start")
}

/// The next list of a source that plays.
///
/// # Errors
/// With what ends the source; without one when only this list did not come.
pub(super) async fn next(
    context: Rc<Context>,
    pool: Rc<Pool>,
    path: String,
) -> Result<Listing, Option<Failure>> {
    ask(&context, &pool, &path, ANSWER_LIMIT).await.map_err(|failure| match failure.cause {
        // Of a session that played this is the end.
        Cause::StartFailed if failure.detail.contains("download not found") => {
            Some(Failure { cause: Cause::SessionLost, ..failure })
        }
        Cause::SessionLost
        | Cause::EngineUnreachable
        | Cause::NotTransportStream
        | Cause::ContentRestricted => Some(failure),
        cause => {
            tracing::debug!(cause = cause.as_str(), detail = failure.detail, "no playlist");
            None
        }
    })
}

async fn ask(context: &Context, pool: &Pool, path: &str, limit: Duration) -> Result<Listing, Failure> {
    let late = || Failure::new(Cause::EngineSilent, "engine sends no playlist in time");
    within(limit, ask_on(context, pool, path, limit)).await.ok_or_else(late)?
}

async fn ask_on(context: &Context, pool: &Pool, path: &str, limit: Duration) -> Result<Listing, Failure> {
    let asked = Monotonic::now();
    let mut path = path.to_owned();
    for _ in 0..=STEPS {
        let mut reply = pool.ask(&path, limit).await?;
        match reply.status {
            200 => {
                let body = reply.body(context, MAX_BODY).await?;
                pool.take_back(reply);
                match parse(&body, &path).map_err(|error| unusable(&error))? {
                    Playlist::Media(list) => return Ok(Listing { path, list, asked }),
                    Playlist::Master(master) => {
                        let best = master.best().map(|variant| variant.uri.clone());
                        let none = "engine sends a master playlist without variants";
                        path = best.ok_or_else(|| Failure::new(Cause::StartFailed, none))?;
                    }
                }
            }
            301 | 302 | 303 | 307 | 308 => {
                let to = reply.location.as_deref().and_then(path_and_query);
                let none = "engine redirects without a usable location";
                path = to.ok_or_else(|| Failure::new(Cause::EngineError, none))?;
            }
            _ => {
                let failure = reply.complaint(context).await;
                pool.take_back(reply);
                return Err(failure);
            }
        }
    }
    Err(Failure::new(Cause::EngineError, format!("engine leads on more than {STEPS} times")))
}

/// Why a playlist is of no use.
fn unusable(error: &ListError) -> Failure {
    let cause = match error {
        ListError::NotAPlaylist => Cause::StartFailed,
        ListError::TooLong { .. } | ListError::TooMany => Cause::EngineError,
        ListError::Unsupported(Unsupported::Encrypted) => Cause::ContentRestricted,
        ListError::Unsupported(_) => Cause::NotTransportStream,
    };
    Failure::new(cause, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_list_is_asked_again_and_what_cannot_be_played_is_not() {
        let media = |lines: &str| format!("#EXTM3U\n{lines}#EXTINF:5,\n0.ts\n");
        for (body, cause, is_asked_again) in [
            ("Loading, please wait".to_owned(), Cause::StartFailed, true),
            (String::new(), Cause::StartFailed, true),
            (media("#EXT-X-KEY:METHOD=AES-128,URI=\"k\"\n"), Cause::ContentRestricted, false),
            (media("#EXT-X-MAP:URI=\"i.mp4\"\n"), Cause::NotTransportStream, false),
            (media("#EXT-X-BYTERANGE:1@0\n"), Cause::NotTransportStream, false),
            (format!("#EXTM3U\n{}", "#EXTINF:1,\na\n".repeat(5_000)), Cause::EngineError, false),
        ] {
            let failure = unusable(&parse(body.as_bytes(), "/k.m3u8").unwrap_err());
            assert_eq!((failure.cause, is_unready(&failure)), (cause, is_asked_again), "{body:.60}");
        }
        for (text, is_asked_again) in
            [("start timeout", true), ("download not found", true), ("failed to start", false)]
        {
            let failure = Failure::new(Cause::StartFailed, format!("engine answers 500: {text}"));
            assert_eq!(is_unready(&failure), is_asked_again, "{text}");
        }
    }
}
