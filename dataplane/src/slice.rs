//! How soon a thread runs once it wakes.

use std::{io, mem::MaybeUninit, time::Duration};

/// What a shard does at a time takes less than this.
const SLICE: Duration = Duration::from_micros(100);

/// Has the calling thread run as soon as it wakes: it asks for short slices of
/// time, and among equals the scheduler (EEVDF, Linux 6.12 and later) lets who
/// asks for less go before who has a longer slice to finish.
///
/// # Errors
/// When the kernel refuses that; an older one takes it and does nothing.
pub(crate) fn run_promptly() -> io::Result<()> {
    change(|wish| wish.sched_runtime = u64::try_from(SLICE.as_nanos()).expect("less than a second"))
}

/// Has the calling thread run while nobody else wants its core: any other that
/// wakes takes it over as soon as the kernel lets it.
///
/// # Errors
/// When the kernel refuses that.
pub(crate) fn run_last() -> io::Result<()> {
    change(|wish| wish.sched_policy = libc::SCHED_IDLE.cast_unsigned())
}

/// Has the calling thread wait until a shard that runs on its core sleeps, or has
/// used up a slice, instead of taking the core from it as soon as it wakes; of
/// time it gets as much as before. Threads that it starts inherit that.
///
/// # Errors
/// When the kernel refuses that.
pub fn run_beside_shards() -> io::Result<()> {
    change(|wish| wish.sched_policy = libc::SCHED_BATCH.cast_unsigned())
}

#[expect(unsafe_code, reason = "there is no safe call for it")]
fn change(change: impl FnOnce(&mut libc::sched_attr)) -> io::Result<()> {
    let mut wish = current()?;
    change(&mut wish);
    // SAFETY: a whole structure, which tells its size, and which the kernel only reads.
    match unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const wish, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[expect(unsafe_code, reason = "there is no safe call for it")]
fn current() -> io::Result<libc::sched_attr> {
    let len = u32::try_from(size_of::<libc::sched_attr>()).expect("a small structure");
    let mut attributes = MaybeUninit::<libc::sched_attr>::zeroed();
    // SAFETY: it is `len` bytes, which the kernel fills with what it has.
    match unsafe { libc::syscall(libc::SYS_sched_getattr, 0, attributes.as_mut_ptr(), len, 0) } {
        // SAFETY: all integers, for which zero is a value too.
        0 => Ok(unsafe { attributes.assume_init() }),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_has_short_slices_and_is_otherwise_as_it_was() {
        let before = current().unwrap();
        std::thread::spawn(move || {
            run_promptly().unwrap();
            let after = current().unwrap();
            assert_eq!((after.sched_policy, after.sched_nice), (before.sched_policy, before.sched_nice));
            // A kernel that knows of no slices of its own says nothing.
            assert!([0, 100_000].contains(&after.sched_runtime), "{}", after.sched_runtime);
        })
        .join()
        .unwrap();
        assert_eq!(current().unwrap().sched_runtime, before.sched_runtime, "another thread");
    }

    #[test]
    fn threads_run_behind_others() {
        for (run, policy) in
            [(run_last as fn() -> _, libc::SCHED_IDLE), (run_beside_shards, libc::SCHED_BATCH)]
        {
            let changed = std::thread::spawn(move || run().and_then(|()| current())).join().unwrap();
            assert_eq!(changed.unwrap().sched_policy, policy.cast_unsigned());
        }
    }
}
