//! Where the requests and the writes of one lane are made, and how each is reported to it.

use std::sync::Arc;

use bytes::Bytes;
use prometheus::Histogram;
use tokio::sync::mpsc;

use crate::clock::{Clock, Timestamp};
use crate::delivery::{Attempt, Outcome};
use crate::lane::Send;

use super::outlet::Outlet;
use super::report::Report;
use super::say;

/// What every request needs, in one place so that a request takes hold of it at once.
#[derive(Clone)]
pub(super) struct Desk {
    pub(super) name: Arc<str>,
    /// `None` in the audit, whose records are never sent.
    pub(super) outlet: Option<Arc<Outlet>>,
    pub(super) duration: Histogram,
    pub(super) age: Histogram,
    pub(super) clock: Clock,
    pub(super) reporter: mpsc::Sender<Report>,
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
