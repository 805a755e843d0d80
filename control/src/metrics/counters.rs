//! The shards' counters, added up.

use millrace_boundary::{Cause, Counters, ViewerEnd};

use super::text::{Kind, Page};
use crate::{shards::Shard, state::State};

/// Writes a family per counter.
pub(super) fn write(page: &mut Page, state: &State) {
    let mut all = Counters::default();
    for sample in state.shards.iter().filter_map(Shard::sample) {
        add(&mut all, &sample.counters);
    }
    // By name and without `..`: a counter that is not written does not compile.
    let Counters {
        connections,
        connections_refused,
        requests,
        bad_requests,
        viewers_started,
        viewers_ended,
        refusals,
        streams_started,
        streams_ended,
        engine_starts,
        engine_stops,
        ingress_bytes,
        egress_bytes,
        skipped_bytes,
        continuity_errors,
        laps,
        messages_lost,
    } = all;
    for (name, help, value) in [
        ("millrace_connections_total", "Connections accepted.", connections),
        (
            "millrace_connections_refused_total",
            "Connections closed at once because the shard had as many as it may.",
            connections_refused,
        ),
        ("millrace_requests_total", "Requests parsed.", requests),
        ("millrace_bad_requests_total", "Requests malformed, too large or too slow.", bad_requests),
        ("millrace_viewers_started_total", "Viewers that got a status of 200.", viewers_started),
        ("millrace_streams_started_total", "Streams begun.", streams_started),
        ("millrace_engine_starts_total", "Engine sessions asked for.", engine_starts),
        ("millrace_engine_stops_total", "Engine sessions told to stop.", engine_stops),
        ("millrace_ingress_bytes_total", "Bytes read from engines, framing included.", ingress_bytes),
        ("millrace_egress_bytes_total", "Transport stream bytes sent to viewers.", egress_bytes),
        ("millrace_skipped_bytes_total", "Bytes skipped in search of packet alignment.", skipped_bytes),
        ("millrace_continuity_errors_total", "Continuity counter errors of engines.", continuity_errors),
        ("millrace_laps_total", "Viewers moved on because they fell out of the window.", laps),
        ("millrace_messages_lost_total", "Messages lost to a full queue.", messages_lost),
    ] {
        page.single(Kind::Counter, name, help, value);
    }
    let mut family = page.family(Kind::Counter, "millrace_viewers_ended_total", "Viewers that ended.");
    for end in ViewerEnd::ALL {
        family.sample(&[("end", &end.as_str())], viewers_ended[end.index()]);
    }
    let mut family = page.family(Kind::Counter, "millrace_refusals_total", "Requests for a stream refused.");
    for cause in Cause::ALL {
        family.sample(&[("cause", &cause.as_str())], refusals[cause.index()]);
    }
    let mut family = page.family(Kind::Counter, "millrace_streams_ended_total", "Streams ended.");
    for cause in Cause::ALL {
        family.sample(&[("cause", &cause.as_str())], streams_ended[cause.index()]);
    }
}

fn add(sum: &mut Counters, more: &Counters) {
    let Counters {
        connections,
        connections_refused,
        requests,
        bad_requests,
        viewers_started,
        viewers_ended,
        refusals,
        streams_started,
        streams_ended,
        engine_starts,
        engine_stops,
        ingress_bytes,
        egress_bytes,
        skipped_bytes,
        continuity_errors,
        laps,
        messages_lost,
    } = more;
    for (sum, more) in [
        (&mut sum.connections, connections),
        (&mut sum.connections_refused, connections_refused),
        (&mut sum.requests, requests),
        (&mut sum.bad_requests, bad_requests),
        (&mut sum.viewers_started, viewers_started),
        (&mut sum.streams_started, streams_started),
        (&mut sum.engine_starts, engine_starts),
        (&mut sum.engine_stops, engine_stops),
        (&mut sum.ingress_bytes, ingress_bytes),
        (&mut sum.egress_bytes, egress_bytes),
        (&mut sum.skipped_bytes, skipped_bytes),
        (&mut sum.continuity_errors, continuity_errors),
        (&mut sum.laps, laps),
        (&mut sum.messages_lost, messages_lost),
    ] {
        *sum = sum.saturating_add(*more);
    }
    let ends = sum.viewers_ended.iter_mut().zip(viewers_ended);
    let refused = sum.refusals.iter_mut().zip(refusals);
    let ended = sum.streams_ended.iter_mut().zip(streams_ended);
    for (sum, more) in ends.chain(refused).chain(ended) {
        *sum = sum.saturating_add(*more);
    }
}
