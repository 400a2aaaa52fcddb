//! How long it is until Kafka deletes the oldest record that waits: told ahead, because nothing brings it back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tracing::{debug, error, info};

use crate::clock::{Clock, Tick, Timestamp};
use crate::kafka::Broker;
use crate::lane::LaneStatus;
use crate::metrics::Metrics;

use super::doors::Door;

/// How long an answer about settings is good for.
const ASK_AGAIN: Duration = Duration::from_secs(300);
/// How often it is said, while it lasts.
const SAY_AGAIN: Duration = Duration::from_secs(3600);

/// Looks at margins, one look after the other.
pub(super) struct Margins {
    pub(super) broker: Arc<Broker>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) clock: Clock,
    retentions: BTreeMap<Arc<str>, Duration>,
    asked: Option<(Tick, BTreeSet<Arc<str>>)>,
    /// What is shown, by destination and topic; with the time when it was last said that it is too little.
    shown: BTreeMap<(Arc<str>, Arc<str>), Option<Tick>>,
}

impl Margins {
    pub(super) fn new(broker: Arc<Broker>, metrics: Arc<Metrics>, clock: Clock) -> Self {
        Self {
            broker,
            metrics,
            clock,
            retentions: BTreeMap::new(),
            asked: None,
            shown: BTreeMap::new(),
        }
    }

    /// Shows the margins of what the lanes say, and speaks where one is small.
    pub(super) async fn look(&mut self, doors: &[Arc<Door>], statuses: &[Option<LaneStatus>]) {
        let positions = statuses
            .iter()
            .flatten()
            .flat_map(|status| &status.positions);
        let topics: BTreeSet<Arc<str>> = positions.map(|p| Arc::clone(&p.topic)).collect();
        self.learn(topics).await;
        let now = self.clock.now();
        let mut found = BTreeMap::new();
        for (door, status) in doors.iter().zip(statuses) {
            let Some(status) = status else { continue };
            for (topic, oldest) in oldest_by_topic(status) {
                if let Some(retention) = self.retentions.get(&topic) {
                    let margin_s = margin_seconds(oldest, *retention, now.wall);
                    self.metrics.retention_margin(&door.name, &topic, margin_s);
                    let key = (Arc::clone(&door.name), topic);
                    let said = self.shown.get(&key).copied().flatten();
                    let said = say(door, &key.1, margin_s, said, now.tick);
                    found.insert(key, said);
                }
            }
        }
        for (name, topic) in self.shown.keys().filter(|key| !found.contains_key(*key)) {
            self.metrics.retention_margin_forgotten(name, topic);
        }
        self.shown = found;
    }

    async fn learn(&mut self, topics: BTreeSet<Arc<str>>) {
        let now = self.clock.now().tick;
        let fresh = |(then, known): &(Tick, BTreeSet<Arc<str>>)| {
            now.since(*then) < ASK_AGAIN && *known == topics
        };
        if self.asked.as_ref().is_some_and(fresh) {
            return;
        }
        match self.broker.retentions(&topics).await {
            Ok(found) => {
                self.retentions = found;
                self.asked = Some((now, topics));
            }
            Err(error) => debug!(%error, "how long topics keep their records is not known"),
        }
    }
}

fn oldest_by_topic(status: &LaneStatus) -> BTreeMap<Arc<str>, Timestamp> {
    let mut oldest: BTreeMap<Arc<str>, Timestamp> = BTreeMap::new();
    for position in &status.positions {
        if let Some(waits) = position.oldest {
            let known = oldest.entry(Arc::clone(&position.topic)).or_insert(waits);
            *known = waits.min(*known);
        }
    }
    oldest
}

/// The seconds until a record is deleted; below zero when it may be already.
fn margin_seconds(oldest: Timestamp, retention: Duration, now: Timestamp) -> i64 {
    let retention_ms = i64::try_from(retention.as_millis()).unwrap_or(i64::MAX);
    let end = oldest.0.saturating_add(retention_ms);
    end.saturating_sub(now.0).div_euclid(1000)
}

/// Says it when it is time to, and gives when it was last said.
fn say(door: &Door, topic: &str, margin_s: i64, said: Option<Tick>, now: Tick) -> Option<Tick> {
    let destination = &*door.name;
    let warn_below_s = i64::try_from(door.retention_warning.as_secs()).unwrap_or(i64::MAX);
    if margin_s >= warn_below_s {
        if said.is_some() {
            info!(
                destination,
                topic, margin_s, "the oldest record that waits is safe again"
            );
        }
        return None;
    }
    if said.is_some_and(|then| now.since(then) < SAY_AGAIN) {
        return said;
    }
    error!(
        destination,
        topic,
        margin_s,
        "Kafka is about to delete the oldest record that waits: mend the destination, or raise retention.ms of the topic"
    );
    Some(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_margin_is_what_is_left_of_the_retention() {
        let margin = |oldest, retention_s, now| {
            margin_seconds(
                Timestamp(oldest),
                Duration::from_secs(retention_s),
                Timestamp(now),
            )
        };
        assert_eq!(margin(1_000, 60, 11_000), 50);
        assert_eq!(margin(1_000, 60, 71_500), -11);
        assert_eq!(margin(i64::MAX, u64::MAX, 0), i64::MAX / 1000);
    }
}
