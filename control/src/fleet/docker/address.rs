//! Where an engine is reached: from where we stand, over its own network, a
//! published port, its host's network, or the network that another container
//! lends it.

use std::{
    collections::{BTreeSet, HashMap},
    net::{IpAddr, SocketAddr},
};

use bollard::models::{
    ContainerSummary, ContainerSummaryStateEnum as Listed, EndpointSettings, PortSummary, PortSummaryTypeEnum,
};

use super::{PORT_LABEL, container::Unusable};

/// An engine's API port unless the label names another.
const DEFAULT_PORT: u16 = 6878;
/// Containers that lend their network, at most: one for each VPN.
const MAX_LENDERS: usize = 64;
/// The shortest part of an id that is taken for one.
const SHORT_ID: usize = 12;

/// From where engines are to be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Vantage {
    /// Where ports are that the daemon's host publishes.
    host: IpAddr,
    /// The networks that we are on as a container of this daemon, by id.
    shared: BTreeSet<String>,
}

impl Vantage {
    /// Outside of the daemon's containers; its host is reached at `host`.
    pub(super) const fn outside(host: IpAddr) -> Self {
        Self { host, shared: BTreeSet::new() }
    }

    /// In a container of the daemon, if it is not on the network of the host:
    /// from there the host is the gateway, and not where its socket is.
    pub(super) fn inside(own: &ContainerSummary, host: IpAddr) -> Self {
        if mode(own) == Some("host") {
            return Self::outside(host);
        }
        let networks = networks(own);
        let gateway = networks.iter().find_map(|(_, n)| n.gateway.as_deref()?.parse().ok());
        let shared = networks.iter().map(|(name, network)| id_of(name, network).to_owned());
        Self { host: gateway.unwrap_or(host), shared: shared.collect() }
    }
}

/// The containers that engines have their network from.
#[derive(Debug, Default)]
pub(super) struct Lenders(Vec<ContainerSummary>);

impl Lenders {
    /// What to ask the daemon for: ids and names that engines which live name
    /// and that are not among the listed ones.
    pub(super) fn wanted(containers: &[ContainerSummary]) -> (Vec<String>, Vec<String>) {
        let is_listed = |name: &&str| containers.iter().any(|container| is_called(container, name));
        let live = containers.iter().filter(|container| has_network(container));
        let wanted: BTreeSet<_> = live.filter_map(lender).filter(|name| !is_listed(name)).collect();
        wanted.into_iter().take(MAX_LENDERS).map(str::to_owned).partition(|name| is_id(name))
    }

    /// From the daemon's answer, and those of the listed ones that lend.
    pub(super) fn of(mut answer: Vec<ContainerSummary>, listed: &[ContainerSummary]) -> Self {
        let names: BTreeSet<_> = listed.iter().filter_map(lender).collect();
        let is_lender = |container: &&ContainerSummary| names.iter().any(|name| is_called(container, name));
        answer.extend(listed.iter().filter(is_lender).cloned());
        Self(answer)
    }

    fn find(&self, name: &str) -> Option<&ContainerSummary> {
        self.0.iter().find(|container| is_called(container, name))
    }

    /// Ids and names: events tell of both.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().flat_map(|container| container.id.as_deref().into_iter().chain(names(container)))
    }
}

/// Where the API of an engine is, whose container is as listed.
pub(super) fn address(
    container: &ContainerSummary,
    vantage: &Vantage,
    lenders: &Lenders,
) -> Result<SocketAddr, Unusable> {
    let label = container.labels.as_ref().and_then(|labels| labels.get(PORT_LABEL));
    let port = match label {
        Some(port) => port.trim().parse().ok().filter(|port| *port != 0).ok_or(Unusable::Port)?,
        None => DEFAULT_PORT,
    };
    if !has_network(container) {
        return Err(Unusable::NotRunning);
    }
    let Some(name) = lender(container) else { return place(container, port, vantage) };
    let called = || name.get(..SHORT_ID).filter(|_| is_id(name)).unwrap_or(name).into();
    let lender = lenders.find(name).ok_or_else(|| Unusable::NoLender(called()))?;
    if has_network(lender) { place(lender, port, vantage) } else { Err(Unusable::LenderStopped(called())) }
}

/// Where a port is whose network is this container's: on a network that we
/// share, where it is published, or else on the container's own address.
fn place(container: &ContainerSummary, port: u16, vantage: &Vantage) -> Result<SocketAddr, Unusable> {
    if mode(container) == Some("host") {
        return Ok(SocketAddr::new(vantage.host, port));
    }
    let networks = networks(container);
    let own = |(_, network): &(&str, &EndpointSettings)| Some(SocketAddr::new(own_address(network)?, port));
    let mut shared = networks.iter().filter(|(name, network)| vantage.shared.contains(id_of(name, network)));
    if let Some(address) = shared.find_map(own) {
        return Ok(address);
    }
    let ports = container.ports.iter().flatten();
    let published = ports.filter_map(|entry| published_at(entry, port, vantage.host)).min();
    published.or_else(|| networks.iter().find_map(own)).ok_or(Unusable::NoAddress(port))
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

/// In a stable order.
fn networks(container: &ContainerSummary) -> Vec<(&str, &EndpointSettings)> {
    let networks: Option<&HashMap<_, _>> =
        container.network_settings.as_ref().and_then(|settings| settings.networks.as_ref());
    let mut networks: Vec<_> = networks.into_iter().flatten().map(|(name, n)| (name.as_str(), n)).collect();
    networks.sort_by_key(|(name, _)| *name);
    networks
}

fn id_of<'a>(name: &'a str, network: &'a EndpointSettings) -> &'a str {
    network.network_id.as_deref().filter(|id| !id.is_empty()).unwrap_or(name)
}

fn mode(container: &ContainerSummary) -> Option<&str> {
    container.host_config.as_ref().and_then(|config| config.network_mode.as_deref())
}

/// The name or id of the container whose network this one uses.
pub(super) fn lender(container: &ContainerSummary) -> Option<&str> {
    mode(container)?.strip_prefix("container:").filter(|name| !name.is_empty())
}

/// A paused container keeps its network.
fn has_network(container: &ContainerSummary) -> bool {
    matches!(container.state, Some(Listed::RUNNING | Listed::PAUSED))
}

fn is_id(name: &str) -> bool {
    (SHORT_ID..=64).contains(&name.len()) && name.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn is_called(container: &ContainerSummary, name: &str) -> bool {
    let has_id =
        container.id.as_deref().is_some_and(|id| id == name || (is_id(name) && id.starts_with(name)));
    has_id || names(container).any(|own| own == name)
}

/// Its names, without the one slash of its own ones; links have two.
pub(super) fn names(container: &ContainerSummary) -> impl Iterator<Item = &str> {
    let names = container.names.iter().flatten().filter_map(|name| name.strip_prefix('/'));
    names.filter(|name| !name.is_empty() && !name.contains('/'))
}

/// The id of the container that a process with these mounts is in: Docker
/// mounts the name of the host into each from a directory called by its id.
pub(super) fn own_id(mount_info: &str) -> Option<&str> {
    mount_info.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        let directory = root.strip_suffix("/hostname").filter(|_| point == "/etc/hostname")?;
        directory.rsplit_once("/containers/").map(|(_, id)| id).filter(|id| id.len() == 64 && is_id(id))
    })
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
            "Ports": [],
            "Labels": { "io.millrace.engine": "true" },
            "State": "running",
            "HostConfig": { "NetworkMode": "default" },
            "NetworkSettings": { "Networks": {
                "vpn": { "IPAddress": "172.30.0.7", "NetworkID": "n-vpn", "Gateway": "172.30.0.1" },
                "bridge": { "IPAddress": "172.17.0.2", "NetworkID": "n-bridge", "Gateway": "172.17.0.1" },
            } },
        });
        for (key, value) in change.as_object().unwrap() {
            container[key] = value.clone();
        }
        serde_json::from_value(container).unwrap()
    }

    fn port(ip: &str, private: u16, public: u16, kind: &str) -> Value {
        json!({ "IP": ip, "PrivatePort": private, "PublicPort": public, "Type": kind })
    }

    fn label(port: &str) -> Value {
        json!({ "io.millrace.engine": "true", "io.millrace.port": port })
    }

    #[test]
    fn an_engine_is_where_its_port_is_published_or_else_on_its_own_network() {
        for (name, change, host, expected) in [
            ("its own address", json!({}), HERE, Ok("172.17.0.2:6878")),
            ("paused", json!({ "State": "paused" }), HERE, Ok("172.17.0.2:6878")),
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
            (
                "stopped",
                json!({ "State": "exited", "HostConfig": { "NetworkMode": "host" } }),
                HERE,
                Err(Unusable::NotRunning),
            ),
            ("of a state nobody knows", json!({ "State": "" }), HERE, Err(Unusable::NotRunning)),
        ] {
            let vantage = Vantage::outside(host.parse().unwrap());
            let found = address(&listed(change), &vantage, &Lenders::default());
            assert_eq!(found.map(|address| address.to_string()), expected.map(str::to_owned), "{name}");
        }
    }

    #[test]
    fn from_within_a_container_a_shared_network_comes_first_and_the_host_is_the_gateway() {
        let ours = |mode: &str, networks: Value| {
            listed(
                json!({ "HostConfig": { "NetworkMode": mode }, "NetworkSettings": { "Networks": networks } }),
            )
        };
        let vpn =
            json!({ "vpn": { "NetworkID": "n-vpn", "Gateway": "172.30.0.1", "IPAddress": "172.30.0.9" } });
        let other =
            json!({ "mine": { "NetworkID": "n-mine", "Gateway": "172.40.0.1", "IPAddress": "172.40.0.9" } });
        let published = json!({ "Ports": [port("0.0.0.0", 6878, 19000, "tcp")] });
        let loopback = json!({ "Ports": [port("127.0.0.1", 6878, 19000, "tcp")] });
        let host = json!({ "HostConfig": { "NetworkMode": "host" } });
        for (name, own, engine, expected) in [
            ("shared", ours("vpn", vpn.clone()), json!({}), "172.30.0.7:6878"),
            ("shared and published", ours("vpn", vpn.clone()), published.clone(), "172.30.0.7:6878"),
            ("published elsewhere", ours("mine", other.clone()), published.clone(), "172.40.0.1:19000"),
            ("published to the host alone", ours("mine", other.clone()), loopback.clone(), "172.17.0.2:6878"),
            ("on the host's network", ours("mine", other), host, "172.40.0.1:6878"),
            ("we are on the host's network", ours("host", json!({})), loopback, "127.0.0.1:19000"),
            ("we have no network", ours("none", json!({})), published, "127.0.0.1:19000"),
        ] {
            let vantage = Vantage::inside(&own, HERE.parse().unwrap());
            let found = address(&listed(engine), &vantage, &Lenders::default());
            assert_eq!(found.map(|address| address.to_string()).as_deref(), Ok(expected), "{name}");
        }
    }

    #[test]
    fn an_engine_on_a_lent_network_is_where_its_lender_is_while_that_one_lives() {
        let id = "ab".repeat(32);
        let lender = |state: &str, change: Value| {
            let mut lender = listed(change);
            lender.id = Some(id.clone());
            lender.names = Some(vec!["/gluetun".into()]);
            lender.state = serde_json::from_value(json!(state)).unwrap();
            lender
        };
        let published =
            json!({ "Ports": [port("0.0.0.0", 6878, 19000, "tcp"), port("0.0.0.0", 7000, 19001, "tcp")] });
        let own = json!({ "NetworkSettings": { "Networks": { "n": { "IPAddress": "172.30.0.5" } } } });
        for (name, mode, lender, expected) in [
            ("by id", id.as_str(), Some(lender("running", published.clone())), Ok("127.0.0.1:19001")),
            ("by name", "gluetun", Some(lender("running", published.clone())), Ok("127.0.0.1:19001")),
            ("by short id", &id[..12], Some(lender("running", own.clone())), Ok("172.30.0.5:7000")),
            (
                "by too short an id",
                &id[..11],
                Some(lender("running", own.clone())),
                Err(Unusable::NoLender(id[..11].into())),
            ),
            ("paused", "gluetun", Some(lender("paused", own.clone())), Ok("172.30.0.5:7000")),
            (
                "stopped",
                "gluetun",
                Some(lender("exited", own)),
                Err(Unusable::LenderStopped("gluetun".into())),
            ),
            ("another", "vpn", Some(lender("running", published)), Err(Unusable::NoLender("vpn".into()))),
            ("absent", &id, None, Err(Unusable::NoLender(id[..12].into()))),
        ] {
            let engine = listed(json!({
                "HostConfig": { "NetworkMode": format!("container:{mode}") }, "Labels": label("7000"),
                "NetworkSettings": { "Networks": {} },
            }));
            let lenders = Lenders(lender.into_iter().collect());
            let found = address(&engine, &Vantage::outside(HERE.parse().unwrap()), &lenders);
            assert_eq!(found.map(|address| address.to_string()), expected.map(str::to_owned), "{name}");
        }
    }

    #[test]
    fn a_lender_is_asked_for_once_by_id_or_name_unless_it_is_listed() {
        let engine = |id: &str, state: &str, mode: &str| {
            listed(
                json!({ "Id": id, "Names": [format!("/{id}")], "State": state, "HostConfig": { "NetworkMode": mode } }),
            )
        };
        let id = "cd".repeat(32);
        let by_id = format!("container:{id}");
        let listed = [
            engine("a", "running", &by_id),
            engine("b", "paused", &by_id),
            engine("c", "running", "container:vpn"),
            engine("d", "exited", "container:dead"),
            engine("e", "running", "container:a"),
            engine("f", "running", "container:"),
            engine("g", "running", "bridge"),
        ];
        assert_eq!(Lenders::wanted(&listed), (vec![id], vec!["vpn".to_owned()]));
        let lenders = Lenders::of(Vec::new(), &listed);
        assert_eq!(lenders.names().collect::<Vec<_>>(), ["a", "a"]);
        let many: Vec<_> =
            (0..200).map(|i| engine(&i.to_string(), "running", &format!("container:v{i}"))).collect();
        assert_eq!(Lenders::wanted(&many).1.len(), MAX_LENDERS);
    }

    #[test]
    fn we_know_our_own_container_by_its_mounts() {
        let id = "0f".repeat(32);
        let docker = format!(
            "523 511 0:26 / /sys ro,nosuid - sysfs sysfs ro\n\
             530 511 254:1 /var/lib/docker/containers/{id}/resolv.conf /etc/resolv.conf rw - ext4 /dev/vda1 rw\n\
             531 511 254:1 /var/lib/docker/containers/{id}/hostname /etc/hostname rw - ext4 /dev/vda1 rw"
        );
        let moved = docker.replace("/var/lib/docker", "/data");
        for (name, mounts, expected) in [
            ("Docker", docker.as_str(), Some(id.as_str())),
            ("Docker with its data elsewhere", &moved, Some(&id)),
            ("another runtime", "1 2 3:4 /containers/x/hostname /etc/hostname rw", None),
            ("somebody else's file", &docker.replace("/etc/hostname", "/mnt/hostname"), None),
            ("a host", "22 1 254:1 / / rw,relatime - ext4 /dev/vda1 rw", None),
            ("nothing", "", None),
            ("too little", "1 2 3\n1 2 3 4\n\n", None),
        ] {
            assert_eq!(own_id(mounts), expected, "{name}");
        }
    }
}
