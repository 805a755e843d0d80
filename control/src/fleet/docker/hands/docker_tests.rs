//! In front of a real Docker daemon.

mod life;
mod refusals;
mod registries;

use std::{net::Ipv4Addr, time::Duration};

use super::{super::labels::FleetName, *};
use crate::fleet::docker::{
    error::DockerError,
    hands::private_docker::{IMAGE, PrivateDocker},
    spec::{Cache, Limits, Network},
};

fn fleet() -> FleetName {
    FleetName::parse("test").unwrap()
}

async fn hands_on(daemon: &PrivateDocker) -> Hands {
    Hands::new(&daemon.connect("docker.sock").await, fleet())
}

/// The tiny program with these words, on a network of its own.
fn spec(words: &[&str]) -> EngineSpec {
    EngineSpec {
        image: IMAGE.to_owned(),
        entrypoint: Some(vec!["/tiny".to_owned()]),
        command: words.iter().map(|word| (*word).to_owned()).collect(),
        environment: vec![("PASSWORD".to_owned(), "hunter22".to_owned())],
        cache_dir: None,
        cache: Cache::Layer,
        limits: Limits {
            memory_bytes: None,
            nano_cpus: Some(500_000_000),
            pids: Some(64),
            nofile: Some(1024),
            log_bytes: 1 << 20,
            log_files: 2,
            shm_bytes: Some(1 << 20),
        },
        network: Network::Host,
        publish_on: Ipv4Addr::LOCALHOST.into(),
        variant: "tiny".to_owned(),
        extra_labels: Vec::new(),
    }
}

const fn ports(http: u16) -> Ports {
    Ports { http, https: None, api: None, p2p: None }
}

/// Waits until it is so; whether it was in time.
async fn becomes(limit: Duration, is_so: impl AsyncFn() -> bool) -> bool {
    let is_so = async {
        while !is_so().await {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(limit, is_so).await.is_ok()
}
