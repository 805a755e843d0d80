//! The real binary as a child process.

use std::{
    collections::BTreeMap,
    fs,
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal};

use super::{log::Log, seccomp, wait::wait_until};

/// Longest wait for the start line.
const START: Duration = Duration::from_secs(15);
/// Longest wait for the whole of one answer.
const ANSWER: Duration = Duration::from_secs(10);
/// Longest answer, in bytes.
const MAX_ANSWER: u64 = 64 << 20;
/// Longest wait for the end after SIGTERM.
const END: Duration = Duration::from_secs(30);

/// A running server. Dropped, it is killed, and the test fails on a WARN or
/// ERROR line that was not allowed.
pub(crate) struct Server {
    child: Child,
    address: SocketAddr,
    log: Log,
    allowed: Vec<String>,
    data: PathBuf,
    has_ended: bool,
}

#[derive(Clone, Copy)]
enum Uring {
    AsIs,
    Denied,
}

impl Server {
    /// Starts `millrace serve` with `args` on a free port of 127.0.0.1 and with
    /// a data directory of its own, unless `args` name others, and waits for its
    /// start line.
    pub(crate) fn start(args: &[&str]) -> Self {
        Self::start_with(&[], args)
    }

    /// The same with these variables in its environment.
    pub(crate) fn start_with(variables: &[(&str, &str)], args: &[&str]) -> Self {
        Self::spawn(Path::new(env!("CARGO_BIN_EXE_millrace")), variables, args, Uring::AsIs)
    }

    /// The same where the kernel refuses io_uring, as under Docker's default
    /// seccomp profile.
    pub(crate) fn start_without_uring(args: &[&str]) -> Self {
        Self::spawn(Path::new(env!("CARGO_BIN_EXE_millrace")), &[], args, Uring::Denied)
    }

    /// The same with another program, for the tests of this module.
    pub(crate) fn start_program(program: &Path, args: &[&str]) -> Self {
        Self::spawn(program, &[], args, Uring::AsIs)
    }

    fn spawn(program: &Path, variables: &[(&str, &str)], args: &[&str], uring: Uring) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let data =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("server-{}-{count}", std::process::id()));
        fs::create_dir_all(&data).expect("cannot make the data directory");
        let mut command = Command::new(program);
        command.arg("serve").args(args);
        if !args.contains(&"--listen") {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        if !args.contains(&"--data-dir") {
            command.arg("--data-dir").arg(&data);
        }
        command.envs(variables.iter().copied());
        command.env("NO_COLOR", "1").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // SAFETY: the closure runs between fork and exec and only makes system
        // calls: it neither allocates nor takes a lock.
        unsafe {
            command.pre_exec(move || {
                rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
                if matches!(uring, Uring::Denied) { seccomp::deny_uring() } else { Ok(()) }
            });
        }
        let mut child = command.spawn().unwrap_or_else(|e| panic!("cannot start {}: {e}", program.display()));
        let log = Log::default();
        log.follow(child.stdout.take().expect("piped"));
        log.follow(child.stderr.take().expect("piped"));
        let Some(address) = log.wait_for(START, address_in) else {
            child.kill().ok();
            child.wait().ok();
            panic!("no start line with an address within {START:?}; the log:\n{}", log.text());
        };
        Self { child, address, log, allowed: Vec::new(), data, has_ended: false }
    }

    /// Lets WARN and ERROR lines with this text pass.
    pub(crate) fn allow(mut self, text: &str) -> Self {
        self.allowed.push(text.to_owned());
        self
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The log so far.
    pub(crate) fn log(&self) -> String {
        self.log.text()
    }

    /// Waits for a log line with this text.
    pub(crate) fn logs_within(&self, limit: Duration, text: &str) -> bool {
        self.log.wait_for(limit, |line| line.contains(text).then_some(())).is_some()
    }

    /// GET; panics when no whole answer comes in time.
    pub(crate) fn get(&self, path: &str) -> Answer {
        get(self.address, path).unwrap_or_else(|e| panic!("GET {path}: {e}; the log:\n{}", self.log()))
    }

    /// Another method than GET, without a body.
    pub(crate) fn ask(&self, method: &str, path: &str) -> Answer {
        exchange(self.address, method, path)
            .unwrap_or_else(|e| panic!("{method} {path}: {e}; the log:\n{}", self.log()))
    }

    /// Every sample of `/metrics`, by its name with its labels as written.
    pub(crate) fn metrics(&self) -> BTreeMap<String, f64> {
        let answer = self.get("/metrics");
        assert_eq!(answer.status, 200, "GET /metrics");
        parse_metrics(&answer.text())
    }

    /// Open descriptors.
    pub(crate) fn open_fds(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid())).map_or(0, Iterator::count)
    }

    /// Resident memory in bytes, shared memory (segments) excluded.
    pub(crate) fn rss(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap_or_default();
        let kib = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0)
        };
        (kib("RssAnon:") + kib("RssFile:")) << 10
    }

    /// Sends SIGTERM, waits for the end and says how it was and how long it took.
    pub(crate) fn terminate(&mut self) -> (ExitStatus, Duration) {
        self.signal(Signal::TERM);
        let start = Instant::now();
        let mut status = None;
        let has_ended = wait_until(END, || {
            status = self.child.try_wait().expect("a child can be waited for");
            status.is_some()
        });
        assert!(has_ended, "still running {END:?} after SIGTERM; the log:\n{}", self.log());
        self.has_ended = true;
        (status.expect("it has ended"), start.elapsed())
    }

    /// SIGKILL: it has no time to tell anybody.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("our own child can be killed");
        self.child.wait().expect("and waited for");
        self.has_ended = true;
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw).expect("a process id");
        rustix::process::kill_process(pid, signal).expect("our own child can be signalled");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let died = !self.has_ended && matches!(self.child.try_wait(), Ok(Some(_)));
        self.child.kill().ok();
        self.child.wait().ok();
        fs::remove_dir_all(&self.data).ok();
        if std::thread::panicking() {
            eprintln!("the server's log:\n{}", self.log());
            return;
        }
        assert!(!died, "the server ended by itself; the log:\n{}", self.log());
        let complaints = self.log.complaints(&self.allowed);
        assert!(complaints.is_empty(), "unlisted in the log: {complaints:#?}\nall of it:\n{}", self.log());
    }
}

/// An answer to a GET.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Status code.
    pub(crate) status: u16,
    /// Headers by lower-case name, in order.
    pub(crate) headers: Vec<(String, String)>,
    /// Body, with chunk framing removed.
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// The first header of this lower-case name.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// GET on a connection of its own, within the deadline of one answer.
pub(crate) fn get(address: SocketAddr, path: &str) -> std::io::Result<Answer> {
    exchange(address, "GET", path)
}

fn exchange(address: SocketAddr, method: &str, path: &str) -> std::io::Result<Answer> {
    let deadline = Instant::now() + ANSWER;
    let mut socket = TcpStream::connect_timeout(&address, ANSWER)?;
    socket.set_write_timeout(Some(ANSWER))?;
    let request = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    socket.write_all(request.as_bytes())?;
    let mut bytes = Vec::new();
    let mut piece = [0; 16 << 10];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        socket.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
        match socket.read(&mut piece) {
            Ok(0) => break,
            Ok(read) => bytes.extend_from_slice(&piece[..read]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        // Whoever tells the length need not close.
        let answer = parse_answer(&bytes);
        if let Some(whole) = answer.filter(|answer| answer.header("content-length").is_some()) {
            return Ok(whole);
        }
        if bytes.len() as u64 > MAX_ANSWER {
            return Err(std::io::Error::other("the answer is too long"));
        }
    }
    parse_answer(&bytes).ok_or_else(|| std::io::Error::other("no whole answer"))
}

/// Parses a whole answer; none when its head or its length is cut short.
pub(crate) fn parse_answer(bytes: &[u8]) -> Option<Answer> {
    let at = bytes.windows(4).position(|w| w == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&bytes[..at]).ok()?;
    let mut lines = head.split("\r\n");
    let status = lines.next()?.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    let headers: Vec<_> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let mut answer = Answer { status, headers, body: bytes[at + 4..].to_vec() };
    if answer.header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
        answer.body = dechunk(&answer.body)?;
    } else if let Some(length) = answer.header("content-length") {
        (length.parse::<usize>().ok()? == answer.body.len()).then_some(())?;
    }
    Some(answer)
}

fn dechunk(mut bytes: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let at = bytes.windows(2).position(|w| w == b"\r\n")?;
        let size = std::str::from_utf8(&bytes[..at]).ok()?.split(';').next()?;
        let size = usize::from_str_radix(size.trim(), 16).ok()?;
        bytes = &bytes[at + 2..];
        if size == 0 {
            return Some(body);
        }
        body.extend_from_slice(bytes.get(..size)?);
        bytes = bytes.get(size..)?.strip_prefix(b"\r\n")?;
    }
}

/// Parses Prometheus text: one entry per sample, its name and labels as written.
pub(crate) fn parse_metrics(text: &str) -> BTreeMap<String, f64> {
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    samples
        .filter_map(|line| {
            // Label values may hold spaces, so the value is behind the last brace.
            let split = line.rfind('}').map_or_else(|| line.find(' '), |brace| Some(brace + 1))?;
            let (name, rest) = line.split_at(split);
            Some((name.to_owned(), rest.split_whitespace().next()?.parse().ok()?))
        })
        .collect()
}

/// The address in a start line, text or JSON.
pub(crate) fn address_in(line: &str) -> Option<SocketAddr> {
    // Engines may come and go before.
    let (_, rest) = line.split_once("serving")?.1.split_once("address")?;
    let rest = rest.trim_start_matches(['"', '=', ':', ' ']);
    let end = rest.find(|c: char| !(c.is_ascii_hexdigit() || ".:[]".contains(c))).unwrap_or(rest.len());
    rest[..end].parse().ok()
}
