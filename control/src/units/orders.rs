//! What people ask of the fleet as a whole.

use std::{ops::RangeInclusive, sync::Arc, time::Duration};

use millrace_boundary::Monotonic;

use super::{Rolling, Scale, Units, scaling};
use crate::{autoscale::BreakerState, journal::Entry};

/// Why no engine was made, or not as many as were asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unmade {
    /// There are as many as there may be.
    AtMax {
        /// So many.
        limit: usize,
    },
    /// Too many could not be made of late.
    BreakerOpen {
        /// Until one is tried again, where that is known.
        retry: Option<Duration>,
    },
    /// Docker does not answer.
    DockerLost,
    /// Another server runs this fleet.
    Shared,
    /// The image is not there, or not yet.
    ImageMissing,
    /// The template in force cannot be used.
    TemplateUnusable,
    /// All ports are taken.
    PortsUsedUp,
    /// As many were made within the last minute as may be.
    TooFast,
}

/// What was made.
#[derive(Debug)]
pub(crate) struct Made {
    /// Names of the new engines.
    pub(crate) names: Vec<Arc<str>>,
    /// Why they are fewer than were asked for.
    pub(crate) held: Option<Unmade>,
}

/// Other numbers for the rules of the fleet; none leaves one as it is.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rescale {
    pub(crate) min: Option<usize>,
    pub(crate) max: Option<usize>,
    pub(crate) spare_slots: Option<u32>,
    pub(crate) paused: Option<usize>,
    /// None within is without a number.
    pub(crate) manual: Option<Option<usize>>,
}

/// Engines at most that any setting may name.
const ENGINES: usize = 1_000;
/// Spare slots at most.
const SPARE: u32 = 20_000;

impl Rescale {
    /// The numbers that follow, or what is wrong with them.
    fn of(self, mut scale: Scale) -> Result<Scale, String> {
        let Self { min, max, spare_slots, paused, manual } = self;
        scale.min = min.unwrap_or(scale.min);
        scale.max = max.unwrap_or(scale.max);
        scale.spare_slots = spare_slots.unwrap_or(scale.spare_slots);
        scale.paused = paused.unwrap_or(scale.paused);
        scale.manual = manual.unwrap_or(scale.manual);
        if scale.max > ENGINES || scale.paused > ENGINES {
            return Err(format!("max and paused are 0 to {ENGINES}"));
        }
        if scale.spare_slots > SPARE {
            return Err(format!("spare_slots is 0 to {SPARE}"));
        }
        for (name, value) in [("min", Some(scale.min)), ("manual", scale.manual)] {
            if let Some(value) = value.filter(|value| *value > scale.max) {
                return Err(format!("{name} would be {value}, and max {}", scale.max));
            }
        }
        Ok(scale)
    }
}

impl Units {
    /// There shall be other numbers of engines from now on.
    ///
    /// # Errors
    /// What is wrong with them; then nothing changes.
    pub(crate) fn rescale(&mut self, change: Rescale) -> Result<(), String> {
        self.settings.scale = change.of(self.settings.scale.clone())?;
        let capacity = self.autoscaler.policy().capacity;
        self.autoscaler.set_policy(scaling::policy(&self.settings, Some(capacity)));
        Ok(())
    }

    /// Engines at most, now.
    pub(crate) fn most(&self) -> usize {
        let scale = &self.settings.scale;
        scale.manual.unwrap_or(scale.max).min(scale.max)
    }

    /// Makes this many engines at once, as far as the rules allow. The policy
    /// takes them away again when nobody needs them.
    ///
    /// # Errors
    /// When none can be made.
    pub(crate) fn provision(&mut self, count: usize, now: Monotonic) -> Result<Made, Unmade> {
        let mut names = Vec::new();
        let held = loop {
            if names.len() == count {
                break None;
            }
            match self.make_one(now) {
                Ok(name) => names.push(name),
                Err(why) => break Some(why),
            }
        };
        match held {
            Some(why) if names.is_empty() => Err(why),
            held => Ok(Made { names, held }),
        }
    }

    fn make_one(&mut self, now: Monotonic) -> Result<Arc<str>, Unmade> {
        if !self.answers || !self.is_known {
            return Err(Unmade::DockerLost);
        }
        if self.is_shared {
            return Err(Unmade::Shared);
        }
        let limit = self.most();
        if self.list.len() >= limit {
            return Err(Unmade::AtMax { limit });
        }
        if self.journal.is_open("template_unusable") {
            return Err(Unmade::TemplateUnusable);
        }
        if self.spec.is_none() || !self.image.is_there() {
            return Err(Unmade::ImageMissing);
        }
        if !self.autoscaler.may_start(now) {
            let look = self.autoscaler.breaker(now);
            return Err(match look.state {
                BreakerState::Closed => Unmade::TooFast,
                BreakerState::Open | BreakerState::HalfOpen => {
                    Unmade::BreakerOpen { retry: look.until.map(|until| until.since(now)) }
                }
            });
        }
        let added = self.add(false, now).map_err(|error| {
            self.no_port(&error, now);
            Unmade::PortsUsedUp
        })?;
        let unit = self.list.iter().find(|unit| unit.id == added);
        Ok(unit.map(|unit| Arc::clone(&unit.name)).unwrap_or_default())
    }

    /// Makes every engine anew, one at a time, its streams moved before.
    pub(crate) fn replace_all(&mut self) -> Rolling {
        for unit in &mut self.list {
            unit.is_worn = true;
        }
        self.note_drift();
        let rolling = Rolling { running: true, total: self.list.len(), done: 0 };
        self.journal.write(Entry::info(
            "fleet_replacing",
            format!("{} engines are made anew, one at a time", rolling.total),
        ));
        self.rolling = rolling;
        rolling
    }

    /// How far the newest replacement of all engines is.
    pub(crate) fn rolling(&self) -> Rolling {
        self.rolling
    }

    /// The image is looked for again, and pulled unless it is never to be.
    pub(crate) fn refresh_image(&mut self) {
        self.pull_now = true;
        self.image.forget();
    }

    /// Whatever kept engines from being made has been mended.
    pub(crate) fn reset_breaker(&mut self) {
        self.autoscaler.reset_breaker();
        self.is_broken = false;
    }

    /// The host's ports for engines, and how many of them are taken.
    pub(crate) fn ports(&self) -> (RangeInclusive<u16>, usize) {
        (self.settings.container.ports.clone(), self.ports.taken())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scale(min: usize, max: usize) -> Scale {
        let minute = Duration::from_secs(60);
        Scale {
            min,
            max,
            spare_slots: 3,
            paused: 0,
            manual: None,
            cooldown: minute,
            min_life: minute,
            sustained: minute,
            surplus: minute,
            step_up: 2,
            step_down: 1,
            starts_per_minute: 30,
            forecast: true,
            breaker_failures: 5,
            breaker_pause: minute,
        }
    }

    #[test]
    fn numbers_that_contradict_each_other_change_nothing() {
        let with = |change: fn(&mut Rescale)| {
            let mut rescale = Rescale::default();
            change(&mut rescale);
            rescale
        };
        for (name, change, expected) in [
            ("nothing", with(|_| {}), Ok((2, 6, 3, 0, None))),
            ("both at once", with(|r| (r.min, r.max) = (Some(7), Some(9))), Ok((7, 9, 3, 0, None))),
            ("the most", with(|r| r.max = Some(1_000)), Ok((2, 1_000, 3, 0, None))),
            ("manual", with(|r| r.manual = Some(Some(0))), Ok((2, 6, 3, 0, Some(0)))),
            ("not manual", with(|r| r.manual = Some(None)), Ok((2, 6, 3, 0, None))),
            (
                "spare and paused",
                with(|r| (r.spare_slots, r.paused) = (Some(9), Some(1))),
                Ok((2, 6, 9, 1, None)),
            ),
            ("min over max", with(|r| r.min = Some(7)), Err("min would be 7, and max 6")),
            ("max under min", with(|r| r.max = Some(1)), Err("min would be 2, and max 1")),
            ("manual over max", with(|r| r.manual = Some(Some(7))), Err("manual would be 7, and max 6")),
            ("too many", with(|r| r.max = Some(1_001)), Err("max and paused are 0 to 1000")),
            ("too many paused", with(|r| r.paused = Some(1_001)), Err("max and paused are 0 to 1000")),
            ("too many slots", with(|r| r.spare_slots = Some(20_001)), Err("spare_slots is 0 to 20000")),
        ] {
            let scaled = change.of(scale(2, 6));
            let scaled = scaled.map(|s| (s.min, s.max, s.spare_slots, s.paused, s.manual));
            assert_eq!(scaled, expected.map_err(str::to_owned), "{name}");
        }
    }
}
