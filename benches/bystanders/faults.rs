//! The faults that the others cycle through.

use anyhow::{Result, ensure};
use millrace_emulator::{BadJson, Scenario};

/// Every fault of the catalogue's sections on starts, streams, packets, HTTP and
/// stat, set so that it shows within some seconds. Each befalls one content.
const FAULTS: &[&str] = &[
    // Starts.
    "slow-metadata(2s)",
    "slow-start(3s)",
    "slow-start-500(3s)",
    "warmup-empty(2)",
    "metadata-failure",
    "metadata-hang",
    "start-failure-after-metadata",
    "missing-option",
    "catalogue-down(1s)",
    "late-success(4s)",
    "no-peers",
    "peers-no-data",
    "mod-detected",
    "superseded(1)",
    "encrypted",
    "json-ignored",
    "transcode-broken",
    "double-start-race",
    // Streams.
    "stall(2s,2s)",
    "stall(2s)",
    "stall(0b)",
    "micro-stalls(3s,1s)",
    "long-gap-recover(2s,3s)",
    "starve-decay(2s)",
    "wrong-bitrate(0.7)",
    "wrong-bitrate(1.3)",
    "wrong-bitrate(unlimited)",
    "burst-then-quiet",
    "disconnect-fin(2s)",
    "disconnect-fin(0b)",
    "disconnect-rst(2s)",
    "disconnect-rst(0b)",
    "disconnect-chunk(2s,no-end)",
    "disconnect-chunk(2s,bad-size)",
    "partial-packet-end(2s)",
    "session-expired(2s)",
    "old-pid-leftovers(3s)",
    "session-replaced(2s)",
    "stop-kills-sibling",
    "slow-trickle(1,100ms)",
    "slow-trickle(188,1s)",
    "loop-content(3s)",
    "source-restart(3s,2s)",
    "edge-shift(7s)",
    "jitter",
    "no-read-tolerance",
    "unmatched(both)",
    // Packets.
    "unaligned-chunks",
    "starts-mid-packet",
    "garbage(4096)",
    "lost-sync-run(65536,3s)",
    "cc-errors(1000)",
    "dup-packets(1048576,3s)",
    "pts-jump(forward,3s)",
    "pts-jump(back,3s)",
    "pts-jump(wrap,3s)",
    "pts-jump(forward-signalled,3s)",
    "pts-jump(back-signalled,3s)",
    "pts-jump(wrap-signalled,3s)",
    "pcr-missing(2s,3s)",
    "pcr-jitter",
    "late-psi(3s)",
    "pmt-change(all,3s)",
    "late-idr(5s)",
    "null-flood",
    "tei-scrambled",
    "text-body(html)",
    "text-body(json)",
    "text-body(m3u8)",
    // HTTP.
    "redirect-normal",
    "redirect-held",
    "redirect-relative",
    "redirect-loop",
    "redirect-off-host",
    "redirect-status(301)",
    "redirect-status(308)",
    "double-status",
    "huge-headers-lines(300)",
    "huge-headers-line(1048576)",
    "header-trickle(1s)",
    "odd-http(bare-lf)",
    "odd-http(length-and-chunks)",
    "framing-chunked(1)",
    "framing-chunked(1048576,1)",
    "framing-close",
    "framing-length(huge)",
    "framing-length(negative)",
    "gzip-anyway",
    "content-type(html)",
    "http-500-all",
    "http-500-rate(30)",
    "refuse",
    "rst-on-accept",
    "hang-accept",
    "hang-backlog",
    "api-hang-media-ok",
    "api-ok-media-hang",
    "keepalive-close",
    // Stat and commands.
    "stat-empty(2s)",
    "stat-types",
    "stat-lies(rosy,3s)",
    "stat-lies(bleak)",
    "stat-back-step(2s)",
    "livepos-frozen",
    "livepos-absent",
    "livepos-skewed",
    "stat-hang",
    "stat-500",
    "stat-slow",
    "stat-gone(2s,3s)",
    "stop-ok",
    "stop-hang(10s)",
    "stop-500",
    "stop-unknown",
    "stop-late",
    "event-poll",
];

/// Of an engine as a whole, and so of the healthy streams that it plays too.
const OF_ENGINES: [&str; 2] = ["start-limit", "thread-exhaustion"];

/// Numbers of the catalogue's rows that are meant.
fn is_meant(number: u8) -> bool {
    matches!(number, 5..=37 | 43..=79 | 120..=159)
}

/// All faults whose text begins with one of `only`, or simply all, in the order of
/// the catalogue.
///
/// # Errors
/// When the catalogue has one that the list here lacks, or `only` leaves none.
pub(crate) fn list(only: &[String]) -> Result<Vec<Scenario>> {
    let mut all = FAULTS.iter().map(|text| text.parse()).collect::<Result<Vec<Scenario>, _>>()?;
    all.extend(BadJson::ALL.iter().map(|(_, kind)| Scenario::bad_json(*kind)));
    let rows = (0..=u8::MAX).filter(|&number| is_meant(number));
    for row in rows.filter_map(|number| Scenario::from_code(number, [0, 0])) {
        let name = row.name();
        let is_there = OF_ENGINES.contains(&name) || all.iter().any(|fault| fault.name() == name);
        ensure!(is_there, "the fault {name} is not in the list");
    }
    let is_asked_for = |fault: &Scenario| only.iter().any(|text| fault.to_string().starts_with(text));
    all.retain(|fault| only.is_empty() || is_asked_for(fault));
    ensure!(!all.is_empty(), "there is no fault {only:?}");
    Ok(all)
}
