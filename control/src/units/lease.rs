//! One server at a time runs a fleet: of two that give one name to one daemon
//! each would take the other's engines for its own, and both would count them.
//!
//! What is taken is a name of the kernel's that dies with the process: an
//! abstract socket, so that nothing is left of a server that was killed. It is
//! seen by all processes of one host and network namespace; servers elsewhere
//! have to be given other fleet names.

use std::{
    io::ErrorKind,
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixListener},
    },
};

use crate::fleet::docker::FleetName;

/// Of a daemon's id: the name has to fit into a socket's address.
const ID: usize = 64;

/// The right to run one fleet on one daemon, for as long as it is held.
#[derive(Debug)]
pub(crate) struct Lease {
    name: String,
    /// None where the kernel has no such sockets.
    _held: Option<UnixListener>,
}

impl Lease {
    /// Takes the fleet on the daemon of this id; none when another process has
    /// it. Whoever cannot tell is not held up.
    pub(crate) fn take(daemon: &str, fleet: &FleetName) -> Option<Self> {
        let name = name(daemon, fleet);
        let address = SocketAddr::from_abstract_name(&name);
        match address.and_then(|address| UnixListener::bind_addr(&address)) {
            Ok(held) => Some(Self { name, _held: Some(held) }),
            Err(error) if error.kind() == ErrorKind::AddrInUse => None,
            Err(error) => {
                tracing::debug!(name, %error, "whether another server runs this fleet cannot be told");
                Some(Self { name, _held: None })
            }
        }
    }

    /// Whether it is for this daemon and fleet.
    pub(crate) fn is_for(&self, daemon: &str, fleet: &FleetName) -> bool {
        self.name == name(daemon, fleet)
    }
}

fn name(daemon: &str, fleet: &FleetName) -> String {
    let id: String = daemon.chars().filter(char::is_ascii_graphic).take(ID).collect();
    format!("millrace-{id}-{fleet}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fleet_on_a_daemon_is_one_servers_until_it_lets_go() {
        let fleet = |name: &str| FleetName::parse(name).unwrap();
        // Of this process alone, as tests run beside each other.
        let daemon = format!("{}-lease", std::process::id());
        let held = Lease::take(&daemon, &fleet("a")).unwrap();
        assert!(held.is_for(&daemon, &fleet("a")) && !held.is_for(&daemon, &fleet("b")));
        assert!(held._held.is_some(), "this kernel has abstract sockets");
        for (name, id, other, is_free) in [
            ("the same", daemon.as_str(), "a", false),
            ("another fleet", &daemon, "b", true),
            ("another daemon", "elsewhere-lease", "a", true),
        ] {
            assert_eq!(Lease::take(id, &fleet(other)).is_some(), is_free, "{name}");
        }
        drop(held);
        let longest = fleet(&"f".repeat(32));
        for (id, fleet) in [(daemon.as_str(), &fleet("a")), (&"x".repeat(1_000), &longest), ("", &longest)] {
            let taken = Lease::take(id, fleet).unwrap();
            assert!(taken._held.is_some(), "{taken:?} fits");
        }
    }
}
