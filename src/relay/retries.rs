//! When a lane begins to read the ladder. Most have nothing to retry, and a consumer costs threads, connections and a quarter of a megabyte: so it
//! begins when there is something for it, which the lane knows of what it has written itself, and else is looked for.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::kafka::{Broker, LadderExtent};
use crate::metrics::Metrics;

use super::lane_task::{Ending, LaneTask};
use super::operators::FrontDesk;
use super::pulse;

/// How late what another instance has written, or a replay, is seen.
const INTERVAL: Duration = Duration::from_secs(10);
/// From one lane to the next: each may answer by joining its group with another client, and a thousand that did so at once would stand in the way of
/// what is delivered.
const PACE: Duration = Duration::from_millis(10);

/// Looks how far the ladder goes, again and again, and tells the lanes that do not read it.
pub(super) struct RetryWatch {
    pub(super) broker: Arc<Broker>,
    pub(super) prefix: String,
    pub(super) desk: Arc<FrontDesk>,
    pub(super) metrics: Arc<Metrics>,
}

impl RetryWatch {
    /// Runs until `stop`.
    pub(super) async fn run(self, stop: CancellationToken) {
        let look = async {
            loop {
                if let Some(extent) = self.look().await {
                    self.tell(&Arc::new(extent)).await;
                }
                tokio::time::sleep(INTERVAL).await;
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = look => {}
        }
    }

    /// Shows how much is there; gives it when there is, or ever was, anything.
    async fn look(&self) -> Option<LadderExtent> {
        // Nobody needs the ladder as long as nothing is delivered.
        if self.desk.doors.is_empty() {
            return None;
        }
        let (broker, prefix) = (Arc::clone(&self.broker), self.prefix.clone());
        let asked = tokio::task::spawn_blocking(move || broker.ladder_extent(&prefix)).await;
        let extent = match asked {
            Ok(Ok(extent)) => extent,
            Ok(Err(error)) => {
                debug!(%error, "how far the ladder goes is not known");
                return None;
            }
            Err(error) => {
                debug!(%error, "the look at the ladder ended badly");
                return None;
            }
        };
        for (topic, records) in extent.records() {
            self.metrics.set_ladder_records(topic, records);
        }
        extent.was_used().then_some(extent)
    }

    async fn tell(&self, extent: &Arc<LadderExtent>) {
        for door in self.desk.doors.all() {
            if let Some(ladder) = &door.ladder
                && ladder.goes(extent)
            {
                tokio::time::sleep(PACE).await;
            }
        }
    }
}

impl LaneTask {
    /// Has the ladder read from now on. A lane that ends leaves it to the next one.
    pub(super) fn begin_ladder(&mut self) {
        if self.end != Ending::NotYet {
            return;
        }
        let destination = &*self.parts.name;
        match self.parts.members.begin_ladder() {
            Ok(Some(heart)) => {
                debug!(destination, "there is something on the ladder: it is read");
                pulse::watch_ladder(&self.parts.health, destination, heart);
            }
            Ok(None) => {}
            Err(error) => {
                let error = &error as &dyn Error;
                warn!(
                    destination,
                    error, "retries wait on the ladder and cannot be read yet: it is tried again"
                );
            }
        }
    }
}
