//! The shards' counters, added up.

use millrace_boundary::{Cause, Counters, ViewerEnd};

use super::text::{Kind, Page};
use crate::{shards::Shard, state::State};

/// Writes a family per counter.
pub(super) fn write(page: &mut Page, state: &State) {
    let all: Vec<&Counters> =
        state.shards.iter().filter_map(Shard::sample).map(|sample| &sample.counters).collect();
    let sum = |of: &dyn Fn(&Counters) -> u64| all.iter().map(|c| of(c)).fold(0, u64::saturating_add);

    for (index, (name, help, _)) in plain(&Counters::default()).into_iter().enumerate() {
        page.single(Kind::Counter, name, help, sum(&|c| plain(c)[index].2));
    }
    let mut family = page.family(Kind::Counter, "millrace_viewers_ended_total", "Viewers that ended.");
    for end in ViewerEnd::ALL {
        family.sample(&[("end", &end.as_str())], sum(&|c| c.viewers_ended[end.index()]));
    }
    let mut family = page.family(Kind::Counter, "millrace_refusals_total", "Requests for a stream refused.");
    for cause in Cause::ALL {
        family.sample(&[("cause", &cause.as_str())], sum(&|c| c.refusals[cause.index()]));
    }
    let mut family = page.family(Kind::Counter, "millrace_streams_ended_total", "Streams ended.");
    for cause in Cause::ALL {
        family.sample(&[("cause", &cause.as_str())], sum(&|c| c.streams_ended[cause.index()]));
    }
}

/// Name, help and value of each counter that is a single number.
fn plain(counters: &Counters) -> [(&'static str, &'static str, u64); 21] {
    // By name and without `..`: a counter that is not written does not compile.
    let &Counters {
        connections,
        connections_refused,
        requests,
        bad_requests,
        viewers_started,
        viewers_humoured,
        // These three have a label.
        viewers_ended: _,
        refusals: _,
        streams_ended: _,
        streams_started,
        engine_starts,
        engine_stops,
        hls_requests,
        hls_reused,
        hls_fetches,
        hls_fetches_failed,
        hls_skipped,
        hls_breaks,
        ingress_bytes,
        egress_bytes,
        skipped_bytes,
        continuity_errors,
        laps,
        messages_lost,
    } = counters;
    [
        ("millrace_connections_total", "Connections accepted.", connections),
        (
            "millrace_connections_refused_total",
            "Connections closed at once because the shard had as many as it may.",
            connections_refused,
        ),
        ("millrace_requests_total", "Requests parsed.", requests),
        ("millrace_bad_requests_total", "Requests malformed, too large or too slow.", bad_requests),
        ("millrace_viewers_started_total", "Viewers that got a picture.", viewers_started),
        (
            "millrace_viewers_humoured_total",
            "Viewers sent headers and filler because their stream took long to start.",
            viewers_humoured,
        ),
        ("millrace_streams_started_total", "Streams begun.", streams_started),
        ("millrace_engine_starts_total", "Engine sessions asked for.", engine_starts),
        ("millrace_engine_stops_total", "Engine sessions told to stop.", engine_stops),
        (
            "millrace_hls_source_requests_total",
            "Requests for playlists and media segments of engines.",
            hls_requests,
        ),
        (
            "millrace_hls_source_reused_total",
            "Of these, those over a connection that was used before.",
            hls_reused,
        ),
        (
            "millrace_hls_source_fetches_total",
            "Media segments of engines that came or failed, second attempts included.",
            hls_fetches,
        ),
        (
            "millrace_hls_source_fetches_failed_total",
            "Media segments of engines that failed, second attempts included.",
            hls_fetches_failed,
        ),
        ("millrace_hls_source_skipped_total", "Media segments of engines given up.", hls_skipped),
        (
            "millrace_hls_source_breaks_total",
            "Places where the next media segment of an engine does not follow.",
            hls_breaks,
        ),
        ("millrace_ingress_bytes_total", "Bytes read from engines, framing included.", ingress_bytes),
        ("millrace_egress_bytes_total", "Transport stream bytes sent to viewers.", egress_bytes),
        ("millrace_skipped_bytes_total", "Bytes skipped in search of packet alignment.", skipped_bytes),
        ("millrace_continuity_errors_total", "Continuity counter errors of engines.", continuity_errors),
        ("millrace_laps_total", "Viewers moved on because they fell out of the window.", laps),
        ("millrace_messages_lost_total", "Messages lost to a full queue.", messages_lost),
    ]
}
