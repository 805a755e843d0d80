//! Programs of others: players and the like.

use std::{
    env,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use rustix::process::Signal;

use super::wait::{skip, wait_until};

/// A user without rights, for programs that refuse to run as root.
const NOBODY: u32 = 65_534;

/// Whether `program` is there. If not it says that the test cannot run, or
/// fails it when `CI` is `true` or `REQUIRE_PLAYERS` is `1`.
pub(crate) fn has(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path).any(|dir| dir.join(program).is_file());
    if !found {
        assert!(!env::var("CI").is_ok_and(|ci| ci == "true"), "CI=true, but {program} is not installed");
        skip("REQUIRE_PLAYERS", &format!("{program} is not installed"));
    }
    found
}

/// A directory that lives as long as the test, writable for everybody.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    /// An empty one.
    pub(crate) fn new() -> Self {
        use std::{fs, os::unix::fs::PermissionsExt};
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        // Not below the target directory: nobody may be kept from getting there.
        let path = env::temp_dir().join(format!("millrace-{}-{count}", std::process::id()));
        fs::create_dir(&path).expect("cannot make a scratch directory");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).expect("our own directory");
        Self(path)
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Files in it whose names end with `ending` and that are not empty.
    pub(crate) fn files(&self, ending: &str) -> usize {
        let entries = self.0.read_dir().expect("our own directory").flatten();
        let is_it = |name: &str| name.ends_with(ending);
        entries
            .filter(|e| is_it(&e.file_name().to_string_lossy()) && e.metadata().is_ok_and(|m| m.len() > 0))
            .count()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

/// A running program with its output in files. Dropped, it is killed.
pub(crate) struct Tool {
    child: Child,
    name: String,
    scratch: Scratch,
}

/// What a program came to.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// How it ended.
    pub(crate) status: ExitStatus,
    /// Its standard output.
    pub(crate) stdout: String,
    /// Its standard error.
    pub(crate) stderr: String,
}

impl Tool {
    /// Starts `program`, as nobody when we are root.
    pub(crate) fn start_unprivileged(program: &str, args: &[&str]) -> Self {
        Self::spawn(program, args, rustix::process::geteuid().is_root())
    }

    /// Starts `program`.
    pub(crate) fn start(program: &str, args: &[&str]) -> Self {
        Self::spawn(program, args, false)
    }

    fn spawn(program: &str, args: &[&str], as_nobody: bool) -> Self {
        let scratch = Scratch::new();
        let file = |name| std::fs::File::create(scratch.path().join(name)).expect("our own directory");
        let mut command = Command::new(program);
        command.args(args).env("HOME", scratch.path()).current_dir(scratch.path());
        command.env_remove("http_proxy").env_remove("HTTP_PROXY").env_remove("all_proxy");
        command.stdin(Stdio::null()).stdout(file("stdout")).stderr(file("stderr"));
        if as_nobody {
            command.uid(NOBODY).gid(NOBODY);
        }
        // SAFETY: the closure runs between fork and exec and only makes a system call.
        unsafe {
            command.pre_exec(|| Ok(rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?));
        }
        let child = command.spawn().unwrap_or_else(|e| panic!("cannot start {program}: {e}"));
        Self { child, name: program.to_owned(), scratch }
    }

    /// Waits for its end; panics with its output when it has not ended by then.
    pub(crate) fn ends_within(mut self, limit: Duration) -> Outcome {
        let mut status = None;
        let has_ended = wait_until(limit, || {
            status = self.child.try_wait().expect("a child can be waited for");
            status.is_some()
        });
        let read = |name| {
            String::from_utf8_lossy(&std::fs::read(self.scratch.path().join(name)).unwrap_or_default())
                .into_owned()
        };
        let (stdout, stderr) = (read("stdout"), read("stderr"));
        assert!(has_ended, "{} still runs after {limit:?}:\n{stdout}\n{stderr}", self.name);
        Outcome { status: status.expect("it has ended"), stdout, stderr }
    }
}

impl Drop for Tool {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Runs `program` to its end.
pub(crate) fn run(program: &str, args: &[&str], limit: Duration) -> Outcome {
    Tool::start(program, args).ends_within(limit)
}
