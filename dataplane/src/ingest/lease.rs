//! An engine held for one session: given back once, stopped when it was used.

use std::{net::SocketAddr, rc::Rc};

use millrace_boundary::{EngineEntry, EngineEvidence, EngineId, FromShard, Output, SlotGuard};

use super::{engine, queue};
use crate::{context::Context, rt};

/// An engine's slot, and the session opened in it. Dropped, the session is
/// told to stop and the slot is freed after that.
pub(super) struct Lease {
    context: Rc<Context>,
    engine: EngineId,
    address: SocketAddr,
    source: Option<Output>,
    slot: Option<Slot>,
    command: Option<String>,
    opened: bool,
}

/// A slot that those who wait for one are told of when it is free again.
struct Slot {
    guard: Option<SlotGuard>,
    context: Rc<Context>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.guard = None;
        queue::slot_freed(&self.context);
    }
}

impl Lease {
    pub(super) fn new(context: &Rc<Context>, engine: &EngineEntry, slot: SlotGuard) -> Self {
        let slot = Slot { guard: Some(slot), context: Rc::clone(context) };
        Self {
            context: Rc::clone(context),
            engine: engine.id,
            address: engine.address,
            source: engine.source,
            slot: Some(slot),
            command: None,
            opened: false,
        }
    }

    pub(super) fn engine(&self) -> EngineId {
        self.engine
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// How this engine is asked, if it is not as others are.
    pub(super) fn source(&self) -> Option<Output> {
        self.source
    }

    /// Whether nobody knows yet which swarm plays here; see
    /// [`SlotGuard::is_unknown`].
    pub(super) fn is_unknown(&self) -> bool {
        self.guard().is_some_and(SlotGuard::is_unknown)
    }

    /// Everybody concerned knows from now on which swarm plays here.
    pub(super) fn known(&mut self) {
        if let Some(guard) = self.slot.as_mut().and_then(|slot| slot.guard.as_mut()) {
            guard.known();
        }
    }

    /// Whether something goes on beside it on the engine that a start may
    /// collide with: a stream starts whose swarm is not known, or a session is
    /// being stopped and takes every other one of its swarm with it.
    pub(super) fn has_unsettled_neighbour(&self) -> bool {
        let is_unsettled = |slot: &SlotGuard| {
            !slot.is_unknown() && (slot.slots().has_unknown() || slot.slots().has_stopping())
        };
        self.guard().is_some_and(is_unsettled)
    }

    fn guard(&self) -> Option<&SlotGuard> {
        self.slot.as_ref()?.guard.as_ref()
    }

    /// The engine has answered; from now on there is a session to stop, unless
    /// it has no command URL.
    pub(super) fn opened(&mut self, command: Option<String>) {
        self.opened = true;
        self.command = command;
    }

    /// Whether the engine has answered the start.
    pub(super) fn is_opened(&self) -> bool {
        self.opened
    }

    /// Gives the slot to others, although the engine may still answer.
    pub(super) fn free_slot(&mut self) {
        self.slot = None;
    }

    /// The session must not be stopped: stopping it would end another one of
    /// the same content on the same engine.
    pub(super) fn leave_running(mut self) {
        self.command = None;
    }

    /// Tells control what using the engine has shown.
    pub(super) fn report(&self, evidence: EngineEvidence) {
        self.context.tell(FromShard::Evidence { engine: self.engine, evidence });
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut slot = self.slot.take();
        let Some(command) = self.command.take() else { return };
        let (context, address) = (Rc::clone(&self.context), self.address);
        context.count(|c| c.engine_stops += 1);
        let pending = context.stop_begins();
        if let Some(guard) = slot.as_mut().and_then(|slot| slot.guard.as_mut()) {
            guard.stopping();
        }
        rt::spawn(async move {
            engine::stop(address, &command).await;
            drop(slot);
            drop(pending);
        });
    }
}
