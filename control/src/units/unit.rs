//! One engine's place: its life, its container, and what belongs to both.

use std::sync::Arc;

use millrace_boundary::{EngineId, EngineState, Monotonic};

use crate::{
    autoscale::{UnitId, UnitState, UnitView},
    engine::Ailment,
    engines::{Engine, Engines},
    fleet::docker::{Ports, SpecHash},
    unit::{Ail, Leave, Life, Look, Sense, Stage, Then},
};

/// One place.
#[derive(Debug)]
pub(crate) struct Unit {
    /// Who.
    pub(crate) id: UnitId,
    /// Its life.
    pub(crate) life: Life,
    /// What its container is called.
    pub(crate) name: Arc<str>,
    /// Its container, while it has one.
    pub(crate) container: Option<Arc<str>>,
    /// Its ports.
    pub(crate) ports: Ports,
    /// What its container was made from.
    pub(crate) hash: Option<SpecHash>,
    /// Whether that differs from what is in force.
    pub(crate) drifted: bool,
    /// When its container was made.
    pub(crate) born: Monotonic,
    /// Its engine, while the table has it.
    pub(crate) engine: Option<EngineId>,
    /// Since when no stream is on it.
    pub(crate) idle_since: Option<Monotonic>,
    /// Whether its container has an address.
    pub(crate) reachable: bool,
    /// What it is to be replaced for, while it is.
    pub(crate) leaving: Option<Leave>,
    /// Its container has ended, and how is being asked.
    pub(crate) has_died: bool,
    /// The container that has.
    pub(crate) died_as: Option<Arc<str>>,
    /// Its container was made, and has yet to show whether it works.
    pub(crate) on_trial: bool,
    /// Somebody wants it made anew.
    pub(crate) is_worn: bool,
    /// It is to go without time to end by itself.
    pub(crate) in_haste: bool,
    /// Restarts and new containers so far.
    pub(crate) restarts: u32,
    /// Streams on it at the last look.
    pub(crate) taken: u32,
    /// Its slots at the last look, those included that it gets when its first
    /// stream has started.
    pub(crate) capacity: u32,
    /// Whether it took one stream at a time then, for it has yet to show that it works.
    pub(crate) is_tried: bool,
}

impl Unit {
    /// Without a container, and with nothing known of its engine.
    pub(super) fn new(
        id: UnitId,
        life: Life,
        name: Arc<str>,
        ports: Ports,
        capacity: u32,
        born: Monotonic,
    ) -> Self {
        Self {
            id,
            life,
            name,
            container: None,
            ports,
            hash: None,
            drifted: false,
            born,
            engine: None,
            idle_since: None,
            reachable: true,
            leaving: None,
            has_died: false,
            died_as: None,
            on_trial: false,
            is_worn: false,
            in_haste: false,
            restarts: 0,
            taken: 0,
            capacity,
            is_tried: false,
        }
    }

    /// What is known of it now; an engine that is not there yet has as many slots
    /// as is `usual`.
    pub(crate) fn sense(
        &mut self,
        engine: Option<&Engine>,
        usual: u32,
        may_mend: bool,
        now: Monotonic,
    ) -> Sense {
        self.engine = engine.map(|engine| engine.id);
        self.taken = engine.map_or(0, |engine| engine.slots.taken());
        // What it bears: one that is tried has a single slot for a moment, and is
        // no reason to make another one.
        self.capacity = engine.map_or(usual, Engine::bears);
        self.is_tried = engine.is_some_and(Engine::is_tried);
        match self.taken {
            0 => self.idle_since = self.idle_since.or(Some(now)),
            _ => self.idle_since = None,
        }
        // One that we have not started ran before it was first probed.
        let was_found = !self.on_trial && self.restarts == 0;
        let started = self.life.started();
        let probed_good = engine.and_then(|engine| engine.life.last_probe()).is_some_and(|probe| {
            let is_of_now = probe.at > started || was_found || self.life.stage() != Stage::Booting;
            probe.failure.is_none() && is_of_now
        });
        let is_good = probed_good
            && engine.is_some_and(|engine| {
                matches!(engine.life.state(), EngineState::Ready | EngineState::Draining)
            });
        let ails_already = match self.life.stage() {
            Stage::Ailing(ail) => Some(ail),
            _ => None,
        };
        let ail = match engine {
            _ if !self.reachable => Some(Ail::Unreachable),
            // It has an address again, where it may not be any more.
            Some(engine) if engine.life.state() == EngineState::Booting => ails_already.map(|_| Ail::Api),
            Some(engine) => engine.life.ail().map(|ail| match ail {
                Ailment::Api => Ail::Api,
                Ailment::Offline => Ail::Offline,
                Ailment::Starts => Ail::Starts,
            }),
            // The list has it, and the table has yet to.
            None => ails_already,
        };
        Sense { is_good, ail, taken: self.taken, may_mend }
    }

    /// As the policy sees it.
    pub(crate) fn view(&self) -> UnitView {
        let state = match self.life.stage() {
            Stage::Making => UnitState::Creating,
            Stage::Booting => UnitState::Booting,
            Stage::Ready => UnitState::Ready,
            Stage::Ailing(_) => UnitState::Degraded,
            Stage::Emptying(_, Then::Restart | Then::Remake)
            | Stage::Mending
            | Stage::Burying(_)
            | Stage::Quarantined(_) => UnitState::Mending,
            Stage::Emptying(_, Then::Remove | Then::Hold) => UnitState::Draining,
            Stage::Pausing | Stage::Paused => UnitState::Paused,
            Stage::Waking => UnitState::Booting,
            Stage::Leaving | Stage::Gone => UnitState::Stopping,
        };
        UnitView {
            id: self.id,
            state,
            taken: self.taken,
            capacity: self.capacity,
            born: self.born,
            idle_since: self.idle_since,
            drifted: self.drifted,
        }
    }

    /// Whether it serves: it is ready, and its engine takes streams.
    pub(crate) fn is_healthy(&self, engines: &Engines) -> bool {
        let engine = self.container.as_deref().and_then(|container| engines.by_identity(container));
        self.life.stage() == Stage::Ready
            && engine.is_some_and(|engine| engine.life.state() == EngineState::Ready)
    }

    /// Whether it is being replaced although nothing is wrong with it.
    pub(crate) fn is_being_replaced(&self) -> bool {
        let stage = self.life.stage();
        let leaves = self.leaving.is_some_and(|why| why != Leave::Surplus)
            && !matches!(stage, Stage::Ready | Stage::Ailing(_) | Stage::Quarantined(_));
        // Its place is taken once the new one is ready.
        leaves || (self.on_trial && matches!(stage, Stage::Making | Stage::Booting | Stage::Mending))
    }

    /// Every port it has.
    pub(crate) fn all_ports(&self) -> impl Iterator<Item = u16> + use<> {
        let Ports { http, https, api, p2p } = self.ports;
        [Some(http), https, api, p2p].into_iter().flatten()
    }

    /// Whether it has a container that may play.
    pub(crate) fn runs(&self) -> bool {
        matches!(self.life.stage(), Stage::Ready | Stage::Ailing(_) | Stage::Emptying(..))
    }

    /// Whether it may be said to have a free slot soon.
    pub(crate) fn is_coming(&self) -> bool {
        match self.life.stage() {
            Stage::Making
            | Stage::Booting
            | Stage::Mending
            | Stage::Waking
            | Stage::Pausing
            | Stage::Paused
            | Stage::Emptying(_, Then::Restart | Then::Remake) => true,
            Stage::Ready => self.is_tried && self.taken < self.capacity,
            Stage::Ailing(_)
            | Stage::Emptying(_, Then::Remove | Then::Hold)
            | Stage::Burying(_)
            | Stage::Quarantined(_)
            | Stage::Leaving
            | Stage::Gone => false,
        }
    }
}

/// What a container's state means here.
pub(crate) fn look(state: crate::fleet::docker::ContainerState, reachable: bool) -> Look {
    use crate::fleet::docker::ContainerState;
    match state {
        ContainerState::Running | ContainerState::Restarting => Look::Running { reachable },
        ContainerState::Paused => Look::Paused,
        ContainerState::Created
        | ContainerState::Exited
        | ContainerState::Dead
        | ContainerState::Removing => Look::Down,
    }
}
