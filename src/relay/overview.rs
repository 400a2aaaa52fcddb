//! The status of everything, as operators see it.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::admin::api::{
    DestinationReport, FailureReport, HeldKeyReport, OrderResult, PauseReport, RecordPlace,
    RetriesReport, RetryReport, StatusReport,
};
use crate::clock::{Clock, Timestamp};
use crate::config;
use crate::kafka::{WaitingRetries, WaitingRetry};
use crate::lane::{Asked, Doing, HeldKey, LaneStatus, LastFailure};

use super::book::GoneEndpoint;
use super::doors::Door;
use super::lag;
use super::operators::FrontDesk;

/// How long the lanes may take to say what they do.
const LANE_WAIT: Duration = Duration::from_secs(2);
/// How many of those that wait on the ladder are shown, and how long it may take to look for them.
const RETRIES_MAX: usize = 1000;
const RETRIES_WAIT: Duration = Duration::from_secs(10);

impl FrontDesk {
    pub(super) async fn status(&self) -> StatusReport {
        let doors = self.doors.all();
        let mut answers = self.ask_lanes(&doors).await;
        lag::fill(&self.ends, &mut answers).await;
        self.report(&doors, &mut answers)
    }

    /// What the lanes have said of themselves, with what they cannot know.
    pub(super) fn report(
        &self,
        doors: &[Arc<Door>],
        answers: &mut [Option<LaneStatus>],
    ) -> StatusReport {
        let now = Clock::wall();
        let known = self.known();
        let mut destinations: Vec<_> = doors
            .iter()
            .zip(answers)
            .map(|(door, status)| match status {
                Some(status) => {
                    let by = known.book.pause(&door.id);
                    complete(status, by, known.begun);
                    if let Some(gone) = known.book.gone(&door.id, &door.address.fingerprint) {
                        remember(status, gone);
                    }
                    let mut report = report(door, status, by, now);
                    self.show_outdated(door, &mut report);
                    report
                }
                None => silent(door),
            })
            .collect();
        destinations.extend(self.doors.disabled().iter().map(|name| DestinationReport {
            name: name.to_string(),
            state: "disabled".to_owned(),
            words: "disabled in the file: its records wait in Kafka".to_owned(),
            ..DestinationReport::default()
        }));
        StatusReport {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            at: rfc3339(now),
            kafka_connected: self.health.broker_answers(),
            kafka_silence: (!self.health.broker_answers()).then(|| self.health.silence()),
            state_known: known.read,
            configuration: self.in_force.report(),
            destinations,
        }
    }

    /// What waits on the ladder for a destination; by its id, also for one that the file no longer has.
    pub(super) async fn retries(&self, name: &str) -> RetriesReport {
        let problem = |result: OrderResult, text: String| RetriesReport {
            problem: Some(text),
            result,
            ..RetriesReport::default()
        };
        let away = |error: &dyn std::fmt::Display| {
            let why = self.health.why_away().unwrap_or_else(|| error.to_string());
            let text = format!("the ladder cannot be read: {why}");
            problem(OrderResult::Unavailable, text)
        };
        let door = self.doors.named(name);
        let id = door
            .as_ref()
            .map_or_else(|| Arc::from(name), |door| Arc::clone(&door.id));
        let (ladder, clock) = (Arc::clone(&self.ladder), self.clock);
        let look = move || ladder.waiting(&id, RETRIES_MAX, clock, RETRIES_WAIT);
        match tokio::task::spawn_blocking(look).await {
            Ok(Ok(found)) if door.is_none() && found.total == 0 => {
                let doors = self.doors.all();
                let names: Vec<&str> = doors.iter().map(|door| &*door.name).collect();
                let text = config::unknown_destination(name, &names);
                let text = format!("{text} (and nothing on the ladder is for that id)");
                problem(OrderResult::Unknown, text)
            }
            Ok(Ok(found)) => retries_report(found),
            Ok(Err(error)) => away(&error),
            Err(error) => away(&error),
        }
    }

    /// What each lane says of itself; nothing of one that has ended, or does not listen.
    pub(super) async fn ask_lanes(&self, doors: &[Arc<Door>]) -> Vec<Option<LaneStatus>> {
        // All are asked at once, and have the same time: one that is stuck does not make the others late.
        let asked: Vec<_> = doors.iter().map(|door| door.ask_status()).collect();
        let until =
            tokio::time::Instant::from(self.clock.instant(self.clock.now().tick + LANE_WAIT));
        let mut answers = Vec::with_capacity(asked.len());
        for answer in asked {
            let answer = match answer {
                Some(answer) => tokio::time::timeout_at(until, answer).await.ok(),
                None => None,
            };
            answers.push(answer.and_then(Result::ok));
        }
        answers
    }
}

fn retries_report(found: WaitingRetries) -> RetriesReport {
    let mut waiting = found.first;
    waiting.sort_by_key(|retry| retry.carried.due);
    let report = |WaitingRetry {
                      record, carried, ..
                  }: WaitingRetry| RetryReport {
        id: carried.id.to_string(),
        record: RecordPlace {
            topic: record.topic.to_string(),
            partition: record.partition,
            offset: record.offset,
        },
        rule: carried.rule.to_string(),
        attempts: carried.attempts,
        due: rfc3339(carried.due),
        status: carried.status,
        error: carried.error.clone(),
    };
    RetriesReport {
        total: found.total,
        complete: found.complete,
        retries: waiting.into_iter().map(report).collect(),
        problem: None,
        result: OrderResult::Done,
    }
}

/// What the lane cannot know: who paused it, and that it may not begin yet.
fn complete(status: &mut LaneStatus, by: Option<&Asked>, begun: bool) {
    if let Doing::Paused { by: whom } = &mut status.doing {
        *whom = by.cloned().map(Box::new);
    }
    if matches!(status.doing, Doing::Paused { .. }) && !begun {
        status.doing = Doing::Starting;
    }
}

/// What the lane does not know after a restart: since when its endpoint is gone, and what that one said.
fn remember(status: &mut LaneStatus, gone: &GoneEndpoint) {
    if let Doing::Gone { since } = &mut status.doing {
        *since = gone.asked.at;
        status.last_failure.get_or_insert_with(|| LastFailure {
            status: gone.status,
            reason: None,
            error: gone.asked.reason.clone(),
            at: gone.asked.at,
        });
    }
}

fn report(
    door: &Door,
    status: &LaneStatus,
    by: Option<&Asked>,
    now: Timestamp,
) -> DestinationReport {
    let waiting = status.waiting.by_state();
    let (since, next_attempt) = times(&status.doing);
    DestinationReport {
        name: door.name.to_string(),
        id: door.id.to_string(),
        endpoint: door.address.name.clone(),
        state: status.doing.name().to_owned(),
        words: status.words(now, &door.address.name),
        waiting: waiting
            .map(|(state, count)| (state.to_owned(), count as u64))
            .into(),
        waiting_total: status.waiting.total() as u64,
        partitions: status.positions.len() as u64,
        lag: status.lag,
        oldest_waiting: status.oldest_waiting.map(rfc3339),
        since: since.map(rfc3339),
        next_attempt: next_attempt.map(rfc3339),
        last_failure: status.last_failure.as_ref().map(|failure| FailureReport {
            status: failure.status,
            reason: failure.reason.map(str::to_owned),
            error: failure.error.clone(),
            at: rfc3339(failure.at),
        }),
        paused: by.map(|by| PauseReport {
            who: by.who.clone(),
            reason: by.reason.clone(),
            at: rfc3339(by.at),
            left: by.left,
            until: by.until.map(rfc3339),
        }),
        held_keys: status.held.iter().map(held_key).collect(),
    }
}

fn held_key(held: &HeldKey) -> HeldKeyReport {
    HeldKeyReport {
        key: held.name(),
        key_base64: STANDARD.encode(&held.key),
        record: RecordPlace {
            topic: held.topic.to_string(),
            partition: held.partition,
            offset: held.offset,
        },
        waiting: held.behind as u64,
        for_a_person: held.by_a_person,
    }
}

/// Since when, and until when.
fn times(doing: &Doing) -> (Option<Timestamp>, Option<Timestamp>) {
    match doing {
        Doing::Held { until } => (None, Some(*until)),
        Doing::Open { since, next_probe } => (Some(*since), *next_probe),
        Doing::Gone { since } | Doing::Braked { since, .. } => (Some(*since), None),
        Doing::Paused { by } => match by {
            Some(by) => (Some(by.at), by.until),
            None => (None, None),
        },
        Doing::Starting
        | Doing::Running
        | Doing::Doubt
        | Doing::OneAtATime { .. }
        | Doing::Blocked
        | Doing::Expired { .. }
        | Doing::Damaged { .. }
        | Doing::Draining => (None, None),
    }
}

/// A lane that has ended, or does not listen.
fn silent(door: &Door) -> DestinationReport {
    DestinationReport {
        name: door.name.to_string(),
        id: door.id.to_string(),
        endpoint: door.address.name.clone(),
        state: "stopped".to_owned(),
        words: "does not answer: it has ended, or is stuck".to_owned(),
        ..DestinationReport::default()
    }
}

pub(super) fn rfc3339(time: Timestamp) -> String {
    jiff::Timestamp::from_millisecond(time.0)
        .unwrap_or_default()
        .to_string()
}
