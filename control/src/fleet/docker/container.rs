//! From containers, as Docker lists them, to engines.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use bollard::models::{ContainerSummary, EndpointSettings, PortSummary, PortSummaryTypeEnum};

use super::{MAX_ENGINES, PORT_LABEL};
use crate::fleet::Member;

/// An engine's API port unless the label names another.
const DEFAULT_PORT: u16 = 6878;

/// Why a container with our label cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unusable {
    /// The label of the port is no port.
    #[error("its label {PORT_LABEL} is no port")]
    Port,
    /// It has neither a published port nor an address.
    #[error("it has no address and its port {0} is not published")]
    NoAddress(u16),
    /// Slots would be counted twice.
    #[error("it has the same address as {0}")]
    SameAs(Arc<str>),
    /// There are enough.
    #[error("there are more than {MAX_ENGINES} engines")]
    TooMany,
}

impl Unusable {
    /// What helps.
    pub(crate) const fn remedy(&self) -> &'static str {
        match self {
            Self::Port => "set it to a number from 1 to 65535",
            Self::NoAddress(_) => "publish it, or attach the container to a network",
            Self::SameAs(_) => "give each its own port, and name it in the label io.millrace.port",
            Self::TooMany => "leave the label off the rest",
        }
    }
}

/// The containers of one listing.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// The engines, oldest container first.
    pub(crate) members: Vec<Member>,
    /// The rest by id and name, with why.
    pub(crate) unusable: Vec<(Arc<str>, Arc<str>, Unusable)>,
}

impl Found {
    /// Sorts out a listing of containers with our label by a daemon whose host
    /// is reached at `host`.
    pub(crate) fn of(mut containers: Vec<ContainerSummary>, host: IpAddr) -> Self {
        // Ids shall follow the age. Docker lists the newest first, and knows
        // better than the second that it tells.
        containers.reverse();
        containers.sort_by_key(|container| container.created);
        let mut found = Self::default();
        let mut at: HashMap<SocketAddr, Arc<str>> = HashMap::new();
        for container in containers {
            let (identity, name) = who(&container);
            let address = match address(&container, host) {
                Ok(address) => match at.get(&address) {
                    Some(other) => Err(Unusable::SameAs(Arc::clone(other))),
                    None if found.members.len() >= MAX_ENGINES => Err(Unusable::TooMany),
                    None => Ok(address),
                },
                Err(why) => Err(why),
            };
            match address {
                Ok(address) => {
                    at.insert(address, Arc::clone(&name));
                    found.members.push(Member { identity, name, address });
                }
                Err(why) => found.unusable.push((identity, name, why)),
            }
        }
        found
    }
}

/// Id and name. Links give a container more names, with a second slash.
fn who(container: &ContainerSummary) -> (Arc<str>, Arc<str>) {
    let id = container.id.as_deref().unwrap_or_default();
    let names = container.names.iter().flatten().filter_map(|name| name.strip_prefix('/'));
    let name = names.into_iter().find(|name| !name.is_empty() && !name.contains('/'));
    (id.into(), name.unwrap_or_else(|| id.get(..12).unwrap_or(id)).into())
}

/// The published port if there is one, else the container's own address.
fn address(container: &ContainerSummary, host: IpAddr) -> Result<SocketAddr, Unusable> {
    let label = container.labels.as_ref().and_then(|labels| labels.get(PORT_LABEL));
    let port = match label {
        Some(port) => port.trim().parse().ok().filter(|port| *port != 0).ok_or(Unusable::Port)?,
        None => DEFAULT_PORT,
    };
    let mode = container.host_config.as_ref().and_then(|config| config.network_mode.as_deref());
    if mode == Some("host") {
        return Ok(SocketAddr::new(host, port));
    }
    let mut published: Vec<_> =
        container.ports.iter().flatten().filter_map(|p| published_at(p, port, host)).collect();
    published.sort();
    let own = || {
        let networks = container.network_settings.as_ref()?.networks.as_ref()?;
        let mut networks: Vec<_> = networks.iter().collect();
        networks.sort_by_key(|(name, _)| *name);
        let address = networks.into_iter().find_map(|(_, endpoint)| own_address(endpoint))?;
        Some(SocketAddr::new(address, port))
    };
    published.first().copied().or_else(own).ok_or(Unusable::NoAddress(port))
}

/// Where `port` of the container is reached from here, if it is published.
fn published_at(entry: &PortSummary, port: u16, host: IpAddr) -> Option<SocketAddr> {
    let is_tcp = matches!(entry.typ, None | Some(PortSummaryTypeEnum::EMPTY | PortSummaryTypeEnum::TCP));
    let public = entry.public_port.filter(|public| *public != 0 && is_tcp && entry.private_port == port)?;
    let ip: Option<IpAddr> = entry.ip.as_deref().and_then(|ip| ip.parse().ok());
    match ip {
        // Published on IPv6 alone, or on both: the other entry says so.
        Some(ip) if ip.is_unspecified() && ip.is_ipv6() && host.is_ipv4() => None,
        // Another machine's loopback is out of reach.
        Some(ip) if ip.is_loopback() && !host.is_loopback() => None,
        Some(ip) if !ip.is_unspecified() => Some(SocketAddr::new(ip, public)),
        Some(_) | None => Some(SocketAddr::new(host, public)),
    }
}

fn own_address(endpoint: &EndpointSettings) -> Option<IpAddr> {
    let all = [&endpoint.ip_address, &endpoint.global_ipv6_address];
    all.into_iter().flatten().find_map(|ip| ip.parse().ok())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const HERE: &str = "127.0.0.1";

    /// What Docker 20.10 lists, with `change` over it.
    fn listed(change: Value) -> ContainerSummary {
        let mut container = json!({
            "Id": "0123456789abcdef",
            "Names": ["/other/alias", "/engine-a"],
            "Created": 1_700_000_000,
            "Ports": [],
            "Labels": { "io.millrace.engine": "true" },
            "State": "running",
            "HostConfig": { "NetworkMode": "default" },
            "NetworkSettings": { "Networks": {
                "vpn": { "IPAddress": "172.30.0.7" }, "bridge": { "IPAddress": "172.17.0.2" },
            } },
        });
        for (key, value) in change.as_object().unwrap() {
            container[key] = value.clone();
        }
        serde_json::from_value(container).unwrap()
    }

    fn address_of(change: Value, host: &str) -> Result<String, Unusable> {
        address(&listed(change), host.parse().unwrap()).map(|address| address.to_string())
    }

    #[test]
    fn an_engine_is_where_its_port_is_published_or_else_on_its_own_network() {
        let port = |ip: &str, private: u16, public: u16, kind: &str| json!({ "IP": ip, "PrivatePort": private, "PublicPort": public, "Type": kind });
        let label = |port: &str| json!({ "io.millrace.engine": "true", "io.millrace.port": port });
        for (name, change, host, expected) in [
            ("its own address", json!({}), HERE, Ok("172.17.0.2:6878")),
            ("another port", json!({ "Labels": label("7000") }), HERE, Ok("172.17.0.2:7000")),
            (
                "published",
                json!({ "Ports": [port("0.0.0.0", 6878, 19000, "tcp")] }),
                HERE,
                Ok("127.0.0.1:19000"),
            ),
            (
                "published twice",
                json!({ "Ports": [port("::", 6878, 19000, "tcp"), port("0.0.0.0", 6878, 19000, "tcp")] }),
                HERE,
                Ok("127.0.0.1:19000"),
            ),
            (
                "of a remote daemon",
                json!({ "Ports": [port("0.0.0.0", 6878, 19000, "tcp")] }),
                "10.0.0.9",
                Ok("10.0.0.9:19000"),
            ),
            (
                "on one address",
                json!({ "Ports": [port("192.168.1.5", 6878, 19000, "tcp")] }),
                HERE,
                Ok("192.168.1.5:19000"),
            ),
            (
                "on a remote loopback",
                json!({ "Ports": [port("127.0.0.1", 6878, 19000, "tcp")] }),
                "10.0.0.9",
                Ok("172.17.0.2:6878"),
            ),
            (
                "other ports published",
                json!({ "Ports": [port("0.0.0.0", 6878, 1, "udp"), port("0.0.0.0", 62062, 2, "tcp")] }),
                HERE,
                Ok("172.17.0.2:6878"),
            ),
            (
                "exposed only",
                json!({ "Ports": [{ "PrivatePort": 6878, "Type": "tcp" }] }),
                HERE,
                Ok("172.17.0.2:6878"),
            ),
            (
                "on the host's network",
                json!({ "HostConfig": { "NetworkMode": "host" }, "Labels": label("7001"),
                        "NetworkSettings": { "Networks": { "host": { "IPAddress": "" } } } }),
                HERE,
                Ok("127.0.0.1:7001"),
            ),
            (
                "IPv6 only",
                json!({ "NetworkSettings": { "Networks": { "six": { "IPAddress": "", "GlobalIPv6Address": "fd00::2" } } } }),
                HERE,
                Ok("[fd00::2]:6878"),
            ),
            (
                "no network",
                json!({ "NetworkSettings": { "Networks": {} } }),
                HERE,
                Err(Unusable::NoAddress(6878)),
            ),
            (
                "nonsense",
                json!({ "NetworkSettings": { "Networks": { "n": { "IPAddress": "x" } } } }),
                HERE,
                Err(Unusable::NoAddress(6878)),
            ),
            ("port 0", json!({ "Labels": label("0") }), HERE, Err(Unusable::Port)),
            ("no port", json!({ "Labels": label("http") }), HERE, Err(Unusable::Port)),
        ] {
            assert_eq!(address_of(change, host), expected.map(str::to_owned), "{name}");
        }
    }

    #[test]
    fn an_engine_is_called_as_its_container() {
        for (names, name) in [
            (json!(["/engine-a"]), "engine-a"),
            (json!(["/other/alias", "/engine-b"]), "engine-b"),
            (json!([]), "0123456789ab"),
            (Value::Null, "0123456789ab"),
            (json!(["/"]), "0123456789ab"),
        ] {
            let (identity, found) = who(&listed(json!({ "Names": names })));
            assert_eq!((&*identity, &*found), ("0123456789abcdef", name));
        }
        assert_eq!(&*who(&listed(json!({ "Id": "ä", "Names": [] }))).1, "ä");
    }

    #[test]
    fn the_oldest_counts_where_two_share_an_address_and_a_thousand_are_enough() {
        let container = |id: usize, created: usize, port: usize| {
            listed(json!({
                "Id": id.to_string(), "Names": [format!("/e{id}")], "Created": created,
                "Labels": { "io.millrace.engine": "true", "io.millrace.port": port.to_string() },
            }))
        };
        let one_second = vec![container(1, 10, 3), container(3, 10, 2), container(2, 10, 1)];
        let found = Found::of(one_second, HERE.parse().unwrap());
        assert_eq!(found.members.iter().map(|m| &*m.name).collect::<Vec<_>>(), ["e2", "e3", "e1"]);

        let found = Found::of(vec![container(2, 20, 7), container(1, 10, 7)], HERE.parse().unwrap());
        assert_eq!(found.members.iter().map(|m| &*m.name).collect::<Vec<_>>(), ["e1"]);
        assert_eq!(found.unusable, [("2".into(), "e2".into(), Unusable::SameAs("e1".into()))]);

        let many = (0..=MAX_ENGINES).rev().map(|i| container(i, i, i + 1)).collect();
        let found = Found::of(many, HERE.parse().unwrap());
        assert_eq!((found.members.len(), &*found.members[0].name), (MAX_ENGINES, "e0"));
        assert_eq!(found.unusable, [("1000".into(), "e1000".into(), Unusable::TooMany)]);
    }
}
