//! What the process costs, as the kernel counts it.

use rustix::time::{ClockId, clock_gettime};

/// A look at this process.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Usage {
    /// Memory in use, in bytes.
    pub(super) resident_bytes: Option<u64>,
    /// Descriptors open.
    pub(super) open_fds: Option<u64>,
    /// Processor time of all threads, in seconds.
    pub(super) cpu_seconds: f64,
}

/// Reads three figures; no more than a few system calls, except on kernels
/// before 6.2, where descriptors are counted one by one.
pub(super) fn usage() -> Usage {
    let cpu = clock_gettime(ClockId::ProcessCPUTime);
    #[expect(clippy::cast_precision_loss, reason = "2^53 seconds is long enough")]
    let cpu_seconds = cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9;
    Usage { resident_bytes: resident(), open_fds: open_fds(), cpu_seconds }
}

fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

fn open_fds() -> Option<u64> {
    // Since Linux 6.2 the size of this directory is the number of its entries.
    match rustix::fs::stat("/proc/self/fd").ok().and_then(|stat| u64::try_from(stat.st_size).ok()) {
        Some(0) | None => Some(std::fs::read_dir("/proc/self/fd").ok()?.count() as u64),
        counted => counted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_tells_all_three_and_counts_a_new_descriptor() {
        let before = usage();
        let held: Vec<_> = (0..50).map(|_| std::fs::File::open("/dev/null").unwrap()).collect();
        let after = usage();
        assert!(before.resident_bytes.unwrap() > 1 << 20 && after.cpu_seconds >= before.cpu_seconds);
        // Other tests open and close descriptors meanwhile, though not as many.
        assert!(after.open_fds.unwrap() >= before.open_fds.unwrap() + 25, "{before:?} {after:?}");
        drop(held);
    }
}
