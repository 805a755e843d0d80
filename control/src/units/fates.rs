//! What events told of deaths, for when there is nobody left to ask.

use std::{collections::VecDeque, sync::Arc};

use crate::fleet::docker::{Fate, Hint};

/// Containers remembered, the newest.
const MOST: usize = 64;

/// How one container ended, as far as was heard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ending {
    /// The kernel ended a process of it for its memory.
    pub(super) out_of_memory: bool,
    /// The status of its first process.
    pub(super) exit_code: Option<i64>,
}

/// By container.
#[derive(Debug, Default)]
pub(super) struct Fates(VecDeque<(Arc<str>, Ending)>);

impl Fates {
    /// Takes in what was heard.
    pub(super) fn hear(&mut self, hint: Hint) {
        let known = self.0.iter().position(|(id, _)| *id == hint.id).and_then(|at| self.0.remove(at));
        let mut ending = known.map(|(_, ending)| ending).unwrap_or_default();
        match hint.what {
            Fate::Oom => ending.out_of_memory = true,
            Fate::Died { exit_code } => ending.exit_code = exit_code,
        }
        if self.0.len() >= MOST {
            self.0.pop_front();
        }
        self.0.push_back((hint.id, ending));
    }

    /// How a container ended, if that was heard. Told once: it may start again.
    pub(super) fn take(&mut self, container: Option<&str>) -> Option<Ending> {
        let at = self.0.iter().position(|(id, _)| Some(&**id) == container)?;
        self.0.remove(at).map(|(_, ending)| ending)
    }
}

#[cfg(test)]
mod tests {
    use millrace_boundary::Monotonic;

    use super::*;

    fn hint(id: &str, what: Fate) -> Hint {
        Hint { id: id.into(), what, at: Monotonic::default() }
    }

    #[test]
    fn the_newest_endings_are_known_whole_and_told_once() {
        let mut fates = Fates::default();
        fates.hear(hint("a", Fate::Oom));
        fates.hear(hint("b", Fate::Died { exit_code: None }));
        fates.hear(hint("a", Fate::Died { exit_code: Some(137) }));
        let whole = Ending { out_of_memory: true, exit_code: Some(137) };
        assert_eq!(fates.take(None), None);
        assert_eq!(fates.take(Some("a")), Some(whole));
        assert_eq!(fates.take(Some("a")), None);
        assert_eq!(fates.take(Some("b")), Some(Ending::default()));
        for i in 0..=MOST {
            fates.hear(hint(&i.to_string(), Fate::Oom));
        }
        assert_eq!(
            (fates.0.len(), fates.take(Some("0")).is_some(), fates.take(Some("1")).is_some()),
            (MOST, false, true)
        );
    }
}
