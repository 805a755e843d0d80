//! What control is told of a stream once a second, kept as it happens.

use std::{cell::Cell, time::Duration};

use millrace_boundary::{Monotonic, StreamSample};

use super::{chain::Chain, session::Session, watch::Verdict};
use crate::context::Context;

/// Between two attempts to leave an engine that is being emptied.
const MIGRATION_PAUSE: Duration = Duration::from_secs(10);

/// The figures of one stream.
#[derive(Debug, Default)]
pub(super) struct Gauges {
    pub(super) first_byte: Cell<Option<Duration>>,
    /// What is held against the active source now.
    pub(super) verdict: Cell<Option<Verdict>>,
    /// The most peers and bytes that an engine told of while the stream starts.
    pub(super) swarm: Cell<Option<(u32, u64)>>,
    published: Cell<u64>,
    window_bytes: Cell<u64>,
    continuity_errors: Cell<u64>,
    jumps: Cell<u64>,
    sampled: Cell<(Monotonic, u64)>,
    migrated: Cell<Option<Monotonic>>,
}

impl Gauges {
    /// Notes what the chain has; returns the continuity errors since last time.
    pub(super) fn note(&self, chain: &Chain) -> u64 {
        let writer = chain.writer();
        self.published.set(writer.published());
        self.window_bytes.set(writer.kept_bytes());
        self.jumps.set(chain.mended());
        let errors = writer.index_stats().continuity_errors;
        errors - self.continuity_errors.replace(errors)
    }

    /// Notes what an engine says of the swarm.
    pub(super) fn note_swarm(&self, peers: u32, downloaded: u64) {
        let (most, bytes) = self.swarm.get().unwrap_or_default();
        self.swarm.set(Some((most.max(peers), bytes.max(downloaded))));
    }

    /// Whether enough time has passed since this was last asked.
    pub(super) fn may_migrate(&self, now: Monotonic) -> bool {
        let may = self.migrated.get().is_none_or(|then| now.since(then) >= MIGRATION_PAUSE);
        if may {
            self.migrated.set(Some(now));
        }
        may
    }

    fn bitrate_bps(&self, now: Monotonic) -> u64 {
        let (then, before) = self.sampled.replace((now, self.published.get()));
        let seconds = now.since(then).as_secs_f64();
        let bits = self.published.get().saturating_sub(before) as f64 * 8.0;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate, rounded")]
        let rate = if seconds > 0.0 { (bits / seconds) as u64 } else { 0 };
        rate
    }
}

impl Session {
    /// What control is told about it.
    pub(crate) fn sample(&self, context: &Context, now: Monotonic) -> Option<StreamSample> {
        let state = self.state()?;
        let source = self.source();
        let stat = source.as_ref().and_then(|s| s.stat.borrow().clone()).unwrap_or_default();
        let gauges = &self.gauges;
        Some(StreamSample {
            session: self.stream.session().to_string(),
            key: self.stream.key().display(),
            infohash: self.infohash(),
            state,
            engine: source.as_ref().map(|s| s.engine),
            sources: u32::try_from(self.running().len()).unwrap_or(u32::MAX),
            verdict: gauges.verdict.get().map(Verdict::as_str),
            shard: context.id,
            viewers: self.stream.viewers(),
            age_seconds: now.since(self.asked).as_secs_f64(),
            first_byte_seconds: gauges.first_byte.get().map(|d| d.as_secs_f64()),
            bitrate_bps: gauges.bitrate_bps(now),
            ingress_bytes: gauges.published.get(),
            egress_bytes: self.stream.egress(),
            window_bytes: gauges.window_bytes.get(),
            skipped_bytes: source.map_or(0, |s| s.skipped()),
            continuity_errors: gauges.continuity_errors.get(),
            clock_jumps: gauges.jumps.get(),
            peers: stat.peers,
            speed_down_kib: stat.speed_down,
            speed_up_kib: stat.speed_up,
            downloaded_bytes: stat.downloaded,
            uploaded_bytes: stat.uploaded,
            position_unix: stat.position,
            live_last_unix: stat.live_last,
        })
    }
}
