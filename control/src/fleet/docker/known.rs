//! Containers known to be ours, so that they need not be looked at each time.

use std::{collections::VecDeque, fmt, sync::Arc};

/// Twice the engines of the largest fleet: a container that is forgotten only
/// has to be looked at again.
const MOST: usize = 2 * super::MAX_ENGINES;

/// A container's id, whole: a name may be given to another container.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct ContainerId(Arc<str>);

impl ContainerId {
    /// The id, if it is one that can stand in a request.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
        ((1..=128).contains(&text.len()) && text.bytes().all(is_plain)).then(|| Self(text.into()))
    }

    /// As Docker writes it.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// What is known of a container of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// This process made it, and has not started it yet.
    Fresh,
    /// It is ours.
    Ours,
}

/// The latest ones. Labels do not change and ids do not come again, so what is
/// known stays true.
#[derive(Debug, Default)]
pub(super) struct Known(VecDeque<(ContainerId, Standing)>);

impl Known {
    /// What is known of it.
    pub(super) fn standing(&self, id: &ContainerId) -> Option<Standing> {
        self.0.iter().find(|(known, _)| known == id).map(|(_, standing)| *standing)
    }

    /// Keeps it; the one longest untouched goes when there are too many.
    pub(super) fn note(&mut self, id: &ContainerId, standing: Standing) {
        self.forget(id);
        if self.0.len() >= MOST {
            self.0.pop_front();
        }
        self.0.push_back((id.clone(), standing));
    }

    /// It is gone.
    pub(super) fn forget(&mut self, id: &ContainerId) {
        self.0.retain(|(known, _)| known != id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_cannot_lead_a_request_elsewhere() {
        let (longest, longer) = ("a".repeat(128), "a".repeat(129));
        for (text, is_id) in [
            ("4f1d0c8f9a3b", true),
            ("id-a", true),
            (&longest, true),
            (&longer, false),
            ("", false),
            ("a/../b", false),
            ("a?force=1", false),
            ("a%2f", false),
            ("a b", false),
            ("ä", false),
        ] {
            assert_eq!(ContainerId::parse(text).is_some(), is_id, "{text}");
        }
    }

    #[test]
    fn the_one_longest_untouched_is_forgotten() {
        let id = |i: usize| ContainerId::parse(&i.to_string()).unwrap();
        let mut known = Known::default();
        (0..MOST).for_each(|i| known.note(&id(i), Standing::Fresh));
        (0..MOST).for_each(|_| known.note(&id(0), Standing::Ours));
        known.note(&id(MOST), Standing::Fresh);
        assert_eq!(known.0.len(), MOST);
        for (i, expected) in
            [(0, Some(Standing::Ours)), (1, None), (2, Some(Standing::Fresh)), (MOST, Some(Standing::Fresh))]
        {
            assert_eq!(known.standing(&id(i)), expected, "{i}");
        }
        known.forget(&id(2));
        assert_eq!(known.standing(&id(2)), None);
    }
}
