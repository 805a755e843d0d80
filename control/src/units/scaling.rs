//! How many units there are: what the policy is told, and what is done of what
//! it says. And which of them are replaced, one at a time.

use millrace_boundary::{EngineState, Monotonic};

use super::{DockerFleet, Pull, Rolling, Units, Work, ports::NoPort};
use crate::{
    autoscale::{BreakerPolicy, BreakerState, Observation, Policy, UnitView},
    engines::{Engine, Engines},
    fleet::docker::PullPolicy,
    journal::Entry,
    statistics::Usage,
    unit::{Leave, Order, Stage, Then},
};

/// A unit over a limit for so long is replaced: a peak is none.
const PRESSED_FOR: std::time::Duration = std::time::Duration::from_secs(30);

/// Before a port is looked for again where there was none.
const PORTS_RETRY: std::time::Duration = std::time::Duration::from_secs(10);

/// What the policy said last, for people.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub(crate) struct LastPlan {
    /// Why it wants what it wants.
    pub(crate) why: String,
    /// Why it got less.
    pub(crate) held: Option<String>,
}

/// The policy that follows from the settings.
pub(super) fn policy(settings: &DockerFleet, capacity: Option<u32>) -> Policy {
    let scale = &settings.scale;
    Policy {
        min: scale.min,
        max: scale.max,
        spare_slots: scale.spare_slots,
        capacity: capacity.unwrap_or(1),
        paused: scale.paused,
        manual: scale.manual,
        cooldown: scale.cooldown,
        min_life: scale.min_life,
        sustained: scale.sustained,
        surplus: scale.surplus,
        step_up: scale.step_up,
        step_down: scale.step_down,
        starts_per_minute: scale.starts_per_minute,
        breaker: BreakerPolicy {
            failures: usize::try_from(scale.breaker_failures).unwrap_or(usize::MAX),
            pause_longest: scale.breaker_pause,
            pause_first: BreakerPolicy::default().pause_first.min(scale.breaker_pause),
            ..BreakerPolicy::default()
        },
    }
}

impl Units {
    /// Each engine has so many slots.
    pub(crate) fn set_capacity(&mut self, capacity: u32) {
        self.autoscaler.set_policy(policy(&self.settings, Some(capacity)));
    }

    /// Whether a stream without a slot may hope for one.
    pub(crate) fn is_growing(&self) -> bool {
        if self.settings.scale.max == 0 || self.is_shared {
            return false;
        }
        // Nobody knows yet what is there.
        if !self.is_known || (self.spec.is_none() && self.answers) {
            return true;
        }
        let limit = self.settings.scale.manual.unwrap_or(usize::MAX).min(self.settings.scale.max);
        // What waits for the breaker does not come soon.
        let waits = |unit: &super::Unit| self.is_broken && self.paced.iter().any(|(id, _)| *id == unit.id);
        self.list.iter().any(|unit| unit.is_coming() && !waits(unit))
            || (self.list.len() < limit
                && self.answers
                && self.image.may_come()
                && !self.journal.is_open("ports_used_up")
                && !self.journal.is_open("template_unusable")
                && !self.is_broken)
    }

    /// The maximum that the policy knows, which may be below the operator's.
    fn set_max(&mut self, max: usize) {
        let capacity = self.autoscaler.policy().capacity;
        let whole = policy(&self.settings, Some(capacity));
        self.autoscaler.set_policy(Policy { max: max.min(whole.max), ..whole });
    }

    /// A port may have become free.
    fn try_ports_again(&mut self, now: Monotonic) {
        if self.no_port_until.is_some_and(|until| until <= now) {
            self.no_port_until = None;
            self.set_max(usize::MAX);
        }
    }

    /// Asks the policy, and does what it says.
    pub(super) fn scale(&mut self, waiting: u32, hour: Option<u32>, engines: &mut Engines, now: Monotonic) {
        if self.settings.scale.max == 0 && self.list.is_empty() {
            return;
        }
        if self.lease.is_none() {
            return;
        }
        self.try_ports_again(now);
        let views: Vec<UnitView> = self.list.iter().map(super::Unit::view).collect();
        let found = engines.all().iter().filter(|engine| {
            engine.life.state() == EngineState::Ready && self.of_container(engine.identity()).is_none()
        });
        let found_free = found.map(Engine::free).fold(0, u32::saturating_add);
        let can_make = self.answers && self.is_known && self.spec.is_some() && self.image.is_there();
        let hour = hour.filter(|_| self.settings.scale.forecast);
        let observation = Observation { units: &views, found_free, waiting, hour, docker_answers: can_make };
        let plan = self.autoscaler.plan(&observation, now);
        self.tell_breaker(now);
        let held = plan.held.as_ref().map(ToString::to_string);
        let why = plan.why.to_string();
        let count = plan.create + plan.create_paused;
        if count > 0 || !plan.remove.is_empty() {
            tracing::info!(
                create = plan.create,
                create_paused = plan.create_paused,
                remove = plan.remove.len(),
                engines = self.list.len(),
                waiting,
                "fleet changes: {why}"
            );
        }
        for shelved in
            std::iter::repeat_n(false, plan.create).chain(std::iter::repeat_n(true, plan.create_paused))
        {
            if let Err(error) = self.add(shelved, now) {
                self.no_port(&error, now);
                break;
            }
        }
        for id in plan.unpause {
            self.order(id, Order::Wake, engines, now);
        }
        for id in plan.pause {
            self.order(id, Order::Pause, engines, now);
        }
        for id in plan.remove {
            self.order(id, Order::Remove(Leave::Surplus), engines, now);
        }
        self.last_plan = LastPlan { why, held };
        self.want_image(now);
    }

    /// Whether engines are given up for a while because they keep failing.
    fn tell_breaker(&mut self, now: Monotonic) {
        let look = self.autoscaler.breaker(now);
        self.is_broken = look.state == BreakerState::Open;
        if self.is_broken && !self.journal.is_open("engines_keep_failing") {
            let pause = look.until.map_or(std::time::Duration::ZERO, |until| until.since(now));
            self.journal.open(
                "engines_keep_failing",
                format!(
                    "{} engines in a row could not be made or did not become ready: none is made for {} s",
                    look.failures,
                    pause.as_secs_f64().ceil()
                ),
                "see the events engine_boot_limit, engine_died and engine_deed_failed for why; mend the template or \
                 the image, or raise fleet.boot_limit",
            );
        } else if look.state == BreakerState::Closed {
            self.journal.close("engines_keep_failing", "an engine that was made has become ready");
        }
    }

    /// No port is left for an engine that was to be made.
    pub(super) fn no_port(&mut self, error: &NoPort, now: Monotonic) {
        self.journal.open("ports_used_up", error.to_string(), NoPort::REMEDY);
        // As many as there are have to do for a while. It is no failure to make
        // one: that would keep those that have ports from being made anew.
        self.no_port_until = Some(now + PORTS_RETRY);
        self.set_max(self.list.len());
        if self.autoscaler.breaker(now).state == BreakerState::HalfOpen {
            // Nothing will be heard of the trial.
            self.autoscaler.created(false, now);
        }
    }

    /// How far a pull is, for the log.
    pub(super) fn tell_pull(&mut self, now: Monotonic) {
        let Some(progress) = self.image.tidings(now) else { return };
        let image = self.spec.as_ref().map_or("", |spec| &spec.image);
        tracing::info!(
            image,
            bytes_done = progress.bytes_done,
            bytes_total = progress.bytes_total,
            layers_done = progress.layers_done,
            layers_total = progress.layers_total,
            "image is pulled"
        );
    }

    /// The image is looked for before the first engine is made, and again
    /// whenever one could not be had.
    fn want_image(&mut self, now: Monotonic) {
        let Some(spec) = self.spec.as_ref().filter(|_| self.answers && self.image.is_due(now)) else {
            return;
        };
        let policy = match (self.settings.container.pull, std::mem::take(&mut self.pull_now)) {
            (Pull::Missing, true) => PullPolicy::Always,
            (pull, _) => pull.policy(),
        };
        let image = spec.image.clone();
        let progress = self.image.begun();
        self.works.push_front(Work::Image {
            image,
            policy,
            limit: self.settings.container.pull_limit,
            auth_file: self.settings.container.auth_file.clone(),
            progress,
        });
    }

    /// Replaces a unit that is too old, or over a limit; one at a time.
    pub(super) fn recycle(&mut self, engines: &mut Engines, now: Monotonic) {
        if !self.answers || self.is_replacing() {
            return;
        }
        let ripe = self.list.iter().find_map(|unit| {
            if unit.life.stage() != Stage::Ready {
                return None;
            }
            let limits = &self.settings.recycle;
            let engine = self.engine_of(unit, engines);
            let sessions = engine.map_or(0, |engine| engine.sessions());
            let disk = unit.container.as_ref().and_then(|id| self.disk.get(id)).copied().unwrap_or(0);
            let age = now.since(unit.born);
            // Streams that move count as sessions where they go: without an age,
            // a few that move would be handed round for ever.
            let is_worn = limits.max_sessions > 0
                && sessions >= limits.max_sessions
                && age >= self.settings.scale.min_life;
            let is_old = !limits.max_age.is_zero() && age >= limits.max_age;
            // Neither is pressing: it waits until the others have room.
            let has_room = self.others_free(unit, engines) >= unit.taken;
            let why = if is_old && has_room {
                Leave::Age
            } else if is_worn && has_room {
                Leave::Sessions
            } else if limits.max_disk > 0 && disk >= limits.max_disk {
                Leave::Disk
            } else {
                let (why, since) = self.pressed.get(&unit.id)?;
                (now.since(*since) >= PRESSED_FOR).then_some(*why)?
            };
            Some((unit.id, why))
        });
        if let Some((id, why)) = ripe {
            self.pressed.remove(&id);
            self.order(id, Order::Remake(why), engines, now);
        }
    }

    /// Takes in how much a container uses.
    pub(crate) fn measured(&mut self, container: &str, usage: &Usage, now: Monotonic) {
        let Some(unit) = self.of_container(container) else { return };
        let id = unit.id;
        let limits = &self.settings.recycle;
        let percent = |part: Option<u64>, whole: Option<u64>| {
            let (part, whole) = (part?, whole.filter(|whole| *whole > 0)?);
            Some(u128::from(part) * 100 / u128::from(whole))
        };
        let over =
            |value: Option<u128>, limit: u32| limit > 0 && value.is_some_and(|v| v >= u128::from(limit));
        let memory = percent(usage.memory_bytes, usage.memory_limit_bytes);
        let pids = percent(usage.pids, usage.pids_limit);
        let cpu_over = limits.max_cpu_percent > 0
            && usage.cpu_percent.is_some_and(|cpu| cpu >= f64::from(limits.max_cpu_percent));
        let why = if over(memory, limits.max_memory_percent) {
            Some(Leave::Memory)
        } else if over(pids, limits.max_pids_percent) {
            Some(Leave::Pids)
        } else if cpu_over {
            Some(Leave::Cpu)
        } else {
            None
        };
        match why {
            None => {
                self.pressed.remove(&id);
            }
            Some(why) => {
                let (known, since) = self.pressed.get(&id).copied().unwrap_or((why, now));
                self.pressed.insert(id, if known == why { (known, since) } else { (why, now) });
            }
        }
    }

    /// Whether some unit is being replaced although nothing is wrong with it.
    fn is_replacing(&self) -> bool {
        self.list.iter().any(super::Unit::is_being_replaced)
    }

    /// Replaces what was made from other settings, one at a time, where others
    /// have room for its streams.
    pub(super) fn roll(&mut self, engines: &mut Engines, now: Monotonic) {
        let drifted = self.list.iter().filter(|unit| unit.drifted).count();
        if self.rolling.running {
            let Rolling { total, done, .. } = self.rolling;
            let missing = self.list.iter().filter(|unit| unit.drifted || unit.is_being_replaced()).count();
            self.rolling.done = done.max(total.saturating_sub(missing));
            if drifted == 0 && !self.is_replacing() {
                self.rolling.running = false;
                self.journal.write(Entry::info("fleet_replaced", format!("{total} engines are made anew")));
            }
        }
        if drifted == 0 || !self.answers || !self.image.is_there() || self.is_replacing() {
            return;
        }
        // What is in force may not work: then what was made before it is all there is.
        let fails = |unit: &super::Unit| {
            let is_down = matches!(
                unit.life.stage(),
                Stage::Booting | Stage::Mending | Stage::Burying(_) | Stage::Quarantined(_)
            );
            !unit.drifted && is_down
        };
        if self.list.iter().any(fails) {
            return;
        }
        // Those that serve nobody first: whatever is in quarantine is made anew anyway.
        let next = self.list.iter().filter(|unit| unit.drifted).filter(|unit| {
            matches!(
                unit.life.stage(),
                Stage::Ready | Stage::Ailing(_) | Stage::Paused | Stage::Emptying(_, Then::Hold)
            )
        });
        let Some((id, taken)) = next.map(|unit| (unit.id, unit.taken)).min_by_key(|(_, taken)| *taken) else {
            return;
        };
        let has_room =
            self.list.iter().find(|u| u.id == id).is_some_and(|u| self.others_free(u, engines) >= taken);
        if has_room {
            self.order(id, Order::Remake(Leave::Drifted), engines, now);
        }
    }

    /// Free slots of all engines but that of `unit`.
    fn others_free(&self, unit: &super::Unit, engines: &Engines) -> u32 {
        let others = engines.all().iter().filter(|engine| {
            engine.life.state() == EngineState::Ready && Some(engine.identity()) != unit.container.as_ref()
        });
        others.map(Engine::free).fold(0, u32::saturating_add)
    }
}
