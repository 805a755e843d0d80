//! The program as a process of its own: nobody has to read what it says, it
//! ends by itself when told to, and only a process of its own takes such orders.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::{
    io::Read,
    net::{SocketAddr, TcpListener},
    process::{Child, Command, Stdio},
};

use support::*;

/// The program, killed when dropped.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

impl Program {
    fn start(args: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_engine-emulator"));
        command.arg("--fast").args(args).envs(variables.iter().copied());
        Self(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
    }

    /// Waits for its end; its status, and what it said on standard error.
    fn ends(&mut self) -> (Option<i32>, String) {
        let mut status = None;
        eventually("its end", || {
            status = self.0.try_wait().unwrap();
            status.is_some()
        });
        let mut said = String::new();
        if let Some(mut stderr) = self.0.stderr.take() {
            stderr.read_to_string(&mut said).unwrap();
        }
        (status.unwrap().code(), said)
    }

    fn terminate(&self) {
        let pid = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    }
}

/// Two ports that nobody listened on a moment ago, as addresses and as text.
fn two_free() -> [SocketAddr; 2] {
    let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap())
}

fn post(address: SocketAddr, path: &str, body: &str) -> u16 {
    let length = body.len();
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
    Client::open(address, &request).unwrap().answer(LIMIT, 1 << 20).status()
}

#[test]
fn it_neither_ends_nor_waits_when_nobody_reads_what_it_says() {
    // Both closed at once; both open, and never read.
    for is_closed in [true, false] {
        let [engine, control] = two_free();
        let (port, listen) = (engine.port().to_string(), control.to_string());
        let mut program = Program::start(&["--first-port", &port, "--control", &listen], &[]);
        if is_closed {
            drop((program.0.stdout.take(), program.0.stderr.take()));
        }
        eventually("an engine", || !refuses(engine) && !refuses(control));
        let line = format!(r#"{{"line": "{}"}}"#, "x".repeat(1000));
        for _ in 0..1000 {
            assert_eq!(post(control, "/say", &line), 200);
        }
        assert_eq!(status(engine, VERSION), 200);
        program.terminate();
        let (status, said) = program.ends();
        assert_eq!(status, Some(0), "closed: {is_closed}");
        // A pipe holds 64 KiB, and the program did not wait for the rest.
        assert_eq!(said.len() > 10_000 && said.len() < 200_000, !is_closed, "{}", said.len());
    }
}

#[test]
fn a_port_that_never_opens_was_not_open_for_a_moment_either() {
    // Again and again, as the moment would be short.
    for scenario in ["boot-never", "boot-slow(60s)", "refuse"].repeat(10) {
        let [engine, control] = two_free();
        let (port, listen) = (engine.port().to_string(), control.to_string());
        let args = ["--first-port", &port, "--control", &listen];
        let _program = Program::start(&args, &[("EMULATOR_SCENARIO", scenario)]);
        while refuses(control) {
            assert!(refuses(engine), "{scenario}: at first");
        }
        for _ in 0..100 {
            assert!(refuses(engine), "{scenario}: later");
        }
        assert_eq!(post(control, "/scenario", r#"{"scenario": "healthy-live"}"#), 200);
        assert_eq!(post(control, "/engines/0/revive", ""), 200);
        assert_eq!(status(engine, VERSION), 200, "{scenario}");
    }
}

#[test]
fn it_ends_by_itself_with_the_status_it_is_told() {
    let mut program = Program::start(&["--first-port", "0", "--end-after", "50ms", "--end-status", "9"], &[]);
    let (status, said) = program.ends();
    assert_eq!(status, Some(9), "{said}");
    assert!(said.ends_with("engine-emulator: a fault of its own after 50ms, status 9\n"), "{said}");
}

#[test]
fn an_emulator_within_another_program_takes_no_orders_for_it() {
    let (emulator, _) = one_controlled();
    let control = emulator.control_address().unwrap();
    for (path, body) in
        [("/end", r#"{"after_ms": 0, "status": 1}"#), ("/burden", "{}"), ("/say", r#"{"line": ""}"#)]
    {
        assert_eq!(post(control, path, body), 404, "{path}");
    }
}
