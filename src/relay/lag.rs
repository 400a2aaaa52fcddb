//! How much waits for each destination, in Kafka and here: positions of the lanes against the ends of their partitions.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::kafka::Ends;
use crate::lane::{LaneStatus, PartitionPosition};

use super::margin::Margins;
use super::operators::FrontDesk;

/// How often it is looked at when nobody asks.
const INTERVAL: Duration = Duration::from_secs(15);
/// A person waits for no more than this.
const ANSWER_WAIT: Duration = Duration::from_secs(2);

/// Fills in what waits, where the broker says it in time.
pub(super) async fn fill(ends: &Arc<Ends>, statuses: &mut [Option<LaneStatus>]) {
    let held =
        |status: &Option<LaneStatus>| status.iter().flat_map(|s| s.positions.clone()).collect();
    let positions: Vec<Vec<PartitionPosition>> = statuses.iter().map(held).collect();
    let mut partitions: Vec<_> = positions
        .iter()
        .flatten()
        .map(|position| (Arc::clone(&position.topic), position.partition))
        .collect();
    partitions.sort_unstable();
    partitions.dedup();
    let ends = Arc::clone(ends);
    let asked = tokio::task::spawn_blocking(move || ends.ends(&partitions, ANSWER_WAIT)).await;
    let found = match asked {
        Ok(Ok(found)) => found,
        Ok(Err(error)) => return debug!(%error, "the ends of partitions are not known"),
        Err(error) => return debug!(%error, "the question for the ends of partitions ended badly"),
    };
    for (status, positions) in statuses.iter_mut().zip(positions) {
        let Some(status) = status else { continue };
        let mut by_topic = BTreeMap::new();
        for PartitionPosition {
            topic,
            partition,
            offset,
            ..
        } in positions
        {
            let end = found.get(&(Arc::clone(&topic), partition)).copied();
            let waits = end.unwrap_or(offset).saturating_sub(offset).max(0);
            *by_topic.entry(topic).or_default() += u64::try_from(waits).unwrap_or(0);
        }
        status.lag = Some(by_topic.values().sum());
        status.lag_by_topic = by_topic;
    }
}

/// Shows what waits as a metric, until `stop`.
pub(super) async fn show(desk: Arc<FrontDesk>, mut margins: Margins, stop: CancellationToken) {
    let metrics = Arc::clone(&margins.metrics);
    let mut all_shown: BTreeMap<Arc<str>, BTreeMap<Arc<str>, u64>> = BTreeMap::new();
    loop {
        let doors = desk.doors.all();
        let mut statuses = desk.ask_lanes(&doors).await;
        fill(&desk.ends, &mut statuses).await;
        margins.look(&doors, &statuses).await;
        all_shown.retain(|name, _| doors.iter().any(|door| door.name == *name));
        for (door, status) in doors.iter().zip(statuses) {
            let shown = all_shown.entry(Arc::clone(&door.name)).or_default();
            let Some(status) = status.filter(|status| status.lag.is_some()) else {
                continue;
            };
            for topic in shown.keys() {
                if !status.lag_by_topic.contains_key(topic) {
                    metrics.lag_forgotten(&door.name, topic);
                }
            }
            for (topic, records) in &status.lag_by_topic {
                metrics.lag(&door.name, topic, *records);
            }
            *shown = status.lag_by_topic;
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(INTERVAL) => {}
        }
    }
}
