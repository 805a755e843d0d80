//! Where values come from: file, environment and flags, one above the other.

use std::{collections::BTreeMap, fmt, fs::File, io::Read, path::Path, sync::Arc};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    complaint::{Complaint, nearest_key, nearest_variable},
    keys::{AnyKey, KEYS, Key, variable},
    kinds::{Given, Kind},
};

/// A configuration file is a page; what is longer is not one.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Who set a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Nobody.
    Default,
    /// A line of the configuration file, counted from 1.
    File { file: Arc<str>, line: usize },
    /// A variable of the predecessor, and its text before it was translated.
    Predecessor { variable: &'static str, written: String },
    /// One of our variables.
    Variable(String),
    /// A flag.
    Flag(&'static str),
}

impl Origin {
    /// A stronger source has a higher rank.
    pub(crate) fn rank(&self) -> u8 {
        match self {
            Self::Default => 0,
            Self::File { .. } => 1,
            Self::Predecessor { .. } => 2,
            Self::Variable(_) => 3,
            Self::Flag(_) => 4,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { file, line } => write!(f, "{file}, line {line}"),
            Self::Predecessor { variable, .. } => write!(f, "variable {variable}"),
            Self::Variable(name) => write!(f, "variable {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

/// All that was given, weakest first for each key.
#[derive(Debug, Default)]
pub(crate) struct Layers {
    given: BTreeMap<&'static str, Vec<(Given, Origin)>>,
}

impl Layers {
    /// Notes a value. Sources are to be read in rising order of their rank.
    pub(crate) fn set(&mut self, path: &'static str, given: Given, origin: Origin) {
        self.given.entry(path).or_default().push((given, origin));
    }

    /// The strongest value of a key and its origin.
    pub(crate) fn strongest(&self, path: &str) -> (Option<&Given>, Origin) {
        match self.given.get(path).and_then(|all| all.last()) {
            Some((given, origin)) => (Some(given), origin.clone()),
            None => (None, Origin::Default),
        }
    }

    /// Forgets a key.
    pub(crate) fn forget(&mut self, path: &str) {
        self.given.remove(path);
    }

    /// The value of a key. Weaker values are checked too: what is wrong in a
    /// file is wrong even where a flag hides it.
    pub(crate) fn get<K: Kind>(&self, key: &Key<K>, complaints: &mut Vec<Complaint>) -> K {
        let mut value = None;
        for (given, origin) in self.given.get(key.path()).into_iter().flatten() {
            value = key.read(given);
            if value.is_none() {
                let (path, given, allowed) = (key.path(), given.to_string(), key.allowed());
                complaints.push(match origin.clone() {
                    Origin::Predecessor { variable, written } => {
                        Complaint::Predecessor { variable, written, path, given, allowed }
                    }
                    at => Complaint::Value { path, given, allowed, at },
                });
            }
        }
        value.unwrap_or_else(|| key.default())
    }

    /// Reads a configuration file.
    pub(crate) fn read_file(&mut self, path: &Path, complaints: &mut Vec<Complaint>) {
        let mut text = String::new();
        let read = File::open(path).and_then(|f| f.take(MAX_FILE_BYTES + 1).read_to_string(&mut text));
        let read = read.and_then(|_| match text.len() as u64 {
            0..=MAX_FILE_BYTES => Ok(()),
            _ => Err(std::io::Error::other("longer than 1 MiB")),
        });
        match read {
            Ok(()) => self.read_toml(&path.display().to_string(), &text, complaints),
            Err(source) => complaints.push(Complaint::File { file: path.display().to_string(), source }),
        }
    }

    /// Reads the text of a configuration file.
    pub(crate) fn read_toml(&mut self, file: &str, text: &str, complaints: &mut Vec<Complaint>) {
        let file: Arc<str> = file.into();
        let at = |offset: usize| {
            let before = text.as_bytes().get(..offset).unwrap_or(text.as_bytes());
            Origin::File { file: Arc::clone(&file), line: 1 + before.iter().filter(|b| **b == b'\n').count() }
        };
        let (root, errors) = DeTable::parse_recoverable(text);
        complaints.extend(errors.iter().map(|e| Complaint::Syntax {
            at: at(e.span().map_or(0, |span| span.start)),
            message: e.message().to_owned(),
        }));
        if !errors.is_empty() {
            return;
        }
        for (path, value) in flat(root.get_ref()) {
            let origin = at(value.span().start);
            let given = given(text, value);
            match known(&path) {
                Some(key) => self.set(key.path(), given, origin),
                None => complaints.push(Complaint::UnknownKey {
                    nearest: nearest_key(&path),
                    given: given.to_string(),
                    path,
                    at: origin,
                }),
            }
        }
    }

    /// Reads our variables; those of somebody else are left alone.
    pub(crate) fn read_variables<'v>(
        &mut self,
        variables: impl Iterator<Item = (&'v str, &'v str)>,
        complaints: &mut Vec<Complaint>,
    ) {
        for (name, value) in variables {
            if !name.starts_with("MILLRACE_") || super::OWN_VARIABLES.contains(&name) || injected(name) {
                continue;
            }
            match KEYS.iter().find(|key| variable(key.path()) == name) {
                Some(key) => {
                    self.set(key.path(), Given::Word(value.to_owned()), Origin::Variable(name.to_owned()));
                }
                None => complaints.push(Complaint::UnknownVariable {
                    variable: name.to_owned(),
                    given: value.to_owned(),
                    nearest: nearest_variable(name),
                }),
            }
        }
    }
}

/// Whether a container platform made the variable up: for a service called
/// `millrace` it announces `MILLRACE_SERVICE_HOST`, `MILLRACE_PORT`, …
fn injected(name: &str) -> bool {
    let rest = name.strip_prefix("MILLRACE_").unwrap_or_default();
    rest == "SERVICE_HOST"
        || rest.starts_with("SERVICE_PORT")
        || rest == "PORT"
        || rest.strip_prefix("PORT_").is_some_and(|r| r.starts_with(|c: char| c.is_ascii_digit()))
}

fn known(path: &str) -> Option<&'static dyn AnyKey> {
    KEYS.iter().copied().find(|key| key.path() == path)
}

/// The values of a file as `table.key`, with whatever stands elsewhere under
/// the path it has.
fn flat<'t, 'i>(root: &'t DeTable<'i>) -> Vec<(String, &'t Spanned<DeValue<'i>>)> {
    let mut values = Vec::new();
    for (table, value) in root {
        let table = table.get_ref();
        match value.get_ref().as_table() {
            Some(keys) => {
                values.extend(keys.iter().map(|(key, value)| (format!("{table}.{}", key.get_ref()), value)));
            }
            None => values.push((table.to_string(), value)),
        }
    }
    // In the order of the file, so that complaints are.
    values.sort_by_key(|(_, value)| value.span().start);
    values
}

fn given(text: &str, value: &Spanned<DeValue<'_>>) -> Given {
    match value.get_ref() {
        DeValue::String(s) => Given::Text(s.to_string()),
        DeValue::Boolean(b) => Given::Boolean(*b),
        DeValue::Integer(n) => match i64::from_str_radix(n.as_str(), n.radix()) {
            Ok(n) => Given::Integer(n),
            Err(_) => Given::Other(n.to_string()),
        },
        DeValue::Array(items) => Given::List(items.iter().map(|item| given(text, item)).collect()),
        DeValue::Table(_) => Given::Other("a table".into()),
        DeValue::Float(_) | DeValue::Datetime(_) => {
            Given::Other(text.get(value.span()).unwrap_or_default().to_owned())
        }
    }
}
