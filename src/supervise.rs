//! `serve`: the shards on their cores, the control thread, and the signals.
//!
//! A dead shard among live ones only looks healthy: when one ends before its
//! time, the process ends with [`SHARD_LOST`], so that its supervisor starts a
//! whole one.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use millrace_boundary::{Doorbell, Driver, FromShard, mailbox};
use millrace_control::{ControlConfig, FleetConfig, Readiness};
use millrace_dataplane::{Prepared, ShardSeed};
use sd_notify::NotifyState;
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    iterator::Signals,
};
use tokio::sync::oneshot;

use crate::{affinity, config::Config, engines, limits};

/// Exit status when a thread is lost: EX_SOFTWARE of sysexits.h.
pub(crate) const SHARD_LOST: i32 = 70;

/// Messages from all shards that may wait for control. A shard says a few a
/// second, and one for each request that is not a stream's.
const CONTROL_QUEUE: usize = 4_096;

/// A shard that has not begun by then never will.
const START_LIMIT: Duration = Duration::from_secs(10);

/// For viewers to be closed and engine sessions to be stopped.
const DRAIN_LIMIT: Duration = Duration::from_millis(900);

/// From the first signal to the end of the process, whatever happens.
const END_LIMIT: Duration = Duration::from_secs(1);

/// Plays on every emulated engine, as any 40 hex digits do.
const EMULATED_ID: &str = "6d696c6c726163656d696c6c726163656d696c6c";

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// Whatever keeps the server from starting.
pub(crate) fn serve(config: &Config) -> Result<ExitCode> {
    end_with_any_thread();
    let settings = &config.settings;
    tell_predecessor(config);
    let cores = affinity::choose(&settings.server.cpus)?;
    let engines::Chosen { fleet, kind, why } = engines::choose(settings)?;
    raise_limits();

    claim(settings.server.listen)?;

    let ending = Arc::new(AtomicBool::new(false));
    // Containers that are not to outlive the server take longer.
    let end_limit = match &fleet {
        FleetConfig::Docker(fleet) if !fleet.keep_engines => END_LIMIT + millrace_control::DISMISS_LIMIT,
        FleetConfig::Docker(_) | FleetConfig::Fixed(_) | FleetConfig::Emulated(_) => END_LIMIT,
    };
    let shutdown = end_on_signals(Arc::clone(&ending), end_limit)?;

    let bell = Doorbell::new().context("cannot make the control thread's doorbell")?;
    let (to_control, inbox) = mailbox::<FromShard>(CONTROL_QUEUE, &bell);
    let dataplane = millrace_dataplane::Config {
        listen: settings.server.listen,
        stream: settings.streams.clone(),
        viewer: settings.viewers.clone(),
        hls: settings.hls.clone(),
    };
    let shards = u16::try_from(cores.len()).context("more cores than shards can be")?;
    let Prepared { address, mailboxes, seeds } = millrace_dataplane::prepare(dataplane, shards, to_control)?;
    let driver = start_shards(seeds, &cores, &ending)?;

    let emulated = matches!(fleet, FleetConfig::Emulated(_));
    if let Some(why) = why {
        tracing::info!("{why}");
    }
    let control = ControlConfig {
        fleet,
        engine_capacity: settings.engines.capacity,
        probe_interval: settings.engines.probe_interval,
        admins: settings.server.admins.clone(),
        address,
        shards: mailboxes,
        inbox,
    };
    let ready = |ready: Readiness| {
        let engines = format!("{} of {} {kind} ready", ready.engines_ready, ready.engines);
        tracing::info!(
            %address,
            driver = driver.as_str(),
            shards = cores.len(),
            engines,
            play = play_url(address, emulated),
            "serving AceStream content"
        );
        let status = format!("serving on {address}, {} shards, {}", cores.len(), driver.as_str());
        notify(&[NotifyState::Ready, NotifyState::Status(&status)]);
    };
    // Only a server whose every shard reports is alive to systemd.
    let watched = sd_notify::watchdog_enabled().is_some();
    let alive = || {
        if watched {
            notify(&[NotifyState::Watchdog]);
        }
    };
    // Not before: the shards' threads would inherit that.
    if let Err(error) = millrace_dataplane::run_beside_shards() {
        tracing::debug!(%error, "the control thread takes its core from shards");
    }
    let shutdown = async { drop(shutdown.await) };
    millrace_control::run(control, DRAIN_LIMIT, shutdown, ready, alive)?;
    if !ending.load(Ordering::Acquire) {
        bail!("the control thread ended by itself");
    }
    tracing::info!("ended");
    Ok(ExitCode::SUCCESS)
}

/// Makes sure that nobody else listens. The shards share their port, and so
/// would a second server of the same user: each would get half of the viewers.
fn claim(listen: SocketAddr) -> Result<()> {
    TcpListener::bind(listen).map(drop).with_context(|| format!("cannot listen on {listen}"))
}

/// Ends the process when any thread panics, with the panic's own words before.
fn end_with_any_thread() {
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        tell(panic);
        std::process::exit(SHARD_LOST);
    }));
}

fn tell_predecessor(config: &Config) {
    let found = &config.predecessor;
    if !found.is_empty() {
        tracing::warn!(
            understood = found.understood.join(", "),
            ignored = found.ignored.join(", "),
            "variables of the predecessor are set"
        );
    }
}

fn raise_limits() {
    match limits::raise_descriptors() {
        Ok(most) if most < limits::FEW_DESCRIPTORS => {
            tracing::warn!(
                limit = most,
                remedy = limits::DESCRIPTORS_REMEDY,
                "few descriptors, so few viewers"
            );
        }
        Ok(_) => {}
        Err(error) => tracing::warn!(%error, "cannot raise the limit of descriptors"),
    }
}

/// Runs each seed on a thread pinned to its core, and waits until all have
/// begun. Epoll on any of them is epoll for the report.
fn start_shards(seeds: Vec<ShardSeed>, cores: &[u16], ending: &Arc<AtomicBool>) -> Result<Driver> {
    let (begun, beginnings) = mpsc::channel::<Result<Driver>>();
    let count = seeds.len();
    for (shard, (seed, &core)) in seeds.into_iter().zip(cores).enumerate() {
        let (begun, ending) = (begun.clone(), Arc::clone(ending));
        let run = move || {
            if let Err(error) = affinity::pin(core) {
                tracing::warn!(shard, core, %error, "cannot pin the shard; it runs on any core");
            }
            let mut served = false;
            let ended = seed.run(|driver| {
                served = true;
                begun.send(Ok(driver)).ok();
            });
            if ending.load(Ordering::Acquire) {
                return;
            }
            match ended {
                Err(error) if !served => {
                    begun.send(Err(error.into())).ok();
                }
                ended => {
                    let error = ended.err().map(|e| format!("{:#}", anyhow::Error::from(e)));
                    tracing::error!(shard, error, "the shard ended before its time");
                    std::process::exit(SHARD_LOST);
                }
            }
        };
        let spawned = thread::Builder::new().name(format!("shard-{shard}")).spawn(run);
        spawned.with_context(|| format!("cannot start the thread of shard {shard}"))?;
    }
    let deadline = Instant::now() + START_LIMIT;
    let mut driver = Driver::Uring;
    for _ in 0..count {
        let left = deadline.saturating_duration_since(Instant::now());
        let begun = beginnings.recv_timeout(left).context("a shard did not begin in time")??;
        if begun == Driver::Epoll {
            driver = Driver::Epoll;
        }
    }
    if driver == Driver::Epoll {
        let (error, remedy) = match limits::uring_refusal() {
            Some(refusal) => (refusal.to_string(), refusal.remedy()),
            None => ("an operation is missing".into(), "use a newer kernel"),
        };
        tracing::warn!(error, remedy, "the kernel refuses io_uring, so the shards run on epoll");
    }
    Ok(driver)
}

/// The first SIGTERM or SIGINT begins the end, which then has `end_limit`;
/// a second one ends at once. A thread of its own, so that nothing that hangs
/// can hold it up.
fn end_on_signals(ending: Arc<AtomicBool>, end_limit: Duration) -> Result<oneshot::Receiver<()>> {
    let mut signals = Signals::new([SIGTERM, SIGINT]).context("cannot wait for signals")?;
    let (begin, shutdown) = oneshot::channel();
    let wait = move || {
        let mut signals = signals.forever();
        signals.next();
        ending.store(true, Ordering::Release);
        tracing::info!("ending: no new viewers, the rest is drained");
        notify(&[NotifyState::Stopping]);
        begin.send(()).ok();
        let limit = thread::Builder::new().name("end-limit".into()).spawn(move || {
            thread::sleep(end_limit);
            tracing::error!(limit = ?end_limit, "the drain took too long and was cut off");
            std::process::exit(1);
        });
        let again = signals.next();
        if limit.is_err() || again.is_some() {
            tracing::warn!("ended at once");
            std::process::exit(128 + again.unwrap_or(SIGTERM));
        }
    };
    thread::Builder::new().name("signals".into()).spawn(wait).context("cannot start the signals' thread")?;
    Ok(shutdown)
}

fn notify(states: &[NotifyState<'_>]) {
    // Without systemd there is nobody to tell, and that is no error.
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "cannot tell systemd");
    }
}

/// A URL for a player on this machine.
fn play_url(listen: SocketAddr, emulated: bool) -> String {
    let mut address = listen;
    if listen.ip().is_unspecified() {
        address.set_ip(match listen.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    let id = if emulated { EMULATED_ID } else { "CONTENT_ID" };
    format!("http://{address}/ace/getstream?id={id}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_url_names_an_address_that_a_player_can_open() {
        for (listen, emulated, url) in [
            ("0.0.0.0:8000", true, format!("http://127.0.0.1:8000/ace/getstream?id={EMULATED_ID}")),
            ("[::]:80", false, "http://[::1]:80/ace/getstream?id=CONTENT_ID".into()),
            ("10.0.0.1:1", false, "http://10.0.0.1:1/ace/getstream?id=CONTENT_ID".into()),
        ] {
            assert_eq!(play_url(listen.parse().unwrap(), emulated), url, "{listen}");
        }
        assert_eq!(EMULATED_ID.len(), 40);
    }
}
