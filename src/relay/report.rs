//! What requests and writes have to say to their lane, and how writes begin.

use std::sync::Arc;

use tracing::debug;

use crate::delivery::{Attempt, DeliveryKey, Outcome};
use crate::lane::{DeadLetter, LadderRecord, WriteError};
use crate::metrics::OwnedWrite;

use super::desk::Desk;
use super::lane_task::LaneTask;
use super::panics;

/// What a request or a write has to say.
pub(super) enum Report {
    Attempt(DeliveryKey, Attempt),
    Write(Written, Result<(), WriteError>),
}

/// What was to be written to a topic of our own.
#[derive(Clone)]
pub(super) enum Written {
    DeadLetter(Box<DeadLetter>),
    Ladder(Box<LadderRecord>),
}

impl Written {
    pub(super) fn key(&self) -> DeliveryKey {
        match self {
            Self::DeadLetter(letter) => letter.key,
            Self::Ladder(record) => record.key,
        }
    }

    pub(super) fn kind(&self) -> OwnedWrite {
        match self {
            Self::DeadLetter(_) => OwnedWrite::DeadLetter,
            Self::Ladder(_) => OwnedWrite::Ladder,
        }
    }
}

/// What is reported when the code panics.
pub(super) enum Promise {
    Attempt(DeliveryKey),
    Write(Written),
}

impl Promise {
    /// `place` is where the panic was, if that is known.
    fn broken(self, place: &str) -> Report {
        match self {
            Self::Attempt(key) => {
                let error = format!("the code that sends this record panicked{place}");
                let attempt = Attempt {
                    outcome: Outcome::Panicked,
                    ..Attempt::failed_before_sending(error)
                };
                Report::Attempt(key, attempt)
            }
            Self::Write(written) => {
                let error = "the code that writes this record panicked".to_owned();
                Report::Write(written, Err(WriteError::Failed(error)))
            }
        }
    }
}

/// The promise that a request or a write is reported exactly once, a panic included.
pub(super) struct OneReport {
    desk: Arc<Desk>,
    promise: Option<Promise>,
}

impl OneReport {
    pub(super) fn of(desk: &Arc<Desk>, promise: Promise) -> Self {
        Self {
            desk: Arc::clone(desk),
            promise: Some(promise),
        }
    }

    pub(super) fn desk(&self) -> &Desk {
        &self.desk
    }

    pub(super) async fn send(mut self, report: Report) {
        self.promise = None;
        // The lane always reads on; if it has ended, it needs no report.
        if self.desk.reporter.send(report).await.is_err() {
            debug!("a report came after its lane had ended");
        }
    }
}

impl Drop for OneReport {
    fn drop(&mut self) {
        if let Some(promise) = self.promise.take() {
            // What unwinds is on the thread that panicked.
            let place = match std::thread::panicking() {
                true => panics::place(),
                false => String::new(),
            };
            let reporter = self.desk.reporter.clone();
            tokio::spawn(async move { reporter.send(promise.broken(&place)).await });
        }
    }
}

impl LaneTask {
    /// Begins a write; what becomes of it is reported.
    pub(super) fn write(&self, written: Written) {
        let producer = Arc::clone(&self.parts.producer);
        let destination_id = Arc::clone(&self.parts.id);
        let report = OneReport::of(&self.desk, Promise::Write(written.clone()));
        tokio::spawn(async move {
            let result = match &written {
                Written::DeadLetter(letter) => {
                    producer.write_dead_letter(letter, &destination_id).await
                }
                Written::Ladder(record) => producer.write_ladder(record, &destination_id).await,
            };
            report.send(Report::Write(written, result)).await;
        });
    }
}
