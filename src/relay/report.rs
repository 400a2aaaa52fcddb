//! What requests and writes have to say to their lane.

use tokio::sync::mpsc;
use tracing::debug;

use crate::delivery::{Attempt, DeliveryKey, Outcome};
use crate::lane::{DeadLetter, LadderRecord, WriteError};
use crate::metrics::OwnedWrite;

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

/// The promise that a request or a write is reported exactly once, a panic included.
pub(super) struct OneReport {
    reporter: mpsc::Sender<Report>,
    if_it_panics: Option<Report>,
}

impl OneReport {
    pub(super) fn attempt(reporter: mpsc::Sender<Report>, key: DeliveryKey) -> Self {
        let attempt = Attempt {
            outcome: Outcome::Panicked,
            ..Attempt::failed_before_sending("the code that sends this record panicked".to_owned())
        };
        Self {
            reporter,
            if_it_panics: Some(Report::Attempt(key, attempt)),
        }
    }

    pub(super) fn write(reporter: mpsc::Sender<Report>, written: &Written) -> Self {
        let failed = WriteError::Failed("the code that writes this record panicked".to_owned());
        Self {
            reporter,
            if_it_panics: Some(Report::Write(written.clone(), Err(failed))),
        }
    }

    pub(super) async fn send(mut self, report: Report) {
        self.if_it_panics = None;
        // The lane always reads on; if it has ended, it needs no report.
        if self.reporter.send(report).await.is_err() {
            debug!("a report came after its lane had ended");
        }
    }
}

impl Drop for OneReport {
    fn drop(&mut self) {
        if let Some(mut report) = self.if_it_panics.take() {
            // What unwinds is on the thread that panicked.
            if std::thread::panicking()
                && let Report::Attempt(_, attempt) = &mut report
            {
                attempt.error.push_str(&panics::place());
            }
            let reporter = self.reporter.clone();
            tokio::spawn(async move { reporter.send(report).await });
        }
    }
}
