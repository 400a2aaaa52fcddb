//! Partitions that come and go: answered here, in the consumer thread's own loop.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::Consumer;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tracing::{debug, warn};

use crate::delivery::Epoch;
use crate::lane::{AssignedPartition, Source, StartReason};

use super::consumer::{ConsumerThread, FromConsumer, TopicPartition};
use super::context::give_back;
use super::raw_leaders::{seek_checked, set_leader_epoch};
use super::start::{self, Question};
use super::topics::step_of;

/// How long a revoke may wait for what is in flight; a third of the shortest `max.poll.interval.ms` that makes sense.
const REVOKE_DRAIN: Duration = Duration::from_secs(10);
/// How long the group may refuse the last commit of a revoke, because it hands out partitions again already.
const LAST_COMMIT_AT_REVOKE: Duration = Duration::from_secs(10);
/// How long librdkafka may take to go to another offset.
const SEEK: Duration = Duration::from_secs(5);
/// How long the questions at an assignment may take before the group is left and joined again.
const START_ANSWERS: Duration = Duration::from_secs(10);

impl ConsumerThread {
    pub(super) fn assign(&mut self, partitions: &[TopicPartition]) {
        self.beat(START_ANSWERS);
        // What is assigned again without having been taken away is no longer what it was.
        self.lose(partitions);
        let question = Question {
            client: &self.plan.client,
            destination_id: &self.plan.destination_id,
            owned_prefix: &self.plan.owned_prefix,
            start_at: self.plan.start_at,
            on_records_lost: self.plan.on_records_lost,
            seen: &self.known,
            kept: &self.plan.kept,
            complaints: &self.plan.complaints,
            clock: self.clock,
            deadline: self.clock.now().tick + START_ANSWERS,
        };
        let answer = start::resolve(&self.consumer, partitions, &question);
        let (cluster_id, starts) = match answer {
            Ok(answer) => answer,
            Err(error) => return self.leave_and_join_again(&error),
        };
        let mut list = TopicPartitionList::new();
        let mut assigned = Vec::new();
        let mut stopped = Vec::new();
        let mut unsure = Vec::new();
        let mut lost: BTreeMap<Arc<str>, u64> = BTreeMap::new();
        for ((topic, partition), resolved) in partitions.iter().zip(starts) {
            let offset = resolved.start.offset;
            start::say(
                &self.plan.destination,
                topic,
                *partition,
                topic.starts_with(&self.plan.owned_prefix),
                &resolved,
            );
            let gone = resolved.start.lost.unsigned_abs();
            let stops = resolved.start.reason == StartReason::Stopped;
            let tp = (Arc::clone(topic), *partition);
            match (resolved.start.reason, resolved.committed) {
                (StartReason::MadeAgain | StartReason::BeyondEnd, _) => self.losses.begin_anew(&tp),
                (_, Some(committed)) if gone > 0 => {
                    *lost.entry(Arc::clone(topic)).or_default() +=
                        self.losses.count(&tp, committed, gone);
                }
                _ => {}
            }
            self.known.assigned(topic, resolved.topic_id);
            if stops {
                stopped.push(((Arc::clone(topic), *partition), gone));
                continue;
            }
            if let Err(error) = list.add_partition_offset(topic, *partition, Offset::Offset(offset))
            {
                return self.leave_and_join_again(&error.to_string());
            }
            self.queues.take_over(topic, *partition);
            let epoch = self.own(topic, *partition, offset, resolved.leader);
            unsure.extend(resolved.unsure.map(|leader| (tp, offset, leader)));
            assigned.push(AssignedPartition {
                epoch,
                topic: Arc::clone(topic),
                partition: *partition,
                source: self.source(topic),
                base: offset,
                committed: resolved.committed == Some(offset)
                    && !resolved.kept
                    && resolved.start.reason != StartReason::MadeAgain,
                metadata: resolved.metadata,
                topic_id: resolved.topic_id,
            });
        }
        self.cluster_id = Arc::clone(&cluster_id);
        if !stopped.is_empty() {
            self.stopped.extend(stopped);
            self.tell_stopped();
        }
        // The new ones are read at once; a lane without room rests again soon enough.
        self.rest(true);
        // The lane hears of the partitions before the first record of them can be read.
        self.tell(FromConsumer::Assigned {
            cluster_id,
            partitions: assigned,
            lost,
        });
        let done = self
            .consumer
            .incremental_assign(&list)
            .and_then(|()| self.consumer.resume(&list));
        self.pauses.resumed(partitions);
        if let Err(error) = done {
            self.lose(partitions);
            return self.leave_and_join_again(&error.to_string());
        }
        if !self.ask_how_far(&unsure) {
            self.lose(partitions);
            return self.leave_and_join_again("librdkafka does not ask how far the log goes");
        }
        self.wake_fetchers();
    }

    /// Has the brokers asked how far the logs of these are still what was read; where they are not, the partition is astray. Each comes with where it
    /// begins, and with the leader that wrote what lies before.
    fn ask_how_far(&self, unsure: &[(TopicPartition, i64, i32)]) -> bool {
        let mut list = TopicPartitionList::new();
        for ((topic, partition), offset, leader) in unsure {
            let offset = Offset::Offset(*offset);
            if list
                .add_partition_offset(topic, *partition, offset)
                .is_err()
            {
                return false;
            }
            set_leader_epoch(&mut list, topic, *partition, *leader);
        }
        if list.count() == 0 {
            return true;
        }
        let deadline = self.clock.now().tick + SEEK;
        while !seek_checked(self.consumer.client(), &list, SEEK) {
            if self.clock.now().tick >= deadline {
                return false;
            }
            // A partition that librdkafka has not begun yet cannot be sought in; its thread that begins it also asks this.
            drop(self.consumer.fetch_metadata(Some(&unsure[0].0.0), SEEK));
        }
        true
    }

    fn source(&self, topic: &str) -> Source {
        step_of(&self.plan.owned_prefix, topic).map_or(Source::Topic, Source::Ladder)
    }

    /// Takes a partition over under an epoch of its own; `leader` wrote what lies before `base`, where that is known.
    fn own(&mut self, topic: &Arc<str>, partition: i32, base: i64, leader: Option<i32>) -> Epoch {
        let epoch = self.next_epoch;
        self.next_epoch.0 += 2;
        self.assigned.insert((Arc::clone(topic), partition), epoch);
        self.epochs.insert(epoch, (Arc::clone(topic), partition));
        self.next_offsets.insert(epoch, base);
        self.leaders.begin(epoch, base, leader);
        self.pauses.assigned();
        epoch
    }

    /// Reads a lost partition again from `offset`, under a new epoch. Within one assignment offsets only grow, so the topic was cut, or deleted
    /// and made again, and librdkafka has begun at its beginning: under the old epoch these records lie below the base or the position.
    pub(super) fn begin_again(&mut self, tp: &TopicPartition, offset: i64) {
        self.own_anew(tp, offset);
        // What librdkafka has fetched beyond this record belongs to the epoch that is lost, and is fetched again.
        let (topic, partition) = (&tp.0, tp.1);
        let done = self
            .consumer
            .seek(topic, partition, Offset::Offset(offset), SEEK);
        if let Err(error) = done {
            self.lose(std::slice::from_ref(tp));
            self.leave_and_join_again(&error.to_string());
        }
    }

    /// Takes a lost partition over under a new epoch, and tells the lane; librdkafka is still to be sent to `offset`.
    pub(super) fn own_anew(&mut self, tp: &TopicPartition, offset: i64) {
        let (topic, partition) = (&tp.0, tp.1);
        warn!(
            destination = %self.plan.destination, %topic, partition, offset,
            "the offsets of the partition have gone back: its topic was cut, or deleted and made again; reading from here"
        );
        self.losses.begin_anew(tp);
        let epoch = self.own(topic, partition, offset, None);
        self.tell(FromConsumer::Assigned {
            cluster_id: Arc::clone(&self.cluster_id),
            partitions: vec![AssignedPartition {
                epoch,
                topic: Arc::clone(topic),
                partition,
                source: self.source(topic),
                base: offset,
                committed: false,
                metadata: None,
                // Which of two it is now is not known before the next assignment.
                topic_id: None,
            }],
            lost: BTreeMap::new(),
        });
    }

    /// Without an answer the right start is unknown, and a wrong one loses records: out, and in again.
    pub(super) fn leave_and_join_again(&mut self, error: &str) {
        warn!(destination = %self.plan.destination, error, "start positions unknown: leaving the group to join again");
        if let Err(error) = self.consumer.incremental_assign(&TopicPartitionList::new()) {
            debug!(%error, "empty assignment refused");
        }
        self.consumer.unsubscribe();
        self.rejoin_at = Some(self.clock.now().tick + Duration::from_secs(1));
    }

    pub(super) fn rejoin_when_due(&mut self) {
        if self
            .rejoin_at
            .is_some_and(|due| due <= self.clock.now().tick)
        {
            self.rejoin_at = None;
            self.subscribe();
        }
    }

    pub(super) fn revoke(&mut self, partitions: &[TopicPartition]) {
        let epochs = self.epochs_of(partitions);
        if self.consumer.assignment_lost() {
            warn!(destination = %self.plan.destination, partitions = epochs.len(), "partitions lost: another member may have them");
            self.lose(partitions);
        } else if epochs.is_empty() {
            self.forget(partitions);
        } else {
            let deadline = self.clock.now().tick + REVOKE_DRAIN;
            let patience = deadline + LAST_COMMIT_AT_REVOKE;
            self.beat(REVOKE_DRAIN + LAST_COMMIT_AT_REVOKE);
            self.mailbox.forget_revoked();
            self.tell(FromConsumer::Revoking { epochs, deadline });
            // The lane answers at its deadline at the latest. Without an answer the lane is gone, and nothing of it may be committed.
            let answer = self
                .mailbox
                .wait_for_revoked(REVOKE_DRAIN + Duration::from_secs(2));
            self.commit_and_wait(&answer.unwrap_or_default(), patience);
            self.forget(partitions);
        }
        if let Err(error) = give_back(&self.consumer, partitions) {
            debug!(destination = %self.plan.destination, %error, "unassign refused");
        }
        self.wake_fetchers();
    }

    fn epochs_of(&self, partitions: &[TopicPartition]) -> Vec<Epoch> {
        partitions
            .iter()
            .filter_map(|tp| self.assigned.get(tp))
            .copied()
            .collect()
    }

    /// Nothing more of this partition is read until a person decides: so many of its records expired unread.
    pub(super) fn stand_still(&mut self, tp: &TopicPartition, lost: u64) {
        self.stopped.insert(tp.clone(), lost);
        self.tell_stopped();
    }

    fn tell_stopped(&self) {
        let all = self.stopped.iter();
        let all = all.map(|((topic, partition), lost)| (Arc::clone(topic), *partition, *lost));
        self.tell(FromConsumer::Stopped(all.collect()));
    }

    /// Gives partitions up without a hand-over.
    pub(super) fn lose(&mut self, partitions: &[TopicPartition]) {
        let epochs = self.epochs_of(partitions);
        self.forget(partitions);
        if !epochs.is_empty() {
            self.tell(FromConsumer::Lost(epochs));
        }
    }

    pub(super) fn forget(&mut self, partitions: &[TopicPartition]) {
        let before = self.stopped.len();
        self.stopped.retain(|tp, _| !partitions.contains(tp));
        if self.stopped.len() != before {
            self.tell_stopped();
        }
        if self.damages.forget(partitions) {
            self.tell_damaged();
        }
        for partition in partitions {
            if let Some(epoch) = self.assigned.remove(partition) {
                self.epochs.remove(&epoch);
                self.next_offsets.remove(&epoch);
                self.pauses.forget(epoch);
                self.gate.forget(epoch);
                self.leaders.forget(epoch);
                self.commits.forget(epoch);
            }
        }
    }
}
