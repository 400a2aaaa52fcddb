//! The requests of a lane that keeps records in order, so that they can be left off.

use std::collections::{BTreeMap, BTreeSet};

use tokio::task::AbortHandle;

use crate::delivery::{Attempt, DeliveryKey, Outcome};
use crate::lane::Event;

/// The requests under way; those of a lane that leaves none off are not kept here.
#[derive(Debug, Default)]
pub(super) struct Requests {
    under_way: BTreeMap<DeliveryKey, AbortHandle>,
    aborted: BTreeSet<DeliveryKey>,
}

impl Requests {
    pub(super) fn began(&mut self, key: DeliveryKey, handle: AbortHandle) {
        self.under_way.insert(key, handle);
    }

    /// Leaves these off. Each says in its report that it has ended, as one that panics does.
    pub(super) fn abort(&mut self, keys: Vec<DeliveryKey>) {
        for key in keys {
            if let Some(handle) = self.under_way.get(&key) {
                handle.abort();
                self.aborted.insert(key);
            }
        }
    }

    /// What the lane is to hear of a request that has ended.
    pub(super) fn ended(&mut self, key: DeliveryKey, attempt: Attempt) -> Event {
        self.under_way.remove(&key);
        if self.aborted.remove(&key) && attempt.outcome == Outcome::Panicked {
            return Event::Aborted { key };
        }
        Event::AttemptEnded { key, attempt }
    }
}
