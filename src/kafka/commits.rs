//! Commits: sent by the consumer thread, for partitions it owns at that moment only.

use std::time::Duration;

use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tracing::{debug, warn};

use crate::lane::Position;

use super::consumer::{ConsumerThread, FromConsumer};
use super::raw::{CommitError, CommitResult};

/// How long the broker may take for a last commit.
pub(super) const LAST_COMMIT: Duration = Duration::from_secs(5);

impl ConsumerThread {
    /// Sends a commit for the partitions owned at this moment; the answer comes as an event.
    pub(super) fn commit(&mut self, positions: &[Position]) {
        let mut list = TopicPartitionList::new();
        for position in positions {
            let Some((topic, partition)) = self.epochs.get(&position.epoch) else {
                continue;
            };
            let offset = Offset::Offset(position.offset);
            if list.add_partition_offset(topic, *partition, offset).is_ok() {
                self.outstanding.push(position.clone());
            }
        }
        if list.count() == 0 {
            return;
        }
        if let Err(error) = self.queues.commit(&list) {
            self.outstanding.clear();
            self.refused(error);
        }
    }

    /// Commits and waits for the broker's word, but not for ever: a broker that does not answer costs repeats, never records.
    pub(super) fn commit_and_wait(&mut self, positions: &[Position]) {
        let deadline = self.clock.now().tick + LAST_COMMIT;
        self.commit(positions);
        let asked = |position: &Position| positions.contains(position);
        while self.outstanding.iter().any(asked) {
            let left = deadline.since(self.clock.now().tick);
            match self.queues.commit_results(left) {
                Some(results) => self.committed(results),
                None if left.is_zero() => {
                    warn!(destination = %self.plan.destination, "last commit not acknowledged in time: some deliveries will be repeated");
                    return;
                }
                None => {}
            }
        }
    }

    pub(super) fn committed(&mut self, results: Vec<CommitResult>) {
        let mut acknowledged = Vec::new();
        let mut refused = None;
        if results.is_empty() {
            // A request that failed as a whole, without saying for what: the lane asks again for whatever is open.
            self.outstanding.clear();
        }
        for (tp, offset, error) in results {
            let asked = |position: &Position| {
                position.offset == offset && self.epochs.get(&position.epoch) == Some(&tp)
            };
            let Some(place) = self.outstanding.iter().position(asked) else {
                continue;
            };
            let position = self.outstanding.remove(place);
            match error {
                None => acknowledged.push(position),
                Some(error) => refused = Some(error),
            }
        }
        if !acknowledged.is_empty() {
            self.tell(FromConsumer::Committed(acknowledged));
        }
        if let Some(error) = refused {
            self.refused(error);
        }
    }

    fn refused(&self, (failure, error): CommitError) {
        debug!(destination = %self.plan.destination, error, "commit refused");
        self.tell(FromConsumer::CommitFailed(failure));
    }
}
