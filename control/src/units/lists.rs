//! What each list of containers means: who is still there, who is found, and
//! who is nobody's.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, SystemTime},
};

use millrace_boundary::Monotonic;

use super::{STRAY_AFTER, STRAYS, Unit, Units, Work, unit};
use crate::{
    engines::Engines,
    fleet::{
        Member,
        docker::{ContainerState, FLEET_LABEL, Ports, Seen, SpecHash, marks},
    },
    journal::Entry,
    unit::{Event, Life, Look},
};

impl Units {
    /// Takes a list of all containers with the engines' label in.
    pub(crate) fn listed(&mut self, seen: &[Seen], begun: Monotonic, engines: &mut Engines, now: Monotonic) {
        if self.lease.is_none() {
            // It comes within milliseconds, unless another server has it.
            self.unheard = Some((seen.to_vec(), begun));
            return;
        }
        let ours: HashMap<&str, &Seen> =
            seen.iter().filter(|s| self.is_ours(s)).map(|s| (&*s.id, s)).collect();
        for place in 0..self.list.len() {
            let Some(container) = self.list[place].container.clone() else { continue };
            let look = match ours.get(&*container) {
                Some(seen) => {
                    self.list[place].reachable = seen.address.is_ok();
                    if self.list[place].on_trial {
                        engines.put_on_trial(&container);
                    }
                    unit::look(seen.state, seen.address.is_ok())
                }
                None => Look::Absent,
            };
            self.on(place, Event::Seen(look, begun), engines, now);
        }
        let first = !std::mem::replace(&mut self.is_known, true);
        let mut strays = BTreeMap::new();
        let mut collides = false;
        for seen in seen {
            if !self.is_ours(seen) || self.of_container(&seen.id).is_some() {
                continue;
            }
            let Some((ports, spec)) = marks(&seen.labels).and_then(|marks| Some((marks.ports?, marks.spec)))
            else {
                // Not made by us, so it is not ours to remove either.
                collides = true;
                self.tell_collision(seen);
                continue;
            };
            // It is being made for a unit, which has yet to be told the id: one that
            // is made anew still has that of its last container.
            if self.list.iter().any(|unit| unit.name == seen.name) {
                continue;
            }
            match unit::look(seen.state, true) {
                Look::Running { .. } | Look::Paused => self.adopt(seen, ports, spec, engines, now),
                Look::Down | Look::Absent => {
                    let since = self.strays.get(&seen.id).copied().unwrap_or(now);
                    if (first || now.since(since) >= STRAY_AFTER) && self.answers {
                        let (container, name) = (Arc::clone(&seen.id), Arc::clone(&seen.name));
                        self.works.push_back(Work::Stray { container, name });
                        // Asked for once; if it stays, it is found anew.
                        strays.insert(Arc::clone(&seen.id), now);
                    } else if strays.len() < STRAYS {
                        strays.insert(Arc::clone(&seen.id), since);
                    }
                }
            }
        }
        self.strays = strays;
        self.seen_names = seen.iter().map(|seen| Arc::clone(&seen.name)).collect();
        if !collides {
            self.journal.close("label_collision", "no container of others carries this fleet's label");
        }
        self.sweep(engines, now);
    }

    /// Who is in the engine table: whoever runs, and of ours whoever is paused.
    pub(crate) fn members(&self, running: &[Member], seen: &[Seen]) -> Vec<Member> {
        let is_paused = |seen: &&Seen| seen.state == ContainerState::Paused && self.is_ours(seen);
        let paused = seen.iter().filter(|_| !self.is_shared).filter(is_paused);
        running.iter().cloned().chain(paused.filter_map(Seen::member)).collect()
    }

    fn is_ours(&self, seen: &Seen) -> bool {
        seen.labels.get(FLEET_LABEL).is_some_and(|fleet| *fleet == self.fleet.to_string())
    }

    fn tell_collision(&mut self, seen: &Seen) {
        self.journal.open(
            "label_collision",
            format!("{} carries the label of this fleet, and not the rest of ours: it is left alone", seen.name),
            "remove the container, or its label io.millrace.fleet; or give this fleet another name in docker.name",
        );
    }

    /// A container of ours that runs without a unit: one from before this
    /// process began, as a rule.
    fn adopt(
        &mut self,
        seen: &Seen,
        ports: Ports,
        spec: Option<SpecHash>,
        engines: &mut Engines,
        now: Monotonic,
    ) {
        let look = unit::look(seen.state, seen.address.is_ok());
        let life = Life::adopt(self.limits(), look, now);
        let capacity = self.autoscaler.policy().capacity;
        let born = Monotonic(now.0.saturating_sub(age(seen.created)));
        let unit = Unit {
            container: Some(Arc::clone(&seen.id)),
            hash: spec,
            reachable: seen.address.is_ok(),
            ..Unit::new(self.take_id(), life, Arc::clone(&seen.name), ports, capacity, born)
        };
        self.ports.reserve(unit.all_ports());
        let is_paused = look == Look::Paused;
        self.journal.write(Entry::info("engine_adopted", "it runs already, and is kept").of(&seen.name));
        if is_paused && let Some(engine) = engines.by_identity(&seen.id).map(|engine| engine.id) {
            engines.pause(engine, now);
        }
        self.list.push(unit);
        self.note_drift();
    }
}

/// How old a container is that was made `created` seconds after 1970, by the
/// daemon's clock and ours.
fn age(created: i64) -> Duration {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    now.saturating_sub(Duration::from_secs(u64::try_from(created).unwrap_or(u64::MAX)))
}
