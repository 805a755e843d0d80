//! What the kernel lets this process have.

use std::{fs, io, path::Path};

use rustix::{
    process::{Resource, Rlimit, getrlimit, setrlimit},
    thread::disable_transparent_huge_pages,
};

/// Descriptors below which a server runs out of them before it runs out of
/// core: a core carries about 9,000 viewers of 4 Mbit/s, each a descriptor.
pub(crate) const FEW_DESCRIPTORS: u64 = 10_000;

/// How to get more.
pub(crate) const DESCRIPTORS_REMEDY: &str = "raise it with LimitNOFILE= in the systemd unit, `docker run --ulimit nofile=65536:65536`, or \
     `ulimit -Hn` in the shell that starts millrace";

/// Where the kernel does not say how much memory there is.
const LEAST_MACHINE: u64 = 1 << 30;

/// A limit in force; none means unlimited.
pub(crate) fn limit(resource: Resource) -> Rlimit {
    getrlimit(resource)
}

/// Raises the soft limit of descriptors to the hard one and gives that.
///
/// # Errors
/// When the kernel refuses.
pub(crate) fn raise_descriptors() -> io::Result<u64> {
    let Rlimit { current, maximum } = limit(Resource::Nofile);
    if current != maximum {
        setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
    }
    Ok(maximum.unwrap_or(u64::MAX))
}

/// What this process may use of the machine's memory, in bytes: all of it, or what
/// its control groups allow (`memory.max`).
pub(crate) fn memory() -> u64 {
    let all = fs::read_to_string("/proc/meminfo").ok().and_then(|text| total(&text));
    let group = fs::read_to_string("/proc/self/cgroup").ok();
    let path = group.as_deref().and_then(|text| text.lines().find_map(|line| line.strip_prefix("0::/")));
    let groups = Path::new("/sys/fs/cgroup").join(path.unwrap_or_default());
    let limits = groups.ancestors().take_while(|dir| dir.starts_with("/sys/fs/cgroup"));
    let limits =
        limits.filter_map(|dir| fs::read_to_string(dir.join("memory.max")).ok()?.trim().parse().ok());
    limits.chain(all).min().unwrap_or(LEAST_MACHINE)
}

/// `MemTotal` of `/proc/meminfo`, in bytes.
fn total(meminfo: &str) -> Option<u64> {
    let kib = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    kib.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1 << 10)
}

/// Keeps the heap in pages of 4 KiB: it is small and scattered, and huge pages
/// of it cost 13 MiB of memory at rest and win no measurable time.
pub(crate) fn use_small_pages() {
    if let Err(error) = disable_transparent_huge_pages(true) {
        tracing::debug!(%error, "cannot do without huge pages");
    }
}

/// Why the kernel does not give this process a uring, or nothing when it does.
pub(crate) fn uring_refusal() -> Option<UringRefusal> {
    io_uring::IoUring::new(8).err().map(UringRefusal)
}

/// The kernel's refusal of a uring.
#[derive(Debug)]
pub(crate) struct UringRefusal(io::Error);

impl UringRefusal {
    /// What the operator can do.
    pub(crate) fn remedy(&self) -> &'static str {
        match self.0.kind() {
            io::ErrorKind::PermissionDenied => {
                let setting = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled");
                match setting.as_deref().map(str::trim) {
                    Ok("1" | "2") => "allow it with `sysctl -w kernel.io_uring_disabled=0`",
                    _ => {
                        "a seccomp filter denies it, as Docker's does by default: allow io_uring_setup, \
                         io_uring_enter and io_uring_register, in a profile given to --security-opt seccomp= \
                         or in the unit's SystemCallFilter="
                    }
                }
            }
            io::ErrorKind::OutOfMemory => "raise the limit of locked memory (LimitMEMLOCK=, ulimit -l)",
            _ => "use Linux 5.10 or newer, built with CONFIG_IO_URING",
        }
    }
}

impl std::fmt::Display for UringRefusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_of_a_machine_is_read_in_bytes() {
        for (text, bytes) in [
            ("MemTotal:       24627012 kB\nMemFree: 1 kB\n", Some(24_627_012 << 10)),
            ("MemFree: 1 kB\nMemTotal: 8 kB\n", Some(8 << 10)),
            ("MemTotal: 8 MB\n", None),
            ("MemTotal: 18446744073709551615 kB\n", None),
            ("MemTotal:\n", None),
            ("", None),
        ] {
            assert_eq!(total(text), bytes, "{text}");
        }
        let here = memory();
        assert!((16 << 20..1 << 50).contains(&here), "{here}");
    }
}
