//! What a reference to an image looks like, by Docker's grammar:
//! `[registry[:port]/]path[:tag][@sha256:digest]`.

/// Characters of registry and path together.
const NAME: usize = 255;
const TAG: usize = 128;

/// What is wrong with a reference.
///
/// # Errors
/// In words that follow "is no image's reference: ".
pub(super) fn check(reference: &str) -> Result<(), &'static str> {
    let (rest, digest) = match reference.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (reference, None),
    };
    if let Some(digest) = digest {
        let hex = digest.strip_prefix("sha256:").ok_or("a digest begins with sha256:")?;
        if !is_digest(hex) {
            return Err("a digest has 64 digits from 0-9 and a-f");
        }
    }
    // A colon before the last slash is that of the registry's port.
    let path_at = rest.rfind('/').map_or(0, |slash| slash + 1);
    let (name, tag) = match rest[path_at..].split_once(':') {
        Some((last, tag)) => (&rest[..path_at + last.len()], Some(tag)),
        None => (rest, None),
    };
    if tag.is_some_and(|tag| !is_tag(tag)) {
        return Err(
            "a tag has 1 to 128 characters from A-Z, a-z, 0-9, _ . - and begins with neither . nor -",
        );
    }
    if name.is_empty() {
        return Err("the name is missing");
    }
    if name.len() > NAME {
        return Err("the name has more than 255 characters");
    }
    let path = match name.split_once('/').filter(|(first, _)| is_registry(first)) {
        Some((registry, path)) => {
            check_registry(registry)?;
            path
        }
        None => name,
    };
    if !path.split('/').all(is_component) {
        return Err("between slashes stand a-z and 0-9, parted by . _ __ or dashes");
    }
    // Docker takes such a name for an image's id.
    if name == path && is_digest(path) {
        return Err("64 digits are an image's id; write sha256: before them");
    }
    Ok(())
}

/// Whether what stands before the first slash is a registry.
fn is_registry(first: &str) -> bool {
    first == "localhost" || first.contains(['.', ':']) || first.contains(|c: char| c.is_ascii_uppercase())
}

fn check_registry(registry: &str) -> Result<(), &'static str> {
    let (host, port) = match registry.strip_prefix('[') {
        Some(bracketed) => {
            let (address, after) = bracketed.split_once(']').ok_or("the registry's bracket is not closed")?;
            address
                .parse::<std::net::Ipv6Addr>()
                .map_err(|_| "the registry's brackets hold no IPv6 address")?;
            let port = match after.strip_prefix(':') {
                Some(port) => Some(port),
                None if after.is_empty() => None,
                None => return Err("after the registry's bracket stands :PORT"),
            };
            ("", port)
        }
        None => match registry.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (registry, None),
        },
    };
    let in_words = |part: &str| {
        let ends = part.starts_with('-') || part.ends_with('-');
        !part.is_empty() && !ends && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    if !registry.starts_with('[') && !host.split('.').all(in_words) {
        return Err("the registry is no host name");
    }
    if port.is_some_and(|port| !port.bytes().all(|b| b.is_ascii_digit()) || port.parse::<u16>().is_err()) {
        return Err("the registry's port is no number up to 65535");
    }
    Ok(())
}

fn is_component(component: &str) -> bool {
    let mut separator = String::new();
    let mut begun = false;
    for c in component.chars() {
        match c {
            'a'..='z' | '0'..='9' => {
                let parted = match separator.as_str() {
                    "" | "." | "_" | "__" => true,
                    dashes => dashes.bytes().all(|b| b == b'-'),
                };
                if !parted || (!begun && !separator.is_empty()) {
                    return false;
                }
                separator.clear();
                begun = true;
            }
            '.' | '_' | '-' => separator.push(c),
            _ => return false,
        }
    }
    begun && separator.is_empty()
}

fn is_tag(tag: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    tag.len() <= TAG
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|b| word(b) || b == b'.' || b == b'-')
}

fn is_digest(hex: &str) -> bool {
    hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn references_are_those_that_docker_takes() {
        let long_tag = format!("a:{}", "t".repeat(128));
        let long_name = "n".repeat(255);
        for good in [
            "busybox",
            "busybox:latest",
            "jopsis/acestream:arm64-v3.2.13",
            "ghcr.io/krinkuto11/acestream:latest-amd64",
            "localhost/a",
            "localhost:5000/a/b/c:1.0",
            "127.0.0.1:5000/a",
            "[::1]:5000/a",
            "[fe80::1]/a",
            "Registry/a",
            "a.b-c.example:80/x__y/z_1/v---w:_T",
            "xn--n3h.com/a",
            "a:A_b.C-d",
            &format!("a@sha256:{HEX}"),
            &format!("ghcr.io/a/b:t@sha256:{HEX}"),
            &format!("sha256:{HEX}"),
            &long_tag,
            &long_name,
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
    }

    #[test]
    fn a_bad_reference_is_told_what_is_bad() {
        let (long_tag, long_name) = (format!("a:{}", "t".repeat(129)), "n".repeat(256));
        for (word, references) in [
            ("a tag has", &["a:", "a:-x", "a:.x", "a:b c", "a:b:c", "a:ü", &long_tag][..]),
            ("the name is missing", &["", ":tag", &format!("@sha256:{HEX}")]),
            ("more than 255", &[&long_name]),
            (
                "between slashes",
                &[
                    "A", "a b", "a//b", "/a", "a/", "a.-b", "a..b", "a___b", "-a", "a-", "_a", "ä", "a/B",
                    "x.y/", "a\0", "a\nb",
                ],
            ),
            ("begins with sha256:", &["a@", "a@md5:00", &format!("a@{HEX}")]),
            (
                "64 digits from",
                &[
                    "a@sha256:",
                    "a@sha256:12",
                    &format!("a@sha256:{HEX}0"),
                    &format!("a@sha256:{}", HEX.to_uppercase()),
                    "a@b@c".replace('b', "sha256:").as_str(),
                ],
            ),
            ("no host name", &["-a.b/c", "a-.b/c", "a..b/c", ".a/b", "a_b.c/d", "ü.de/a", ":80/a"]),
            ("no number up to", &["a.b:x/c", "a.b:65536/c", "a.b:/c", "a.b:+1/c", "https://a/b"]),
            ("bracket is not closed", &["[::1/a.b"]),
            ("no IPv6 address", &["[::x]/a", "[1.2.3.4]/a"]),
            ("stands :PORT", &["[::1]x/a"]),
            ("image's id", &[HEX]),
        ] {
            for reference in references {
                let wrong = check(reference).unwrap_err();
                assert!(wrong.contains(word), "{reference:?}: {wrong}");
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_gets_a_verdict(text: String) {
            check(&text).ok();
        }
    }
}
