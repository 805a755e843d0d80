//! What was learned of the demand, kept over a restart: slots taken at the
//! busiest moment of each hour of the week.

use std::{
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
    time::Duration,
};

use millrace_boundary::Monotonic;
use serde::{Deserialize, Serialize};
use tokio::{
    task::JoinHandle,
    time::{Instant, timeout_at},
};

use crate::template::write_atomically;

/// Between two times that it is written down.
const INTERVAL: Duration = Duration::from_secs(600);
/// A file of a week's hours has a few KiB.
const FILE: u64 = 64 << 10;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    version: u32,
    /// From the first hour of Monday by UTC.
    peaks: Vec<f32>,
}

/// Reads the file; nothing where there is none. Blocks on the disk.
///
/// # Errors
/// Why it is of no use.
pub(crate) fn read(file: &Path) -> Result<Option<Vec<f32>>, String> {
    let unreadable = |error: std::io::Error| format!("cannot read {}: {error}", file.display());
    match fs::metadata(file) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(error)),
        // A pipe would be waited for.
        Ok(kind) if !kind.is_file() => return Err(format!("{} is no file", file.display())),
        Ok(_) => {}
    }
    let mut bytes = Vec::new();
    File::open(file).and_then(|file| file.take(FILE).read_to_end(&mut bytes)).map_err(unreadable)?;
    let document: Document = serde_json::from_slice(&bytes)
        .map_err(|error| format!("{} is not what was written there: {error}", file.display()))?;
    if document.version != 1 {
        return Err(format!("{} is of version {}, not 1", file.display(), document.version));
    }
    Ok(Some(document.peaks))
}

/// Writes the file now and then.
#[derive(Debug)]
pub(crate) struct Keeper {
    file: PathBuf,
    written_at: Monotonic,
    /// What the file has, as far as is known.
    kept: Vec<f32>,
    writing: Option<JoinHandle<std::io::Result<()>>>,
    /// The log says that it cannot be written.
    has_complained: bool,
}

impl Keeper {
    /// `kept` is in the file already.
    pub(crate) fn new(file: PathBuf, kept: Vec<f32>, now: Monotonic) -> Self {
        Self { file, written_at: now, kept, writing: None, has_complained: false }
    }

    /// Whether it is time to write.
    pub(crate) fn is_due(&self, now: Monotonic) -> bool {
        now.since(self.written_at) >= INTERVAL
    }

    /// Begins to write, unless nothing is new or the last time has yet to end: a
    /// disk that hangs holds one thread up.
    pub(crate) fn write(&mut self, peaks: Vec<f32>, now: Monotonic) {
        self.written_at = now;
        if peaks == self.kept || self.writing.as_ref().is_some_and(|writing| !writing.is_finished()) {
            return;
        }
        let document = Document { version: 1, peaks };
        // Numbers alone are always written.
        let Ok(bytes) = serde_json::to_vec(&document) else { return };
        self.kept = document.peaks;
        let file = self.file.clone();
        self.writing = Some(tokio::task::spawn_blocking(move || write_atomically(&file, &bytes)));
    }

    /// Waits for what is being written, until `end` at the latest, and tells once
    /// that it fails.
    pub(crate) async fn settle(&mut self, end: Instant) {
        let Some(writing) = &mut self.writing else { return };
        let Ok(written) = timeout_at(end, writing).await else { return };
        self.writing = None;
        let error = match written {
            Ok(Ok(())) => {
                self.has_complained = false;
                return;
            }
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        // So that it is tried again.
        self.kept.clear();
        if !std::mem::replace(&mut self.has_complained, true) {
            tracing::warn!(
                file = %self.file.display(),
                error,
                remedy = "make server.data_dir a directory that can be written, with room on its disk",
                "what was learned of the demand cannot be stored, and is lost with a restart"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let directory = std::env::temp_dir().join(format!("millrace-learned-{}-{name}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        directory
    }

    #[test]
    fn a_file_that_is_not_ours_is_refused_aloud() {
        let directory = scratch("read");
        let file = directory.join("forecast.json");
        assert_eq!(read(&file), Ok(None));
        for (text, peaks) in [
            (r#"{"version":1,"peaks":[1.5,0.0]}"#, Some(vec![1.5, 0.0])),
            (r#"{"version":2,"peaks":[]}"#, None),
            (r#"{"version":1}"#, None),
            (r#"{"version":1,"peaks":["a"]}"#, None),
            ("", None),
            ("\u{0}", None),
        ] {
            fs::write(&file, text).unwrap();
            assert_eq!(read(&file).ok().flatten(), peaks, "{text}");
            assert_eq!(read(&file).is_err(), peaks.is_none(), "{text}");
        }
        fs::write(&file, format!("{{\"version\":1,\"peaks\":[{}0]}}", "0,".repeat(100_000))).unwrap();
        assert!(read(&file).is_err(), "it is too long");
        assert!(read(&directory).is_err(), "it is a directory");
        fs::remove_dir_all(directory).unwrap();
    }

    #[tokio::test]
    async fn it_is_written_every_ten_minutes_when_it_is_new() {
        let directory = scratch("write");
        let file = directory.join("forecast.json");
        let at = |seconds| Monotonic(Duration::from_secs(seconds));
        let soon = || Instant::now() + Duration::from_secs(10);
        let mut keeper = Keeper::new(file.clone(), vec![1.0], at(0));
        assert_eq!((keeper.is_due(at(599)), keeper.is_due(at(600))), (false, true));
        keeper.write(vec![1.0], at(600));
        keeper.settle(soon()).await;
        assert_eq!(read(&file), Ok(None), "it is the same");
        assert!(!keeper.is_due(at(1_199)));
        keeper.write(vec![2.0], at(1_200));
        keeper.settle(soon()).await;
        assert_eq!(read(&file), Ok(Some(vec![2.0])));
        fs::remove_dir_all(&directory).unwrap();
        keeper.write(vec![3.0], at(1_800));
        keeper.settle(soon()).await;
        assert!(keeper.has_complained && keeper.kept.is_empty(), "there is no such directory");
        fs::create_dir_all(&directory).unwrap();
        keeper.write(vec![3.0], at(2_400));
        keeper.settle(soon()).await;
        assert_eq!((read(&file), keeper.has_complained), (Ok(Some(vec![3.0])), false));
        fs::remove_dir_all(directory).unwrap();
    }
}
