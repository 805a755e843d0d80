//! A Docker daemon of the test's own, with the engine emulator as its image.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    os::unix::{net::UnixStream, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::Duration,
};

use rustix::process::Signal;

use super::{
    tool::{self, Scratch},
    wait::{skip, wait_until},
};

/// Longest wait for the daemon to answer, and for one command.
const LIMIT: Duration = Duration::from_secs(60);
/// The image's name.
const IMAGE: &str = "engine-emulator";

/// Process 1 of the daemon's own process namespace: whatever runs in there
/// ends with it. It starts and ends the daemon as its standard input says.
/// Debian's tools come first: the daemon wants those that came with it.
const INIT: &str = r#"
work=$1
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
while read -r word; do
    case $word in
    start)
        dockerd --host "unix://$work/docker.sock" --data-root "$work/data" --exec-root "$work/exec" \
            --pidfile "$work/pid" --storage-driver vfs --bridge=none --iptables=false --ip6tables=false \
            --ip-forward=false --ip-masq=false --live-restore >>"$work/log" 2>&1 &
        daemon=$!
        ;;
    stop)
        kill "$daemon"
        wait "$daemon"
        ;;
    esac
    echo "$word"
done
"#;

/// A running daemon. Dropped, it ends with all of its containers.
pub(crate) struct Dockerd {
    init: Child,
    say: ChildStdin,
    hear: BufReader<ChildStdout>,
    scratch: Scratch,
    is_running: bool,
}

impl Dockerd {
    /// A daemon that has yet to be started; none, aloud, where this machine
    /// lacks what it needs.
    pub(crate) fn new() -> Option<Self> {
        for program in ["dockerd", "docker", "unshare", "bash", "ldd"] {
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
        let scratch = Scratch::new();
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
        command.arg(scratch.path()).stdin(Stdio::piped()).stdout(Stdio::piped());
        // SAFETY: the closure runs between fork and exec and only makes a system call.
        unsafe {
            command.pre_exec(|| Ok(rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?));
        }
        let mut init = command.spawn().expect("unshare is there");
        let say = init.stdin.take().expect("piped");
        let hear = BufReader::new(init.stdout.take().expect("piped"));
        Some(Self { init, say, hear, scratch, is_running: false })
    }

    /// The address of its socket.
    pub(crate) fn uri(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    fn socket(&self) -> PathBuf {
        self.scratch.path().join("docker.sock")
    }

    /// Starts the daemon and waits until it answers; false, aloud, when this
    /// machine does not let it run.
    #[must_use]
    pub(crate) fn start(&mut self) -> bool {
        self.tell("start");
        let answers = || {
            let ask = || -> std::io::Result<bool> {
                let mut socket = UnixStream::connect(self.socket())?;
                socket.set_read_timeout(Some(LIMIT))?;
                socket.write_all(b"GET /_ping HTTP/1.0\r\n\r\n")?;
                let mut answer = String::new();
                socket.read_to_string(&mut answer)?;
                Ok(answer.ends_with("OK"))
            };
            ask().unwrap_or(false)
        };
        let is_over = || self.log().contains("failed to start daemon");
        let is_up = wait_until(LIMIT, || answers() || is_over()) && answers();
        self.is_running = is_up;
        if !is_up {
            let log = self.log();
            let last: Vec<_> = log.lines().rev().take(3).collect();
            skip("REQUIRE_DOCKER", &format!("dockerd does not run here: {last:#?}"));
        }
        is_up
    }

    /// Ends the daemon and waits for its end. Its containers go on.
    pub(crate) fn stop(&mut self) {
        self.is_running = false;
        self.tell("stop");
    }

    /// Tells process 1, and waits until it has done so.
    fn tell(&mut self, word: &str) {
        writeln!(self.say, "{word}").expect("process 1 listens");
        let mut line = String::new();
        self.hear.read_line(&mut line).expect("process 1 speaks");
        assert_eq!(line.trim(), word, "process 1 has ended");
    }

    fn log(&self) -> String {
        fs::read_to_string(self.scratch.path().join("log")).unwrap_or_default()
    }

    /// Runs `docker` and returns what it prints; panics when it fails.
    pub(crate) fn docker(&self, args: &[&str]) -> String {
        let uri = self.uri();
        let config = self.scratch.path().join("config").display().to_string();
        // The old builder needs no plug-in.
        let docker = ["DOCKER_BUILDKIT=0", "docker", "--host", &uri, "--config", &config];
        let all: Vec<_> = docker.iter().chain(args).copied().collect();
        let outcome = tool::run("env", &all, LIMIT);
        assert!(outcome.status.success(), "docker {args:?}: {}\n{}", outcome.stderr, self.log());
        outcome.stdout.trim().to_owned()
    }

    /// Makes the image: the binary under test, which is an engine emulator too,
    /// and the libraries it needs, on nothing.
    pub(crate) fn make_image(&self) {
        let context = self.scratch.path().join("context");
        let root = context.join("root");
        fs::create_dir_all(&root).expect("our own directory");
        let binary = env!("CARGO_BIN_EXE_millrace");
        let copy = root.join("millrace");
        // Each container gets a copy of its own, and the symbols are most of it.
        let strip = Command::new("strip").arg("-o").arg(&copy).arg(binary).status();
        if !strip.is_ok_and(|status| status.success()) {
            fs::copy(binary, &copy).expect("the binary can be read");
        }
        for library in libraries(binary) {
            let copy = root.join(library.strip_prefix("/").expect("an absolute path"));
            fs::create_dir_all(copy.parent().expect("it is below root")).expect("our own directory");
            fs::copy(&library, copy).expect("a library can be read");
        }
        let file =
            "FROM scratch\nCOPY root/ /\nENTRYPOINT [\"/millrace\", \"engine-emulator\", \"--fast\"]\n";
        fs::write(context.join("Dockerfile"), file).expect("our own directory");
        self.docker(&["build", "--quiet", "--tag", IMAGE, &context.display().to_string()]);
    }

    /// Starts an emulated engine on `port` of 127.0.0.1, in a container called
    /// `name` with these options of `docker run` and these of the emulator.
    pub(crate) fn run_engine(&self, name: &str, port: u16, options: &[&str], emulator: &[&str]) {
        let port = port.to_string();
        let mut args = vec!["run", "--detach", "--network", "host", "--name", name];
        args.extend(options);
        args.extend([IMAGE, "--first-port", &port]);
        args.extend(emulator);
        self.docker(&args);
    }
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        if self.is_running {
            // In order, so that no control group is left behind; a failure is
            // of no interest any more.
            let remove =
                "timeout 20 docker ps --all --quiet | xargs --no-run-if-empty timeout 20 docker rm --force";
            let mut command = Command::new("bash");
            command.args(["-c", remove]).env("DOCKER_HOST", self.uri());
            command.env("DOCKER_CONFIG", self.scratch.path().join("config"));
            command.stdout(Stdio::null()).stderr(Stdio::null()).status().ok();
        }
        self.init.kill().ok();
        self.init.wait().ok();
    }
}

/// The files that the dynamic linker loads for a program, itself included;
/// none for a static one.
fn libraries(program: &str) -> Vec<PathBuf> {
    let output = Command::new("ldd").arg(program).output().expect("ldd is there");
    let text = String::from_utf8_lossy(&output.stdout);
    let paths = text.split_whitespace().filter(|word| word.starts_with('/'));
    paths.map(Path::new).filter(|path| path.is_file()).map(Path::to_path_buf).collect()
}
