//! What the probes look at.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::{Clock, Tick};

/// A consumer's loop may be silent for this long: half the watchdog's time.
const LOOP_SILENCE_MAX: Duration = Duration::from_secs(15);
/// A broker must have answered within this time.
const BROKER_SILENCE_MAX: Duration = Duration::from_secs(30);

/// Whether the process is alive, and whether it is ready.
#[derive(Debug)]
pub struct Health {
    clock: Clock,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Per destination: when each of its consumers' loops last turned, in milliseconds of the clock.
    loops: BTreeMap<String, Vec<Arc<AtomicU64>>>,
    broker_answered: Option<Tick>,
    /// Why a connection to a broker failed lately.
    connection_failed: Option<String>,
    /// What is wrong with the topics of our own; `None` before they were looked at, empty when they are there.
    owned_topics: Option<String>,
    /// What is wrong with the state topic, if anything is known to be.
    state_topic: Option<String>,
    /// Why the lanes are not members of their groups yet.
    rollout: Option<String>,
    /// What a destination cannot write to the topics of our own, and why: by destination and kind of write.
    unwritten: BTreeMap<(String, &'static str), String>,
    /// What waits for a person's decision, by destination.
    undecided: BTreeMap<String, String>,
}

impl Health {
    /// Nothing has answered yet.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self {
            clock,
            state: Mutex::default(),
        }
    }

    /// Watches the loops of a destination's consumers.
    pub fn watch(&self, destination: &str, beats: Vec<Arc<AtomicU64>>) {
        self.lock().loops.insert(destination.to_owned(), beats);
    }

    /// Stops watching a destination's consumers: they have ended on purpose.
    pub fn forget(&self, destination: &str) {
        let mut state = self.lock();
        state.loops.remove(destination);
        state.unwritten.retain(|(name, _), _| name != destination);
        state.undecided.remove(destination);
    }

    /// A broker has answered.
    pub fn broker_answered(&self) {
        self.lock().broker_answered = Some(self.clock.now().tick);
    }

    /// Why a connection to a broker failed lately; `None` when none did.
    pub fn connection_failed(&self, cause: Option<String>) {
        self.lock().connection_failed = cause;
    }

    /// Whether a broker has answered lately.
    #[must_use]
    pub fn broker_answers(&self) -> bool {
        let now = self.clock.now().tick;
        self.lock()
            .broker_answered
            .is_some_and(|then| now.since(then) <= BROKER_SILENCE_MAX)
    }

    /// What is wrong with the topics of our own; `None` when nothing is.
    pub fn owned_topics(&self, problem: Option<String>) {
        self.lock().owned_topics = Some(problem.unwrap_or_default());
    }

    /// What is wrong with the state topic beyond being there; `None` when nothing is.
    pub fn state_topic(&self, problem: Option<String>) {
        self.lock().state_topic = problem;
    }

    /// Why lanes are not members of their groups yet; `None` when they are, or are not to be.
    pub fn rollout(&self, problem: Option<String>) {
        self.lock().rollout = problem;
    }

    /// Why a destination cannot write what it must; `None` when it can.
    pub fn writes(&self, destination: &str, kind: &'static str, problem: Option<String>) {
        let key = (destination.to_owned(), kind);
        let unwritten = &mut self.lock().unwritten;
        match problem {
            Some(problem) => drop(unwritten.insert(key, problem)),
            None => drop(unwritten.remove(&key)),
        }
    }

    /// What of a destination stands still until a person decides; `None` when nothing does.
    pub fn decision(&self, destination: &str, problem: Option<String>) {
        let undecided = &mut self.lock().undecided;
        match problem {
            Some(problem) => drop(undecided.insert(destination.to_owned(), problem)),
            None => drop(undecided.remove(destination)),
        }
    }

    /// The destinations whose consumers' loops have not turned when they should have; none: the process is alive.
    #[must_use]
    pub fn stuck_loops(&self) -> Vec<String> {
        let now = self.clock.now().tick;
        let stuck = |beat: &AtomicU64| {
            let beat = Tick(Duration::from_millis(beat.load(Ordering::Relaxed)));
            now.since(beat) > LOOP_SILENCE_MAX
        };
        let state = self.lock();
        state
            .loops
            .iter()
            .filter(|(_, beats)| beats.iter().any(|beat| stuck(beat)))
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// Why the process is not ready; none: it is.
    #[must_use]
    pub fn not_ready(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        if !self.broker_answers() {
            let mut reason = "no Kafka broker has answered within 30 s".to_owned();
            if let Some(cause) = self.lock().connection_failed.as_deref() {
                reason.push_str(&format!("; a connection failed: {cause}"));
            }
            reasons.push(reason);
        }
        match self.lock().owned_topics.as_deref() {
            None => reasons.push("the topics of our own have not been looked at yet".to_owned()),
            Some("") => {}
            Some(problem) => reasons.push(problem.to_owned()),
        }
        let state = self.lock();
        reasons.extend(state.state_topic.clone());
        reasons.extend(state.rollout.clone());
        let undecided = state.undecided.iter();
        reasons.extend(undecided.map(|(destination, problem)| format!("{destination}: {problem}")));
        let unwritten = state.unwritten.iter();
        reasons.extend(unwritten.map(|((destination, kind), problem)| {
            format!(
                "{destination}: its records stay, because a {kind} cannot be written: {problem}"
            )
        }));
        reasons
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
