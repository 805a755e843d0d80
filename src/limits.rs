//! What the kernel lets this process have.

use std::io;

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
