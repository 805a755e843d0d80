//! Waiting with deadlines, and skipping aloud.

use std::{
    thread,
    time::{Duration, Instant},
};

/// How often a condition is looked at again.
const POLL: Duration = Duration::from_millis(5);

/// Looks at `condition` until it holds or `limit` has passed; says which.
#[must_use]
pub(crate) fn wait_until(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        thread::sleep(POLL);
    }
}

/// Says that a test cannot run here, or fails it when the environment variable
/// `required` (such as `REQUIRE_URING`) is `1`.
pub(crate) fn skip(required: &str, why: &str) {
    let is_required = std::env::var(required).is_ok_and(|value| value == "1");
    assert!(!is_required, "{required}=1, but {why}");
    eprintln!("SKIP: {why}");
}
