//! What the API tells of streams and engines.

use anyhow::Result;
use millrace_emulator::ContentId;
use serde_json::Value;

use crate::support::scene::Scene;

/// What the API tells at one time; of streams, up to a second old.
pub(crate) struct Board {
    streams: Value,
    /// Engines that are ready and play nothing.
    pub(crate) spare: usize,
}

impl Board {
    /// What the API tells now.
    pub(crate) fn of(scene: &Scene) -> Result<Self> {
        let is_spare = |engine: &&Value| engine["state"] == "ready" && engine["slots"]["taken"] == 0;
        let spare = scene.engines()?.iter().filter(is_spare).count();
        Ok(Self { streams: scene.api("streams")?, spare })
    }

    /// The id of the engine that plays `id`, while it is live.
    fn engine(&self, id: &ContentId) -> Option<u64> {
        let key = format!("id:{id}");
        let all = self.streams["streams"].as_array()?;
        let stream = all.iter().find(|stream| stream["key"] == key.as_str())?;
        (stream["state"] == "live").then(|| stream["engine"].as_u64()).flatten()
    }

    /// The index of the engine that plays `id`, when API and engine agree.
    pub(crate) fn playing(&self, scene: &Scene, id: &ContentId) -> Option<usize> {
        let index = scene.index_of(self.engine(id)?)?;
        let counters = scene.emulator.engine_counters(index);
        let readers = counters.per_content.get(&id.infohash())?.open_readers;
        (readers == 1).then_some(index)
    }
}
