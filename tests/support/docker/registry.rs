//! A registry with a password, behind a relay that can be slow.

use std::{
    fs::{self, File},
    net::SocketAddr,
    os::unix::process::CommandExt,
    process::{Child, Command, Stdio},
    time::Duration,
};

use rustix::process::Signal;

use super::{
    super::{
        tool::Scratch,
        wait::{skip, wait_until},
    },
    daemon::Dockerd,
    relay::Relay,
};

const LIMIT: Duration = Duration::from_secs(20);
/// bcrypt of [`Registry::PASSWORD`] with the least effort.
const HASH: &str = "$2b$04$abcdefghijklmnopqrstuuEwB.ywe.8Re/GKwHSRyIC3truilGYG6";

/// Debian's `docker-registry`. Dropped, it ends.
pub(crate) struct Registry {
    child: Child,
    relay: Relay,
    _scratch: Scratch,
}

impl Registry {
    /// Who may pull and push.
    pub(crate) const USER: &str = "viewer";
    /// With which password.
    pub(crate) const PASSWORD: &str = "watches-the-game";

    /// An empty one; none, aloud, where it is not installed.
    pub(crate) fn start() -> Option<Self> {
        let scratch = Scratch::new();
        let path = |name: &str| scratch.path().join(name);
        fs::write(path("htpasswd"), format!("{}:{HASH}\n", Self::USER)).expect("our own directory");
        // Its answers name it as it was called, so that the relay is never passed by.
        let config = format!(
            "version: 0.1\nlog: {{level: info}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\n\
             http: {{addr: '127.0.0.1:0', relativeurls: true, secret: none}}\n\
             auth: {{htpasswd: {{realm: test, path: {}}}}}\n",
            path("blobs").display(),
            path("htpasswd").display(),
        );
        fs::write(path("config.yml"), config).expect("our own directory");
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(path("config.yml")).stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(File::create(path("log")).expect("our own directory"));
        // SAFETY: the closure runs between fork and exec and only makes a system call.
        unsafe {
            command.pre_exec(|| Ok(rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?));
        }
        let Ok(mut child) = command.spawn() else {
            skip("REQUIRE_DOCKER", "docker-registry is not installed");
            return None;
        };
        let log = || fs::read_to_string(path("log")).unwrap_or_default();
        let mut address: Option<SocketAddr> = None;
        let listens = wait_until(LIMIT, || {
            let log = log();
            let rest = log.split_once("listening on ").map(|(_, rest)| rest);
            address = rest.and_then(|rest| rest.split(['"', ' ', '\n']).next()?.parse().ok());
            address.is_some()
        });
        let Some(address) = address.filter(|_| listens) else {
            child.kill().ok();
            child.wait().ok();
            panic!("the registry does not start: {}", log());
        };
        Some(Self { child, relay: Relay::new(address), _scratch: scratch })
    }

    /// The name of an image in it: `127.0.0.1:PORT/engine:1`.
    pub(crate) fn reference(&self, image: &str) -> String {
        format!("{}/{image}", self.relay.address())
    }

    /// Tells `docker` the password.
    pub(crate) fn log_in(&self, docker: &Dockerd) {
        let address = self.relay.address().to_string();
        docker.docker(&["login", "--username", Self::USER, "--password", Self::PASSWORD, &address]);
    }

    /// Lets `docker` forget the password.
    pub(crate) fn log_out(&self, docker: &Dockerd) {
        docker.docker(&["logout", &self.relay.address().to_string()]);
    }

    /// Puts a daemon's image there as `image`; its reference by digest.
    pub(crate) fn push(&self, docker: &Dockerd, local: &str, image: &str) -> String {
        let reference = self.reference(image);
        docker.docker(&["tag", local, &reference]);
        let said = docker.docker(&["push", &reference]);
        docker.docker(&["rmi", &reference]);
        let digest = said.split_whitespace().find(|word| word.starts_with("sha256:"));
        let (name, _) = reference.rsplit_once(':').expect("it has a tag");
        format!("{name}@{}", digest.unwrap_or_else(|| panic!("no digest: {said}")))
    }

    /// Bytes a second of each connection; none at all with zero, `u64::MAX` for
    /// as many as there are.
    pub(crate) fn set_rate(&self, rate: u64) {
        self.relay.set_rate(rate);
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
