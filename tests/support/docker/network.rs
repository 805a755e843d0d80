//! Bridges of a daemon's own, and free ports.

use std::{
    fs,
    hash::{BuildHasher, RandomState},
    net::{Ipv4Addr, TcpListener},
    path::Path,
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use super::{daemon::Dockerd, end::left_by_the_dead};

/// How many subnets are tried until one is free.
const TRIES: u32 = 64;

/// A user-defined network. Its bridge is removed when it is dropped, since a
/// daemon that is killed leaves it.
#[derive(Debug)]
pub(super) struct Network {
    name: String,
    bridge: String,
}

impl Dockerd {
    /// Makes a bridge network of this name with a subnet of its own, which we
    /// reach as well; says which addresses it has, in the form `10.240.7.0/24`.
    pub(crate) fn network(&self, name: &str) -> String {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        // Says whose it is, for `sweep`; 15 bytes at most.
        let bridge = format!("mr{}b{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed) % 1000);
        let subnet = free_subnet();
        let option = format!("com.docker.network.bridge.name={bridge}");
        let network = Network { name: name.to_owned(), bridge };
        self.networks.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(network);
        self.docker(&["network", "create", "--subnet", &subnet, "--opt", &option, name]);
        subnet
    }

    /// The address of a container on a network of [`Self::network`].
    pub(crate) fn address(&self, container: &str, network: &str) -> Ipv4Addr {
        let all = self.inspect(container);
        let address = &all["NetworkSettings"]["Networks"][network]["IPAddress"];
        let parsed = address.as_str().and_then(|text| text.parse().ok());
        parsed.unwrap_or_else(|| panic!("{container} has no address on {network}: {address}"))
    }

    /// The bridges that the daemon's networks have on our side.
    pub(crate) fn bridges(&self) -> Vec<String> {
        let networks = self.networks.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        networks.iter().map(|network| network.bridge.clone()).collect()
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        remove(&self.bridge);
    }
}

fn remove(bridge: &str) {
    if Path::new("/sys/class/net").join(bridge).exists() {
        let mut command = Command::new("ip");
        command.args(["link", "del", bridge]).stderr(Stdio::null());
        if !command.status().is_ok_and(|status| status.success()) {
            eprintln!("the bridge {bridge} cannot be removed");
        }
    }
}

/// Removes the bridges of tests that were killed.
pub(super) fn sweep() {
    for name in left_by_the_dead(Path::new("/sys/class/net"), "mr", 'b') {
        remove(&name);
    }
}

/// A subnet that nothing here leads to, of 10.232.0.0 to 10.247.255.0.
fn free_subnet() -> String {
    let routes = fs::read_to_string("/proc/net/route").unwrap_or_default();
    let taken: Vec<u32> = routes
        .lines()
        .filter_map(|line| u32::from_str_radix(line.split_ascii_whitespace().nth(1)?, 16).ok())
        .map(u32::from_be)
        .collect();
    // Random, as several tests choose at one time.
    let random = RandomState::new();
    let free = (0..TRIES).find_map(|i| {
        let bytes = random.hash_one(i).to_le_bytes();
        let subnet = Ipv4Addr::new(10, 232 + bytes[0] % 16, bytes[1], 0);
        (!taken.contains(&u32::from(subnet))).then_some(subnet)
    });
    format!("{}/24", free.expect("of 4096 subnets one is free"))
}

/// A port of the loopback that nobody listened on a moment ago.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("there are free ports");
    listener.local_addr().expect("it is bound").port()
}
