//! `engine-emulator`: the emulator's own program under our name.

use std::{ffi::OsString, process::ExitCode};

/// Runs the emulator with the arguments that follow the subcommand.
pub(crate) fn run(args: Vec<OsString>) -> ExitCode {
    drop(args);
    eprintln!("millrace: this build has no engine emulator");
    ExitCode::FAILURE
}
