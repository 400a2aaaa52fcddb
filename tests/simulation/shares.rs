//! What one endpoint of several may keep waiting in the window while it is left alone.

use std::sync::Arc;

use postrider::clock::Now;
use postrider::lane::Notice;

use crate::book::Book;
use crate::check::{Violation, ensure};
use crate::watch::Watch;
use crate::world::{SECOND, Time, time_of};

impl Watch {
    pub(crate) fn hears(&mut self, now: Now, notice: &Notice) {
        match notice {
            Notice::Opened {
                endpoint: Some(endpoint),
                ..
            } => {
                self.open.insert(Arc::clone(endpoint), time_of(now.tick));
            }
            Notice::Closed {
                endpoint: Some(endpoint),
                ..
            } => {
                self.open.remove(endpoint);
            }
            _ => {}
        }
    }

    /// One endpoint that is open holds a sixteenth of the window, or the eight that probes need a choice of. What waits for its time is soon over.
    pub(crate) fn shares(&self, now: Time) -> Result<(), Violation> {
        let share = (self.options.window.records / 16).max(8);
        let long = |since: &Time| self.looks_at_shares && now - since > 61 * SECOND;
        for (endpoint, _) in self.open.iter().filter(|(_, since)| long(since)) {
            let of_all = self
                .epochs
                .values()
                .filter(|a| a.start_committed && !a.leaving);
            let waits = |book: &&Book| {
                !book.in_flight
                    && !book.writing
                    && book.not_before <= now
                    && book.endpoint.as_ref() == Some(endpoint)
            };
            let held = of_all
                .flat_map(|a| a.unsettled.values())
                .filter(waits)
                .count();
            ensure!(
                held <= share,
                Bounds,
                "{held} records wait for endpoint {endpoint}, which is open; its share is {share}"
            );
        }
        Ok(())
    }
}
