//! Which congestion control the kernel lets this process choose.

use std::{fmt, fs};

use rustix::{
    io::Errno,
    net::{AddressFamily, SocketFlags, SocketType, socket_with, sockopt},
};

/// What it has, and what of that others than root may choose.
const AVAILABLE: &str = "/proc/sys/net/ipv4/tcp_available_congestion_control";
const ALLOWED: &str = "/proc/sys/net/ipv4/tcp_allowed_congestion_control";

/// Why a congestion control cannot be had, and what can.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The kernel has no such thing, nor a module of that name.
    Unknown {
        /// What it has.
        offered: String,
    },
    /// It is there, but not for this user.
    Reserved {
        /// What is.
        offered: String,
    },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown { offered } => write!(
                f,
                "the kernel does not offer it; it offers {offered}, and more after `modprobe tcp_NAME`"
            ),
            Self::Reserved { offered } => write!(
                f,
                "the kernel offers it to root alone, to this user {offered}; \
                 `sysctl -w net.ipv4.tcp_allowed_congestion_control=…` allows more"
            ),
        }
    }
}

/// Why the kernel would refuse `name`, or nothing when it would not: tried on a
/// socket, since root may have a module loaded that no list names yet.
pub(crate) fn refusal(name: &str) -> Option<Refusal> {
    let trial = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None);
    // Without a socket the shards will say more than can be said here.
    let refused = sockopt::set_tcp_congestion(trial.ok()?, name).err()?;
    Some(match refused {
        Errno::PERM => Refusal::Reserved { offered: listed(ALLOWED) },
        _ => Refusal::Unknown { offered: listed(AVAILABLE) },
    })
}

/// The names in one of the kernel's lists.
fn listed(path: &str) -> String {
    let names = fs::read_to_string(path).unwrap_or_default();
    let names: Vec<_> = names.split_whitespace().collect();
    if names.is_empty() { format!("what {path} lists") } else { names.join(", ") }
}

/// What connections get when nothing is chosen.
pub(crate) fn default() -> Option<String> {
    let name = fs::read_to_string("/proc/sys/net/ipv4/tcp_congestion_control").ok()?;
    Some(name.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reno_is_always_there_and_a_word_nobody_knows_is_answered_with_what_is() {
        assert_eq!(refusal("reno"), None);
        let Some(Refusal::Unknown { offered }) = refusal("nonsense") else { panic!("nonsense is offered") };
        assert!(offered.split(", ").any(|name| name == "reno"), "{offered}");
    }
}
