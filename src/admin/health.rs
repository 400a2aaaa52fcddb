//! What the probes look at.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::{Clock, Tick};
use crate::heartbeat::Heartbeat;

/// Whoever must turn may be late by this much: half the watchdog's time, if it has none of its own.
const SILENCE_MAX: Duration = Duration::from_secs(15);
/// A broker must have answered within this time.
const BROKER_SILENCE_MAX: Duration = Duration::from_secs(30);

/// Whether the process is alive, and whether it is ready.
#[derive(Debug)]
pub struct Health {
    clock: Clock,
    /// How late whoever must turn may be.
    grace: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Per destination, nothing for the process: who must turn, and what that is called.
    hearts: BTreeMap<String, Vec<(String, Arc<Heartbeat>)>>,
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
    /// What a person must know although the process is ready: by destination and kind.
    warnings: BTreeMap<(String, &'static str), String>,
}

impl Health {
    /// Nothing has answered yet.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self {
            clock,
            grace: SILENCE_MAX,
            state: Mutex::default(),
        }
    }

    /// The same, where whoever must turn may be late by half of this time; `None` means what is usual.
    #[must_use]
    pub fn watched(clock: Clock, watchdog: Option<Duration>) -> Self {
        Self {
            grace: watchdog.map_or(SILENCE_MAX, |time| time / 2),
            ..Self::new(clock)
        }
    }

    /// Watches one of those who must turn for a destination, or, without a name, for all.
    pub fn watch(&self, destination: &str, name: String, heart: Arc<Heartbeat>) {
        let mut state = self.lock();
        let hearts = state.hearts.entry(destination.to_owned()).or_default();
        hearts.push((name, heart));
    }

    /// Stops watching what turned for a destination: it has ended on purpose.
    pub fn forget(&self, destination: &str) {
        let mut state = self.lock();
        state.hearts.remove(destination);
        state.unwritten.retain(|(name, _), _| name != destination);
        state.undecided.remove(destination);
        state.warnings.retain(|(name, _), _| name != destination);
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

    /// Why a connection to a broker failed lately; `None` when none did.
    #[must_use]
    pub fn why_away(&self) -> Option<String> {
        self.lock().connection_failed.clone()
    }

    /// That no broker answers, in words that hold soon after the start too.
    #[must_use]
    pub fn silence(&self) -> String {
        match self.lock().broker_answered {
            Some(_) => "no Kafka broker has answered within 30 s".to_owned(),
            None => "no Kafka broker has answered since the start".to_owned(),
        }
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

    /// What a person must know of a destination although the process is ready; `None` when that is
    /// over.
    pub fn warn(&self, destination: &str, kind: &'static str, warning: Option<String>) {
        let key = (destination.to_owned(), kind);
        let warnings = &mut self.lock().warnings;
        match warning {
            Some(warning) => drop(warnings.insert(key, warning)),
            None => drop(warnings.remove(&key)),
        }
    }

    /// What a person must know although the process is ready.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let state = self.lock();
        let warnings = state.warnings.iter();
        warnings
            .map(|((destination, _), warning)| format!("{destination}: {warning}"))
            .collect()
    }

    /// Who has not turned when he should have; nobody: the process is alive.
    #[must_use]
    pub fn overdue(&self) -> Vec<String> {
        let now = self.clock.now().tick;
        let state = self.lock();
        let hearts = state.hearts.values().flatten();
        hearts
            .filter(|(_, heart)| heart.is_overdue(now, self.grace))
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// Why the process is not ready; none: it is.
    #[must_use]
    pub fn not_ready(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        if !self.broker_answers() {
            let mut reason = self.silence();
            if let Some(cause) = self.why_away() {
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
