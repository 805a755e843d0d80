//! `/api/v1/streams`.

use axum::{
    Json,
    extract::State as Handle,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use millrace_boundary::{EngineState, Monotonic, StreamSample, StreamState, ToShard};
use serde_json::json;

use super::{key::Key, problem::Problem};
use crate::{
    shards::Shard,
    state::{Shared, State},
};

/// Streams named in one answer: about half a megabyte.
const NAMED: usize = 1_000;

/// The streams of all shards, as of their last samples.
pub(super) async fn list(Handle(state): Handle<Shared>) -> Response {
    let state = state.lock();
    let named: Vec<&StreamSample> = all(&state).take(NAMED).collect();
    super::json(json!({ "total": all(&state).count(), "streams": named }))
}

/// One stream, by its key, its swarm or its session.
pub(super) async fn one(Handle(state): Handle<Shared>, Key(key): Key) -> Result<Response, Problem> {
    Ok(super::json(find(&state.lock(), &key)?))
}

/// Asks the owner to move a stream to another engine.
pub(super) async fn migrate(Handle(state): Handle<Shared>, Key(key): Key) -> Result<Response, Problem> {
    let (mut state, now) = (state.lock(), Monotonic::now());
    let stream = find(&state, &key)?;
    may_move(&state, stream)?;
    let Named { id, session, owner } = Named::of(stream, &key)?;
    let shard = state.shards.get_mut(owner).ok_or_else(|| Problem::no_such_stream(&key))?;
    shard.order(ToShard::Migrate { session }, now).map_err(|why| Problem::not_ordered(shard.id, why))?;
    Ok(accepted(&id))
}

/// Asks the owner to end a stream, and every shard to close its viewers.
pub(super) async fn stop(Handle(state): Handle<Shared>, Key(key): Key) -> Result<Response, Problem> {
    let (mut state, now) = (state.lock(), Monotonic::now());
    let Named { id, session, owner } = Named::of(find(&state, &key)?, &key)?;
    for (place, shard) in state.shards.iter_mut().enumerate() {
        let ordered = shard.order(ToShard::Stop { session }, now);
        if place == owner {
            ordered.map_err(|why| Problem::not_ordered(shard.id, why))?;
        }
    }
    Ok(accepted(&id))
}

/// A stream that an order is for.
struct Named {
    id: String,
    session: u64,
    /// Place of its shard.
    owner: usize,
}

impl Named {
    fn of(stream: &StreamSample, key: &str) -> Result<Self, Problem> {
        let session = u64::from_str_radix(&stream.session, 16).map_err(|_| Problem::no_such_stream(key))?;
        Ok(Self { id: stream.session.clone(), session, owner: usize::from(stream.shard.0) })
    }
}

fn accepted(id: &str) -> Response {
    let answer = json!({ "timeline": format!("/api/v1/sessions/{id}"), "session": id });
    (StatusCode::ACCEPTED, Json(answer)).into_response()
}

fn all(state: &State) -> impl Iterator<Item = &StreamSample> {
    state.shards.iter().filter_map(Shard::sample).flat_map(|sample| &sample.streams)
}

/// The stream of this session or key, or else the only one of this swarm.
fn find<'a>(state: &'a State, key: &str) -> Result<&'a StreamSample, Problem> {
    let is_named = |stream: &&StreamSample| stream.key == key || stream.session.eq_ignore_ascii_case(key);
    if let Some(stream) = all(state).find(is_named) {
        return Ok(stream);
    }
    let infohash = key.strip_prefix("infohash:").unwrap_or(key);
    let plays_it = |stream: &&StreamSample| {
        stream.infohash.as_deref().is_some_and(|played| played.eq_ignore_ascii_case(infohash))
    };
    let mut playing = all(state).filter(plays_it);
    match (playing.next(), playing.count()) {
        (Some(stream), 0) => Ok(stream),
        (Some(_), more) => Err(Problem::conflict(
            "stream_ambiguous",
            format!("{} streams play this infohash", more + 1),
            "name one by its key or session from /api/v1/streams",
        )),
        (None, _) => Err(Problem::no_such_stream(key)),
    }
}

/// Whether a stream would go anywhere if it were asked to.
fn may_move(state: &State, stream: &StreamSample) -> Result<(), Problem> {
    match stream.state {
        StreamState::Live | StreamState::Stalled => {}
        StreamState::Starting | StreamState::Queued | StreamState::FailingOver | StreamState::Lingering => {
            let message = match stream.state {
                StreamState::Lingering => "nobody watches this stream",
                StreamState::Queued => "this stream waits for an engine's slot",
                _ => "this stream is between engines already",
            };
            let remedy = "ask again when /api/v1/streams says that it is live";
            return Err(Problem::conflict("stream_not_live", message.to_owned(), remedy));
        }
    }
    // An engine that is asked already needs no other slot.
    let is_room = |engine: &&crate::engines::Engine| {
        Some(engine.id) != stream.engine
            && engine.life.state() == EngineState::Ready
            && engine.slots.taken() < engine.slots.capacity()
    };
    if stream.sources > 1 || state.engines.all().iter().any(|engine| is_room(&engine)) {
        return Ok(());
    }
    Err(Problem::conflict(
        "no_other_engine",
        "no other engine is ready with a free slot".to_owned(),
        "see /api/v1/engines; add an engine, or wait until a slot is free",
    ))
}
