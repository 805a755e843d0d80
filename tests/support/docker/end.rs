//! The end of a daemon: nothing of it is left behind.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Child,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

use super::super::wait::wait_until;

/// Long enough for the kernel to take down a namespace full of processes.
const LIMIT: Duration = Duration::from_secs(10);

/// Fields of `/proc/PID/stat` after the name; none when there is no such process.
fn stat(pid: u32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = text.rsplit_once(") ")?;
    Some(fields.split_ascii_whitespace().map(str::to_owned).collect())
}

fn processes() -> impl Iterator<Item = u32> {
    fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(|e| e.file_name().to_str()?.parse().ok())
}

/// The first child of a process.
pub(super) fn child_of(parent: u32) -> Option<u32> {
    processes().find(|&pid| stat(pid).is_some_and(|s| s[1] == parent.to_string()))
}

/// The number by which we know process `inside` of the namespace whose first
/// process is `first`.
pub(super) fn outer_pid(first: u32, inside: u32) -> Option<u32> {
    let namespace = |pid: u32| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let wanted = namespace(first)?;
    processes().find(|&pid| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let inner = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
        let inner = inner.and_then(|line| line.split_ascii_whitespace().last()?.parse().ok());
        inner == Some(inside) && namespace(pid).as_ref() == Some(&wanted)
    })
}

/// Kills the first process of a namespace and waits until all others in it
/// have ended too: the kernel takes them down before it reports the first one.
pub(super) fn kill_and_wait(unshare: &mut Child, first: u32) {
    if let Some(pid) = i32::try_from(first).ok().and_then(Pid::from_raw) {
        // One that has ended already is as good.
        kill_process(pid, Signal::KILL).ok();
    }
    if !wait_until(LIMIT, || !matches!(unshare.try_wait(), Ok(None))) {
        unshare.kill().ok();
        unshare.wait().ok();
    }
}

/// Lets the frozen processes of these groups go on: else they could not end.
pub(super) fn thaw(name: &str) {
    let name = name.trim_start_matches('/');
    let (first, unified) = (Path::new("/sys/fs/cgroup/freezer"), Path::new("/sys/fs/cgroup"));
    for (root, file, word) in [(first, "freezer.state", "THAWED"), (unified, "cgroup.freeze", "0")] {
        let groups = fs::read_dir(root.join(name)).into_iter().flatten().flatten();
        for group in groups.filter(|entry| entry.path().is_dir()) {
            // One that has ended has no such file.
            fs::write(group.path().join(file), word).ok();
        }
    }
}

/// Removes what control groups there are of this name, in each hierarchy.
pub(super) fn remove_cgroups(name: &str) {
    let name = name.trim_start_matches('/');
    let root = Path::new("/sys/fs/cgroup");
    let hierarchies = fs::read_dir(root).into_iter().flatten().flatten().map(|e| e.path());
    let all: Vec<PathBuf> = hierarchies.chain([root.to_owned()]).map(|dir| dir.join(name)).collect();
    for group in all.iter().filter(|group| group.is_dir()) {
        // Busy for a moment after its last process has ended.
        if !wait_until(LIMIT, || remove(group)) {
            eprintln!("{} cannot be removed", group.display());
        }
    }
}

/// Removes the control groups of tests that were killed.
pub(super) fn sweep() {
    let root = Path::new("/sys/fs/cgroup");
    let hierarchies = fs::read_dir(root).into_iter().flatten().flatten().map(|e| e.path());
    for hierarchy in hierarchies.chain([root.to_owned()]) {
        for name in left_by_the_dead(&hierarchy, "millrace-", '-') {
            // One that is busy still is left to the next test.
            remove(&hierarchy.join(name));
        }
    }
}

/// The names in a directory that begin so, go on with the number of a process
/// that is no more, and then with this character.
pub(super) fn left_by_the_dead(directory: &Path, start: &str, after: char) -> Vec<String> {
    let names = fs::read_dir(directory).into_iter().flatten().flatten();
    let names = names.filter_map(|e| e.file_name().into_string().ok());
    let pid = |name: &str| name.strip_prefix(start)?.split_once(after)?.0.parse::<u32>().ok();
    let is_dead = |pid: u32| !Path::new("/proc").join(pid.to_string()).exists();
    names.filter(|name| pid(name).is_some_and(is_dead)).collect()
}

/// Whether a group and those below it are gone.
fn remove(group: &Path) -> bool {
    let entries = fs::read_dir(group).into_iter().flatten().flatten();
    let below = entries.filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).all(|e| remove(&e.path()));
    below && (fs::remove_dir(group).is_ok() || !group.exists())
}
