//! References of images.

use std::fmt;

/// Docker's own registry.
const HUB: &str = "docker.io";
/// Longest name without tag and digest, as Docker has it.
const LONGEST: usize = 255;

/// When an image is pulled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PullPolicy {
    /// When it is not there.
    Missing,
    /// Each time, so that a tag that moves is followed; what is there is used
    /// when the registry cannot be reached.
    Always,
    /// Not at all.
    Never,
}

/// `[registry[:port]/]path[:tag][@digest]`, as it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ImageRef {
    text: String,
    /// Where the registry's name ends, and the tag and digest begin.
    registry_end: usize,
    name_end: usize,
    tag_end: usize,
}

impl ImageRef {
    /// What [`Self::parse`] takes, for people.
    pub(crate) const ALLOWED: &str = "[REGISTRY[:PORT]/]NAME[:TAG][@sha256:DIGEST], in lower case";

    /// The reference, if it is one.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest)),
            None => (text, None),
        };
        if !digest.is_none_or(is_digest) {
            return None;
        }
        let path_begin = rest.rfind('/').map_or(0, |slash| slash + 1);
        let name_end = rest.get(path_begin..)?.find(':').map_or(rest.len(), |colon| path_begin + colon);
        let tag = rest.get(name_end..)?.strip_prefix(':');
        if !tag.is_none_or(is_tag) {
            return None;
        }
        let name = rest.get(..name_end)?;
        // The first part is a host if it looks like one.
        let host = name.split_once('/').map(|(host, _)| host);
        let host = host.filter(|host| host.contains(['.', ':']) || *host == "localhost");
        let registry_end = host.map_or(0, str::len);
        let path = name.get(registry_end..)?;
        let path = if registry_end == 0 { path } else { path.strip_prefix('/')? };
        let is_sound = name.len() <= LONGEST && host.is_none_or(is_host) && path.split('/').all(is_part);
        let tag_end = rest.len();
        is_sound.then(|| Self { text: text.to_owned(), registry_end, name_end, tag_end })
    }

    /// Host and port; `docker.io` when none is given.
    pub(crate) fn registry(&self) -> &str {
        Some(self.part(0, self.registry_end)).filter(|host| !host.is_empty()).unwrap_or(HUB)
    }

    /// Registry and path as given, without tag and digest.
    #[cfg(test)]
    fn name(&self) -> &str {
        self.part(0, self.name_end)
    }

    /// The tag, if given.
    pub(crate) fn tag(&self) -> Option<&str> {
        self.part(self.name_end, self.tag_end).strip_prefix(':')
    }

    /// The digest, if given.
    pub(crate) fn digest(&self) -> Option<&str> {
        self.part(self.tag_end, self.text.len()).strip_prefix('@')
    }

    /// As it was given.
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    fn part(&self, from: usize, to: usize) -> &str {
        self.text.get(from..to).unwrap_or_default()
    }
}

impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn is_host(host: &str) -> bool {
    let (name, port) = match host.split_once(':') {
        Some((name, port)) => (name, Some(port)),
        None => (host, None),
    };
    let is_label = |label: &str| {
        let sound = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        !label.is_empty() && label.bytes().all(sound) && !label.starts_with('-') && !label.ends_with('-')
    };
    let is_port = |port: &str| {
        port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port != 0)
    };
    name.split('.').all(is_label) && port.is_none_or(is_port)
}

/// Letters and digits, between them `.`, `_`, `__` or any number of `-`.
fn is_part(part: &str) -> bool {
    let is_plain = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let ends_well =
        part.as_bytes().first().is_some_and(is_plain) && part.as_bytes().last().is_some_and(is_plain);
    let between = part.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    ends_well
        && between
            .into_iter()
            .all(|gap| matches!(gap, "" | "." | "_" | "__") || gap.bytes().all(|b| b == b'-'))
}

fn is_tag(tag: &str) -> bool {
    let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    (1..=128).contains(&tag.len())
        && tag.bytes().next().is_some_and(is_word)
        && tag.bytes().all(|b| is_word(b) || matches!(b, b'.' | b'-'))
}

fn is_digest(digest: &str) -> bool {
    let hex = digest.strip_prefix("sha256:").unwrap_or_default();
    hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_is_taken_apart() {
        let digest = format!("sha256:{}", "0a".repeat(32));
        let with_digest = format!("ghcr.io/x/engine:3@{digest}");
        let digest_only = format!("engine@{digest}");
        for (text, registry, name, tag, found) in [
            ("engine", "docker.io", "engine", None, None),
            ("engine:3.2", "docker.io", "engine", Some("3.2"), None),
            ("jopsis/acestream:x64", "docker.io", "jopsis/acestream", Some("x64"), None),
            ("docker.io/library/engine", "docker.io", "docker.io/library/engine", None, None),
            ("ghcr.io/a/b/c:latest-amd64", "ghcr.io", "ghcr.io/a/b/c", Some("latest-amd64"), None),
            ("localhost/engine", "localhost", "localhost/engine", None, None),
            ("localhost:5000/engine:1", "localhost:5000", "localhost:5000/engine", Some("1"), None),
            ("127.0.0.1:1/a", "127.0.0.1:1", "127.0.0.1:1/a", None, None),
            ("a__b/c-_d".replace("-_", "--").leak(), "docker.io", "a__b/c--d", None, None),
            (&with_digest, "ghcr.io", "ghcr.io/x/engine", Some("3"), Some(&*digest)),
            (&digest_only, "docker.io", "engine", None, Some(&*digest)),
        ] {
            let image = ImageRef::parse(text).unwrap_or_else(|| panic!("{text}"));
            let parts = (image.registry(), image.name(), image.tag(), image.digest());
            assert_eq!(parts, (registry, name, tag, found), "{text}");
            assert_eq!(image.to_string(), text);
        }
    }

    #[test]
    fn what_is_no_reference_is_refused() {
        let (long, tag) = ("a".repeat(256), format!("a:{}", "b".repeat(129)));
        for text in [
            "",
            " ",
            "a b",
            "A",
            "Engine:1",
            "a:",
            ":1",
            "a:-1",
            "a:b/c",
            "a@",
            "a@sha256:0",
            "a@md5:00",
            "/a",
            "a/",
            "a//b",
            "-a",
            "a-",
            "a___b",
            "a._b",
            "a..b",
            "ghcr.io/",
            "ghcr.io:0/a",
            "ghcr.io:x/a",
            "-r.io/a",
            "https://ghcr.io/a",
            "a?b",
            "a#b",
            "a%2fb",
            "../a",
            "ä",
            "a\n",
            &long,
            &tag,
        ] {
            assert_eq!(ImageRef::parse(text), None, "{text:?} is not {}", ImageRef::ALLOWED);
        }
    }
}
