//! The units of a fleet in Docker: what each list, deed and moment means for
//! all of them, and what is to be done next. Decides; does no I/O itself.

mod carry;
mod demand;
mod fates;
mod ground;
mod image;
mod lease;
mod lists;
mod look;
mod orders;
mod ports;
mod scaling;
mod served;
mod settings;
mod spec;
mod storm;
mod tidings;
mod trial;
mod unit;
mod work;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use millrace_boundary::Monotonic;

use crate::{
    autoscale::{Autoscaler, ProfileError, UnitId},
    engines::{Engine, Engines},
    fleet::docker::{EngineSpec, FleetName, Hint, HostLook, Seen},
    journal::Journal,
    template::{Template, Templates, Wants},
    unit::{Deed, Event, Leave, Limits, Order, Stage},
};
use demand::Demand;
use fates::Fates;
use image::Image;
pub(crate) use lease::Lease;
pub use look::{FleetLook, look_at_fleet};
pub(crate) use orders::{Made, Rescale, Unmade};
use ports::Ports;
use served::Served;
pub use settings::{CacheKind, Container, DockerFleet, Pull, Recycle, Scale};
use storm::Storm;
pub use trial::{Tried, try_fleet};
pub(crate) use unit::Unit;
pub(crate) use work::{Outcome, Work};

/// Deeds under way at once: a daemon does not get faster by more.
const AT_ONCE: usize = 8;
/// A container of ours without a unit is somebody's mistake by then: one that is
/// being made has its unit within a second.
const STRAY_AFTER: Duration = Duration::from_secs(10);
/// Strays known at once.
const STRAYS: usize = 1_000;
/// Between two looks at how much containers have written.
const DISK_INTERVAL: Duration = Duration::from_secs(60);
/// Before a host that did not answer is asked again.
const HOST_RETRY: Duration = Duration::from_secs(2);

/// The fleet.
#[derive(Debug)]
pub(crate) struct Units {
    settings: DockerFleet,
    fleet: FleetName,
    list: Vec<Unit>,
    next_id: u32,
    autoscaler: Autoscaler,
    demand: Demand,
    ports: Ports,
    /// No port was free: none is looked for before this.
    no_port_until: Option<Monotonic>,
    /// What engines may be made of.
    pub(crate) templates: Templates,
    host: Option<HostLook>,
    host_asked: Option<Monotonic>,
    /// It is being asked: two at once would contend for the lease.
    host_is_asked: bool,
    /// The right to run this fleet; without it nothing is adopted, made or removed.
    lease: Option<Arc<Lease>>,
    /// Another server has it.
    is_shared: bool,
    /// The last list that came without it.
    unheard: Option<(Vec<Seen>, Monotonic)>,
    spec: Option<Arc<EngineSpec>>,
    wants: Wants,
    image: Image,
    /// Whether the breaker lets none be made.
    is_broken: bool,
    /// What has happened.
    pub(crate) journal: Journal,
    storm: Storm,
    works: VecDeque<Work>,
    in_flight: usize,
    /// Deeds that wait for the pace.
    paced: VecDeque<(UnitId, Deed)>,
    strays: BTreeMap<Arc<str>, Monotonic>,
    /// Names of all containers in the last list.
    seen_names: BTreeSet<Arc<str>>,
    disk: HashMap<Arc<str>, u64>,
    disk_at: Option<Monotonic>,
    /// Whether a list has been seen.
    is_known: bool,
    answers: bool,
    /// Since when it does, or does not.
    answers_since: Monotonic,
    /// The newest replacement of everything, on request.
    rolling: Rolling,
    /// The image is pulled at the next look, whatever the policy is.
    pull_now: bool,
    fates: Fates,
    /// How much engines served.
    pub(crate) served: Served,
    /// What the policy said last.
    pub(crate) last_plan: scaling::LastPlan,
    /// Since when a unit has been over a limit.
    pressed: HashMap<UnitId, (Leave, Monotonic)>,
    /// Deeds done, by kind and outcome.
    pub(crate) counts: tidings::Counts,
    names: u32,
}

/// How far a replacement of all engines is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Rolling {
    /// Whether some have yet to be replaced.
    pub(crate) running: bool,
    /// Engines there were when it began.
    pub(crate) total: usize,
    /// Those replaced.
    pub(crate) done: usize,
}

impl Units {
    /// None yet.
    pub(crate) fn new(settings: DockerFleet, fleet: FleetName, templates: Templates, now: Monotonic) -> Self {
        Self {
            autoscaler: Autoscaler::new(scaling::policy(&settings, None), now),
            demand: Demand::default(),
            ports: Ports::new(settings.container.ports.clone()),
            no_port_until: None,
            fleet,
            list: Vec::new(),
            next_id: 0,
            templates,
            host: None,
            host_asked: None,
            host_is_asked: false,
            lease: None,
            is_shared: false,
            unheard: None,
            spec: None,
            wants: Wants::default(),
            image: Image::default(),
            is_broken: false,
            journal: Journal::default(),
            storm: Storm::default(),
            works: VecDeque::new(),
            in_flight: 0,
            paced: VecDeque::new(),
            strays: BTreeMap::new(),
            seen_names: BTreeSet::new(),
            disk: HashMap::new(),
            disk_at: None,
            is_known: false,
            answers: false,
            answers_since: now,
            rolling: Rolling::default(),
            pull_now: false,
            fates: Fates::default(),
            served: Served::default(),
            last_plan: scaling::LastPlan::default(),
            pressed: HashMap::new(),
            counts: tidings::Counts::default(),
            names: 0,
            settings,
        }
    }

    /// What the operator wants.
    pub(crate) fn settings(&self) -> &DockerFleet {
        &self.settings
    }

    /// All of them, oldest first.
    pub(crate) fn all(&self) -> &[Unit] {
        &self.list
    }

    /// The autoscaler, for people.
    pub(crate) fn autoscaler(&self) -> &Autoscaler {
        &self.autoscaler
    }

    /// Takes over what was learned of the demand before.
    ///
    /// # Errors
    /// When it is nothing of the kind.
    pub(crate) fn take_over(&mut self, peaks: &[f32]) -> Result<(), ProfileError> {
        self.autoscaler.import_profile(peaks)
    }

    /// The image, for people.
    pub(crate) fn image(&self) -> &Image {
        &self.image
    }

    /// What engines are made from, once the host is known.
    pub(crate) fn spec(&self) -> Option<&Arc<EngineSpec>> {
        self.spec.as_ref()
    }

    /// The one of this id.
    pub(crate) fn get(&self, id: UnitId) -> Option<&Unit> {
        self.list.iter().find(|unit| unit.id == id)
    }

    /// What engines are made of: the template that the settings name, or else the
    /// active one; none when there is none of that name.
    pub(crate) fn template(&self) -> Option<&Template> {
        spec::template(&self.settings.container, &self.templates)
    }

    /// The unit whose container this is.
    pub(crate) fn of_container(&self, container: &str) -> Option<&Unit> {
        self.list.iter().find(|unit| unit.container.as_deref() == Some(container))
    }

    /// Whether Docker answers, and since when that is so.
    pub(crate) fn docker_answers(&self) -> (bool, Monotonic) {
        (self.answers, self.answers_since)
    }

    /// Takes in what events told of deaths.
    pub(crate) fn hear(&mut self, hints: Vec<Hint>) {
        hints.into_iter().for_each(|hint| self.fates.hear(hint));
    }

    fn limits(&self) -> Limits {
        let Recycle { boot_limit, drain_limit, .. } = self.settings.recycle;
        Limits { boot: boot_limit, drain: drain_limit }
    }

    /// Whether Docker answers; what it said last stays true while it does not.
    pub(crate) fn daemon(&mut self, refusal: Option<(String, &'static str)>, answers: bool, now: Monotonic) {
        if self.answers != answers {
            self.answers_since = now;
        }
        if answers {
            self.journal.close("docker_lost", "Docker answers again");
            if !self.answers {
                // Another daemon may have come up in its place.
                self.host_asked = None;
            }
        } else if let Some((message, remedy)) = refusal {
            // The informer has told the log.
            self.journal.open_quietly("docker_lost", format!("Docker does not answer: {message}"), remedy);
        }
        self.answers = answers;
    }

    /// Whether as many engines as there shall be at least take streams, or none
    /// can be made.
    pub(crate) fn has_its_minimum(&self) -> bool {
        let ready = self.list.iter().filter(|unit| unit.life.stage() == Stage::Ready).count();
        let least =
            self.settings.scale.manual.unwrap_or(self.settings.scale.min).min(self.settings.scale.max);
        ready >= least || self.is_shared || !self.image.may_come() || self.is_broken
    }

    /// Every container of ours is to go, because the server ends.
    pub(crate) fn leave_all(&mut self, engines: &mut Engines, now: Monotonic) {
        self.settings.scale.max = 0;
        self.settings.container.stop_grace = Duration::from_secs(1);
        for place in 0..self.list.len() {
            self.list[place].leaving = Some(Leave::Asked);
            self.on(place, Event::Order(Order::Kill), engines, now);
        }
        self.sweep(engines, now);
        self.works.retain(|work| !matches!(work, Work::Image { .. } | Work::Host { .. } | Work::Disk));
    }

    fn take_id(&mut self) -> UnitId {
        let id = UnitId(self.next_id);
        self.next_id = self.next_id.saturating_add(1);
        id
    }

    /// Time passed: every unit moves on, what is ripe is replaced, and the
    /// policy is asked. `waiting` streams wait for a slot.
    pub(crate) fn tick(&mut self, waiting: u32, hour: Option<u32>, engines: &mut Engines, now: Monotonic) {
        self.ask_host(now);
        let by_identity: HashMap<Arc<str>, usize> = engines
            .all()
            .iter()
            .enumerate()
            .map(|(place, engine)| (Arc::clone(engine.identity()), place))
            .collect();
        let (mut ill, mut run) = (0, 0);
        for unit in &self.list {
            run += usize::from(unit.runs());
            ill += usize::from(matches!(unit.life.stage(), Stage::Ailing(_)));
        }
        let is_storm = self.storm.is_on(ill, run, now);
        self.tell_storm(is_storm, ill, run);
        // One at a time shows whether mending helps.
        let mut one_mends = self.list.iter().any(|unit| {
            unit.life.mends() > 0 && matches!(unit.life.stage(), Stage::Mending | Stage::Booting)
        });
        let usual = self.autoscaler.policy().capacity;
        for place in 0..self.list.len() {
            let engine = self.list[place].container.as_ref().and_then(|c| by_identity.get(c)).copied();
            let may_mend = self.answers && !(is_storm && one_mends);
            let before = self.list[place].life.stage();
            let engine = engine.and_then(|at| engines.all().get(at));
            let sense = self.list[place].sense(engine, usual, may_mend, now);
            self.apply(place, Event::Tick, sense, engines, now);
            let began = matches!(before, Stage::Ailing(_))
                && !matches!(self.list[place].life.stage(), Stage::Ailing(_) | Stage::Ready);
            one_mends |= began;
        }
        let Self { served, list, .. } = self;
        served.look(now, || {
            let ought = list.iter().filter(|unit| served::ought_to_serve(&unit.life));
            ought
                .fold((0, 0), |(all, healthy), unit| (all + 1, healthy + u32::from(unit.is_healthy(engines))))
        });
        self.recycle(engines, now);
        self.roll(engines, now);
        let taken = engines.all().iter().map(|engine| engine.slots.taken()).fold(0, u32::saturating_add);
        let waiting = self.demand.look(waiting, taken, now);
        self.scale(waiting, hour, engines, now);
        self.begin_paced(now);
        self.tell_pull(now);
        self.sweep(engines, now);
        self.ask_disk(now);
        engines.set_growing(self.is_growing(), now);
    }

    /// An event that needs no fresh look at the engine.
    fn on(&mut self, place: usize, event: Event, engines: &mut Engines, now: Monotonic) {
        let usual = self.autoscaler.policy().capacity;
        let unit = &mut self.list[place];
        let engine = unit.container.as_deref().and_then(|container| engines.by_identity(container));
        let sense = unit.sense(engine, usual, self.answers, now);
        self.apply(place, event, sense, engines, now);
    }

    /// Gives an order to a unit; false when there is none.
    pub(crate) fn order(&mut self, id: UnitId, order: Order, engines: &mut Engines, now: Monotonic) -> bool {
        let Some(place) = self.place(id) else { return false };
        self.list[place].leaving = match order {
            Order::Remove(why) | Order::Remake(why) => Some(why),
            Order::Kill => {
                self.list[place].in_haste = true;
                Some(Leave::Asked)
            }
            Order::Restart | Order::Drain | Order::Undrain | Order::Pause | Order::Wake => {
                self.list[place].leaving
            }
        };
        self.on(place, Event::Order(order), engines, now);
        self.sweep(engines, now);
        true
    }

    fn place(&self, id: UnitId) -> Option<usize> {
        self.list.iter().position(|unit| unit.id == id)
    }

    /// Forgets units that are gone, and gives their ports back.
    fn sweep(&mut self, engines: &mut Engines, now: Monotonic) {
        let mut gone = false;
        let ports = &mut self.ports;
        self.list.retain(|unit| {
            let stays = unit.life.stage() != Stage::Gone;
            if !stays {
                gone = true;
                ports.release(unit.all_ports());
            }
            stays
        });
        if gone {
            self.no_port_until = self.no_port_until.map(|_| now);
            let list = &self.list;
            self.pressed.retain(|id, _| list.iter().any(|unit| unit.id == *id));
            self.paced.retain(|(id, _)| list.iter().any(|unit| unit.id == *id));
            engines.set_growing(self.is_growing(), now);
        }
    }

    /// The next thing to be done to Docker, if another may be under way.
    pub(crate) fn take_work(&mut self) -> Option<Work> {
        let urgent =
            self.works.iter().position(|work| matches!(work, Work::Unit { deed: Deed::Unpause, .. }));
        let work = match urgent {
            Some(at) => self.works.remove(at),
            None if self.in_flight < AT_ONCE => self.works.pop_front(),
            None => None,
        };
        self.in_flight += usize::from(work.is_some());
        work
    }

    fn ask_host(&mut self, now: Monotonic) {
        let lacks = self.host.is_none() || self.lease.is_none();
        let is_due = self.host_asked.is_none_or(|asked| lacks && now.since(asked) >= HOST_RETRY);
        if self.answers && is_due && !self.host_is_asked {
            self.host_asked = Some(now);
            self.host_is_asked = true;
            let (fleet, lease) = (self.fleet.clone(), self.lease.clone());
            self.works.push_back(Work::Host { fleet, lease });
        }
    }

    fn ask_disk(&mut self, now: Monotonic) {
        let is_due = self.disk_at.is_none_or(|at| now.since(at) >= DISK_INTERVAL);
        if is_due && self.answers && self.settings.recycle.max_disk > 0 && !self.list.is_empty() {
            self.disk_at = Some(now);
            self.works.push_back(Work::Disk);
        }
    }

    fn engine_of<'a>(&self, unit: &Unit, engines: &'a Engines) -> Option<&'a Engine> {
        engines.by_identity(unit.container.as_deref()?)
    }
}
