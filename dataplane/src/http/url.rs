//! Just enough of URLs: percent-decoding, and where a URL leads.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Decodes `%xx` and `+` of a query value; `None` when it is malformed, not
/// UTF-8, or holds a control character.
pub(super) fn decode(value: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.bytes();
    while let Some(b) = rest.next() {
        bytes.push(match b {
            b'+' => b' ',
            b'%' => {
                let (high, low) = (rest.next()?, rest.next()?);
                let hex = |b: u8| char::from(b).to_digit(16);
                u8::try_from(hex(high)? * 16 + hex(low)?).ok()?
            }
            _ => b,
        });
    }
    String::from_utf8(bytes).ok().filter(|s| !s.chars().any(char::is_control))
}

/// Encodes all but the unreserved characters of RFC 3986 §2.3.
pub(super) fn encode(value: &str) -> String {
    value.bytes().fold(String::with_capacity(value.len()), |mut out, b| {
        match b {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(b)),
            _ => out.push_str(&format!("%{b:02X}")),
        }
        out
    })
}

/// Why a URL is not one to hand to an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unfit {
    /// Not `http://` or `https://` with a host.
    NotHttp,
    /// It carries a user name or password.
    Credentials,
    /// It names this machine or a private network.
    Private,
}

/// Checks a transport file's or a direct source's URL. A host name is not
/// resolved here: the engine does that, in its own network.
pub(super) fn check(url: &str, private_urls: bool) -> Result<(), Unfit> {
    let lower = url.to_ascii_lowercase();
    let rest = ["http://", "https://"]
        .into_iter()
        .find_map(|scheme| lower.strip_prefix(scheme))
        .ok_or(Unfit::NotHttp)?;
    let authority = rest.split(['/', '?', '#', '\\']).next().unwrap_or("");
    if authority.contains('@') {
        return Err(Unfit::Credentials);
    }
    let host = match authority.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or(""),
        None => authority.split(':').next().unwrap_or(""),
    };
    if host.is_empty() {
        return Err(Unfit::NotHttp);
    }
    if !private_urls && is_private(host.trim_end_matches('.')) {
        return Err(Unfit::Private);
    }
    Ok(())
}

fn is_private(host: &str) -> bool {
    // Anything that a resolver may take as a number is judged as an address:
    // 2130706433, 0x7f.1 and 127.1 all name this machine.
    let numeric = host
        .split('.')
        .all(|part| !part.is_empty() && (part.starts_with("0x") || part.bytes().all(|b| b.is_ascii_digit())));
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V4(ip)) => private_v4(ip),
        Ok(IpAddr::V6(ip)) => private_v6(ip),
        Err(_) => {
            numeric
                || host == "localhost"
                || [".localhost", ".local", ".internal", ".lan", ".home.arpa"]
                    .iter()
                    .any(|s| host.ends_with(s))
                || !host.contains('.')
        }
    }
}

fn private_v4(ip: Ipv4Addr) -> bool {
    let [a, b, ..] = ip.octets();
    ip.is_private()
        || ip.is_loopback()
        || ip.is_link_local()
        || ip.is_unspecified()
        || ip.is_broadcast()
        || ip.is_multicast()
        || (a == 100 && (64..128).contains(&b))
}

fn private_v6(ip: Ipv6Addr) -> bool {
    ip.to_ipv4().is_some_and(private_v4)
        || ip.is_loopback()
        || ip.is_unspecified()
        || ip.is_multicast()
        || ip.is_unique_local()
        || ip.is_unicast_link_local()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decoding_is_strict() {
        for (value, decoded) in [
            ("a%20b+c", Some("a b c")),
            ("%C3%A9", Some("é")),
            ("%", None),
            ("%4", None),
            ("%zz", None),
            ("%ff", None),
            ("%0d%0a", None),
            ("%00", None),
        ] {
            assert_eq!(decode(value).as_deref(), decoded, "{value}");
        }
        assert_eq!(encode("http://a/b?c=d e"), "http%3A%2F%2Fa%2Fb%3Fc%3Dd%20e");
    }

    #[test]
    fn urls_that_lead_inside_are_unfit() {
        for (url, verdict) in [
            ("http://example.org/a.torrent", Ok(())),
            ("HTTPS://Example.org:8443/a", Ok(())),
            ("http://93.184.216.34/a", Ok(())),
            ("http://[2606:2800:220:1::1]/a", Ok(())),
            ("file:///etc/passwd", Err(Unfit::NotHttp)),
            ("ftp://example.org", Err(Unfit::NotHttp)),
            ("http://", Err(Unfit::NotHttp)),
            ("http:///a", Err(Unfit::NotHttp)),
            ("http://u:p@example.org/", Err(Unfit::Credentials)),
            ("http://example.org\\@127.0.0.1/", Ok(())),
            ("http://127.0.0.1/", Err(Unfit::Private)),
            ("http://127.1/", Err(Unfit::Private)),
            ("http://2130706433/", Err(Unfit::Private)),
            ("http://0x7f.0.0.1/", Err(Unfit::Private)),
            ("http://10.1.2.3:80/", Err(Unfit::Private)),
            ("http://169.254.169.254/", Err(Unfit::Private)),
            ("http://100.64.0.1/", Err(Unfit::Private)),
            ("http://[::1]/", Err(Unfit::Private)),
            ("http://[::ffff:127.0.0.1]/", Err(Unfit::Private)),
            ("http://[fd00::1]/", Err(Unfit::Private)),
            ("http://localhost./", Err(Unfit::Private)),
            ("http://router/", Err(Unfit::Private)),
            ("http://a.internal/", Err(Unfit::Private)),
        ] {
            assert_eq!(check(url, false), verdict, "{url}");
        }
        assert_eq!(check("http://127.0.0.1/", true), Ok(()));
    }
}
