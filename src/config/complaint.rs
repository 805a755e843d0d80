//! What can be wrong with a configuration, said so that it can be mended.

use std::fmt;

use super::{
    keys::{KEYS, variable},
    layers::Origin,
};
use crate::congestion;

/// One thing wrong with the configuration.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Complaint {
    /// A file that cannot be read.
    #[error("{file}: cannot be read: {source}")]
    File {
        file: String,
        #[source]
        source: std::io::Error,
    },
    /// A file that is not TOML.
    #[error("{at}: not TOML: {message}")]
    Syntax { at: Origin, message: String },
    /// A value of another type, or out of range.
    #[error("{path} = {given}: not allowed; allowed: {allowed} ({at})")]
    Value { path: &'static str, given: String, allowed: String, at: Origin },
    /// A variable of the predecessor that cannot be carried over.
    #[error("{variable} = {written:?}: becomes {path} = {given}, which is not allowed; allowed: {allowed}")]
    Predecessor {
        variable: &'static str,
        written: String,
        path: &'static str,
        given: String,
        allowed: String,
    },
    /// A key that nobody reads.
    #[error("{path} = {given}: unknown key; the nearest is {nearest} ({at})")]
    UnknownKey { path: String, given: String, nearest: &'static str, at: Origin },
    /// A variable that nobody reads.
    #[error("{variable} = {given:?}: unknown variable; the nearest is {nearest}")]
    UnknownVariable { variable: String, given: String, nearest: String },
    /// A value that the kernel does not accept from this process.
    #[error("{setting}: {refusal} ({at})")]
    Kernel { setting: String, refusal: congestion::Refusal, at: Origin },
    /// Two values that are each allowed but not together.
    #[error("{left} ({left_at}) and {right} ({right_at}): {rule}")]
    Conflict { left: String, left_at: Origin, right: String, right_at: Origin, rule: &'static str },
}

/// Everything wrong with the configuration; never empty.
#[derive(Debug)]
pub(crate) struct Complaints(pub(crate) Vec<Complaint>);

impl std::error::Error for Complaints {}

impl fmt::Display for Complaints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = if self.0.len() == 1 { "" } else { "s" };
        write!(f, "the configuration has {} error{s}", self.0.len())?;
        self.0.iter().try_for_each(|complaint| write!(f, "\n  {complaint}"))
    }
}

/// How far `written` is from a key: somebody who forgets or mistakes the table
/// still names the key.
fn distance(written: &str, path: &str) -> (usize, usize) {
    let name = |path: &str| path.rsplit('.').next().unwrap_or_default().to_owned();
    let whole = strsim::damerau_levenshtein(written, path);
    (whole.min(strsim::damerau_levenshtein(&name(written), &name(path)) + 1), whole)
}

/// The known key that `path` most likely means.
pub(crate) fn nearest_key(path: &str) -> &'static str {
    KEYS.iter().map(|key| key.path()).min_by_key(|known| distance(path, known)).unwrap_or_default()
}

/// The known variable that `name` most likely means.
pub(crate) fn nearest_variable(name: &str) -> String {
    let written = name.trim_start_matches("MILLRACE_").to_ascii_lowercase();
    // The table's name may be the right one: `streams_lingr`.
    let dotted = written.replacen('_', ".", 1);
    let settings = KEYS.iter().map(|key| {
        let far = distance(&written, key.path()).min(distance(&dotted, key.path()));
        (far, variable(key.path()))
    });
    let own = super::OWN_VARIABLES.iter().map(|own| {
        let far = strsim::damerau_levenshtein(name, own);
        ((far, far), (*own).to_owned())
    });
    settings.chain(own).min().map(|(_, nearest)| nearest).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_pen_leads_to_the_key_meant() {
        for (written, meant) in [
            ("streams.lingr", "streams.linger"),
            ("viewers.linger", "streams.linger"),
            ("listen", "server.listen"),
            ("stream.window", "streams.window"),
            ("engines.url", "engines.urls"),
            ("viewers.maxx", "viewers.max"),
        ] {
            assert_eq!(nearest_key(written), meant, "{written}");
        }
        for (written, meant) in [
            ("MILLRACE_LISTEN", "MILLRACE_SERVER_LISTEN"),
            ("MILLRACE_STREAMS_LINGR", "MILLRACE_STREAMS_LINGER"),
            ("MILLRACE_VIEWERS_PREBUFFERS", "MILLRACE_VIEWERS_PREBUFFER"),
            ("MILLRACE_ENGINE_PROBE_INTERVAL", "MILLRACE_ENGINES_PROBE_INTERVAL"),
            ("MILLRACE_CONF", "MILLRACE_CONFIG"),
        ] {
            assert_eq!(nearest_variable(written), meant, "{written}");
        }
    }
}
