//! The file that is in force, and the one that was refused, if the last one was.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use crate::admin::api::{ConfigurationReport, RefusedReport};
use crate::clock::{Clock, Timestamp};
use crate::config::Config;
use crate::metrics::Metrics;

use super::overview::rfc3339;

/// So much of what is wrong with a refused file is kept for the status.
const PROBLEMS_MAX: usize = 4096;

/// What is in force.
pub struct InForce(RwLock<State>);

struct State {
    config: Arc<Config>,
    since: Timestamp,
    refused: Option<Refused>,
}

struct Refused {
    at: Timestamp,
    why: String,
    /// Whether it was the file itself that was read again.
    whole: bool,
}

impl InForce {
    pub(super) fn new(config: &Config, metrics: &Metrics) -> Self {
        let since = Clock::wall();
        metrics.configuration_taken(since, config.hash);
        Self(RwLock::new(State {
            config: Arc::new(config.clone()),
            since,
            refused: None,
        }))
    }

    /// How long what is in flight may take at the end.
    #[must_use]
    pub fn drain(&self) -> Duration {
        self.lock().config.limits.drain
    }

    pub(super) fn config(&self) -> Arc<Config> {
        Arc::clone(&self.lock().config)
    }

    pub(super) fn take(&self, config: Config, metrics: &Metrics) {
        let since = Clock::wall();
        metrics.configuration_taken(since, config.hash);
        let mut state = self.0.write().unwrap_or_else(PoisonError::into_inner);
        *state = State {
            config: Arc::new(config),
            since,
            refused: None,
        };
    }

    /// The same text with other secrets: a file that was refused is so still.
    pub(super) fn take_sources(&self, config: Config, metrics: &Metrics) {
        let mut state = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if state.refused.take_if(|refused| !refused.whole).is_some() {
            metrics.configuration_taken(state.since, config.hash);
        }
        state.config = Arc::new(config);
    }

    /// Says everywhere that a file was refused.
    pub(super) fn refuse(&self, why: &str, whole: bool, metrics: &Metrics) {
        metrics.configuration_refused();
        let cut = why.floor_char_boundary(PROBLEMS_MAX);
        let mut state = self.0.write().unwrap_or_else(PoisonError::into_inner);
        state.refused = Some(Refused {
            at: Clock::wall(),
            why: why[..cut].to_owned(),
            // One that was refused before is so still.
            whole: whole || state.refused.as_ref().is_some_and(|refused| refused.whole),
        });
    }

    pub(super) fn report(&self) -> ConfigurationReport {
        let state = self.lock();
        ConfigurationReport {
            loaded: rfc3339(state.since),
            refused: state.refused.as_ref().map(|refused| RefusedReport {
                at: rfc3339(refused.at),
                why: refused.why.clone(),
            }),
        }
    }

    fn lock(&self) -> RwLockReadGuard<'_, State> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }
}
