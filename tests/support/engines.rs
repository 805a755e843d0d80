//! Emulated engines as processes of their own, to be killed.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
};

/// One engine; killed when dropped.
pub(crate) struct EngineProcess {
    child: Child,
    address: SocketAddr,
    args: Vec<String>,
}

impl EngineProcess {
    /// Starts an engine on a free port, with `args` beside that.
    pub(crate) fn start(args: &[&str]) -> Self {
        let args: Vec<_> = args.iter().map(|&arg| arg.to_owned()).collect();
        let (child, address) = spawn(0, &args);
        Self { child, address, args }
    }

    /// Where it listens, also after a restart.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("our own process can be killed");
        self.child.wait().expect("and waited for");
    }

    /// SIGSTOP: its kernel still accepts and acknowledges, and nothing answers.
    pub(crate) fn freeze(&self) {
        self.signal(rustix::process::Signal::STOP);
    }

    /// SIGCONT.
    pub(crate) fn thaw(&self) {
        self.signal(rustix::process::Signal::CONT);
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).expect("our own process can be signalled");
    }

    /// Starts it anew on its port, after it was killed.
    pub(crate) fn restart(&mut self) {
        let (child, address) = spawn(self.address.port(), &self.args);
        assert_eq!(address, self.address);
        self.child = child;
    }
}

impl Drop for EngineProcess {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn spawn(port: u16, args: &[String]) -> (Child, SocketAddr) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_millrace"))
        .args(["engine-emulator", "--first-port", &port.to_string()])
        .args(args)
        .stdout(Stdio::piped())
        .spawn()
        .expect("the emulator starts");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let line = lines.next().expect("it tells its address").expect("as text");
    let address = line.rsplit_once("http://").and_then(|(_, address)| address.parse().ok());
    (child, address.unwrap_or_else(|| panic!("no address in {line:?}")))
}
