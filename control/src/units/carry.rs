//! Carrying out what lives ask for, and hearing what came of it.

use std::{sync::Arc, time::Duration};

use millrace_boundary::Monotonic;

use super::{
    Lease, Outcome, Units, Work, ports, spec, tidings,
    work::{Recipe, fault_of},
};
use crate::{
    autoscale::UnitId,
    engines::Engines,
    fleet::docker::{DockerError, Network, Ports},
    journal::{Autopsy, Entry},
    unit::{Deed, Effect, Event, Fault, Life, Sense, Tidings},
};

impl Units {
    /// Lets one unit's life hear of something, and does what it asks for.
    pub(super) fn apply(
        &mut self,
        place: usize,
        event: Event,
        sense: Sense,
        engines: &mut Engines,
        now: Monotonic,
    ) {
        let mut effects = Vec::new();
        self.list[place].life.on(event, sense, now, &mut effects);
        self.carry_out(place, effects, engines, now);
    }

    fn carry_out(&mut self, place: usize, effects: Vec<Effect>, engines: &mut Engines, now: Monotonic) {
        for effect in effects {
            let unit = &self.list[place];
            let engine = self.engine_of(unit, engines).map(|engine| engine.id);
            match effect {
                Effect::Do(deed) => self.ask_for(place, deed, now),
                Effect::Drain => engine.into_iter().for_each(|engine| engines.drain(engine, now)),
                Effect::Undrain => engine.into_iter().for_each(|engine| engines.undrain(engine, now)),
                Effect::Shelve => engine.into_iter().for_each(|engine| engines.pause(engine, now)),
                Effect::Wake => engine.into_iter().for_each(|engine| engines.wake(engine, now)),
                Effect::Tell(tidings) => {
                    if matches!(tidings, Tidings::Died | Tidings::Vanished | Tidings::Ails(_)) {
                        self.storm.fell(unit.id, now);
                    }
                    match tidings {
                        Tidings::Ready { .. } => {
                            // Only now is it replaced, and another one may be.
                            self.list[place].leaving = None;
                            self.proves(place, true, now);
                        }
                        Tidings::BootLimit(_) | Tidings::Died | Tidings::Vanished => {
                            self.proves(place, false, now);
                        }
                        _ => {}
                    }
                    self.tell(place, tidings);
                }
            }
        }
    }

    /// A container that was made has shown whether it works; told once for each.
    fn proves(&mut self, place: usize, worked: bool, now: Monotonic) {
        if std::mem::take(&mut self.list[place].on_trial) {
            self.autoscaler.created(worked, now);
        }
    }

    /// A unit's container is wanted: made by the next list of works.
    pub(super) fn add(&mut self, shelved: bool, now: Monotonic) -> Result<UnitId, ports::NoPort> {
        let ports = self.lease(now)?;
        let id = self.take_id();
        let mut effects = Vec::new();
        let life = Life::make(self.limits(), shelved, now, &mut effects);
        let name = self.next_name();
        let capacity = self.autoscaler.policy().capacity;
        let hash = self.spec.as_ref().map(|spec| spec.hash());
        self.list.push(super::Unit { hash, ..super::Unit::new(id, life, name, ports, capacity, now) });
        // The pace was asked by whoever adds.
        let place = self.list.len() - 1;
        self.push_deed(place, Deed::Make);
        Ok(id)
    }

    /// Ports for one engine, as many as its command line names.
    fn lease(&mut self, now: Monotonic) -> Result<Ports, ports::NoPort> {
        // Ports in a network of somebody else's cannot be tried from here.
        let is_ours = self.spec.as_ref().is_none_or(|spec| !matches!(spec.network, Network::Container(_)));
        let leased = self.ports.lease(now, self.wants, |port| !is_ours || ports::is_free(port))?;
        self.journal.close("ports_used_up", "a port is free again");
        Ok(leased)
    }

    /// Names rise, so that none is given twice: a container of that name may
    /// still be going.
    fn next_name(&mut self) -> Arc<str> {
        loop {
            self.names = self.names.wrapping_add(1);
            let name = self.fleet.engine(self.names);
            // Also by one that stopped while no server ran, until it is removed.
            let is_taken =
                self.list.iter().any(|unit| *unit.name == *name) || self.seen_names.contains(name.as_str());
            if !is_taken {
                return name.into();
            }
        }
    }

    fn ask_for(&mut self, place: usize, deed: Deed, now: Monotonic) {
        let unit = &mut self.list[place];
        match deed {
            Deed::Revive => unit.restarts = unit.restarts.saturating_add(1),
            Deed::Remake => {
                unit.restarts = unit.restarts.saturating_add(1);
                // What makes a container waits for its turn.
                self.paced.push_back((unit.id, deed));
                self.begin_paced(now);
                return;
            }
            Deed::Make | Deed::Bury | Deed::Pause | Deed::Unpause | Deed::Dispose => {}
        }
        self.push_deed(place, deed);
    }

    /// Begins what waits for the pace, as far as that allows.
    pub(super) fn begin_paced(&mut self, now: Monotonic) {
        while let Some((id, deed)) = self.paced.front().copied() {
            let Some(place) = self.place(id) else {
                self.paced.pop_front();
                continue;
            };
            if self.spec.is_none() || !self.image.is_there() || !self.autoscaler.may_start(now) {
                return;
            }
            self.paced.pop_front();
            self.push_deed(place, deed);
        }
    }

    fn push_deed(&mut self, place: usize, deed: Deed) {
        let makes = matches!(deed, Deed::Make | Deed::Remake);
        if makes {
            let name = (deed == Deed::Remake).then(|| self.next_name());
            let hash = self.spec.as_ref().map(|spec| spec.hash());
            let unit = &mut self.list[place];
            unit.hash = hash;
            unit.drifted = false;
            unit.is_worn = false;
            unit.on_trial = true;
            if let Some(name) = name {
                unit.name = name;
            }
        }
        let unit = &self.list[place];
        let recipe = self.spec.as_ref().filter(|_| makes).map(|spec| Recipe {
            spec: Arc::clone(spec),
            ports: unit.ports,
            name: Arc::clone(&unit.name),
        });
        self.works.push_back(Work::Unit {
            unit: unit.id,
            deed,
            container: unit.container.clone(),
            recipe,
            grace: if unit.in_haste { Duration::ZERO } else { self.settings.container.stop_grace },
        });
    }

    /// Something is done, or was tried in vain.
    pub(crate) fn done(&mut self, outcome: Outcome, engines: &mut Engines, now: Monotonic) {
        self.in_flight = self.in_flight.saturating_sub(1);
        if let Outcome::Host(_) = outcome {
            self.host_is_asked = false;
        }
        match outcome {
            Outcome::Unit { unit, deed, container, result, autopsy, took } => {
                self.counts.count(deed, &result);
                let Some(place) = self.place(unit) else { return };
                tracing::debug!(%unit, deed = deed.as_str(), ?took, ok = result.is_ok(), "deed done");
                self.unit_done(place, deed, container, result, autopsy, engines, now);
                self.sweep(engines, now);
            }
            Outcome::Host(Ok((host, lease))) => {
                self.host = Some(host);
                self.leased(lease, engines, now);
                self.resolve();
            }
            Outcome::Host(Err(error)) => tracing::debug!(%error, "Docker does not tell what host it is on"),
            Outcome::Image { image, result } => self.image_done(&image, result, now),
            Outcome::Stray { container, name, autopsy, result } => match result {
                Ok(()) => {
                    self.strays.remove(&container);
                    let entry = Entry::info("stray_removed", "it does not run and is no engine's: removed");
                    self.journal.write(entry.of(&name).with(autopsy));
                }
                Err(error) => tracing::debug!(%name, %error, "a stray container cannot be removed"),
            },
            Outcome::Disk(Ok(sizes)) => {
                self.disk = sizes.into_iter().map(|(id, bytes)| (Arc::from(id.as_str()), bytes)).collect();
            }
            Outcome::Disk(Err(error)) => tracing::debug!(%error, "Docker does not tell sizes"),
        }
    }

    /// Whether the fleet is ours to run is known.
    fn leased(&mut self, lease: Option<Arc<Lease>>, engines: &mut Engines, now: Monotonic) {
        self.is_shared = lease.is_none();
        self.lease = lease;
        if !self.is_shared {
            self.journal.close("fleet_shared", "the fleet is this server's now");
            if let Some((seen, begun)) = self.unheard.take() {
                self.listed(&seen, begun, engines, now);
            }
        } else if self.settings.scale.max > 0 {
            self.journal.open(
                "fleet_shared",
                format!(
                    "another server of this host runs the fleet {:?} on this Docker: its engines are used as they \
                     are found, and none is made or mended",
                    self.fleet.to_string()
                ),
                "give each server a name of its own in docker.name, or end the other one: this one takes over then",
            );
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one outcome")]
    fn unit_done(
        &mut self,
        place: usize,
        deed: Deed,
        container: Option<Arc<str>>,
        result: Result<(), DockerError>,
        autopsy: Option<Autopsy>,
        engines: &mut Engines,
        now: Monotonic,
    ) {
        let unit = &mut self.list[place];
        if matches!(deed, Deed::Make | Deed::Remake) && result.is_ok() {
            unit.born = now;
            unit.reachable = true;
        }
        unit.container = container;
        if deed == Deed::Revive
            && result.is_ok()
            && let Some(container) = unit.container.as_deref()
        {
            // The list shows no difference when it was quick.
            engines.renew(container, now);
        }
        // Asked again when Docker did not answer.
        let is_unasked =
            autopsy.is_none() && matches!(&result, Err(error) if fault_of(error) == Fault::Daemon);
        // One whose probes failed first may turn out to have ended.
        let has_ended = autopsy.as_ref().is_some_and(|autopsy| autopsy.exit_code.is_some());
        if (unit.has_died && !is_unasked) || has_ended {
            unit.has_died = false;
            let heard = self.fates.take(unit.died_as.take().as_deref());
            let entry = Entry::warning("engine_died", tidings::how_it_ended(autopsy.as_ref(), heard));
            let name = Arc::clone(&unit.name);
            self.journal.write(entry.of(&name).with(autopsy));
        }
        let outcome = match result {
            Ok(()) => {
                if matches!(deed, Deed::Make | Deed::Remake) {
                    self.journal.close("engines_cannot_be_made", "an engine has been made");
                }
                Ok(())
            }
            Err(error) => {
                let fault = fault_of(&error);
                self.tell_failure(place, deed, &error, fault, now);
                Err(fault)
            }
        };
        self.on(place, Event::Done(deed, outcome), engines, now);
    }

    fn tell_failure(&mut self, place: usize, deed: Deed, error: &DockerError, fault: Fault, now: Monotonic) {
        if fault == Fault::Daemon {
            tracing::debug!(deed = deed.as_str(), %error, "Docker does not answer, so it is tried again");
            return;
        }
        if let DockerError::PortTaken(_) = error {
            let ports: Vec<_> = self.list[place].all_ports().collect();
            ports.into_iter().for_each(|port| self.ports.burn(port, now));
        }
        if matches!(error, DockerError::ImageMissing { .. }) {
            self.image.forget();
        }
        let name = Arc::clone(&self.list[place].name);
        let message = format!("cannot {} it: {error}", deed.as_str());
        if matches!(deed, Deed::Make | Deed::Remake) {
            self.proves(place, false, now);
            self.journal.open("engines_cannot_be_made", error.to_string(), error.remedy());
        }
        self.journal.write(Entry::error("engine_deed_failed", message, error.remedy()).of(&name));
    }

    fn image_done(&mut self, image: &str, result: Result<(), DockerError>, now: Monotonic) {
        match result {
            Ok(()) => {
                self.image.ended(true, now);
                self.journal.close("image_missing", "the image is there");
            }
            Err(error) if fault_of(&error) == Fault::Daemon => self.image.forget(),
            Err(error) => {
                self.image.ended(false, now);
                self.journal.open("image_missing", format!("image {image}: {error}"), error.remedy());
            }
        }
    }

    /// What engines are made from, anew: from the template in force, for this
    /// host.
    pub(crate) fn resolve(&mut self) {
        let Some(host) = &self.host else { return };
        match spec::of(&self.settings.container, &self.templates, host) {
            Ok((spec, wants)) => {
                self.wants = wants;
                self.journal.close("template_unusable", "the template can be used");
                let is_new_image = self.spec.as_ref().is_none_or(|before| before.image != spec.image);
                self.spec = Some(Arc::new(spec));
                if is_new_image {
                    self.image = super::Image::default();
                }
                self.note_drift();
            }
            Err(error) => self.journal.open("template_unusable", error.message, error.remedy),
        }
    }

    /// Marks the units that were made from something else.
    pub(super) fn note_drift(&mut self) {
        let Some(hash) = self.spec.as_ref().map(|spec| spec.hash()) else { return };
        for unit in &mut self.list {
            unit.drifted = unit.is_worn || unit.hash.as_ref() != Some(&hash);
        }
    }
}
