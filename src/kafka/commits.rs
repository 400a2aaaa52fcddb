//! Commits: sent by the consumer thread, for partitions it owns at that moment only.

use std::time::Duration;

use rdkafka::consumer::Consumer;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tracing::{debug, warn};

use crate::clock::Tick;
use crate::delivery::CommitFailure;
use crate::lane::Position;

use super::commit_error::CommitError;
use super::consumer::{ConsumerThread, FromConsumer};
use super::raw::CommitResult;
use super::raw_leaders::set_leader_epoch;

/// How long the broker may be silent before a last commit is given up.
pub(super) const LAST_COMMIT: Duration = Duration::from_secs(5);
/// How soon a broker that is there answers a question that costs it nothing.
const ANSWER: Duration = Duration::from_secs(1);
/// How soon a last commit is tried again that was refused for a reason that passes.
const AGAIN_AFTER: Duration = Duration::from_millis(100);
/// How long metadata is left out when the broker takes none of that length: somebody may mend its setting.
const BARE_FOR: Duration = Duration::from_secs(60);

/// What was sent to the broker and not answered, and how it is sent.
#[derive(Debug, Default)]
pub(super) struct Commits {
    outstanding: Vec<Asked>,
    /// Until when metadata is left out.
    bare_until: Option<Tick>,
    said_too_large: bool,
}

#[derive(Debug)]
struct Asked {
    position: Position,
    /// Whether it goes without its metadata.
    bare: bool,
}

impl Commits {
    pub(super) fn forget(&mut self, epoch: crate::delivery::Epoch) {
        self.outstanding
            .retain(|asked| asked.position.epoch != epoch);
    }
}

impl ConsumerThread {
    /// Sends a commit for the partitions owned at this moment; the answer comes as an event.
    pub(super) fn commit(&mut self, positions: &[Position]) {
        let now = self.clock.now().tick;
        let bare = self.commits.bare_until.is_some_and(|until| now < until);
        let asked = positions.iter().map(|position| Asked {
            position: position.clone(),
            bare: bare || position.metadata.is_empty(),
        });
        self.ask(asked.collect());
    }

    fn ask(&mut self, asked: Vec<Asked>) {
        let mut list = TopicPartitionList::new();
        for asked in asked {
            let Asked { position, bare } = &asked;
            let Some((topic, partition)) = self.epochs.get(&position.epoch) else {
                continue;
            };
            let mut element = list.add_partition(topic, *partition);
            if element.set_offset(Offset::Offset(position.offset)).is_err() {
                continue;
            }
            if !bare {
                element.set_metadata(&position.metadata);
            }
            if let Some(leader) = self.leaders.before(position.epoch, position.offset) {
                set_leader_epoch(&mut list, topic, *partition, leader);
            }
            self.commits.outstanding.push(asked);
        }
        if list.count() == 0 {
            return;
        }
        if let Err(error) = self.queues.commit(&list) {
            self.commits.outstanding.clear();
            self.refused(error);
        }
    }

    /// Commits and waits for the broker's word, but not for ever: a broker that does not answer costs repeats, never records.
    ///
    /// While a group hands out partitions it takes no commit, and with a member that hangs that lasts until the session of that member ends: the
    /// broker says so, or it is silent, because it answers a connection's requests in turn and the first of them is the one for a part of the
    /// partitions. As long as there is a broker, it is asked again until `patience` ends.
    pub(super) fn commit_and_wait(&mut self, positions: &[Position], patience: Tick) {
        let mut deadline = self.clock.now().tick + LAST_COMMIT;
        self.commit(positions);
        let mut again: Vec<Position> = Vec::new();
        loop {
            let ours = |asked: &Asked| positions.contains(&asked.position);
            if !self.commits.outstanding.iter().any(ours) && again.is_empty() {
                return;
            }
            let now = self.clock.now().tick;
            let left = deadline.since(now);
            if left.is_zero() && now < patience && self.has_broker() {
                deadline = patience.min(now + LAST_COMMIT);
                continue;
            }
            if left.is_zero() {
                warn!(destination = %self.plan.destination, "last commit not acknowledged in time: some deliveries will be repeated");
                return;
            }
            match self.queues.commit_results(left.min(AGAIN_AFTER)) {
                Some(results) => {
                    let refused = self.committed(results).into_iter();
                    let lost = self.consumer.assignment_lost();
                    let mends = refused.filter(|(position, failure)| {
                        !lost && passes(*failure) && positions.contains(position)
                    });
                    let open = again.len();
                    again.extend(mends.map(|(position, _)| position));
                    if again.len() > open {
                        let later = self.clock.now().tick + LAST_COMMIT;
                        deadline = deadline.max(later.min(patience));
                    }
                }
                None => self.commit(&std::mem::take(&mut again)),
            }
        }
    }

    /// Whether a broker answers, on another connection than the group's.
    fn has_broker(&self) -> bool {
        let answer = self
            .consumer
            .fetch_metadata(Some("__consumer_offsets"), ANSWER);
        answer.is_ok()
    }

    /// Takes the broker's answers in; gives what it refused.
    ///
    /// An answer names a partition and an offset. Where two positions differ in their metadata alone, the first answer is for the first.
    pub(super) fn committed(
        &mut self,
        results: Vec<CommitResult>,
    ) -> Vec<(Position, CommitFailure)> {
        let mut acknowledged = Vec::new();
        let mut too_large = Vec::new();
        let mut refused = Vec::new();
        let mut error = None;
        if results.is_empty() {
            // A request that failed as a whole, without saying for what: the lane asks again for whatever is open.
            self.commits.outstanding.clear();
        }
        for (tp, offset, failed) in results {
            let answered = |Asked { position, .. }: &Asked| {
                position.offset == offset && self.epochs.get(&position.epoch) == Some(&tp)
            };
            let Some(place) = self.commits.outstanding.iter().position(answered) else {
                continue;
            };
            let Asked { position, bare } = self.commits.outstanding.remove(place);
            match failed {
                None => acknowledged.push(position),
                Some((CommitFailure::MetadataTooLarge, _)) if !bare => too_large.push(Asked {
                    position,
                    bare: true,
                }),
                Some(failed) => {
                    refused.push((position, failed.0));
                    error = Some(failed);
                }
            }
        }
        if !acknowledged.is_empty() {
            self.tell(FromConsumer::Committed(acknowledged));
        }
        if let Some(error) = error {
            self.refused(error);
        }
        if !too_large.is_empty() {
            self.without_metadata(too_large);
        }
        refused
    }

    /// The position is what must be kept; what is known beyond it saves repeats.
    fn without_metadata(&mut self, asked: Vec<Asked>) {
        self.tell(FromConsumer::CommitFailed(CommitFailure::MetadataTooLarge));
        if !std::mem::replace(&mut self.commits.said_too_large, true) {
            let longest = asked.iter().map(|asked| asked.position.metadata.len());
            warn!(
                destination = %self.plan.destination, bytes = longest.max(),
                "the broker takes no commit with so much metadata (offset.metadata.max.bytes): committed without it; after an unclean end \
                 more is delivered again, and attempts are counted anew"
            );
        }
        self.commits.bare_until = Some(self.clock.now().tick + BARE_FOR);
        self.ask(asked);
    }

    fn refused(&self, (failure, error): CommitError) {
        debug!(destination = %self.plan.destination, error, "commit refused");
        self.tell(FromConsumer::CommitFailed(failure));
    }
}

/// Whether a commit that was refused for this reason may be taken a little later. A member that has not heard of the group's new generation will,
/// and keeps its partitions until it gives them back itself, unless its assignment is lost.
fn passes(failure: CommitFailure) -> bool {
    match failure {
        CommitFailure::Rebalance | CommitFailure::StaleGeneration | CommitFailure::Coordinator => {
            true
        }
        CommitFailure::Fenced
        | CommitFailure::Timeout
        | CommitFailure::Unreachable
        | CommitFailure::Unauthorized
        | CommitFailure::MetadataTooLarge
        | CommitFailure::UnknownTopic
        | CommitFailure::Other => false,
    }
}
