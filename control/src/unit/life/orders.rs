//! What a unit does on orders: of people, of the policy, of whoever replaces
//! what is old.

use millrace_boundary::Monotonic;

use super::{Life, Stage};
use crate::unit::event::{Deed, Effect, Order, Sense, Then};

impl Life {
    pub(super) fn ordered(&mut self, order: Order, sense: Sense, now: Monotonic, effects: &mut Vec<Effect>) {
        let runs = matches!(self.stage, Stage::Ready | Stage::Ailing(_) | Stage::Emptying(..));
        let leaves = matches!(self.stage, Stage::Leaving | Stage::Gone | Stage::Emptying(_, Then::Remove));
        match order {
            _ if self.stage == Stage::Gone => {}
            Order::Drain => {
                self.held = true;
                if runs && !leaves {
                    self.empty(None, Then::Hold, now, effects);
                }
            }
            Order::Undrain => {
                self.held = false;
                if let Stage::Emptying(_, Then::Hold) = self.stage {
                    effects.push(Effect::Undrain);
                    self.enter(Stage::Ready, now);
                }
            }
            Order::Restart if runs && !leaves => {
                self.empty(Some(now + self.limits.drain), Then::Restart, now, effects);
            }
            Order::Remake(_) if runs && !leaves => {
                self.empty(Some(now + self.limits.drain), Then::Remake, now, effects);
            }
            Order::Restart | Order::Remake(_) => {
                if self.deed.is_none()
                    && matches!(self.stage, Stage::Booting | Stage::Quarantined(_) | Stage::Paused)
                {
                    if self.stage == Stage::Paused {
                        self.shelve = true;
                        effects.push(Effect::Wake);
                    }
                    let has_container = !matches!(self.stage, Stage::Quarantined(_));
                    let deed =
                        if order == Order::Restart && has_container { Deed::Revive } else { Deed::Remake };
                    self.repair(deed, now, effects);
                }
            }
            Order::Remove(_) if runs => {
                if !leaves {
                    self.empty(Some(now + self.limits.drain), Then::Remove, now, effects);
                }
            }
            Order::Remove(_) | Order::Kill => self.leave(now, effects),
            Order::Pause => {
                if self.stage == Stage::Ready && sense.taken == 0 && !self.held {
                    self.shelve = true;
                    self.pause(now, effects);
                } else if self.stage == Stage::Booting {
                    self.shelve = true;
                }
            }
            Order::Wake => self.wake(now, effects),
        }
    }
}
