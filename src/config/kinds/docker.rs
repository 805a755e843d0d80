//! The kinds of value that only engines in Docker need.

use std::{net::IpAddr, ops::RangeInclusive};

use millrace_control::{CacheKind, Pull, Subnet};

use super::{Given, Kind, quoted};

/// A word out of a few.
pub(crate) trait Words: Copy + PartialEq + 'static {
    /// Each word with what it means.
    const ALL: &'static [(&'static str, Self)];
}

/// One of the words of `W`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OneOf<W>(pub(crate) W);

impl<W: Words> Kind for OneOf<W> {
    type Range = ();

    fn read(given: &Given, (): &()) -> Option<Self> {
        let text = given.text()?;
        W::ALL.iter().find(|(word, _)| *word == text).map(|(_, meaning)| Self(*meaning))
    }

    fn allowed((): &()) -> String {
        let words: Vec<_> = W::ALL.iter().map(|(word, _)| quoted(word)).collect();
        words.join(" or ")
    }

    fn to_toml(&self) -> String {
        quoted(W::ALL.iter().find(|(_, meaning)| *meaning == self.0).map_or("", |(word, _)| word))
    }
}

impl Words for Pull {
    const ALL: &'static [(&'static str, Self)] =
        &[("missing", Self::Missing), ("always", Self::Always), ("never", Self::Never)];
}

impl Words for CacheKind {
    const ALL: &'static [(&'static str, Self)] =
        &[("layer", Self::Layer), ("tmpfs", Self::Tmpfs), ("volume", Self::Volume)];
}

/// Whether containers go on when the server ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keep {
    /// When a supervisor runs the server, which will start it again.
    Supervised,
    /// Always.
    Yes,
    /// Never.
    No,
}

impl Words for Keep {
    const ALL: &'static [(&'static str, Self)] =
        &[("auto", Self::Supervised), ("true", Self::Yes), ("false", Self::No)];
}

/// What a piece of text may be made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Alphabet {
    /// Characters beside ASCII letters and digits.
    pub(crate) beside: &'static str,
    /// Characters at most.
    pub(crate) longest: usize,
    /// Whether it may be left empty.
    pub(crate) may_be_empty: bool,
    /// In words, for people.
    pub(crate) words: &'static str,
}

/// A piece of text that goes to Docker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Text(pub(crate) String);

impl Kind for Text {
    type Range = Alphabet;

    fn read(given: &Given, range: &Alphabet) -> Option<Self> {
        let text = given.text()?;
        let known = |c: char| c.is_ascii_alphanumeric() || range.beside.contains(c);
        let begins = text.chars().next().map_or(range.may_be_empty, |first| first.is_ascii_alphanumeric());
        let sound = begins && text.len() <= range.longest && text.chars().all(known);
        sound.then(|| Self(text.to_owned()))
    }

    fn allowed(range: &Alphabet) -> String {
        range.words.to_owned()
    }

    fn to_toml(&self) -> String {
        quoted(&self.0)
    }
}

/// Ports from the first to the last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PortRange(pub(crate) RangeInclusive<u16>);

impl Kind for PortRange {
    type Range = ();

    fn read(given: &Given, (): &()) -> Option<Self> {
        let (first, last) = given.text()?.split_once('-')?;
        let port = |text: &str| text.trim().parse::<u16>().ok().filter(|port| *port != 0);
        let range = port(first)?..=port(last)?;
        (!range.is_empty()).then_some(Self(range))
    }

    fn allowed((): &()) -> String {
        "a first and a last port from 1 to 65535, such as \"19000-19999\"".into()
    }

    fn to_toml(&self) -> String {
        quoted(&format!("{}-{}", self.0.start(), self.0.end()))
    }
}

impl Kind for IpAddr {
    type Range = ();

    fn read(given: &Given, (): &()) -> Option<Self> {
        given.text()?.parse().ok()
    }

    fn allowed((): &()) -> String {
        "an IP address, such as \"127.0.0.1\"".into()
    }

    fn to_toml(&self) -> String {
        quoted(&self.to_string())
    }
}

/// Networks of peers; none is nobody.
impl Kind for Vec<Subnet> {
    type Range = ();

    fn read(given: &Given, (): &()) -> Option<Self> {
        let networks: Option<Self> = match given {
            Given::Word(s) if s.trim().is_empty() => Some(Vec::new()),
            Given::Word(s) => s.split(',').map(|network| Subnet::parse(network.trim())).collect(),
            Given::List(items) => items.iter().map(|item| item.text().and_then(Subnet::parse)).collect(),
            _ => None,
        };
        networks.filter(|networks| networks.len() <= 100)
    }

    fn allowed((): &()) -> String {
        "at most 100 addresses and networks, such as [\"127.0.0.0/8\", \"192.168.1.7\", \"fd00::/8\"], with no bit set behind the prefix".into()
    }

    fn to_toml(&self) -> String {
        let networks: Vec<_> = self.iter().map(|network| quoted(&network.to_string())).collect();
        format!("[{}]", networks.join(", "))
    }
}

/// A label of containers, or none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Label(pub(crate) Option<(String, String)>);

impl Kind for Label {
    type Range = ();

    fn read(given: &Given, (): &()) -> Option<Self> {
        let text = given.text()?;
        if text.is_empty() {
            return Some(Self(None));
        }
        let (key, value) = text.split_once('=')?;
        let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '/');
        let sound = !key.is_empty()
            && text.len() <= 255
            && key.chars().all(known)
            && value.chars().all(known)
            // Ours decide who touches what.
            && !key.starts_with("io.millrace.");
        sound.then(|| Self(Some((key.to_owned(), value.to_owned()))))
    }

    fn allowed((): &()) -> String {
        "\"KEY=VALUE\" of letters, digits and . - _ /, other than io.millrace.…; or \"\" for none".into()
    }

    fn to_toml(&self) -> String {
        quoted(&self.0.as_ref().map(|(key, value)| format!("{key}={value}")).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word<K: Kind>(text: &str, range: &K::Range) -> Option<String> {
        K::read(&Given::Word(text.into()), range).map(|value| value.to_toml())
    }

    #[test]
    fn what_goes_to_docker_is_of_few_characters() {
        let name = Alphabet { beside: "_.-", longest: 8, may_be_empty: false, words: "" };
        for (text, sound) in [
            ("a-1_b.c", true),
            ("", false),
            ("-a", false),
            ("a b", false),
            ("ä", false),
            ("123456789", false),
        ] {
            assert_eq!(word::<Text>(text, &name).is_some(), sound, "{text}");
        }
        assert_eq!(word::<Text>("", &Alphabet { may_be_empty: true, ..name }).as_deref(), Some("\"\""));
        for (text, toml) in [
            ("19000-19999", Some("\"19000-19999\"")),
            ("1-65535", Some("\"1-65535\"")),
            ("5 - 5", Some("\"5-5\"")),
            ("6-5", None),
            ("0-5", None),
            ("1-65536", None),
            ("19000", None),
            ("", None),
        ] {
            assert_eq!(word::<PortRange>(text, &()).as_deref(), toml, "{text}");
        }
        for (text, toml) in [
            ("", Some("\"\"")),
            ("ondemand.app=myservice", Some("\"ondemand.app=myservice\"")),
            ("a=", Some("\"a=\"")),
            ("=b", None),
            ("a", None),
            ("io.millrace.engine=true", None),
            ("a=b c", None),
        ] {
            assert_eq!(word::<Label>(text, &()).as_deref(), toml, "{text}");
        }
    }

    #[test]
    fn networks_are_a_list_and_each_is_whole() {
        for (text, toml) in [
            ("", Some("[]")),
            ("127.0.0.1, ::/0", Some("[\"127.0.0.1/32\", \"::/0\"]")),
            ("127.0.0.1,", None),
            ("127.0.0.1/8", None),
            ("all", None),
        ] {
            assert_eq!(word::<Vec<Subnet>>(text, &()).as_deref(), toml, "{text}");
        }
        let text = Given::Text("127.0.0.1".into());
        assert_eq!(Vec::<Subnet>::read(&text, &()), None, "TOML has lists");
        assert_eq!(Vec::<Subnet>::read(&Given::List(vec![text]), &()).map(|all| all.len()), Some(1));
    }

    #[test]
    fn a_word_out_of_a_few_reads_back() {
        for (word, meaning) in Keep::ALL {
            assert_eq!(OneOf::<Keep>::read(&Given::Text((*word).into()), &()), Some(OneOf(*meaning)));
            assert_eq!(OneOf(*meaning).to_toml(), format!("\"{word}\""));
        }
        assert_eq!(word::<OneOf<Pull>>("Always", &()), None);
        assert_eq!(OneOf::<CacheKind>::allowed(&()), "\"layer\" or \"tmpfs\" or \"volume\"");
    }
}
