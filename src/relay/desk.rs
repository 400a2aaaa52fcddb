//! Where the requests and the writes of one lane are made, and how each is reported to it.

use std::sync::Arc;

use bytes::Bytes;
use prometheus::Histogram;
use tokio::sync::mpsc;
use tracing::debug;

use crate::clock::{Clock, Timestamp};
use crate::delivery::{Attempt, DeliveryKey, Outcome};
use crate::lane::{DeadLetter, Send, WriteError};

use super::outlet::Outlet;
use super::say;

/// What every request needs, in one place so that a request takes hold of it at once.
pub(super) struct Desk {
    pub(super) name: Arc<str>,
    /// `None` in the audit, whose records are never sent.
    pub(super) outlet: Option<Arc<Outlet>>,
    pub(super) duration: Histogram,
    pub(super) age: Histogram,
    pub(super) clock: Clock,
    pub(super) reporter: mpsc::Sender<Report>,
}

/// What a request or a write has to say.
pub(super) enum Report {
    Attempt(DeliveryKey, Attempt),
    Write(Box<DeadLetter>, Result<(), WriteError>),
}

impl Desk {
    /// One attempt, from the template to the answer; nothing in the audit, which sends nothing.
    pub(super) async fn attempt(&self, send: &Send, payload: Bytes) -> Option<Attempt> {
        let outlet = self.outlet.as_ref()?;
        let began = self.clock.now();
        let content = match outlet.content(send, payload) {
            Ok(content) => content,
            Err(error) => {
                if outlet.drops {
                    say::dropped(&self.name, send, &error);
                }
                return Some(Attempt::failed_before_sending(error));
            }
        };
        let attempt = outlet.attempt(send, &content, began.wall).await;
        let ended = self.clock.now();
        let took = ended.tick.since(began.tick);
        self.duration.observe(took.as_secs_f64());
        say::attempt_ended(&self.name, send, &attempt, took);
        if attempt.outcome == Outcome::Delivered
            && let Some(Timestamp(written)) = send.record.timestamp
        {
            self.age
                .observe((ended.wall.0 - written).max(0) as f64 / 1000.0);
        }
        Some(attempt)
    }
}

/// What is reported when the code panics.
pub(super) enum Promise {
    Attempt(DeliveryKey),
    Write(Box<DeadLetter>),
}

impl Promise {
    fn broken(self) -> Report {
        match self {
            Self::Attempt(key) => {
                let error = "the code that sends this record panicked".to_owned();
                let attempt = Attempt {
                    outcome: Outcome::Panicked,
                    ..Attempt::failed_before_sending(error)
                };
                Report::Attempt(key, attempt)
            }
            Self::Write(letter) => {
                let error = "the code that writes this dead letter panicked".to_owned();
                Report::Write(letter, Err(WriteError::Failed(error)))
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
            let reporter = self.desk.reporter.clone();
            tokio::spawn(async move { reporter.send(promise.broken()).await });
        }
    }
}
