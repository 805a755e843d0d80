//! What the server writes, kept while the test runs.

use std::{
    collections::VecDeque,
    io::{BufRead, BufReader, Read},
    sync::{Arc, Condvar, Mutex},
    thread,
    time::{Duration, Instant},
};

/// Most lines kept; the oldest go first, but WARN and ERROR lines are kept apart.
const MAX_LINES: usize = 10_000;
/// Most bytes kept of one line.
const MAX_LINE: usize = 16 << 10;

#[derive(Default)]
struct Lines {
    all: VecDeque<String>,
    complaints: Vec<String>,
    open_pipes: usize,
}

/// The lines of standard output and standard error as they came.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<(Mutex<Lines>, Condvar)>);

impl Log {
    /// Follows `pipe` until it closes.
    pub(crate) fn follow(&self, pipe: impl Read + Send + 'static) {
        let log = self.clone();
        log.lock().open_pipes += 1;
        thread::spawn(move || {
            let mut pipe = BufReader::new(pipe);
            let mut line = Vec::new();
            while matches!(pipe.by_ref().take(MAX_LINE as u64).read_until(b'\n', &mut line), Ok(1..)) {
                log.push(String::from_utf8_lossy(&line).trim_end().to_owned());
                line.clear();
            }
            log.lock().open_pipes -= 1;
            log.0.1.notify_all();
        });
    }

    fn push(&self, line: String) {
        let mut lines = self.lock();
        if is_complaint(&line) && lines.complaints.len() < MAX_LINES {
            lines.complaints.push(line.clone());
        }
        if lines.all.len() == MAX_LINES {
            lines.all.pop_front();
        }
        lines.all.push_back(line);
        self.0.1.notify_all();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Lines> {
        self.0.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Waits for a line that `pick` makes something of; none when `limit` has
    /// passed or both pipes are closed.
    pub(crate) fn wait_for<T>(&self, limit: Duration, pick: impl Fn(&str) -> Option<T>) -> Option<T> {
        let deadline = Instant::now() + limit;
        let mut lines = self.lock();
        loop {
            if let Some(found) = lines.all.iter().find_map(|line| pick(line)) {
                return Some(found);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || lines.open_pipes == 0 {
                return None;
            }
            lines = self.0.1.wait_timeout(lines, left).unwrap_or_else(std::sync::PoisonError::into_inner).0;
        }
    }

    /// WARN and ERROR lines, and panics, that hold none of the `allowed` texts.
    pub(crate) fn complaints(&self, allowed: &[String]) -> Vec<String> {
        let lines = self.lock();
        let is_listed = |line: &&String| !allowed.iter().any(|text| line.contains(text.as_str()));
        lines.complaints.iter().filter(is_listed).cloned().collect()
    }

    /// Everything kept, as one text.
    pub(crate) fn text(&self) -> String {
        self.lock().all.iter().fold(String::new(), |text, line| text + "    " + line + "\n")
    }
}

/// Whether a line, text or JSON, has the level WARN or ERROR, or is a panic.
///
/// In a text line the level stands before the first word with a colon or an
/// equals sign that is not the time, so only the first words are looked at.
pub(crate) fn is_complaint(line: &str) -> bool {
    if line.contains("panicked at") {
        return true;
    }
    if line.starts_with('{') {
        return line.contains(r#""level":"WARN""#) || line.contains(r#""level":"ERROR""#);
    }
    line.split_whitespace().take(3).any(|word| word == "WARN" || word == "ERROR")
}
