//! The binary as a command that says something and ends.

use std::process::{Command, Output, Stdio};

/// The binary with nothing set but what a test sets.
pub(crate) fn millrace(variables: &[(&str, &str)], args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_millrace"));
    command.env_clear().envs(variables.iter().copied()).args(args).stdin(Stdio::null());
    command
}

/// What it says, and how it ends.
pub(crate) fn output(variables: &[(&str, &str)], args: &[&str]) -> Output {
    millrace(variables, args).output().unwrap()
}

/// Standard output of one that succeeded.
pub(crate) fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", stderr(output));
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Standard error, whatever the end.
pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}
