//! Log lines on standard error: text for people, JSON for machines.

use std::io::IsTerminal;

use anyhow::{Context, Result};
use tracing_subscriber::EnvFilter;

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
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => lines.json().flatten_event(true).init(),
    }
    Ok(())
}
