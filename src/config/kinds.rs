//! The kinds of value that a setting may hold: how each is read, bounded and
//! written.

mod docker;

use std::{fmt, net::SocketAddr, ops::RangeInclusive, path::PathBuf, str::FromStr, time::Duration};

use millrace_boundary::Output;
use millrace_control::DockerUri;

use docker::Words;
pub(crate) use docker::{Alphabet, Keep, Label, OneOf, PortRange, Text};

/// A value as it was given, before anybody knows whether it may stand there.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Given {
    /// From a flag or a variable, where everything is text.
    Word(String),
    /// A TOML string.
    Text(String),
    /// A TOML integer; those beyond `i64` are [`Given::Other`].
    Integer(i64),
    /// A TOML boolean.
    Boolean(bool),
    /// A TOML array, or a flag given several times.
    List(Vec<Given>),
    /// Anything else that TOML knows, as written there.
    Other(String),
}

impl fmt::Display for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Word(s) | Self::Text(s) => write!(f, "{}", quoted(s)),
            Self::Integer(n) => write!(f, "{n}"),
            Self::Boolean(b) => write!(f, "{b}"),
            Self::List(items) => {
                let items: Vec<_> = items.iter().map(ToString::to_string).collect();
                write!(f, "[{}]", items.join(", "))
            }
            Self::Other(s) => f.write_str(s),
        }
    }
}

impl Given {
    /// The text of a value that TOML writes as a string.
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Word(s) | Self::Text(s) => Some(s),
            _ => None,
        }
    }
}

/// `text` as a TOML basic string.
pub(super) fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// A kind of value.
pub(crate) trait Kind: Sized {
    /// What bounds it beyond its type.
    type Range: Sync + 'static;

    /// The value, or none when it is of another type or out of range.
    fn read(given: &Given, range: &Self::Range) -> Option<Self>;

    /// What is allowed, for people; continues "allowed: ".
    fn allowed(range: &Self::Range) -> String;

    /// The value as TOML; [`Kind::read`] gives back an equal one.
    fn to_toml(&self) -> String;
}

impl Kind for u32 {
    type Range = RangeInclusive<Self>;

    fn read(given: &Given, range: &Self::Range) -> Option<Self> {
        let n = match given {
            Given::Integer(n) => Self::try_from(*n).ok()?,
            Given::Word(s) => s.parse().ok()?,
            _ => return None,
        };
        range.contains(&n).then_some(n)
    }

    fn allowed(range: &Self::Range) -> String {
        format!("a whole number from {} to {}", range.start(), range.end())
    }

    fn to_toml(&self) -> String {
        self.to_string()
    }
}

impl Kind for bool {
    type Range = ();

    fn read(given: &Given, (): &()) -> Option<Self> {
        match given {
            Given::Boolean(b) => Some(*b),
            Given::Word(s) => s.parse().ok(),
            _ => None,
        }
    }

    fn allowed((): &()) -> String {
        "true or false".into()
    }

    fn to_toml(&self) -> String {
        self.to_string()
    }
}

impl Kind for Duration {
    type Range = RangeInclusive<Self>;

    fn read(given: &Given, range: &Self::Range) -> Option<Self> {
        humantime::parse_duration(given.text()?).ok().filter(|d| range.contains(d))
    }

    fn allowed(range: &Self::Range) -> String {
        let [from, to] = [range.start(), range.end()].map(|d| humantime::format_duration(*d));
        format!("a duration from {from} to {to}, with its unit, such as \"500ms\", \"15s\" or \"2m\"")
    }

    fn to_toml(&self) -> String {
        quoted(&humantime::format_duration(*self).to_string())
    }
}

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Bytes(pub(crate) u64);

impl fmt::Display for Bytes {
    /// In the largest binary unit that gives a whole number, so that nothing
    /// is rounded.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (shift, unit) = [(30, "GiB"), (20, "MiB"), (10, "KiB")]
            .into_iter()
            .find(|(shift, _)| self.0 != 0 && self.0.trailing_zeros() >= *shift)
            .unwrap_or((0, "B"));
        write!(f, "{}{unit}", self.0 >> shift)
    }
}

impl Kind for Bytes {
    type Range = RangeInclusive<Self>;

    fn read(given: &Given, range: &Self::Range) -> Option<Self> {
        let text = given.text()?;
        // A bare number would be read as bytes; a size says its unit.
        if !text.ends_with(['B', 'b']) {
            return None;
        }
        let size = bytesize::ByteSize::from_str(text).ok().map(|b| Self(b.as_u64()))?;
        range.contains(&size).then_some(size)
    }

    fn allowed(range: &Self::Range) -> String {
        format!("a size from {} to {}, with its unit, such as \"64MiB\"", range.start(), range.end())
    }

    fn to_toml(&self) -> String {
        quoted(&self.to_string())
    }
}

impl Kind for SocketAddr {
    type Range = ();

    fn read(given: &Given, (): &()) -> Option<Self> {
        given.text()?.parse().ok()
    }

    fn allowed((): &()) -> String {
        "IP:PORT, such as \"0.0.0.0:8000\" or \"[::]:8000\"; port 0 takes a free one".into()
    }

    fn to_toml(&self) -> String {
        quoted(&self.to_string())
    }
}

/// A directory, or none.
impl Kind for Option<PathBuf> {
    type Range = ();

    fn read(given: &Given, (): &()) -> Option<Self> {
        let text = given.text()?;
        if text.is_empty() {
            return Some(None);
        }
        Some(Some(PathBuf::from(text)))
    }

    fn allowed((): &()) -> String {
        "a path, or \"\" for none".into()
    }

    fn to_toml(&self) -> String {
        quoted(self.as_deref().and_then(std::path::Path::to_str).unwrap_or_default())
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Words for Output {
    const ALL: &'static [(&'static str, Self)] = Self::WORDS;
}

impl Kind for LogFormat {
    type Range = ();

    fn read(given: &Given, (): &()) -> Option<Self> {
        match given.text()? {
            "text" => Some(Self::Text),
            "json" => Some(Self::Json),
            _ => None,
        }
    }

    fn allowed((): &()) -> String {
        "\"text\" or \"json\"".into()
    }

    fn to_toml(&self) -> String {
        quoted(match self {
            Self::Text => "text",
            Self::Json => "json",
        })
    }
}

/// A congestion control by name, or none; whether the kernel offers it is for
/// the kernel to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Congestion(pub(crate) Option<String>);

impl Congestion {
    /// The kernel's `TCP_CA_NAME_MAX`, with its final zero.
    const NAME_MAX: usize = 16;
}

impl Kind for Congestion {
    type Range = ();

    fn read(given: &Given, (): &()) -> Option<Self> {
        let name = given.text()?;
        let sound = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        let fits = name.len() < Self::NAME_MAX && name.chars().all(sound);
        fits.then(|| Self((!name.is_empty()).then(|| name.to_owned())))
    }

    fn allowed((): &()) -> String {
        "a name that the kernel offers, such as \"cubic\" or \"bbr\", or \"\" for its default".into()
    }

    fn to_toml(&self) -> String {
        quoted(self.0.as_deref().unwrap_or_default())
    }
}

/// The cores that shards run on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Cores {
    /// Every core that the process may run on.
    All,
    /// These, in rising order, each once; never empty.
    Listed(Vec<u16>),
}

impl Cores {
    /// The highest core number that Linux' `cpu_set_t` holds.
    const LAST: u16 = 1023;

    fn parse(list: &str) -> Option<Vec<u16>> {
        let mut cores = Vec::new();
        for part in list.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last): (u16, u16) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
            if first > last || last > Self::LAST {
                return None;
            }
            cores.extend(first..=last);
            if cores.len() > usize::from(Self::LAST) + 1 {
                return None;
            }
        }
        let given = cores.len();
        cores.sort_unstable();
        cores.dedup();
        (cores.len() == given).then_some(cores)
    }
}

impl Kind for Cores {
    type Range = ();

    fn read(given: &Given, (): &()) -> Option<Self> {
        match given.text()? {
            "all" => Some(Self::All),
            list => Self::parse(list).map(Self::Listed),
        }
    }

    fn allowed((): &()) -> String {
        format!("\"all\", or cores from 0 to {}, each once, such as \"0,2-3\"", Self::LAST)
    }

    fn to_toml(&self) -> String {
        match self {
            Self::All => quoted("all"),
            Self::Listed(cores) => {
                let cores: Vec<_> = cores.iter().map(ToString::to_string).collect();
                quoted(&cores.join(","))
            }
        }
    }
}

/// Where an engine is: `http://HOST:PORT`, with `?source=hls` or `?source=ts` behind
/// it, and nothing else, since the engine's API has fixed paths and knows no
/// passwords.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EngineUrl {
    /// A name or an address; an IPv6 address without its brackets.
    pub(crate) host: String,
    /// Never 0.
    pub(crate) port: u16,
    /// How it is asked for streams, if it is not as others are.
    pub(crate) source: Option<Output>,
}

impl fmt::Display for EngineUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "http://[{}]:{}", self.host, self.port)?;
        } else {
            write!(f, "http://{}:{}", self.host, self.port)?;
        }
        self.source.map_or(Ok(()), |source| write!(f, "?source={}", source.as_str()))
    }
}

impl EngineUrl {
    fn parse(url: &str) -> Option<Self> {
        let url = url.strip_prefix("http://")?;
        let (authority, source) = match url.split_once("?source=") {
            Some((authority, word)) => (authority, Some(Output::named(word)?)),
            None => (url, None),
        };
        let (host, port) = authority.strip_suffix('/').unwrap_or(authority).rsplit_once(':')?;
        let port = port.parse().ok().filter(|port| *port != 0)?;
        let host = match host.strip_prefix('[') {
            Some(v6) => v6.strip_suffix(']').filter(|v6| v6.parse::<std::net::Ipv6Addr>().is_ok())?,
            None => host,
        };
        let named = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        let sound = authority.starts_with('[') || host.chars().all(named);
        (sound && !host.is_empty() && host.len() <= 253).then(|| Self { host: host.to_owned(), port, source })
    }
}

impl Kind for Vec<EngineUrl> {
    type Range = ();

    fn read(given: &Given, (): &()) -> Option<Self> {
        let urls: Option<Self> = match given {
            Given::Word(s) if s.trim().is_empty() => Some(Vec::new()),
            Given::Word(s) => s.split(',').map(|url| EngineUrl::parse(url.trim())).collect(),
            Given::List(items) => items.iter().map(|i| i.text().and_then(EngineUrl::parse)).collect(),
            _ => None,
        };
        let urls = urls.filter(|urls| urls.len() <= 500)?;
        let at = |url: &EngineUrl| (url.host.clone(), url.port);
        let unique = urls.iter().enumerate().all(|(i, url)| urls[..i].iter().all(|one| at(one) != at(url)));
        unique.then_some(urls)
    }

    fn allowed((): &()) -> String {
        "at most 500 different URLs of the form \"http://HOST:PORT\" or \"http://HOST:PORT?source=hls\", without user or path".into()
    }

    fn to_toml(&self) -> String {
        let urls: Vec<_> = self.iter().map(|url| quoted(&url.to_string())).collect();
        format!("[{}]", urls.join(", "))
    }
}

/// A Docker daemon, or none.
impl Kind for Option<DockerUri> {
    type Range = ();

    fn read(given: &Given, (): &()) -> Option<Self> {
        match given.text()? {
            "" => Some(None),
            uri => DockerUri::parse(uri).map(Some),
        }
    }

    fn allowed((): &()) -> String {
        format!("{}; or \"\" for none", DockerUri::ALLOWED)
    }

    fn to_toml(&self) -> String {
        quoted(&self.as_ref().map(ToString::to_string).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word<K: Kind>(text: &str, range: &K::Range) -> Option<String> {
        K::read(&Given::Word(text.into()), range).map(|v| v.to_toml())
    }

    #[test]
    fn a_size_keeps_every_byte_and_needs_its_unit() {
        let any = Bytes(0)..=Bytes(u64::MAX);
        for (text, toml) in [
            ("64MiB", Some("\"64MiB\"")),
            ("1.5 GiB", Some("\"1536MiB\"")),
            ("1MB", Some("\"1000000B\"")),
            ("1025B", Some("\"1025B\"")),
            ("0B", Some("\"0B\"")),
            ("64", None),
            ("-1MiB", None),
            ("MiB", None),
        ] {
            assert_eq!(word::<Bytes>(text, &any).as_deref(), toml, "{text}");
        }
    }

    #[test]
    fn a_list_of_cores_names_each_once() {
        for (text, toml) in [
            ("all", Some("\"all\"")),
            ("0", Some("\"0\"")),
            ("3,0-1", Some("\"0,1,3\"")),
            ("0, 2", Some("\"0,2\"")),
            ("", None),
            ("1,1", None),
            ("0-2,1", None),
            ("3-1", None),
            ("1024", None),
            ("0-65535", None),
            ("0,", None),
            ("a", None),
        ] {
            assert_eq!(word::<Cores>(text, &()).as_deref(), toml, "{text}");
        }
    }

    #[test]
    fn an_engine_is_a_host_and_a_port_and_how_it_is_read() {
        for (text, toml) in [
            ("http://127.0.0.1:6878", Some("[\"http://127.0.0.1:6878\"]")),
            ("http://engine_1.local:80/", Some("[\"http://engine_1.local:80\"]")),
            ("http://[::1]:6878", Some("[\"http://[::1]:6878\"]")),
            ("http://a:1, http://b:1", Some("[\"http://a:1\", \"http://b:1\"]")),
            ("", Some("[]")),
            ("http://a:1,http://a:1", None),
            ("https://a:1", None),
            ("a:1", None),
            ("http://a", None),
            ("http://a:0", None),
            ("http://a:65536", None),
            ("http://:1", None),
            ("http://::1:1", None),
            ("http://[::1:1", None),
            ("http://user:pw@a:1", None),
            ("http://a:1/path", None),
            ("http://a:1?q", None),
            ("http://a:1?source=hls", Some("[\"http://a:1?source=hls\"]")),
            ("http://[::1]:1/?source=ts", Some("[\"http://[::1]:1?source=ts\"]")),
            ("http://a:1?source=rtmp", None),
            ("http://a:1?source=", None),
            ("http://a:1?source=hls&b", None),
            ("http://a:1,http://a:1?source=hls", None),
        ] {
            assert_eq!(word::<Vec<EngineUrl>>(text, &()).as_deref(), toml, "{text}");
        }
    }
}
