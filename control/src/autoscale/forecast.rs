//! Slots wanted beforehand, because they are usual at this hour.

use std::time::Duration;

use millrace_boundary::Monotonic;

use super::policy::Policy;

/// Slots once wanted beforehand are kept at least this long and at most twice
/// as long, and none are added for it
/// this long after a step down: what is expected moves with the hour and with
/// demand, and the fleet must not follow each of its turns.
pub(super) const STEADY: Duration = Duration::from_secs(600);

/// What the hour adds to the slots that live demand asks for.
#[derive(Debug, Default)]
pub(super) struct Forecast {
    /// Wanted beforehand now.
    ahead: u32,
    /// The most wanted beforehand since `begun`, and in as long a time before.
    most: (u32, u32),
    begun: Monotonic,
}

impl Forecast {
    /// `expected` slots are usual at this hour, `live` are taken or waited for.
    pub(super) fn look(&mut self, expected: u32, live: u32, policy: &Policy, now: Monotonic) {
        let alone = live.saturating_add(policy.spare_slots);
        let all = u32::try_from(policy.max).unwrap_or(u32::MAX).saturating_mul(policy.slots());
        // At most as many again as are asked for anyway: a profile learned in
        // other times may be wrong by no more than that.
        self.ahead = expected.saturating_sub(live).min(alone).min(all.saturating_sub(alone));
        if now.since(self.begun) >= STEADY {
            self.most = (0, self.most.0);
            self.begun = now;
        }
        self.most.0 = self.most.0.max(self.ahead);
    }

    /// Slots to have ready for what is expected.
    pub(super) fn ahead(&self) -> u32 {
        self.ahead
    }

    /// Slots not to give up for what is expected.
    pub(super) fn kept(&self) -> u32 {
        self.most.0.max(self.most.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> Policy {
        Policy { max: 6, capacity: 3, spare_slots: 2, ..Policy::default() }
    }

    #[test]
    fn what_is_expected_doubles_live_demand_at_most_and_ends_at_the_maximum() {
        for (name, expected, live, ahead) in [
            ("nothing known", 0, 5, 0),
            ("less than there is", 4, 5, 0),
            ("some more", 6, 5, 1),
            ("far more: as many again", 100, 2, 4),
            ("from nothing, the spare ones again", 100, 0, 2),
            ("no more than all engines have", 100, 12, 4),
            ("more live than all engines have", 100, 40, 0),
        ] {
            let mut forecast = Forecast::default();
            forecast.look(expected, live, &policy(), Monotonic::default());
            assert_eq!(forecast.ahead(), ahead, "{name}");
        }
    }

    #[test]
    fn what_was_wanted_is_kept_for_ten_minutes_to_twenty() {
        let mut forecast = Forecast::default();
        for (second, expected, kept) in
            [(0, 5, 1), (590, 9, 5), (599, 0, 5), (600, 6, 5), (1_199, 0, 5), (1_200, 0, 2), (1_800, 0, 0)]
        {
            forecast.look(expected, 4, &policy(), Monotonic(Duration::from_secs(5_000 + second)));
            assert_eq!(forecast.kept(), kept, "after {second} s");
        }
    }
}
