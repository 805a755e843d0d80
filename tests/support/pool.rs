//! The server in front of emulated engines.

use std::{
    fs,
    net::SocketAddr,
    path::Path,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use millrace_emulator::{Content, ContentId, Emulator, EmulatorConfig, Scenario, Timing};
use serde_json::Value;

use super::{Server, wait_until};

/// Longest wait for what needs a probe or a sample: a few of their intervals.
const SETTLED: Duration = Duration::from_secs(10);

/// Emulated engines that start a stream within 150 ms. A client that is still
/// there 1.25 s after a redirect reads its body: even a busy one is gone then.
pub(crate) fn engines(count: u16) -> Emulator {
    engines_with(count, |timing| timing)
}

/// The same with other times.
pub(crate) fn engines_with(count: u16, change: impl FnOnce(Timing) -> Timing) -> Emulator {
    let timing = change(Timing { redirect_body: Duration::from_millis(250), ..Timing::fast() });
    let config = EmulatorConfig { engines: count, timing, ..Default::default() };
    Emulator::start(config).expect("engines on free ports")
}

/// A signed broadcast of 1 Mbit/s that plays without a fault.
pub(crate) fn healthy(serial: u64) -> ContentId {
    signed(Scenario::healthy(), serial)
}

/// A signed broadcast of 1 Mbit/s in the way of `scenario`.
pub(crate) fn signed(scenario: Scenario, serial: u64) -> ContentId {
    ContentId::new(Content::Signed { bitrate_bps: 1_000_000 }, scenario, serial)
}

/// The path that plays `id`.
pub(crate) fn path_of(id: ContentId) -> String {
    format!("/ace/getstream?id={id}")
}

/// A server in front of the engines at `addresses`, with `settings` as its
/// configuration file.
pub(crate) fn serve(addresses: &[SocketAddr], settings: &str) -> Server {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let file =
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("settings-{}-{count}.toml", std::process::id()));
    fs::write(&file, settings).expect("cannot write the settings");
    let mut args = vec!["--config".to_owned(), file.display().to_string()];
    for address in addresses {
        args.extend(["--engine".to_owned(), format!("http://{address}")]);
    }
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    let server = Server::start(&args);
    fs::remove_file(&file).ok();
    server
}

/// The same, returning when every engine takes streams.
pub(crate) fn serve_ready(emulator: &Emulator, settings: &str) -> Server {
    let addresses = emulator.addresses();
    let server = serve(&addresses, settings);
    let ready = || status(&server, "/engines/ready") == addresses.len() as u64;
    assert!(wait_until(SETTLED, ready), "engines are not ready; the log:\n{}", server.log());
    server
}

/// A number of `/api/v1/status`, by its JSON pointer.
pub(crate) fn status(server: &Server, pointer: &str) -> u64 {
    let answer = server.get("/api/v1/status");
    let json: Value = serde_json::from_slice(&answer.body).expect("status is JSON");
    json.pointer(pointer).and_then(Value::as_u64).unwrap_or_else(|| panic!("no {pointer} in {json}"))
}

/// What the server tells of the newest session of `id`; none when it knows none.
pub(crate) fn session(server: &Server, id: ContentId) -> Option<Value> {
    let json = |path: &str| -> Value {
        serde_json::from_slice(&server.get(&format!("/api/v1/sessions{path}")).body).expect("JSON")
    };
    let newest = json(&format!("?limit=1&key=id%3A{id}"));
    let session = newest["sessions"][0]["session"].as_str()?;
    Some(json(&format!("/{session}")))
}

/// How long threads of the server and of the emulators were kept from a core
/// while they could have run: the longest of each, since they started. What was
/// late by no more says nothing about the server.
pub(crate) fn kept_waiting(server: &Server) -> Duration {
    let longest = |process: &str, of: Option<&str>| {
        let tasks = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
        let wanted = |task: &fs::DirEntry| {
            let name = fs::read_to_string(task.path().join("comm")).unwrap_or_default();
            of.is_none_or(|of| name.trim_end() == of)
        };
        // Nanoseconds on a core, nanoseconds waiting for one, turns.
        let waited = |task: fs::DirEntry| {
            let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
            text.split_whitespace().nth(1)?.parse().ok()
        };
        tasks.filter(wanted).filter_map(waited).max().map_or(Duration::ZERO, Duration::from_nanos)
    };
    longest(&server.pid().to_string(), None) + longest("self", Some("engine-emulator"))
}
