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
    /// The file, when the last one was.
    refused_file: Option<Refused>,
    /// What the file names, when the last look at it was.
    refused_sources: Option<Refused>,
}

struct Refused {
    at: Timestamp,
    why: String,
}

impl InForce {
    pub(super) fn new(config: &Config, metrics: &Metrics) -> Self {
        let since = Clock::wall();
        metrics.configuration_taken(since, config.hash);
        Self(RwLock::new(State {
            config: Arc::new(config.clone()),
            since,
            refused_file: None,
            refused_sources: None,
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
            refused_file: None,
            refused_sources: None,
        };
    }

    /// The same text with other secrets: a file that was refused is so still.
    pub(super) fn take_sources(&self, config: Config, metrics: &Metrics) {
        let mut state = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if state.refused_sources.take().is_some() && state.refused_file.is_none() {
            metrics.configuration_taken(state.since, config.hash);
        }
        state.config = Arc::new(config);
    }

    /// Says everywhere that a file was refused, `whole`, or only what it names.
    pub(super) fn refuse(&self, why: &str, whole: bool, metrics: &Metrics) {
        metrics.configuration_refused();
        let cut = why.floor_char_boundary(PROBLEMS_MAX);
        let refused = Some(Refused {
            at: Clock::wall(),
            why: why[..cut].to_owned(),
        });
        let mut state = self.0.write().unwrap_or_else(PoisonError::into_inner);
        match whole {
            true => state.refused_file = refused,
            false => state.refused_sources = refused,
        }
    }

    pub(super) fn report(&self) -> ConfigurationReport {
        let state = self.lock();
        let refused = state.refused_file.iter().chain(&state.refused_sources);
        let last = refused.clone().map(|refused| refused.at).max();
        ConfigurationReport {
            loaded: rfc3339(state.since),
            refused: last.map(|at| RefusedReport {
                at: rfc3339(at),
                why: refused
                    .map(|refused| refused.why.trim_end())
                    .collect::<Vec<_>>()
                    .join("\n"),
            }),
        }
    }

    fn lock(&self) -> RwLockReadGuard<'_, State> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(in_force: &InForce) -> Option<String> {
        in_force.report().refused.map(|refused| refused.why)
    }

    #[test]
    fn a_refused_secret_does_not_take_the_place_of_a_refused_file() {
        let metrics = Metrics::new().unwrap();
        let config = crate::relay::tests::config();
        let in_force = InForce::new(&config, &metrics);
        in_force.refuse("the file", true, &metrics);
        in_force.refuse("the secret", false, &metrics);
        assert_eq!(why(&in_force).as_deref(), Some("the file\nthe secret"));
        in_force.take_sources(config.clone(), &metrics);
        assert_eq!(why(&in_force).as_deref(), Some("the file"));
        in_force.refuse("the secret", false, &metrics);
        in_force.take(config, &metrics);
        assert_eq!(why(&in_force), None);
    }
}
