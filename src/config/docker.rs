//! From settings to the fleet that is run in Docker.

use std::path::{Path, PathBuf};

use millrace_control::{Container, DockerFleet, DockerUri, Recycle, Scale};

use super::{
    complaint::Complaint,
    keys::docker as keys,
    kinds::{Bytes, Keep, Text},
    layers::Layers,
};

/// The settings of a fleet in Docker, whatever daemon it will be.
#[derive(Clone, Debug)]
pub(crate) struct Fleet {
    name: String,
    scale: Scale,
    container: Container,
    recycle: Recycle,
    keep: Keep,
    tls: Option<PathBuf>,
}

impl Fleet {
    pub(super) fn read(layers: &Layers, complaints: &mut Vec<Complaint>) -> Self {
        let count = |n: u32| usize::try_from(n).unwrap_or(usize::MAX);
        let some = |n: u32| (n > 0).then_some(n);
        let text = |Text(text): Text| (!text.is_empty()).then_some(text);
        let Bytes(memory) = layers.get(&keys::DOCKER_MEMORY, complaints);
        Self {
            name: layers.get(&keys::DOCKER_NAME, complaints).0,
            scale: Scale {
                min: count(layers.get(&keys::FLEET_MIN, complaints)),
                max: count(layers.get(&keys::FLEET_MAX, complaints)),
                spare_slots: layers.get(&keys::FLEET_SPARE, complaints),
                paused: count(layers.get(&keys::FLEET_PAUSED, complaints)),
                manual: some(layers.get(&keys::FLEET_MANUAL, complaints)).map(count),
                cooldown: layers.get(&keys::FLEET_COOLDOWN, complaints),
                min_life: layers.get(&keys::FLEET_MIN_LIFE, complaints),
                sustained: layers.get(&keys::FLEET_SUSTAINED, complaints),
                surplus: layers.get(&keys::FLEET_SURPLUS, complaints),
                step_up: count(layers.get(&keys::FLEET_STEP_UP, complaints)),
                step_down: count(layers.get(&keys::FLEET_STEP_DOWN, complaints)),
                starts_per_minute: layers.get(&keys::FLEET_STARTS, complaints),
                forecast: layers.get(&keys::FLEET_FORECAST, complaints),
                breaker_failures: layers.get(&keys::FLEET_BREAKER_FAILURES, complaints),
                breaker_pause: layers.get(&keys::FLEET_BREAKER_PAUSE, complaints),
            },
            container: Container {
                template: layers.get(&keys::DOCKER_TEMPLATE, complaints).0,
                image: text(layers.get(&keys::DOCKER_IMAGE, complaints)),
                pull: layers.get(&keys::DOCKER_PULL, complaints).0,
                pull_limit: layers.get(&keys::DOCKER_PULL_LIMIT, complaints),
                auth_file: layers.get(&keys::DOCKER_AUTH, complaints),
                memory: (memory > 0).then_some(memory),
                milli_cpus: some(layers.get(&keys::DOCKER_CPU, complaints)).map(|n| u64::from(n) * 10),
                pids: some(layers.get(&keys::DOCKER_PIDS, complaints)),
                nofile: some(layers.get(&keys::DOCKER_NOFILE, complaints)).map(u64::from),
                log_bytes: layers.get(&keys::DOCKER_LOG_SIZE, complaints).0,
                log_files: layers.get(&keys::DOCKER_LOG_FILES, complaints),
                cache: layers.get(&keys::DOCKER_CACHE, complaints).0,
                cache_bytes: layers.get(&keys::DOCKER_CACHE_SIZE, complaints).0,
                network: layers.get(&keys::DOCKER_NETWORK, complaints).0,
                publish_on: layers.get(&keys::DOCKER_PUBLISH, complaints),
                ports: layers.get(&keys::DOCKER_PORTS, complaints).0,
                predecessor_label: layers.get(&keys::DOCKER_LABEL, complaints).0,
                stop_grace: layers.get(&keys::DOCKER_GRACE, complaints),
            },
            recycle: Recycle {
                boot_limit: layers.get(&keys::FLEET_BOOT, complaints),
                drain_limit: layers.get(&keys::FLEET_DRAIN, complaints),
                max_age: layers.get(&keys::FLEET_MAX_AGE, complaints),
                max_sessions: layers.get(&keys::FLEET_MAX_SESSIONS, complaints).into(),
                max_memory_percent: layers.get(&keys::FLEET_MAX_MEMORY, complaints),
                max_cpu_percent: layers.get(&keys::FLEET_MAX_CPU, complaints),
                max_pids_percent: layers.get(&keys::FLEET_MAX_PIDS, complaints),
                max_disk: layers.get(&keys::FLEET_MAX_DISK, complaints).0,
            },
            keep: layers.get(&keys::DOCKER_KEEP, complaints).0,
            tls: layers.get(&keys::DOCKER_TLS, complaints),
        }
    }

    /// The fleet on this daemon.
    pub(crate) fn at(&self, uri: DockerUri, data_dir: Option<&Path>) -> DockerFleet {
        DockerFleet {
            uri,
            name: self.name.clone(),
            scale: self.scale.clone(),
            container: self.container.clone(),
            recycle: self.recycle,
            data_dir: data_dir.map(Path::to_owned),
            keep_engines: match self.keep {
                Keep::Yes => true,
                Keep::No => false,
                Keep::Supervised => std::env::var_os("INVOCATION_ID").is_some(),
            },
        }
    }

    /// Directory of the certificates for a daemon reached by TLS.
    pub(super) fn tls(&self) -> Option<&Path> {
        self.tls.as_deref()
    }

    /// Whether engines are made at all.
    pub(crate) fn makes_engines(&self) -> bool {
        self.scale.max > 0
    }

    /// Least and most engines, for a rule between them.
    pub(super) fn bounds(&self) -> (usize, usize) {
        (self.scale.min, self.scale.max)
    }
}
