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

use sha2::{Digest, Sha256};

use crate::fleet::docker::{FleetName, HostLook};

/// The right to run one fleet on one daemon, for as long as it is held.
#[derive(Debug)]
pub(crate) struct Lease {
    name: String,
    /// None where the kernel has no such sockets.
    _held: Option<UnixListener>,
}

impl Lease {
    /// Takes the fleet on this daemon; none when another process has it. Whoever
    /// cannot tell is not held up.
    pub(crate) fn take(host: &HostLook, fleet: &FleetName) -> Option<Self> {
        let name = name(host, fleet);
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
    pub(crate) fn is_for(&self, host: &HostLook, fleet: &FleetName) -> bool {
        self.name == name(host, fleet)
    }
}

/// Hashed, since it has to fit into a socket's address. Up to version 23 two
/// daemons of one host have the same id, and always another directory.
fn name(host: &HostLook, fleet: &FleetName) -> String {
    let hash = Sha256::digest(format!("{}\n{}", host.id, host.root_dir));
    let hash: String = hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("millrace-{hash}-{fleet}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fleet_on_a_daemon_is_one_servers_until_it_lets_go() {
        let fleet = |name: &str| FleetName::parse(name).unwrap();
        let host = |id: &str, root_dir: &str| HostLook {
            // Of this process alone, as tests run beside each other.
            id: format!("{}-lease-{id}", std::process::id()),
            root_dir: root_dir.to_owned(),
            architecture: "amd64".into(),
            cgroup: crate::fleet::docker::Cgroup::V2,
            live_restore: true,
            ncpu: 1,
            mem_total: 1,
            driver: "overlay2".into(),
        };
        let held = Lease::take(&host("a", "/d"), &fleet("a")).unwrap();
        assert!(held.is_for(&host("a", "/d"), &fleet("a")) && !held.is_for(&host("a", "/d"), &fleet("b")));
        assert!(held._held.is_some(), "this kernel has abstract sockets");
        let longest = "f".repeat(32);
        for (name, id, root_dir, other, is_free) in [
            ("the same", "a", "/d", "a", false),
            ("another fleet", "a", "/d", &*longest, true),
            ("another daemon", "b", "/d", "a", true),
            ("another directory", "a", "/e", "a", true),
        ] {
            let taken = Lease::take(&host(id, root_dir), &fleet(other));
            assert_eq!(taken.as_ref().is_some_and(|taken| taken._held.is_some()), is_free, "{name}");
        }
        drop(held);
        assert!(Lease::take(&host("a", "/d"), &fleet("a")).is_some());
    }
}
