//! What an engine's container goes through.

use std::{collections::BTreeMap, pin::pin, time::Instant};

use futures_util::StreamExt;

use super::*;
use crate::fleet::docker::{
    autopsy::{Autopsy, Cgroup},
    hands::private_docker::skip,
    labels,
    logs::{MOST_BYTES, MOST_LINES, Output},
};

const SOON: Duration = Duration::from_secs(10);

async fn ends(hands: &Hands, id: &ContainerId) -> Autopsy {
    assert!(becomes(SOON, async || !hands.inspect(id).await.unwrap().running).await, "{id} runs on");
    hands.inspect(id).await.unwrap()
}

#[tokio::test]
async fn a_container_is_made_started_frozen_restarted_stopped_and_removed() {
    let Some(daemon) = PrivateDocker::start() else { return };
    let hands = hands_on(&daemon).await;
    let spec = EngineSpec {
        cache: Cache::Volume,
        cache_dir: Some("/cache".into()),
        ..spec(&["run", "{http_port}"])
    };
    let id = hands.create(&spec, &ports(19000), "engine-1").await.unwrap();

    let format = "{{json .Config.Labels}}";
    let found = daemon.docker(&["inspect", "--format", format, "engine-1"]);
    let found = serde_json::from_str(&found).unwrap();
    let marks = labels::read(&found).unwrap();
    assert_eq!((marks.fleet, marks.spec, marks.ports), (fleet(), Some(spec.hash()), Some(ports(19000))));
    let format =
        "{{.Args}} {{.HostConfig.NanoCpus}} {{.HostConfig.PidsLimit}} {{.HostConfig.LogConfig.Config}}";
    assert_eq!(
        daemon.docker(&["inspect", "--format", format, "engine-1"]),
        "[run 19000] 500000000 64 map[max-file:2 max-size:1048576]"
    );
    let look = hands.inspect(&id).await.unwrap();
    assert_eq!((look.running, look.exit_code, look.started_at), (false, None, None));
    assert_eq!(daemon.docker(&["volume", "ls", "--quiet"]).lines().count(), 1);

    hands.start(&id).await.unwrap();
    hands.start(&id).await.unwrap();
    let first = hands.inspect(&id).await.unwrap();
    assert!(first.running && !first.paused && first.started_at.is_some(), "{first:?}");
    for _ in 0..2 {
        hands.pause(&id).await.unwrap();
        assert!(hands.inspect(&id).await.unwrap().paused);
    }
    for _ in 0..2 {
        hands.unpause(&id).await.unwrap();
        let look = hands.inspect(&id).await.unwrap();
        assert!(look.running && !look.paused, "{look:?}");
    }
    hands.restart(&id, Duration::from_secs(5)).await.unwrap();
    let second = hands.inspect(&id).await.unwrap();
    assert!(second.running && second.started_at > first.started_at, "{first:?} {second:?}");
    for _ in 0..2 {
        hands.stop(&id, Duration::from_secs(5)).await.unwrap();
    }
    let look = hands.inspect(&id).await.unwrap();
    // By SIGTERM: 128 + 15.
    assert_eq!((look.running, look.exit_code, look.oom_killed), (false, Some(143), false), "{look:?}");
    let unpaused = hands.unpause(&id).await.unwrap_err();
    assert!(matches!(unpaused, DockerError::Conflict(_) | DockerError::Failed(_)), "{unpaused:?}");

    hands.start(&id).await.unwrap();
    for _ in 0..2 {
        hands.kill(&id).await.unwrap();
        assert_eq!(ends(&hands, &id).await.exit_code, Some(137));
    }
    hands.start(&id).await.unwrap();
    hands.pause(&id).await.unwrap();
    for _ in 0..2 {
        hands.remove(&id).await.unwrap();
        assert!(matches!(hands.inspect(&id).await, Err(DockerError::Gone(_))));
    }
    assert_eq!(daemon.docker(&["volume", "ls", "--quiet"]), "");
    assert_eq!(daemon.docker(&["ps", "--all", "--quiet"]), "");
    let gone = hands.start(&id).await.unwrap_err();
    assert!(matches!(gone, DockerError::Gone(_)), "{gone:?}");
    // One that a restart has started is not removed when it cannot start again.
    let id = hands.create(&spec, &ports(19000), "engine-1").await.unwrap();
    hands.restart(&id, Duration::from_secs(5)).await.unwrap();
    hands.pause(&id).await.unwrap();
    let paused = hands.start(&id).await.unwrap_err();
    assert!(matches!(paused, DockerError::Conflict(_) | DockerError::Failed(_)), "{paused:?}");
    assert!(hands.inspect(&id).await.unwrap().paused);
    hands.remove(&id).await.unwrap();
    // Both that remove it at once are told that it is gone.
    let id = hands.create(&spec, &ports(19000), "engine-1").await.unwrap();
    hands.start(&id).await.unwrap();
    let (one, other) = tokio::join!(hands.remove(&id), hands.remove(&id));
    assert!(one.is_ok() && other.is_ok(), "{one:?} {other:?}");
}

#[tokio::test]
async fn how_a_container_ended_and_what_it_said_can_be_told() {
    let Some(daemon) = PrivateDocker::start() else { return };
    let hands = hands_on(&daemon).await;
    let begin = async |spec: &EngineSpec, name: &str| {
        let id = hands.create(spec, &ports(19000), name).await.unwrap();
        hands.start(&id).await.unwrap();
        id
    };

    let id = begin(&spec(&["exit", "3"]), "exits").await;
    let look = ends(&hands, &id).await;
    assert_eq!((look.exit_code, look.oom_killed, look.restart_count), (Some(3), false, 0), "{look:?}");
    // Docker may note the start after the end of one that is quick.
    assert!(look.finished_at.is_some() && look.started_at.is_some(), "{look:?}");

    // Process 1 is Docker's own, and starts without it.
    let nothing = EngineSpec { entrypoint: Some(vec!["/nothing".to_owned()]), ..spec(&[]) };
    let id = begin(&nothing, "nothing").await;
    assert_eq!(ends(&hands, &id).await.exit_code, Some(127));
    let said = hands.log_tail(&id, 1, 1_000).await.unwrap();
    assert!(said.iter().any(|line| line.text.contains("exec /nothing failed")), "{said:?}");

    let id = begin(&spec(&["deaf"]), "deaf").await;
    assert!(becomes(SOON, async || !hands.log_tail(&id, 1, 100).await.unwrap().is_empty()).await);
    let asked = Instant::now();
    hands.stop(&id, Duration::from_millis(1_500)).await.unwrap();
    let took = asked.elapsed();
    assert!(took >= Duration::from_millis(1_900) && took < Duration::from_secs(8), "{took:?}");
    assert_eq!(ends(&hands, &id).await.exit_code, Some(137));

    if daemon.docker(&["info", "--format", "{{.MemoryLimit}}"]) == "true" {
        let mut eats = spec(&["eat"]);
        eats.limits.memory_bytes = Some(32 << 20);
        let id = begin(&eats, "eats").await;
        let look = ends(&hands, &id).await;
        assert_eq!((look.exit_code, look.oom_killed), (Some(137), true), "{look:?}");
        hands.remove(&id).await.unwrap();
    } else {
        skip("memory cannot be limited here: nothing is killed for want of it");
    }

    let id = begin(&spec(&["say", "2000", "100"]), "says").await;
    let last = async || hands.log_tail(&id, 1, 200).await.unwrap().pop();
    assert!(becomes(SOON, async || last().await.is_some_and(|l| l.output == Output::Stderr)).await);
    let tail = hands.log_tail(&id, 3, 1_000).await.unwrap();
    let shown: Vec<_> = tail.iter().map(|line| &*line.text).collect();
    let said = |i: usize| format!("{i} {}", "x".repeat(100));
    assert_eq!(shown, [&*said(1_998), &*said(1_999), "[31mpassword ***"]);
    let tail = hands.log_tail(&id, usize::MAX, usize::MAX).await.unwrap();
    let bytes: usize = tail.iter().map(|line| line.text.len()).sum();
    assert!(tail.len() == MOST_LINES && bytes <= MOST_BYTES, "{} lines, {bytes} bytes", tail.len());
    let tail = hands.log_tail(&id, usize::MAX, 350).await.unwrap();
    assert_eq!(tail.len(), 4, "{tail:?}");

    let mut follow = pin!(hands.log_follow(&id, 2).await.unwrap());
    for expected in [&*said(1_999), "[31mpassword ***"] {
        let line = timeout(SOON, follow.next()).await.unwrap().unwrap().unwrap();
        assert_eq!(line.text, expected);
    }
    assert!(timeout(Duration::from_millis(300), follow.next()).await.is_err(), "nothing more was said");
    hands.kill(&id).await.unwrap();
    assert!(timeout(SOON, follow.next()).await.unwrap().is_none());

    let sizes = hands.disk_usage().await.unwrap();
    assert_eq!(sizes.len(), 4);
    assert!((300_000..400_000).contains(&sizes[&id]), "{sizes:?}");
    daemon.docker(&["run", "--detach", "--tty", "--name", "terminal", "--net", "host", IMAGE, "/tiny"]);
    let terminal =
        ContainerId::parse(&daemon.docker(&["inspect", "--format", "{{.Id}}", "terminal"])).unwrap();
    let refused = hands.log_follow(&terminal, 1).await.err().unwrap();
    assert!(matches!(refused, DockerError::Terminal(_)), "{refused:?}");

    let host = hands.host().await.unwrap();
    let info =
        daemon.docker(&["info", "--format", "{{.NCPU}} {{.MemTotal}} {{.DockerRootDir}} {{.CgroupVersion}}"]);
    let cgroup = if host.cgroup == Cgroup::V2 { 2 } else { 1 };
    assert_eq!(info, format!("{} {} {} {cgroup}", host.ncpu, host.mem_total, host.root_dir));
    assert_eq!((host.driver.as_str(), host.live_restore), ("vfs", false));
    let machine = BTreeMap::from([("x86_64", "linux/amd64"), ("aarch64", "linux/arm64")]);
    if let Some(platform) = machine.get(std::env::consts::ARCH) {
        assert_eq!(host.platform(), *platform);
    }
}
