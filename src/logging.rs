//! Log lines on standard error: text for people, JSON for machines.

use std::io::{self, IsTerminal, Write};

use anyhow::{Context, Result};
use tracing::{Level, Metadata};
use tracing_subscriber::{EnvFilter, fmt::MakeWriter};

use crate::config::LogFormat;

/// Starts logging, with what MILLRACE_LOG or else RUST_LOG lets through, or
/// else from `info` up.
///
/// # Errors
/// When the variable is not a filter.
pub(crate) fn start(format: LogFormat) -> Result<()> {
    let set = |name| std::env::var(name).ok().filter(|v| !v.is_empty()).map(|v| (name, v));
    let filter = match set("MILLRACE_LOG").or_else(|| set("RUST_LOG")) {
        Some((name, value)) => EnvFilter::builder().parse(&value).with_context(|| {
            format!(
                "{name} = {value:?}: not a log filter, such as \"debug\" or \"millrace_control=debug,info\""
            )
        })?,
        None => EnvFilter::new("info"),
    };
    // Below that it writes whole answers of Docker, the secrets of containers included.
    let filter = filter.add_directive("bollard=info".parse().context("our own filter")?);
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    match format {
        LogFormat::Text if is_journal() => lines.with_ansi(false).without_time().with_writer(Journal).init(),
        LogFormat::Text => lines.with_ansi(io::stderr().is_terminal()).init(),
        LogFormat::Json => lines.json().flatten_event(true).init(),
    }
    Ok(())
}

/// Whether standard error is the journal's own socket: systemd then says so in
/// `JOURNAL_STREAM`, as `DEVICE:INODE` (systemd.exec(5)).
fn is_journal() -> bool {
    let Ok(named) = std::env::var("JOURNAL_STREAM") else { return false };
    rustix::fs::fstat(io::stderr()).is_ok_and(|stat| named == format!("{}:{}", stat.st_dev, stat.st_ino))
}

/// Writes lines for the journal, which adds the time itself and takes the
/// priority from a prefix (sd-daemon(3)).
struct Journal;

/// One line with its prefix.
struct Line(&'static str);

impl<'a> MakeWriter<'a> for Journal {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line("<6>")
    }

    fn make_writer_for(&'a self, of: &Metadata<'_>) -> Line {
        Line(match *of.level() {
            Level::ERROR => "<3>",
            Level::WARN => "<4>",
            Level::INFO => "<6>",
            Level::DEBUG | Level::TRACE => "<7>",
        })
    }
}

impl Write for Line {
    /// An event arrives whole, in one call.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        io::stderr().write_all(&[self.0.as_bytes(), line].concat())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
