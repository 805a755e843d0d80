//! A Docker daemon of the test's own.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Write},
    net::Ipv4Addr,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use rustix::process::Signal;

use super::{
    super::{
        tool::Scratch,
        wait::{skip, wait_until},
    },
    certs::Certs,
    end::{self, child_of},
    http,
    network::{self, Network},
};

/// Longest wait for the daemon to answer, and for one command.
pub(super) const LIMIT: Duration = Duration::from_secs(60);

/// Process 1 of the daemon's own process namespace: whatever runs in there
/// ends with it. It starts and ends the daemon as its standard input says.
/// Debian's tools come first: the daemon wants those that came with it.
///
/// Storage is in memory, which no other process sees and which is gone with
/// the namespace; so is what containerd leaves in `/run`, and the key in
/// `/etc/docker` that a daemon's id comes from: all of a host had one in common.
const INIT: &str = r#"
work=$1 cgroup=$2
shift 2
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
storage=vfs
mkdir "$work/data"
if mount -t tmpfs -o size=4g,mode=711 tmpfs "$work/data"; then
    mkdir "$work/data/"{lower,upper,inner,merged}
    overlay=lowerdir=$work/data/lower,upperdir=$work/data/upper,workdir=$work/data/inner
    if mount -t overlay -o "$overlay" overlay "$work/data/merged"; then
        umount "$work/data/merged"
        storage=overlay2
    fi
fi 2>>"$work/log"
mount -t tmpfs tmpfs /run 2>>"$work/log"
mkdir -p /etc/docker && mount -t tmpfs tmpfs /etc/docker 2>>"$work/log"
echo "$storage"
while read -r word; do
    case $word in
    start)
        dockerd --host "unix://$work/docker.sock" --data-root "$work/data/root" --exec-root "$work/data/exec" \
            --pidfile "$work/pid" --storage-driver "$storage" --bridge=none --iptables=false \
            --ip6tables=false --ip-forward=false --ip-masq=false --userland-proxy=true --live-restore \
            --exec-opt native.cgroupdriver=cgroupfs --cgroup-parent "$cgroup" "$@" >>"$work/log" 2>&1 &
        daemon=$!
        ;;
    stop) kill "$daemon" && wait "$daemon" ;;
    kill) kill -KILL "$daemon" && wait "$daemon" ;;
    pause) kill -STOP "$daemon" ;;
    resume) kill -CONT "$daemon" ;;
    esac 2>>"$work/log"
    echo "$word"
done
"#;

/// What the daemon is doing, as far as the test has told it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Down,
    Up,
    Paused,
}

/// A daemon. Dropped, it ends with all of its containers and leaves nothing.
pub(crate) struct Dockerd {
    init: Child,
    /// Process 1 of the namespace, by our numbers.
    first: u32,
    say: ChildStdin,
    hear: BufReader<ChildStdout>,
    pub(super) scratch: Scratch,
    state: State,
    storage: String,
    cgroup: String,
    tls_port: Option<u16>,
    pub(super) networks: Mutex<Vec<Network>>,
}

impl Dockerd {
    /// A daemon that has yet to be started; none, aloud, where this machine
    /// lacks what it needs.
    pub(crate) fn new() -> Option<Self> {
        Self::with(&[], None)
    }

    /// The same with more options for `dockerd`.
    pub(crate) fn with_options(options: &[&str]) -> Option<Self> {
        Self::with(options, None)
    }

    /// The same that listens on [`Self::tls_uri`] as well, for clients of
    /// `certs` only.
    pub(crate) fn tls(certs: &Certs) -> Option<Self> {
        Self::with(&[], Some(certs))
    }

    fn with(options: &[&str], certs: Option<&Certs>) -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        for program in ["dockerd", "docker", "unshare", "bash", "ip"] {
            let found = Command::new("which").arg(program).stdout(Stdio::null()).status();
            if !found.is_ok_and(|status| status.success()) {
                skip("REQUIRE_DOCKER", &format!("{program} is not installed"));
                return None;
            }
        }
        if !rustix::process::geteuid().is_root() {
            skip("REQUIRE_DOCKER", "a Docker daemon of our own needs root");
            return None;
        }
        network::sweep();
        end::sweep();
        let scratch = Scratch::new();
        let tls_port = certs.map(|_| super::free_port());
        let cgroup = format!("/millrace-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let mut command = Command::new("unshare");
        command.args([
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
            "bash",
            "-c",
            INIT,
            "init",
        ]);
        command.arg(scratch.path()).arg(&cgroup).args(options);
        if let (Some(certs), Some(port)) = (certs, tls_port) {
            command.arg(format!("--host=tcp://{}:{port}", Ipv4Addr::LOCALHOST)).args(certs.daemon_options());
        }
        // It has something to say when its child is killed.
        let log = File::create(scratch.path().join("log")).expect("our own directory");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
        // SAFETY: the closure runs between fork and exec and only makes a system call.
        unsafe {
            command.pre_exec(|| Ok(rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?));
        }
        let mut init = command.spawn().expect("unshare is there");
        let say = init.stdin.take().expect("piped");
        let mut hear = BufReader::new(init.stdout.take().expect("piped"));
        let mut storage = String::new();
        hear.read_line(&mut storage).expect("process 1 speaks");
        let storage = storage.trim().to_owned();
        if storage.is_empty() {
            init.wait().expect("a child can be waited for");
            let why = fs::read_to_string(scratch.path().join("log")).unwrap_or_default();
            skip("REQUIRE_DOCKER", &format!("no namespaces of our own: {}", why.trim()));
            return None;
        }
        if storage != "overlay2" {
            eprintln!("dockerd: no overlay on memory here, so containers are copies ({storage})");
        }
        let first = child_of(init.id()).unwrap_or(init.id());
        let networks = Mutex::default();
        let state = State::Down;
        Some(Self { init, first, say, hear, scratch, state, storage, cgroup, tls_port, networks })
    }

    /// The address of its socket.
    pub(crate) fn uri(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// The path of its socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.scratch.path().join("docker.sock")
    }

    /// Where it listens with TLS, when made by [`Self::tls`].
    pub(crate) fn tls_uri(&self) -> Option<String> {
        self.tls_port.map(|port| format!("tcp://{}:{port}", Ipv4Addr::LOCALHOST))
    }

    /// How it keeps images: `overlay2`, or `vfs` where that cannot be had.
    pub(crate) fn storage(&self) -> &str {
        &self.storage
    }

    /// The control group, as a path below the root, that all containers are in.
    pub(crate) fn cgroup(&self) -> &str {
        &self.cgroup
    }

    /// The daemon's process, by our numbers.
    pub(crate) fn pid(&self) -> Option<u32> {
        let inside: u32 = fs::read_to_string(self.scratch.path().join("pid")).ok()?.trim().parse().ok()?;
        end::outer_pid(self.first, inside)
    }

    /// Starts the daemon and waits until it answers; false, aloud, when this
    /// machine does not let it run.
    #[must_use]
    pub(crate) fn start(&mut self) -> bool {
        assert_eq!(self.state, State::Down, "started twice");
        let before = self.log().len();
        self.tell("start");
        let socket = self.socket();
        let answers = || http::ask(&socket, "GET", "/_ping", None).is_ok_and(|answer| answer.body == b"OK");
        let is_over = || self.log()[before..].contains("failed to start daemon");
        let is_up = wait_until(LIMIT, || answers() || is_over()) && answers();
        if !is_up {
            let log = self.log();
            let last: Vec<_> = log.lines().rev().take(3).collect();
            skip("REQUIRE_DOCKER", &format!("dockerd does not run here: {last:#?}"));
        }
        self.state = if is_up { State::Up } else { State::Down };
        is_up
    }

    /// Ends the daemon and waits for its end. Its containers go on; what is
    /// published by its proxies does not.
    pub(crate) fn stop(&mut self) {
        self.resume();
        self.state = State::Down;
        self.tell("stop");
    }

    /// Kills the daemon. Its containers go on, as after [`Self::stop`].
    pub(crate) fn kill9(&mut self) {
        self.state = State::Down;
        self.tell("kill");
    }

    /// Ends the daemon and starts it again; containers live on.
    #[must_use]
    pub(crate) fn restart(&mut self) -> bool {
        self.stop();
        self.start()
    }

    /// Freezes the daemon: connections are taken and nothing is answered.
    pub(crate) fn pause_daemon(&mut self) {
        assert_eq!(self.state, State::Up, "only a running daemon can be frozen");
        self.state = State::Paused;
        self.tell("pause");
    }

    /// Lets a frozen daemon go on.
    pub(crate) fn resume(&mut self) {
        if self.state == State::Paused {
            self.state = State::Up;
            self.tell("resume");
        }
    }

    /// Tells process 1, and waits until it has done so.
    fn tell(&mut self, word: &str) {
        writeln!(self.say, "{word}").expect("process 1 listens");
        let mut line = String::new();
        self.hear.read_line(&mut line).expect("process 1 speaks");
        assert_eq!(line.trim(), word, "process 1 has ended");
    }

    /// What the daemon has said.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    fn log_path(&self) -> PathBuf {
        Path::new(self.scratch.path()).join("log")
    }
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        end::thaw(&self.cgroup);
        end::kill_and_wait(&mut self.init, self.first);
        end::remove_cgroups(&self.cgroup);
        // Dropped with the lock even if a test has panicked within it.
        self.networks.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner).clear();
    }
}
