//! What a daemon has on this machine, to see that nothing of it is left.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::daemon::Dockerd;

/// All that was there when asked.
pub(crate) struct Traces {
    /// Numbers and when they began: numbers are used again.
    pub(crate) processes: Vec<(String, String)>,
    /// Bridges, links and control groups.
    pub(crate) paths: Vec<PathBuf>,
    scratch: PathBuf,
}

/// When a process began; none when it is no more.
fn began(pid: &str) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(19).map(str::to_owned)
}

impl Traces {
    /// What a running daemon has.
    pub(crate) fn of(docker: &Dockerd) -> Self {
        let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
        let theirs = namespace(&docker.pid().unwrap().to_string());
        let pids = fs::read_dir("/proc").unwrap().flatten().filter_map(|e| e.file_name().into_string().ok());
        // Those in a container have a namespace of their own.
        let groups = |pid: &str| fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        let its_group = format!("{}/", docker.cgroup());
        let is_its = |pid: &String| namespace(pid) == theirs || groups(pid).contains(&its_group);
        let processes = pids.filter(is_its);
        let processes = processes.filter_map(|pid| began(&pid).map(|began| (pid, began))).collect();
        let net = Path::new("/sys/class/net");
        let bridges = docker.bridges();
        let links = bridges.iter().flat_map(|bridge| fs::read_dir(net.join(bridge).join("brif")).unwrap());
        let links: Vec<_> = links.map(|e| net.join(e.unwrap().file_name())).collect();
        let group = docker.cgroup().trim_start_matches('/');
        let hierarchies = fs::read_dir("/sys/fs/cgroup").unwrap().flatten().map(|e| e.path().join(group));
        let groups = hierarchies.chain([Path::new("/sys/fs/cgroup").join(group)]).filter(|dir| dir.exists());
        let bridges = bridges.iter().map(|bridge| net.join(bridge));
        let paths = groups.chain(bridges).chain(links).collect();
        Self { processes, paths, scratch: docker.socket().parent().unwrap().to_owned() }
    }

    /// What of it is there still.
    pub(crate) fn left(&self) -> Vec<String> {
        let processes = self.processes.iter().filter(|(pid, since)| began(pid).as_ref() == Some(since));
        let paths =
            self.paths.iter().chain([&self.scratch]).filter(|path| fs::symlink_metadata(path).is_ok());
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        let scratch = self.scratch.display().to_string();
        let mounts: Vec<_> = mounts.lines().filter(|l| l.contains(&scratch)).map(str::to_owned).collect();
        let paths = paths.map(|path| path.display().to_string());
        processes.map(|(pid, _)| pid.clone()).chain(paths).chain(mounts).collect()
    }
}
