//! Topics that are deleted, and made again under the same name: looked for while they are read.
//!
//! A position in the old topic says nothing of the new one, and what the new one has below it would be stepped over. librdkafka notices only that
//! offsets have gone back. So the broker is asked for the topics' ids every now and then.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::Consumer;
use tracing::{debug, info, warn};

use crate::clock::Tick;
use crate::lane::TopicId;

use super::consumer::{ConsumerThread, TopicPartition};
use super::members::Part;
use super::raw_topics::{Found, describe};

/// How long the broker may take: the thread does nothing else meanwhile.
const PATIENCE: Duration = Duration::from_secs(1);

/// What is known of the topics of a lane.
#[derive(Debug, Default)]
pub(super) struct KnownTopics {
    /// The ids of those that are read, as they were at their assignment; of others, as they were first seen.
    ids: BTreeMap<Arc<str>, TopicId>,
    /// Those that were missing at the last look.
    missing: BTreeSet<Arc<str>>,
    next_look: Option<Tick>,
}

/// What a look has found.
#[derive(Debug, Default, PartialEq, Eq)]
struct Changes {
    gone: Vec<Arc<str>>,
    back: Vec<Arc<str>>,
    /// Another topic has the name now, and the old one is read.
    made_again: Vec<Arc<str>>,
}

impl KnownTopics {
    /// An assignment begins in the topic with this id.
    pub(super) fn assigned(&mut self, topic: &Arc<str>, id: Option<TopicId>) {
        match id {
            Some(id) => self.ids.insert(Arc::clone(topic), id),
            None => self.ids.remove(topic),
        };
    }

    /// The id of the topic that was read under this name, or first seen.
    pub(super) fn id(&self, topic: &str) -> Option<TopicId> {
        self.ids.get(topic).copied()
    }

    fn look(&mut self, found: &BTreeMap<Arc<str>, Found>) -> Changes {
        let mut changes = Changes::default();
        for (topic, found) in found {
            let Found::There(id) = found else {
                if self.missing.insert(Arc::clone(topic)) {
                    changes.gone.push(Arc::clone(topic));
                }
                continue;
            };
            if self.missing.remove(topic) {
                changes.back.push(Arc::clone(topic));
            }
            let Some(id) = *id else { continue };
            // The old id stays until the new topic is assigned: that is where it is read from its beginning.
            if *self.ids.entry(Arc::clone(topic)).or_insert(id) != id {
                changes.made_again.push(Arc::clone(topic));
            }
        }
        changes
    }
}

impl ConsumerThread {
    fn looks_at_topics(&self) -> bool {
        !self.away && self.rejoin_at.is_none() && self.part == Part::Topics
    }

    /// When the topics are looked at next, if they are.
    pub(super) fn next_look_at_topics(&self) -> Option<Tick> {
        self.known.next_look.filter(|_| self.looks_at_topics())
    }

    /// Asks for the topics that the lane reads, when that is due.
    pub(super) fn look_at_topics(&mut self) {
        let now = self.clock.now().tick;
        let due = *self
            .known
            .next_look
            .get_or_insert(now + self.plan.topic_refresh);
        if due > now || !self.looks_at_topics() {
            return;
        }
        self.known.next_look = Some(now + self.plan.topic_refresh);
        let topics = self.plan.topics.iter().flatten();
        let topics: Vec<&str> = topics.map(String::as_str).collect();
        let found = match describe(self.consumer.client(), &topics, PATIENCE) {
            Ok(found) => found,
            Err(error) => {
                debug!(destination = %self.plan.destination, error, "the topics could not be looked at");
                return;
            }
        };
        let changes = self.known.look(&found);
        for topic in changes.gone {
            warn!(
                destination = %self.plan.destination, %topic,
                "the topic does not exist (any more): nothing is read from it; it is read as soon as somebody makes it"
            );
        }
        for topic in changes.back {
            info!(destination = %self.plan.destination, %topic, "the topic is there (again)");
        }
        for topic in changes.made_again {
            let of_it = |tp: &&TopicPartition| tp.0 == topic;
            let ours = self.assigned.keys().chain(self.stopped.keys());
            let partitions = ours.filter(of_it).cloned();
            let partitions: Vec<TopicPartition> = partitions.collect();
            if !partitions.is_empty() {
                self.lose(&partitions);
                self.leave_and_join_again(&format!(
                    "topic {topic} was deleted and made again while it was read"
                ));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(id: Option<u128>) -> BTreeMap<Arc<str>, Found> {
        let found = match id {
            Some(id) => Found::There(TopicId::new(id)),
            None => Found::Missing,
        };
        [("t".into(), found)].into()
    }

    #[test]
    fn each_change_is_told_until_the_new_topic_is_assigned() {
        let mut known = KnownTopics::default();
        known.assigned(&"t".into(), TopicId::new(1));
        assert_eq!(known.look(&found(Some(1))), Changes::default());
        assert_eq!(known.look(&found(None)).gone, ["t".into()]);
        assert_eq!(known.look(&found(None)), Changes::default());
        let changes = known.look(&found(Some(2)));
        assert_eq!(changes.back, ["t".into()]);
        assert_eq!(changes.made_again, ["t".into()]);
        assert_eq!(known.look(&found(Some(2))).made_again, ["t".into()]);
        assert_eq!(known.id("t"), TopicId::new(1));
        known.assigned(&"t".into(), TopicId::new(2));
        assert_eq!(known.look(&found(Some(2))), Changes::default());
    }

    #[test]
    fn a_broker_without_ids_tells_of_nothing_made_again() {
        let mut known = KnownTopics::default();
        known.assigned(&"t".into(), TopicId::new(1));
        assert_eq!(known.look(&found(Some(0))), Changes::default());
        known.assigned(&"t".into(), None);
        assert_eq!(known.look(&found(Some(2))), Changes::default());
    }

    #[test]
    fn a_topic_is_known_from_the_first_look_though_another_instance_reads_it() {
        let mut known = KnownTopics::default();
        assert_eq!(known.look(&found(Some(1))), Changes::default());
        assert_eq!(known.look(&found(None)).gone, ["t".into()]);
        assert_eq!(known.id("t"), TopicId::new(1));
    }
}
