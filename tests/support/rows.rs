//! Tests that are tables, many rows at the same time.

use std::{
    fmt::Debug,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Mutex,
    thread,
};

/// Runs `row` for each of `rows`, `at_once` of them at the same time, and panics
/// with all that failed. `ROW=text` runs only rows with that text in them.
pub(crate) fn run_all<T: Copy + Debug + Send + Sync>(rows: &[T], at_once: usize, row: impl Fn(T) + Sync) {
    let only = std::env::var("ROW").unwrap_or_default();
    let next = Mutex::new(rows.iter().copied().filter(|it| format!("{it:?}").contains(&only)));
    let failed = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| {
                while let Some(it) = { next.lock().unwrap().next() } {
                    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| row(it))) {
                        let text = panic.downcast_ref::<String>().cloned();
                        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
                        let first = text.unwrap_or_default().lines().next().unwrap_or("").to_owned();
                        failed.lock().unwrap().push(format!("{it:?}: {first}"));
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "{} of {} rows failed: {failed:#?}", failed.len(), rows.len());
}
