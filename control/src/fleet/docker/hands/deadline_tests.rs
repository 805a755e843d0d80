//! In front of a daemon that takes connections and never answers. Time is the
//! test's own: it passes as soon as everybody waits.

use std::{os::unix::net::UnixListener, path::PathBuf};

use bollard::API_DEFAULT_VERSION;
use futures_util::{FutureExt, future::BoxFuture};
use tokio::{sync::watch, time::Instant};

use super::*;
use crate::fleet::docker::{
    image::{ImageRef, PullPolicy},
    pull::{Progress, PullLimits, SILENCE, pull},
    spec::tests::example,
};

/// A socket with nobody at it.
struct Deaf {
    path: PathBuf,
    _listener: UnixListener,
}

impl Drop for Deaf {
    fn drop(&mut self) {
        std::fs::remove_file(&self.path).ok();
    }
}

fn deaf(name: &str) -> (Deaf, Hands) {
    let path = std::env::temp_dir().join(format!("millrace-deaf-{}-{name}.sock", std::process::id()));
    let listener = UnixListener::bind(&path).unwrap();
    let docker = Docker::connect_with_unix(path.to_str().unwrap(), 5, API_DEFAULT_VERSION).unwrap();
    (Deaf { path, _listener: listener }, Hands::new(&docker, FleetName::parse("test").unwrap()))
}

#[tokio::test(start_paused = true)]
async fn a_daemon_that_does_not_answer_is_waited_for_no_longer_than_the_deadline() {
    type Act = for<'a> fn(&'a Hands, &'a ContainerId) -> BoxFuture<'a, Result<(), DockerError>>;
    let (_deaf, hands) = deaf("verbs");
    let id = ContainerId::parse("4f1d0c8f9a3b").unwrap();
    let acts: [(&str, Act, u64); 12] = [
        ("inspect", |h, id| async { h.inspect(id).await.map(drop) }.boxed(), 5),
        ("start", |h, id| h.start(id).boxed(), 60),
        ("pause", |h, id| h.pause(id).boxed(), 10),
        ("unpause", |h, id| h.unpause(id).boxed(), 10),
        ("kill", |h, id| h.kill(id).boxed(), 10),
        ("stop", |h, id| h.stop(id, Duration::from_millis(29_001)).boxed(), 45),
        ("stop at last", |h, id| h.stop(id, Duration::MAX).boxed(), 3_615),
        ("restart", |h, id| h.restart(id, Duration::from_secs(30)).boxed(), 105),
        ("remove", |h, id| h.remove(id).boxed(), 30),
        ("log", |h, id| async { h.log_tail(id, 1, 1).await.map(drop) }.boxed(), 5),
        ("sizes", |h, _| async { h.disk_usage().await.map(drop) }.boxed(), 60),
        ("host", |h, _| async { h.host().await.map(drop) }.boxed(), 5),
    ];
    for (name, act, seconds) in acts {
        hands.known().note(&id, Standing::Ours);
        let begun = Instant::now();
        let error = act(&hands, &id).await.unwrap_err();
        let limit = Duration::from_secs(seconds);
        assert!(matches!(error, DockerError::Silent(l) if l == limit), "{name}: {error:?}");
        assert_eq!(begun.elapsed().as_secs(), seconds, "{name}");
    }
    // What is not known to be ours is looked at first.
    hands.known().forget(&id);
    let begun = Instant::now();
    assert!(matches!(hands.stop(&id, Duration::ZERO).await, Err(DockerError::Silent(LOOK))));
    assert_eq!(begun.elapsed().as_secs(), 5);

    let begun = Instant::now();
    let ports = Ports { http: 1, https: Some(2), api: None, p2p: None };
    let error = hands.create(&example(), &ports, "engine-1").await.unwrap_err();
    assert!(matches!(error, DockerError::Silent(CREATE)), "{error:?}");
    assert_eq!(begun.elapsed(), Duration::from_secs(60));

    let begun = Instant::now();
    let cleared = hands.clear_trials().await;
    assert!(matches!(cleared, Err(DockerError::Silent(LOOK))), "{cleared:?}");
    assert_eq!(begun.elapsed(), Duration::from_secs(5));
    let begun = Instant::now();
    let Trial { made, left } = hands.try_out(&example(), &ports).await;
    assert!(matches!(made, Err(DockerError::Silent(CREATE))), "{made:?}");
    assert!(matches!(left, Some(DockerError::Silent(LOOK))), "{left:?}");
    assert_eq!(begun.elapsed(), Duration::from_secs(60 + 1 + 2 + 4 + 4 * 5));
}

#[tokio::test(start_paused = true)]
async fn a_pull_that_shows_nothing_ends_at_the_nearer_limit() {
    let (_deaf, hands) = deaf("pull");
    let image = ImageRef::parse("engine:1").unwrap();
    for (whole, expected, seconds) in [(3_600, "PullStalled", 60), (30, "PullSlow", 30)] {
        let limits = PullLimits { silence: SILENCE, whole: Duration::from_secs(whole) };
        let begun = Instant::now();
        let error = pull(&hands.docker, &image, "linux/amd64", None, limits, |_| ()).await.unwrap_err();
        assert!(format!("{error:?}").starts_with(expected), "{error:?}");
        assert_eq!(begun.elapsed().as_secs(), seconds, "{expected}");
    }
    let (told, _) = watch::channel(Progress::default());
    let begun = Instant::now();
    let error = hands.fetch(&image, PullPolicy::Missing, None, SILENCE, &told).await.unwrap_err();
    assert!(matches!(error, DockerError::Silent(LOOK)), "{error:?}");
    assert_eq!(begun.elapsed().as_secs(), 5);
}
