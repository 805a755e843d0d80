//! Which cores the shards run on.

use std::io;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::config::Cores;

/// The cores that this process may run on, in rising order; never empty.
///
/// # Errors
/// When the kernel does not tell.
pub(crate) fn allowed() -> io::Result<Vec<u16>> {
    let set = sched_getaffinity(None)?;
    let last = u16::try_from(CpuSet::MAX_CPU).unwrap_or(u16::MAX);
    Ok((0..last).filter(|core| set.is_set(usize::from(*core))).collect())
}

/// Why the shards cannot have the cores that were asked for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CoresError {
    /// The kernel did not tell which there are.
    #[error("cannot read which cores the process may run on")]
    Unknown(#[from] io::Error),
    /// Some do not exist, or were taken away by a cgroup or by `taskset`.
    #[error("server.cpus names cores {0:?}, but the process may run on {1:?} only")]
    NotAllowed(Vec<u16>, Vec<u16>),
}

/// The cores to pin shards to, one each.
///
/// # Errors
/// When a listed core is not allowed.
pub(crate) fn choose(cores: &Cores) -> Result<Vec<u16>, CoresError> {
    let allowed = allowed()?;
    match cores {
        Cores::All => Ok(allowed),
        Cores::Listed(listed) => {
            let missing: Vec<u16> = listed.iter().copied().filter(|core| !allowed.contains(core)).collect();
            if missing.is_empty() {
                Ok(listed.clone())
            } else {
                Err(CoresError::NotAllowed(missing, allowed))
            }
        }
    }
}

/// Pins the calling thread to one core.
///
/// # Errors
/// When the core is not allowed.
pub(crate) fn pin(core: u16) -> io::Result<()> {
    let mut set = CpuSet::new();
    set.set(usize::from(core));
    Ok(sched_setaffinity(None, &set)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pinned_thread_runs_on_its_core_alone_and_a_missing_core_is_named() {
        let last = *allowed().unwrap().last().unwrap();
        std::thread::spawn(move || {
            pin(last).unwrap();
            assert_eq!(allowed().unwrap(), [last]);
            assert_eq!(choose(&Cores::All).unwrap(), [last]);
        })
        .join()
        .unwrap();
        let error = choose(&Cores::Listed(vec![last, 1023])).unwrap_err().to_string();
        assert!(error.contains("[1023]"), "{error}");
    }
}
