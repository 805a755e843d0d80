//! Whether Docker's disk has room for engines.

use millrace_control::{DiskLook, DockerError};

use super::Finding;

/// An engine's image takes about half of it; the rest is for caches and logs.
const ROOM: u64 = 1 << 30;
/// An image has thousands of files.
const ROOM_INODES: u64 = 10_000;
/// With less Docker makes no container, or none that can write.
const LEAST: u64 = 64 << 20;

/// What follows from a look at it.
pub(super) fn room(look: &Result<DiskLook, String>) -> Finding {
    let what = "Docker disk";
    let disk = match look {
        Ok(disk) => disk,
        Err(why) => return Finding::ok(what, format!("not looked at: {why}")),
    };
    let mib = |bytes: u64| bytes >> 20;
    let (free, all) = (mib(disk.free), mib(disk.bytes));
    let inodes = disk.free_inodes.map(|free| format!(" and {free} inodes")).unwrap_or_default();
    let found = format!("{free} of {all} MiB{inodes} are free in {}", disk.directory);
    // In the words of one that Docker finds full.
    let remedy = DockerError::NoSpace(String::new()).remedy();
    let has_inodes = |least| disk.free_inodes.is_none_or(|free| free >= least);
    if disk.free_for_root < LEAST || !has_inodes(1) {
        Finding::fail(what, format!("{found}: no container can be made"), remedy)
    } else if disk.free < ROOM || !has_inodes(ROOM_INODES) {
        let wanted = format!("an image, caches and logs want {} MiB and {ROOM_INODES} inodes", mib(ROOM));
        Finding::warn(what, format!("{found}: {wanted}"), remedy)
    } else {
        Finding::ok(what, found)
    }
}
