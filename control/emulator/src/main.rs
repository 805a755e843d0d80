//! The program `engine-emulator`; see [`millrace_emulator::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    millrace_emulator::cli(std::env::args_os())
}
