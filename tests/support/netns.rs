//! A second machine: a network namespace behind a veth pair, whose cable can
//! be pulled.

use std::{
    fs::File,
    net::{IpAddr, Ipv4Addr},
    os::fd::AsFd,
    process::Command,
    sync::atomic::{AtomicU8, Ordering},
    thread,
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// A namespace with one link to us; removed when dropped.
pub(crate) struct Netns {
    name: String,
    link: String,
    net: u8,
}

impl Netns {
    /// Makes one, or says why it cannot be done here: it takes root and `ip`.
    pub(crate) fn new() -> Result<Self, String> {
        static COUNT: AtomicU8 = AtomicU8::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let pid = std::process::id();
        // Parallel test programs differ by pid; a clash is reported, not shared.
        let net = pid.to_le_bytes()[0].wrapping_mul(7).wrapping_add(count);
        let (name, link) = (format!("millrace-{pid}-{count}"), format!("mr{pid}x{count}"));
        ip(&["netns", "add", &name])?;
        let netns = Self { name, link, net };
        netns.wire()?;
        Ok(netns)
    }

    fn wire(&self) -> Result<(), String> {
        let (host, peer) = (format!("{}/24", self.host()), format!("{}/24", self.peer()));
        ip(&["link", "add", &self.link, "type", "veth", "peer", "name", "eth0", "netns", &self.name])?;
        ip(&["addr", "add", &host, "dev", &self.link])?;
        ip(&["link", "set", &self.link, "up"])?;
        ip(&["-n", &self.name, "addr", "add", &peer, "dev", "eth0"])?;
        ip(&["-n", &self.name, "link", "set", "eth0", "up"])
    }

    /// Its name for `ip`.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// What its addresses differ by from those of others.
    pub(super) fn number(&self) -> u8 {
        self.net
    }

    /// Our address on the link: listen here, or on all addresses.
    pub(crate) fn host(&self) -> IpAddr {
        Ipv4Addr::new(10, 231, self.net, 1).into()
    }

    /// The address inside.
    pub(crate) fn peer(&self) -> IpAddr {
        Ipv4Addr::new(10, 231, self.net, 2).into()
    }

    /// Runs `inside` on a thread within the namespace. Sockets made there stay
    /// there, also when they are returned.
    pub(crate) fn run<T: Send>(&self, inside: impl FnOnce() -> T + Send) -> T {
        let file = File::open(format!("/run/netns/{}", self.name)).expect("the namespace exists");
        let run = move || {
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).expect("setns");
            inside()
        };
        thread::scope(|scope| scope.spawn(run).join())
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Pulls the cable: from now on nothing arrives on either end, and nobody
    /// is told. The link itself stays up, so that the kernel sees no error.
    pub(crate) fn vanish(&self) -> Result<(), String> {
        // Inside and only there: our side keeps a link that swallows everything.
        let blackhole = ["-n", &self.name, "addr", "flush", "dev", "eth0"];
        ip(&blackhole)?;
        // Without this our ARP would fail and report the host as unreachable.
        let address = self.peer().to_string();
        ip(&[
            "neigh",
            "replace",
            &address,
            "lladdr",
            "02:00:00:00:00:01",
            "nud",
            "permanent",
            "dev",
            &self.link,
        ])
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        // Taking our end takes both; the namespace may linger while sockets live in it.
        ip(&["link", "del", &self.link]).ok();
        ip(&["netns", "del", &self.name]).ok();
    }
}

/// Runs `ip`.
pub(super) fn ip(args: &[&str]) -> Result<(), String> {
    let output = Command::new("ip").args(args).output().map_err(|e| format!("ip: {e}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("ip {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim()))
}
