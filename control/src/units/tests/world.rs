//! A made-up Docker, with units in front of it and engines that answer.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::atomic::{AtomicU32, Ordering},
};

use crate::{
    fleet::{
        Member,
        docker::{ContainerState, DockerError, FLEET_LABEL, PORTS_LABEL, SPEC_LABEL},
    },
    probe::{Answer, ProbeFailure},
    random::Random,
    units::*,
};

/// Between two turns of the loop.
pub(super) const TURN: Duration = Duration::from_millis(250);

/// A Docker of which each thing is known, and what was done to it.
pub(super) struct World {
    pub(super) units: Units,
    pub(super) engines: Engines,
    pub(super) now: Monotonic,
    /// By id, oldest first.
    pub(super) docker: BTreeMap<String, Seen>,
    pub(super) made: u32,
    /// What comes of making one.
    pub(super) refuses: Option<fn() -> DockerError>,
    /// Ids of containers whose API is silent.
    pub(super) silent: Vec<String>,
    /// All that was done, in order.
    pub(super) deeds: Vec<(Deed, Arc<str>)>,
    pub(super) strays: Vec<Arc<str>>,
    pub(super) looks: u32,
    /// Of this world alone: others are in this process.
    pub(super) daemon: String,
}

/// Engines nobody scales: two at least, and nothing is done for spare slots.
pub(super) fn settings() -> DockerFleet {
    DockerFleet {
        uri: crate::fleet::docker::DockerUri::default(),
        name: "main".into(),
        scale: Scale {
            min: 2,
            max: 4,
            spare_slots: 0,
            paused: 0,
            manual: None,
            cooldown: Duration::from_secs(60),
            min_life: Duration::from_secs(120),
            sustained: Duration::from_secs(10),
            surplus: Duration::from_secs(60),
            step_up: 2,
            step_down: 1,
            starts_per_minute: 6_000,
            forecast: false,
            breaker_failures: 5,
            breaker_pause: Duration::from_secs(300),
        },
        container: Container {
            template: String::new(),
            image: Some("a/engine:1".into()),
            pull: Pull::Missing,
            pull_limit: Duration::from_secs(900),
            auth_file: None,
            memory: None,
            milli_cpus: None,
            pids: None,
            nofile: None,
            log_bytes: 1 << 20,
            log_files: 1,
            cache: CacheKind::Layer,
            cache_bytes: 1 << 20,
            // Ports of another's network are given without being tried.
            network: "container:vpn".into(),
            publish_on: [127, 0, 0, 1].into(),
            ports: 19_000..=19_999,
            predecessor_label: None,
            stop_grace: Duration::from_secs(1),
        },
        recycle: Recycle {
            boot_limit: Duration::from_secs(60),
            drain_limit: Duration::from_secs(60),
            max_age: Duration::ZERO,
            max_sessions: 0,
            max_memory_percent: 90,
            max_cpu_percent: 0,
            max_pids_percent: 90,
            max_disk: 0,
        },
        data_dir: None,
        keep_engines: true,
    }
}

impl World {
    /// A server that has just begun, and has heard nothing.
    pub(super) fn new(change: impl FnOnce(&mut DockerFleet)) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let now = Monotonic(Duration::from_secs(1_000));
        let mut settings = settings();
        change(&mut settings);
        let fleet = FleetName::parse(&settings.name).unwrap();
        let (templates, _) = Templates::load(None);
        let mut units = Units::new(settings, fleet, templates, now);
        units.set_capacity(3);
        Self {
            units,
            engines: Engines::new(3, Duration::from_secs(5), Random::new(1), now),
            now,
            docker: BTreeMap::new(),
            made: 0,
            refuses: None,
            silent: Vec::new(),
            deeds: Vec::new(),
            strays: Vec::new(),
            looks: 0,
            daemon: format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed)),
        }
    }

    /// The same once it has its engines.
    pub(super) fn ready(change: impl FnOnce(&mut DockerFleet)) -> Self {
        let mut world = Self::new(change);
        world.run(5);
        assert!(world.all_are(Stage::Ready), "{:?}", world.stages());
        world.deeds.clear();
        world
    }

    pub(super) fn stages(&self) -> Vec<(String, Stage)> {
        self.units.all().iter().map(|unit| (unit.name.to_string(), unit.life.stage())).collect()
    }

    pub(super) fn all_are(&self, stage: Stage) -> bool {
        !self.units.all().is_empty() && self.units.all().iter().all(|unit| unit.life.stage() == stage)
    }

    pub(super) fn names(&self) -> Vec<&str> {
        self.units.all().iter().map(|unit| &*unit.name).collect()
    }

    pub(super) fn codes(&self) -> Vec<&'static str> {
        self.units.journal.events(None, usize::MAX).map(|event| event.code).collect()
    }

    pub(super) fn count(&self, code: &str) -> usize {
        self.codes().into_iter().filter(|other| *other == code).count()
    }

    /// A container that is there, whoever made it.
    pub(super) fn container(&mut self, name: &str, state: ContainerState, labels: &[(&str, &str)]) -> String {
        self.made += 1;
        let id = format!("{:04}", self.made);
        let port = u16::try_from(30_000 + self.made).unwrap();
        let fleet = [("io.millrace.engine", "true"), (FLEET_LABEL, "main")];
        let labels = fleet.iter().chain(labels).map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let seen = Seen {
            id: id.as_str().into(),
            name: name.into(),
            state,
            address: Ok(SocketAddr::from(([127, 0, 0, 1], port))),
            labels: Arc::new(labels.collect()),
            created: i64::from(self.made),
            image: "a/engine:1".into(),
        };
        self.docker.insert(id.clone(), seen);
        id
    }

    pub(super) fn state(&mut self, id: &str, state: ContainerState) {
        self.docker.get_mut(id).unwrap().state = state;
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.docker.values().cloned().collect()
    }

    /// Docker's list of now is taken in.
    pub(super) fn list(&mut self) {
        self.take(&self.seen(), self.now);
    }

    pub(super) fn take(&mut self, seen: &[Seen], begun: Monotonic) {
        let running = seen.iter().filter(|one| one.state == ContainerState::Running);
        let member = |one: &Seen| {
            let address = *one.address.as_ref().ok()?;
            Some(Member { identity: Arc::clone(&one.id), name: Arc::clone(&one.name), address, source: None })
        };
        let running: Vec<_> = running.filter_map(member).collect();
        self.units.daemon(None, true, self.now);
        self.engines.adopt(&self.units.members(&running, seen), self.now);
        self.units.listed(seen, begun, &mut self.engines, self.now);
    }

    /// Whatever is to be done is done, or refused.
    pub(super) fn work(&mut self) {
        while let Some(work) = self.units.take_work() {
            let outcome = self.outcome(work);
            self.units.done(outcome, &mut self.engines, self.now);
        }
    }

    pub(super) fn outcome(&mut self, work: Work) -> Outcome {
        match work {
            Work::Host { fleet, lease } => {
                let lease = lease.or_else(|| Lease::take(&host(&self.daemon), &fleet).map(Arc::new));
                Outcome::Host(Ok((host(&self.daemon), lease)))
            }
            Work::Image { image, .. } => {
                self.looks += 1;
                Outcome::Image { image, result: Ok(()) }
            }
            Work::Stray { container, name } => {
                self.strays.push(Arc::clone(&name));
                self.docker.remove(&*container);
                Outcome::Stray { container, name, autopsy: None, result: Ok(()) }
            }
            Work::Disk => Outcome::Disk(Ok(HashMap::new())),
            Work::Unit { unit, deed, container, recipe, .. } => {
                let name =
                    recipe.as_ref().map_or_else(|| self.name_of(unit), |recipe| Arc::clone(&recipe.name));
                self.deeds.push((deed, name));
                let (container, result) = self.deed(deed, container, recipe);
                Outcome::Unit { unit, deed, container, result, autopsy: None, took: Duration::ZERO }
            }
        }
    }

    pub(super) fn name_of(&self, id: UnitId) -> Arc<str> {
        self.units.place(id).map_or_else(|| "".into(), |place| Arc::clone(&self.units.list[place].name))
    }

    pub(super) fn deed(
        &mut self,
        deed: Deed,
        container: Option<Arc<str>>,
        recipe: Option<work::Recipe>,
    ) -> (Option<Arc<str>>, Result<(), DockerError>) {
        match deed {
            Deed::Make | Deed::Remake => {
                if let Some(container) = container {
                    self.docker.remove(&*container);
                }
                if let Some(refusal) = self.refuses {
                    return (None, Err(refusal()));
                }
                let recipe = recipe.unwrap();
                let (ports, hash) = (recipe.ports.to_string(), recipe.spec.hash().to_string());
                let labels = [(PORTS_LABEL, ports.as_str()), (SPEC_LABEL, hash.as_str())];
                (Some(self.container(&recipe.name, ContainerState::Running, &labels).into()), Ok(()))
            }
            Deed::Bury | Deed::Dispose => {
                container.and_then(|container| self.docker.remove(&*container));
                (None, Ok(()))
            }
            Deed::Revive | Deed::Unpause | Deed::Pause => {
                let state =
                    if deed == Deed::Pause { ContainerState::Paused } else { ContainerState::Running };
                let Some(seen) = container.as_deref().and_then(|id| self.docker.get_mut(id)) else {
                    return (container, Err(DockerError::Gone("it".into())));
                };
                seen.state = state;
                (container, Ok(()))
            }
        }
    }

    /// Every probe that is due is answered by whoever runs.
    pub(super) fn probe(&mut self) {
        while let Some((id, _)) = self.engines.next_due(self.now) {
            let identity = self.engines.get(id).map(|engine| Arc::clone(engine.identity())).unwrap();
            let runs = self.docker.get(&*identity).is_some_and(|one| one.state == ContainerState::Running);
            let answers = runs && !self.silent.iter().any(|silent| **silent == *identity);
            let answer = Answer { version: "3.2.11".into(), platform: None, connected: Some(true) };
            self.engines.probed(id, if answers { Ok(answer) } else { Err(ProbeFailure::Silent) }, self.now);
        }
    }

    pub(super) fn turn(&mut self) {
        self.now = self.now + TURN;
        self.engines.tick(self.now);
        self.units.tick(0, None, &mut self.engines, self.now);
        self.work();
        self.probe();
    }

    /// So many seconds pass, with a list in each half.
    pub(super) fn run(&mut self, seconds: u32) {
        for turn in 0..seconds * 4 {
            self.turn();
            if turn % 2 == 0 {
                self.list();
            }
        }
    }

    pub(super) fn identity(&self, name: &str) -> String {
        let unit = self.units.all().iter().find(|unit| *unit.name == *name).unwrap();
        unit.container.as_deref().unwrap().to_owned()
    }
}

pub(super) fn host(id: &str) -> HostLook {
    HostLook {
        id: id.into(),
        architecture: "amd64".into(),
        cgroup: crate::fleet::docker::Cgroup::V2,
        live_restore: true,
        ncpu: 2,
        mem_total: 8 << 30,
        driver: "overlay2".into(),
        root_dir: "/var/lib/docker".into(),
    }
}
