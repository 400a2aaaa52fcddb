//! The ways to the lanes that run: who wants to reach them looks here, for a reload brings lanes and takes them away.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tracing::error;

use crate::kafka::LadderBell;
use crate::lane::{Found, LaneStatus, Order};

use super::operators::LaneAsk;
use super::topics::Watched;

/// A lane that takes longer to listen is stuck.
const LANE_WAIT: Duration = Duration::from_secs(5);

/// The way to one lane.
#[derive(Clone)]
pub(super) struct Door {
    /// Never used twice: a lane that is begun anew is another one.
    pub(super) number: u64,
    pub(super) name: Arc<str>,
    pub(super) id: Arc<str>,
    pub(super) address: Arc<Address>,
    pub(super) asks: mpsc::Sender<LaneAsk>,
    /// How long before Kafka deletes its oldest record this is said.
    pub(super) retention_warning: Duration,
    /// Tells its rules from others.
    pub(super) rules: String,
    /// Where it is told of the ladder, if it ever reads it.
    pub(super) ladder: Option<Arc<LadderBell>>,
    /// Where it is told which topics its patterns mean, if it has any.
    pub(super) watched: Option<Arc<Watched>>,
}

/// The address behind a lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    /// What it is called: its host.
    pub(super) name: String,
    /// Tells it from another one, and does not say which it is.
    pub(super) fingerprint: String,
}

/// All of them.
#[derive(Default)]
pub(super) struct Doors(RwLock<State>);

#[derive(Default)]
struct State {
    doors: Vec<Arc<Door>>,
    /// The names of destinations that the file disables.
    disabled: Vec<Arc<str>>,
}

impl Doors {
    pub(super) fn new(doors: Vec<Arc<Door>>, disabled: Vec<Arc<str>>) -> Self {
        Self(RwLock::new(State { doors, disabled }))
    }

    /// All lanes, as they are at this moment, in the order of their names; the audit last.
    pub(super) fn all(&self) -> Vec<Arc<Door>> {
        self.lock().doors.clone()
    }

    pub(super) fn disabled(&self) -> Vec<Arc<str>> {
        self.lock().disabled.clone()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lock().doors.is_empty()
    }

    pub(super) fn named(&self, name: &str) -> Option<Arc<Door>> {
        let state = self.lock();
        let found = state.doors.iter().find(|door| *door.name == *name);
        found.cloned()
    }

    pub(super) fn of_id(&self, id: &str) -> Option<Arc<Door>> {
        let state = self.lock();
        let found = state.doors.iter().find(|door| *door.id == *id);
        found.cloned()
    }

    /// From now on it is these.
    pub(super) fn replace(&self, doors: Vec<Arc<Door>>, disabled: Vec<Arc<str>>) {
        let mut state = self.0.write().unwrap_or_else(PoisonError::into_inner);
        *state = State { doors, disabled };
    }

    fn lock(&self) -> RwLockReadGuard<'_, State> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Door {
    /// Its id, and what tells its rules from others.
    pub(super) fn rules(&self) -> (String, String) {
        (self.id.to_string(), self.rules.clone())
    }

    /// Has the lane do this, and gives what it says; `None` when it does not listen.
    pub(super) async fn tell(&self, order: Order) -> Option<Option<Found>> {
        let (reply, done) = oneshot::channel();
        let told = async {
            self.asks.send(LaneAsk::Order(order, reply)).await.ok()?;
            done.await.ok()
        };
        match tokio::time::timeout(LANE_WAIT, told).await {
            Ok(found) => found,
            // One that has ended needs no orders.
            Err(_) => {
                error!(
                    destination = &*self.name,
                    "the lane is stuck: an order does not reach it"
                );
                None
            }
        }
    }

    /// Asks what the lane does; `None` when it has ended, or does not listen.
    pub(super) fn ask_status(&self) -> Option<oneshot::Receiver<LaneStatus>> {
        let (reply, answer) = oneshot::channel();
        self.asks.try_send(LaneAsk::Status(reply)).ok()?;
        Some(answer)
    }
}
