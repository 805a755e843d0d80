//! A Docker daemon of the test's own, in namespaces of its own, with a tiny
//! program as its image.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, TcpListener},
    os::{fd::AsFd, unix::net::UnixStream},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use bollard::{API_DEFAULT_VERSION, Docker};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// For the daemon to answer, and for one command.
const LIMIT: Duration = Duration::from_secs(60);
/// The image with the program.
pub(super) const IMAGE: &str = "tiny:1";

/// Process 1 of its namespaces: whatever runs in there ends with it. Debian's
/// tools come first: the daemon wants those that came with it.
const INIT: &str = r#"
work=$1
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
ip link set lo up
dockerd --host "unix://$work/docker.sock" --data-root "$work/data" --exec-root "$work/exec" \
    --pidfile "$work/pid" --storage-driver vfs --iptables=false --ip6tables=false \
    --ip-forward=false --ip-masq=false >>"$work/log" 2>&1 &
echo begun
read -r end
kill $!
wait $!
"#;

/// What runs in the containers.
const PROGRAM: &str = r#"
use std::{env, io::Write, thread::sleep, time::Duration};
unsafe extern "C" { fn signal(number: i32, handler: usize) -> usize; }
fn main() {
    let args: Vec<String> = env::args().collect();
    let number = |i: usize| args.get(i).and_then(|a| a.parse::<usize>().ok()).unwrap_or(0);
    match args.get(1).map(String::as_str) {
        Some("exit") => std::process::exit(number(2) as i32),
        Some("deaf") => { unsafe { signal(15, 1) }; println!("deaf"); }
        Some("eat") => {
            let mut eaten = Vec::new();
            while eaten.len() < 256 { eaten.push(vec![1u8; 1 << 20]); }
        }
        Some("say") => {
            for i in 0..number(2) { println!("{i} {}", "x".repeat(number(3))); }
            // Docker copies the two outputs side by side.
            std::io::stdout().flush().unwrap();
            sleep(Duration::from_secs(1));
            eprintln!("\x1b[31mpassword {}", env::var("PASSWORD").unwrap_or_default());
            std::fs::write("/written", vec![1u8; 300_000]).unwrap();
        }
        _ => println!("ready"),
    }
    std::io::stdout().flush().unwrap();
    if args.get(4).map(String::as_str) == Some("end") { return; }
    loop { sleep(Duration::from_secs(1)); }
}
"#;

/// A running daemon. Dropped, it ends with all of its containers.
pub(super) struct PrivateDocker {
    init: Child,
    say: Option<ChildStdin>,
    work: PathBuf,
}

/// Says why the test cannot run, or fails it when `REQUIRE_DOCKER` is `1`.
pub(super) fn skip(why: &str) {
    assert!(std::env::var("REQUIRE_DOCKER").map_or(true, |v| v != "1"), "REQUIRE_DOCKER=1, but {why}");
    eprintln!("SKIP: {why}");
}

impl PrivateDocker {
    /// Starts one, with the image; none, aloud, where this machine does not
    /// let it run.
    pub(super) fn start() -> Option<Self> {
        for program in ["dockerd", "docker", "unshare", "setpriv", "bash", "ip", "tar", "rustc"] {
            let found = Command::new("which").arg(program).stdout(Stdio::null()).status();
            if !found.is_ok_and(|status| status.success()) {
                skip(&format!("{program} is not installed"));
                return None;
            }
        }
        if !rustix::process::geteuid().is_root() {
            skip("a Docker daemon of our own needs root");
            return None;
        }
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let work = std::env::temp_dir().join(format!("millrace-hands-{}-{count}", std::process::id()));
        fs::create_dir(&work).unwrap();
        let mut init = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--net", "--fork", "--kill-child"])
            .args(["--mount-proc", "bash", "-c", INIT, "init"])
            .arg(&work)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let say = init.stdin.take();
        let hear = init.stdout.take().unwrap();
        let daemon = Self { init, say, work };
        BufReader::new(hear).read_line(&mut String::new()).unwrap();
        let begun = Instant::now();
        while !daemon.answers() {
            let log = fs::read_to_string(daemon.work.join("log")).unwrap_or_default();
            if begun.elapsed() > LIMIT || log.contains("failed to start daemon") {
                let last: Vec<_> = log.lines().rev().take(3).collect();
                skip(&format!("dockerd does not run here: {last:#?}"));
                return None;
            }
            thread::sleep(Duration::from_millis(100));
        }
        daemon.make_image();
        Some(daemon)
    }

    fn socket(&self) -> PathBuf {
        self.work.join("docker.sock")
    }

    /// Its directory.
    pub(super) fn work(&self) -> &Path {
        &self.work
    }

    fn answers(&self) -> bool {
        let ask = || -> std::io::Result<bool> {
            let mut socket = UnixStream::connect(self.socket())?;
            socket.set_read_timeout(Some(LIMIT))?;
            socket.write_all(b"GET /_ping HTTP/1.0\r\n\r\n")?;
            let mut answer = String::new();
            socket.read_to_string(&mut answer)?;
            Ok(answer.ends_with("OK"))
        };
        ask().unwrap_or(false)
    }

    /// A connection to the daemon, or to what listens before it.
    pub(super) async fn connect(&self, socket: &str) -> Docker {
        let path = self.work.join(socket).display().to_string();
        let docker = Docker::connect_with_unix(&path, 120, API_DEFAULT_VERSION).unwrap();
        docker.negotiate_version().await.unwrap()
    }

    /// Runs `docker` and returns what it prints.
    pub(super) fn docker(&self, args: &[&str]) -> String {
        let output = Command::new("timeout")
            .args([&LIMIT.as_secs().to_string(), "docker"])
            .args(args)
            .env("DOCKER_HOST", format!("unix://{}", self.socket().display()))
            .env("DOCKER_CONFIG", self.work.join("config"))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "docker {args:?}: {said}");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// The file system of the image, as a tar.
    pub(super) fn layer(&self) -> PathBuf {
        self.work.join("layer.tar")
    }

    fn make_image(&self) {
        let root = self.work.join("root");
        fs::create_dir(&root).unwrap();
        let source = self.work.join("tiny.rs");
        fs::write(&source, PROGRAM).unwrap();
        let compile = Command::new("rustc")
            .args([
                "--edition",
                "2024",
                "-C",
                "target-feature=+crt-static",
                "-C",
                "strip=symbols",
                "-O",
                "-o",
            ])
            .arg(root.join("tiny"))
            .arg(&source)
            .status();
        assert!(compile.unwrap().success());
        let tar = Command::new("tar").arg("-C").arg(&root).arg("-cf").arg(self.layer()).arg("tiny").status();
        assert!(tar.unwrap().success());
        self.docker(&["import", &self.layer().display().to_string(), IMAGE]);
    }

    /// A listener on the daemon's own network.
    pub(super) fn listen(&self) -> TcpListener {
        let namespace = fs::File::open(format!("/proc/{}/ns/net", self.init.id())).unwrap();
        // Of a thread of its own, which ends there.
        thread::spawn(move || {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()
        })
        .join()
        .unwrap()
    }
}

impl Drop for PrivateDocker {
    fn drop(&mut self) {
        if self.answers() {
            // In order, so that no control group is left behind.
            let remove = "docker ps --all --quiet | xargs --no-run-if-empty timeout 30 docker rm --force";
            let mut command = Command::new("bash");
            command.args(["-c", remove]).env("DOCKER_HOST", format!("unix://{}", self.socket().display()));
            command.env("DOCKER_CONFIG", self.work.join("config"));
            command.stdout(Stdio::null()).stderr(Stdio::null()).status().ok();
        }
        // Process 1 ends the daemon and itself.
        drop(self.say.take());
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(10) && matches!(self.init.try_wait(), Ok(None)) {
            thread::sleep(Duration::from_millis(50));
        }
        self.init.kill().ok();
        self.init.wait().ok();
        fs::remove_dir_all(&self.work).ok();
    }
}
