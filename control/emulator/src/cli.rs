//! The program `engine-emulator`.

use std::{
    ffi::OsString,
    io::{self, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    process::ExitCode,
};

use clap::{Parser, Subcommand};

use crate::{Content, ContentId, Emulator, EmulatorConfig, Profile, Scenario, Timing};

/// Plays AceStream engines: their HTTP interface, their timing and their faults.
#[derive(Debug, Parser)]
#[command(name = "engine-emulator")]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// How many engines.
    #[arg(long, default_value_t = 1)]
    engines: u16,
    /// Where they listen.
    #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    address: IpAddr,
    /// Port of the first engine; 0 takes any free ports.
    #[arg(long, default_value_t = 6878)]
    first_port: u16,
    /// Where the control API listens.
    #[arg(long)]
    control: Option<SocketAddr>,
    /// Session rules: 3.2.3 or 3.2.11.
    #[arg(long, default_value = "3.2.11")]
    profile: Profile,
    /// Start within milliseconds, as tests want it.
    #[arg(long)]
    fast: bool,
    /// All randomness follows from it.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// What ids without a code play: clip, varying, or signed:BITS_PER_SECOND.
    #[arg(long, default_value = "clip", value_parser = content)]
    content: Content,
    /// How all engines behave, for example stall(10s).
    #[arg(long)]
    scenario: Option<Scenario>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Prints a content id that plays CONTENT in the way of SCENARIO.
    Id {
        /// clip, varying, or signed:BITS_PER_SECOND.
        #[arg(value_parser = content)]
        content: Content,
        /// For example healthy-live or stall(10s,5s).
        scenario: Scenario,
        /// Tells contents apart.
        #[arg(default_value_t = 0)]
        serial: u64,
    },
    /// Lists the scenarios and their parameters.
    Scenarios,
}

fn content(text: &str) -> Result<Content, String> {
    let signed = |rate: &str| rate.parse().ok().map(|bitrate_bps| Content::Signed { bitrate_bps });
    match text.strip_prefix("signed:") {
        Some(rate) => signed(rate).ok_or_else(|| format!("{rate} is no rate in bit/s")),
        None if text == "clip" => Ok(Content::Clip),
        None if text == "varying" => Ok(Content::Varying),
        None => Err("clip, varying, or signed:BITS_PER_SECOND".to_owned()),
    }
}

/// Runs the program with these arguments, the first being its name, until
/// SIGINT or SIGTERM.
pub fn cli<I, T>(arguments: I) -> ExitCode
where
    I: IntoIterator<Item = T>,
    T: Into<OsString> + Clone,
{
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Nothing can be told to a closed terminal.
            error.print().ok();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let mut causes = format!("engine-emulator: {error}");
            let mut source = error.source();
            while let Some(cause) = source {
                causes.push_str(&format!(": {cause}"));
                source = cause.source();
            }
            writeln!(io::stderr(), "{causes}").ok();
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<(), Box<dyn std::error::Error>> {
    let mut out = io::stdout();
    match arguments.command {
        Some(Command::Id { content, scenario, serial }) => {
            writeln!(out, "{}", ContentId::new(content, scenario, serial))?;
            return Ok(());
        }
        Some(Command::Scenarios) => {
            for scenario in Scenario::catalogue() {
                writeln!(out, "{scenario}")?;
            }
            return Ok(());
        }
        None => {}
    }
    let emulator = Emulator::start(EmulatorConfig {
        engines: arguments.engines,
        address: arguments.address,
        first_port: arguments.first_port,
        control: arguments.control,
        profile: arguments.profile,
        timing: if arguments.fast { Timing::fast() } else { Timing::real() },
        seed: arguments.seed,
        content: arguments.content,
    })?;
    for (engine, address) in emulator.addresses().iter().enumerate() {
        if let Some(scenario) = arguments.scenario {
            emulator.set_engine_scenario(engine, scenario);
        }
        writeln!(out, "engine {engine} http://{address}")?;
    }
    if let Some(address) = emulator.control_address() {
        writeln!(out, "control http://{address}")?;
    }
    out.flush()?;
    wait_for_signal()?;
    emulator.terminate_all();
    Ok(())
}

fn wait_for_signal() -> io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        let (mut interrupt, mut terminate) =
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        Ok(())
    })
}
