//! Chaos: contents whose scenario changes now and then, for long runs.

use std::{sync::Arc, time::Duration};

use tokio::{task::JoinHandle, time::sleep};

use crate::{
    Scenario,
    fleet::Fleet,
    rng::{Rng, number_of},
};

/// Contents at most.
const MAX_CONTENTS: usize = 10_000;

/// What may befall a stream. Healthy comes up more often, so that streams have
/// their good days.
const FAULTS: &[&str] = &[
    "healthy-live",
    "healthy-live",
    "healthy-live",
    "healthy-live",
    "slow-metadata(10s)",
    "slow-start(8s)",
    "slow-start-500(5s)",
    "warmup-empty(2)",
    "metadata-failure",
    "start-failure-after-metadata",
    "bad-json(truncated)",
    "stall(2s,30s)",
    "stall(5s)",
    "burst-then-quiet(30s,30s)",
    "slow-trickle(188,1s)",
    "disconnect-fin(3s)",
    "disconnect-rst(3s)",
    "partial-packet-end(3s)",
    "unaligned-chunks",
    "starts-mid-packet",
    "garbage(300)",
    "redirect-held",
    "redirect-relative",
    "double-status",
    "header-trickle(20ms)",
    "framing-chunked(1000,1)",
    "framing-length(overflow)",
    "odd-http(bare-lf)",
    "odd-http(length-and-chunks)",
    "content-type(html)",
    "http-500-rate(30)",
    "stat-types(strings)",
    "stat-lies(bleak)",
    "stat-back-step",
    "stat-hang",
    "stat-500",
    "stat-gone(5s,5s)",
    "livepos-frozen",
    "stop-hang(10s)",
    "stop-500",
    "stop-late(3s)",
];

/// A plan of chaos: the same seed gives the same changes at the same times.
#[derive(Clone, Debug)]
pub struct Chaos {
    /// Ids or infohashes, at most 10,000.
    pub contents: Vec<String>,
    /// All randomness follows from it, and from the content's name.
    pub seed: u64,
    /// Between two changes of a content, at least.
    pub least: Duration,
    /// Between two changes of a content, at most.
    pub most: Duration,
}

/// The changes of one content: after how long, and what.
struct Course {
    rng: Rng,
    least: Duration,
    most: Duration,
}

impl Iterator for Course {
    type Item = (Duration, Scenario);

    fn next(&mut self) -> Option<Self::Item> {
        let after = self.least + self.rng.up_to(self.most.saturating_sub(self.least));
        let count = u64::try_from(FAULTS.len()).ok()?;
        let at = usize::try_from(self.rng.below(count)).ok()?;
        Some((after, FAULTS.get(at)?.parse().unwrap_or_default()))
    }
}

impl Chaos {
    fn course(&self, content: &str) -> Course {
        // A millisecond at least, or nothing else would run.
        let least = self.least.max(Duration::from_millis(1));
        Course { rng: Rng::new(self.seed ^ number_of(content)), least, most: self.most.max(least) }
    }

    /// Begins to carry the plan out.
    pub(crate) fn start(self, fleet: &Arc<Fleet>) -> Vec<JoinHandle<()>> {
        let contents = self.contents.iter().take(MAX_CONTENTS);
        let begin = |content: &String| {
            let (fleet, content, course) = (Arc::clone(fleet), content.clone(), self.course(content));
            let befalls = Befalls { fleet, content };
            tokio::spawn(async move {
                for (after, scenario) in course {
                    sleep(after).await;
                    befalls.set(scenario);
                }
            })
        };
        contents.map(begin).collect()
    }
}

/// A content's scenario on the engines that play it; gone when dropped.
struct Befalls {
    fleet: Arc<Fleet>,
    content: String,
}

impl Befalls {
    /// On the engines that play the content, or on all when none does: the
    /// next one to be asked is to meet it.
    fn set(&self, scenario: Scenario) {
        let plays = self.fleet.engines.iter().any(|e| e.plays(&self.content));
        for engine in &self.fleet.engines {
            if !plays || engine.plays(&self.content) {
                engine.set_scenario(Some(&self.content), scenario);
                engine.state().log(format!("chaos {} {scenario}", self.content));
            } else {
                engine.clear_scenario(&self.content);
            }
        }
    }
}

impl Drop for Befalls {
    fn drop(&mut self) {
        for engine in &self.fleet.engines {
            engine.clear_scenario(&self.content);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chaos(seed: u64) -> Chaos {
        let (least, most) = (Duration::from_secs(60), Duration::from_secs(600));
        Chaos { contents: Vec::new(), seed, least, most }
    }

    #[test]
    fn every_fault_is_a_scenario_of_the_catalogue() {
        for text in FAULTS {
            assert_eq!(text.parse::<Scenario>().map(|s| s.name()), Ok(text.split('(').next().unwrap()));
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_course_and_contents_differ() {
        let course = |seed, content| chaos(seed).course(content).take(200).collect::<Vec<_>>();
        let (a, again) = (course(1, "a"), course(1, "a"));
        assert_eq!(a, again);
        assert_ne!(a, course(2, "a"));
        assert_ne!(a, course(1, "b"));
        assert!(a.iter().all(|(after, _)| (60..=600).contains(&after.as_secs())));
        let names: std::collections::BTreeSet<_> = a.iter().map(|(_, s)| s.to_string()).collect();
        assert!(names.len() > 30, "{names:?}");
    }
}
