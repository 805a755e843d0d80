//! The program `engine-emulator`.

use std::{
    ffi::OsString,
    io::{self, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use clap::{Parser, Subcommand};
use tokio::{
    runtime::Runtime,
    signal::unix::{Signal, SignalKind, signal},
};

use crate::{
    Burden, Content, ContentId, Emulator, EmulatorConfig, Process, Profile, Scenario, Timing,
    scenario::read_time,
};

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
    /// Mean duration of an HLS segment, 5s, or 2s with --fast.
    #[arg(long, value_parser = time)]
    hls_segment: Option<Duration>,
    /// All randomness follows from it.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// What ids without a code play: clip, varying, or signed:BITS_PER_SECOND.
    #[arg(long, default_value = "clip", value_parser = content)]
    content: Content,
    /// How all engines behave, for example stall(10s).
    #[arg(long, env = "EMULATOR_SCENARIO")]
    scenario: Option<Scenario>,
    /// Ends by itself after this time, for example 20s or 1500ms.
    #[arg(long, value_parser = time, env = "EMULATOR_END_AFTER")]
    end_after: Option<Duration>,
    /// The status with which it does.
    #[arg(long, default_value_t = 1, env = "EMULATOR_END_STATUS")]
    end_status: u8,
    /// Takes this much memory each second, in bytes, until there is no more.
    #[arg(long, default_value_t = 0, env = "EMULATOR_LEAK")]
    leak: u64,
    /// Threads that compute without end.
    #[arg(long, default_value_t = 0, env = "EMULATOR_BURN")]
    burn: u32,
    /// Threads that sleep.
    #[arg(long, default_value_t = 0, env = "EMULATOR_THREADS")]
    threads: u32,
    /// Writes this many bytes into the cache directory, or as many as it takes.
    #[arg(long, default_value_t = 0, env = "EMULATOR_FILL")]
    fill: u64,
    /// What is written to disk goes there.
    #[arg(long, default_value = "/tmp")]
    cache_dir: PathBuf,
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

fn time(text: &str) -> Result<Duration, String> {
    let millis = read_time(text).ok_or_else(|| "a time is 20s or 1500ms".to_owned())?;
    Ok(Duration::from_millis(millis.into()))
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
    // Before anybody can know that we run: process 1 does not hear what it does not listen for.
    let mut signals = Signals::new()?;
    let process = Process::new(arguments.cache_dir);
    let timing = if arguments.fast { Timing::fast() } else { Timing::real() };
    let emulator = Emulator::start(EmulatorConfig {
        engines: arguments.engines,
        address: arguments.address,
        first_port: arguments.first_port,
        control: arguments.control,
        profile: arguments.profile,
        timing: Timing { hls_segment: arguments.hls_segment.unwrap_or(timing.hls_segment), ..timing },
        seed: arguments.seed,
        content: arguments.content,
        scenario: arguments.scenario,
        process: Some(process.clone()),
    })?;
    for (engine, address) in emulator.addresses().iter().enumerate() {
        tell(&format!("engine {engine} http://{address}"));
    }
    if let Some(address) = emulator.control_address() {
        tell(&format!("control http://{address}"));
    }
    let (version, seed) = (arguments.profile.version(), arguments.seed);
    process.say(&format!("{} of version {version}, seed {seed}", arguments.engines));
    if let Some(scenario) = arguments.scenario {
        process.say(&format!("scenario {scenario}"));
    }
    let burden = Burden {
        leak: arguments.leak,
        burn: arguments.burn,
        threads: arguments.threads,
        fill: arguments.fill,
    };
    if burden != Burden::default() {
        process.bear(burden);
    }
    if let Some(after) = arguments.end_after {
        process.end(after, arguments.end_status.into());
    }
    let signal = signals.wait();
    process.say(&format!("{signal}, so it ends"));
    emulator.terminate_all();
    process.flush();
    Ok(())
}

/// A line on standard output. Whether anybody reads it is not our concern.
fn tell(line: &str) {
    let mut out = io::stdout();
    writeln!(out, "{line}").and_then(|()| out.flush()).ok();
}

/// The signals to end.
struct Signals {
    runtime: Runtime,
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        let (interrupt, terminate) = {
            let _inside = runtime.enter();
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
        };
        Ok(Self { runtime, interrupt, terminate })
    }

    /// Waits for one; its name.
    fn wait(&mut self) -> &'static str {
        self.runtime.block_on(async {
            tokio::select! {
                _ = self.interrupt.recv() => "SIGINT",
                _ = self.terminate.recv() => "SIGTERM",
            }
        })
    }
}
