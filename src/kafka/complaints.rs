//! What librdkafka complains about, said once: every client of the process meets the same trouble, on each of its tries, in two voices.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use tracing::{debug, error, info, warn};

use crate::clock::{Clock, Tick};
use crate::lane::Step;

/// The same complaint is not said again before this time has passed.
const SILENCE: Duration = Duration::from_secs(300);
/// A connection that has failed longer ago than this explains nothing any more.
const FRESH: Duration = Duration::from_secs(60);
/// Different complaints that are remembered; with more of them, what was said first is forgotten, and said again.
const KINDS_MAX: usize = 64;
/// A connection that the other side closes before this has passed was never wanted there; idle ones end after minutes.
const CLOSED_AT_ONCE_MS: u64 = 1000;

/// The complaints of all clients of the process.
pub struct Complaints {
    clock: Clock,
    state: Mutex<State>,
    suppressed: AtomicU64,
}

#[derive(Default)]
struct State {
    said: BTreeMap<String, Said>,
    /// Why a connection last failed, and when.
    connection: Option<(Tick, String)>,
}

struct Said {
    at: Tick,
    /// How often it came since then.
    kept_back: u64,
}

impl Complaints {
    /// Nothing has gone wrong yet.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self {
            clock,
            state: Mutex::default(),
            suppressed: AtomicU64::new(0),
        }
    }

    /// Why a connection failed within the last minute, if one did.
    #[must_use]
    pub fn connection(&self) -> Option<String> {
        let now = self.clock.now().tick;
        let state = self.lock();
        let fresh = |(at, _): &&(Tick, String)| now.since(*at) <= FRESH;
        let (_, cause) = state.connection.as_ref().filter(fresh)?;
        Some(cause.clone())
    }

    /// How many lines were kept back because they had been said.
    #[must_use]
    pub fn suppressed(&self) -> u64 {
        self.suppressed.load(Ordering::Relaxed)
    }

    /// librdkafka's own log, on our log.
    pub(super) fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        let message = without_thread(message);
        // "X is a consumer property and will be ignored by this producer": the file's properties go to every client, and that is as it should be.
        if facility == "CONFWARN" {
            return debug!(facility, "librdkafka: {message}");
        }
        if facility == "FAIL" {
            return self.connection_failed(level, message);
        }
        match level {
            RDKafkaLogLevel::Emerg
            | RDKafkaLogLevel::Alert
            | RDKafkaLogLevel::Critical
            | RDKafkaLogLevel::Error => {
                self.say(message, |repeated| {
                    error!(facility, repeated, "librdkafka: {message}");
                });
            }
            RDKafkaLogLevel::Warning => {
                self.say(message, |repeated| {
                    warn!(facility, repeated, "librdkafka: {message}");
                });
            }
            RDKafkaLogLevel::Notice => info!(facility, "librdkafka: {message}"),
            RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug => {
                debug!(facility, "librdkafka: {message}");
            }
        }
    }

    /// An error of the client as a whole. librdkafka tries again by itself, and says so on each try: only what it will not mend is a warning.
    pub(super) fn report(&self, error: &KafkaError, reason: &str) {
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::Fatal) => error!(%error, "Kafka client: {reason}"),
            // Its log has said it already.
            Some(RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SSL) => {
                debug!(%error, "Kafka client: {reason}");
            }
            // A step of the ladder that is not there yet is being made; what stands against it, upkeep says.
            Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic)
                if names_a_step(reason) =>
            {
                debug!(%error, "Kafka client: {reason}");
            }
            Some(
                RDKafkaErrorCode::UnknownTopicOrPartition
                | RDKafkaErrorCode::UnknownTopic
                | RDKafkaErrorCode::TopicAuthorizationFailed
                | RDKafkaErrorCode::GroupAuthorizationFailed,
            ) => self.say(reason, |repeated| {
                warn!(%error, repeated, "Kafka client: {reason}");
            }),
            _ => debug!(%error, "Kafka client: {reason}"),
        }
    }

    fn connection_failed(&self, level: RDKafkaLogLevel, message: &str) {
        let (cause, after_ms) = cause(message);
        let mut cause = cause.replacen("/bootstrap: ", ": ", 1);
        if cause.contains(": Disconnected") {
            if after_ms >= CLOSED_AT_ONCE_MS {
                return debug!(?level, "librdkafka: {message}");
            }
            cause.push_str(", at once: is security.protocol the one of this listener?");
        }
        self.lock().connection = Some((self.clock.now().tick, cause.clone()));
        self.say(&cause, |repeated| {
            warn!(repeated, "a connection to Kafka failed: {cause}");
        });
    }

    /// Says it with the number of times it was kept back, unless it was said lately.
    fn say(&self, text: &str, say: impl FnOnce(u64)) {
        match self.due(text) {
            Some(repeated) => say(repeated),
            None => {
                self.suppressed.fetch_add(1, Ordering::Relaxed);
                debug!("said before: {text}");
            }
        }
    }

    fn due(&self, text: &str) -> Option<u64> {
        let now = self.clock.now().tick;
        let mut state = self.lock();
        if let Some(said) = state.said.get_mut(text) {
            if now.since(said.at) < SILENCE {
                said.kept_back += 1;
                return None;
            }
            said.at = now;
            return Some(std::mem::take(&mut said.kept_back));
        }
        if state.said.len() >= KINDS_MAX {
            let oldest = state.said.iter().min_by_key(|(_, said)| said.at);
            if let Some(oldest) = oldest.map(|(text, _)| text.clone()) {
                state.said.remove(&oldest);
            }
        }
        let said = Said {
            at: now,
            kept_back: 0,
        };
        state.said.insert(text.to_owned(), said);
        Some(0)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Complaints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Complaints")
    }
}

/// `[thrd:NAME]: ` goes: which thread says it helps nobody.
fn without_thread(message: &str) -> &str {
    message
        .strip_prefix("[thrd:")
        .and_then(|rest| rest.split_once("]: "))
        .map_or(message, |(_, message)| message)
}

/// What stays the same from try to try, and how long the connection had been as it was, which stands in the brackets that change:
/// `(after 2ms in state CONNECT, 3 identical error(s) suppressed)`.
fn cause(message: &str) -> (&str, u64) {
    let Some((cause, rest)) = message.rsplit_once(" (after ") else {
        return (message, u64::MAX);
    };
    let after_ms = rest.split_once("ms").and_then(|(ms, _)| ms.parse().ok());
    (cause, after_ms.unwrap_or(u64::MAX))
}

/// Whether a complaint is about a topic of the ladder, or about the replay.
fn names_a_step(reason: &str) -> bool {
    let named = |step: &Step| reason.contains(&format!(".retry.{}:", step.name()));
    let replay = format!(".{}:", Step::Replay.name());
    reason.contains(&replay) || Step::ALL.iter().any(named)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_failure_is_said_once() {
        let complaints = Complaints::new(Clock::start());
        let line = |ms, more: &str| {
            format!(
                "[thrd:ssl://k:1/bootstrap]: ssl://k:1/bootstrap: SSL handshake failed: no (after {ms}ms in state SSL_HANDSHAKE{more})"
            )
        };
        let log = |line: &str| complaints.log(RDKafkaLogLevel::Error, "FAIL", line);
        log(&line(1, ""));
        log(&line(20, ", 3 identical error(s) suppressed"));
        assert_eq!(complaints.suppressed(), 1);
        assert_eq!(
            complaints.connection().as_deref(),
            Some("ssl://k:1: SSL handshake failed: no")
        );
    }

    #[test]
    fn a_connection_that_ends_when_idle_is_no_failure() {
        let complaints = Complaints::new(Clock::start());
        let idle = "k:1/1: Disconnected (after 600000ms in state UP)";
        complaints.log(RDKafkaLogLevel::Info, "FAIL", idle);
        assert_eq!(complaints.connection(), None);
        let early =
            "k:1/bootstrap: Disconnected: closed by peer (after 1ms in state APIVERSION_QUERY)";
        complaints.log(RDKafkaLogLevel::Info, "FAIL", early);
        assert!(
            complaints
                .connection()
                .is_some_and(|c| c.contains("security.protocol"))
        );
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let complaints = Complaints::new(Clock::start());
        for n in 0..1000 {
            complaints.say(&n.to_string(), |_| {});
        }
        assert_eq!(complaints.lock().said.len(), KINDS_MAX);
    }
}
