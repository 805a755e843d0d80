//! Who may change the fleet: templates run programs on Docker's host, and there
//! are no keys, so only the networks that the operator trusts may.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr, SocketAddr},
};

use axum::{
    extract::{ConnectInfo, FromRequestParts},
    http::{HeaderMap, header, request::Parts},
};

use super::{origin, problem::Problem};
use crate::state::Shared;

/// What proxies add: behind one, everybody has the proxy's address.
const PROXIED: [&str; 4] = ["x-forwarded-for", "x-real-ip", "forwarded", "via"];
/// Ends of names that nobody can register, so that no page of somebody else's
/// can be at one.
const PRIVATE_ENDS: [&str; 6] = [".localhost", ".local", ".lan", ".home", ".internal", ".home.arpa"];

/// An address, or a network of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subnet {
    /// With zeros behind the prefix.
    address: IpAddr,
    /// Bits that count, 0 to 32 or to 128.
    prefix: u8,
}

impl Subnet {
    /// This machine alone.
    pub const LOCAL: [Self; 2] = [
        Self { address: IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 0)), prefix: 8 },
        Self { address: IpAddr::V6(Ipv6Addr::LOCALHOST), prefix: 128 },
    ];

    /// `ADDRESS` or `ADDRESS/BITS`; none when it is neither, or when bits that do
    /// not count are set.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            // No sign, no leading zero.
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => digits.parse().ok()?,
            Some(_) => return None,
            None => width,
        };
        let is_whole = prefix <= width && bits(address) & !mask(width, prefix) == 0;
        is_whole.then_some(Self { address, prefix })
    }

    /// Whether the address is one of it. An IPv4 address that came by a socket of
    /// both kinds counts as what it is.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let (ours, theirs) = (self.address, address.to_canonical());
        let width = if ours.is_ipv4() { 32 } else { 128 };
        ours.is_ipv4() == theirs.is_ipv4() && bits(theirs) & mask(width, self.prefix) == bits(ours)
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u32::from(address).into(),
        IpAddr::V6(address) => address.into(),
    }
}

/// The first `prefix` of `width` bits.
fn mask(width: u8, prefix: u8) -> u128 {
    let whole = u128::MAX >> (128 - width);
    whole & !whole.checked_shr(prefix.into()).unwrap_or(0)
}

/// A request of somebody who may change the fleet, and see what is secret in it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Admin;

impl FromRequestParts<Shared> for Admin {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &Shared) -> Result<Self, Problem> {
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| peer.ip());
        let is_among = peer.is_some_and(|peer| state.lock().admins.iter().any(|net| net.contains(peer)));
        if !is_among {
            let peer =
                peer.map_or_else(|| "an unknown peer".to_owned(), |peer| peer.to_canonical().to_string());
            return Err(Problem::not_an_admin(format!("{peer} is not among server.admins")));
        }
        if let Some(name) = PROXIED.iter().find(|name| parts.headers.contains_key(**name)) {
            return Err(Problem::not_an_admin(format!(
                "the request came by way of a proxy, as its header {name} says, so that whose it is is not known"
            )));
        }
        if let Some(origin) = origin::foreign(&parts.headers, &parts.uri) {
            return Err(Problem::foreign_origin(&origin));
        }
        if !names_us(&parts.headers) {
            return Err(Problem::not_an_admin(
                "the Host header has a name that a page of anybody's could be at".to_owned(),
            ));
        }
        Ok(Self)
    }
}

/// Whether the `Host` is no public name: with one, a page of somebody else's can
/// have its name resolve to us, and then asks as if it were ours.
fn names_us(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(header::HOST) else { return true };
    let Ok(host) = host.to_str() else { return false };
    if host.parse::<SocketAddr>().is_ok() || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() {
        return true;
    }
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name).to_ascii_lowercase();
    !name.contains('.') || PRIVATE_ENDS.iter().any(|end| name.ends_with(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_an_address_and_the_bits_that_count() {
        for (text, read) in [
            ("127.0.0.0/8", Some("127.0.0.0/8")),
            ("10.1.2.3", Some("10.1.2.3/32")),
            ("10.1.2.3/32", Some("10.1.2.3/32")),
            ("0.0.0.0/0", Some("0.0.0.0/0")),
            ("::/0", Some("::/0")),
            ("::1", Some("::1/128")),
            ("fd00::/8", Some("fd00::/8")),
            ("10.1.2.3/8", None),
            ("fd00::1/8", None),
            ("10.0.0.0/33", None),
            ("::/129", None),
            ("10.0.0.0/-1", None),
            ("10.0.0.0/+8", None),
            ("10.0.0.0/", None),
            ("10.0.0/8", None),
            ("localhost", None),
            ("all", None),
            ("", None),
        ] {
            let subnet = Subnet::parse(text);
            assert_eq!(subnet.map(|net| net.to_string()).as_deref(), read, "{text}");
            assert_eq!(subnet.and_then(|net| Subnet::parse(&net.to_string())), subnet, "{text}");
        }
        assert_eq!(Subnet::LOCAL, ["127.0.0.0/8", "::1/128"].map(|text| Subnet::parse(text).unwrap()));
    }

    #[test]
    fn a_network_has_its_own_addresses_and_no_others() {
        for (network, address, is_in) in [
            ("127.0.0.0/8", "127.0.0.1", true),
            ("127.0.0.0/8", "127.255.255.255", true),
            ("127.0.0.0/8", "128.0.0.0", false),
            ("127.0.0.0/8", "126.255.255.255", false),
            ("127.0.0.0/8", "::ffff:127.0.0.1", true),
            ("127.0.0.0/8", "::ffff:10.0.0.1", false),
            ("127.0.0.0/8", "::1", false),
            ("::1/128", "::1", true),
            ("::1/128", "::2", false),
            ("::1/128", "127.0.0.1", false),
            ("10.1.2.3/32", "10.1.2.3", true),
            ("10.1.2.3/32", "10.1.2.2", false),
            ("10.1.2.0/23", "10.1.3.9", true),
            ("10.1.2.0/23", "10.1.4.0", false),
            ("0.0.0.0/0", "8.8.8.8", true),
            ("0.0.0.0/0", "::ffff:8.8.8.8", true),
            ("0.0.0.0/0", "2001:db8::1", false),
            ("::/0", "2001:db8::1", true),
            ("::/0", "8.8.8.8", false),
            ("::/0", "::ffff:8.8.8.8", false),
        ] {
            let network = Subnet::parse(network).unwrap();
            assert_eq!(network.contains(address.parse().unwrap()), is_in, "{address} in {network}");
        }
    }

    #[test]
    fn a_public_name_is_nobodys_own() {
        for (host, ours) in [
            (None, true),
            (Some("127.0.0.1:8000"), true),
            (Some("192.168.1.5"), true),
            (Some("[::1]:8000"), true),
            (Some("[::1]"), true),
            (Some("localhost:8000"), true),
            (Some("NAS"), true),
            (Some("nas.LAN:8000"), true),
            (Some("millrace.home.arpa"), true),
            (Some("tv.example:8000"), false),
            (Some("lan.tv.example"), false),
            (Some("127.0.0.1.evil.example:8000"), false),
        ] {
            let headers = host.map(|host| (header::HOST, host.parse().unwrap())).into_iter().collect();
            assert_eq!(names_us(&headers), ours, "{host:?}");
        }
    }
}
