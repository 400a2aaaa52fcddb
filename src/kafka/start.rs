//! The questions to the broker at an assignment; the answer is decided by [`start_position`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tracing::{debug, error, info, warn};

use crate::clock::{Clock, Tick};
use crate::lane::{
    Owner, PartitionFacts, Progress, RecordsLostPolicy, Start, StartAt, StartReason, TopicFacts,
    TopicId, start_position,
};

use super::complaints::Complaints;
use super::kept_positions::{KeptPosition, KeptPositions};
use super::made_again::KnownTopics;
use super::raw;
use super::raw_leaders;
use super::raw_topics::{self, Found};
use super::topics::OwnedTopic;

/// How long the broker may take to describe topics: it is not needed to begin.
const DESCRIBED: Duration = Duration::from_secs(3);

/// What the file says about starting, and how long the broker may take for all answers together.
pub(super) struct Question<'a> {
    /// For a second client, where the first cannot answer.
    pub(super) client: &'a ClientConfig,
    pub(super) destination_id: &'a str,
    pub(super) owned_prefix: &'a str,
    pub(super) start_at: StartAt,
    pub(super) on_records_lost: RecordsLostPolicy,
    /// The topics that this process has seen.
    pub(super) seen: &'a KnownTopics,
    pub(super) kept: &'a KeptPositions,
    pub(super) complaints: &'a Arc<Complaints>,
    pub(super) clock: Clock,
    pub(super) deadline: Tick,
}

impl Question<'_> {
    /// The time that is left for the next answer.
    fn left(&self) -> Result<Duration, String> {
        let left = self.deadline.since(self.clock.now().tick);
        if left.is_zero() {
            Err("the broker was too slow".to_owned())
        } else {
            Ok(left)
        }
    }
}

/// Where one partition begins, and what was committed for it.
pub(super) struct Resolved {
    pub(super) start: Start,
    pub(super) committed: Option<i64>,
    /// Whether that is not from the group, which Kafka has forgotten, but from the state topic.
    pub(super) kept: bool,
    /// What was committed with it; nothing when it is of another topic that had this name.
    pub(super) metadata: Option<Bytes>,
    pub(super) topic_id: Option<TopicId>,
    /// Under which leader the record before the start was written, where that is known.
    pub(super) leader: Option<i32>,
    /// The same, where another leads by now and the broker is to be asked how far the log is what was read.
    pub(super) unsure: Option<i32>,
}

type TopicPartition = (Arc<str>, i32);
type Offsets = BTreeMap<TopicPartition, Option<i64>>;
/// Offsets, what was committed with them, and the epochs of the leaders that wrote what lies before them.
type Committed = (
    Offsets,
    BTreeMap<TopicPartition, Bytes>,
    BTreeMap<TopicPartition, i32>,
);

/// The cluster's id and the start of every partition, in order. An error says which question stayed open.
pub(super) fn resolve<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    partitions: &[TopicPartition],
    question: &Question<'_>,
) -> Result<(Arc<str>, Vec<Resolved>), String> {
    let cluster_id = consumer
        .client()
        .fetch_cluster_id(question.left()?)
        .ok_or("no cluster id")?;
    // Every rebalance tells every member, also the one that gets nothing new; librdkafka refuses questions about no partition.
    if partitions.is_empty() {
        return Ok((cluster_id.into(), Vec::new()));
    }
    let (committed, mut metadata, leaders) = committed(consumer, partitions, question)?;
    let at_time = match question.start_at {
        StartAt::Time(time) => offsets_at(
            consumer,
            partitions,
            Offset::Offset(time.0),
            question.left()?,
        )?,
        StartAt::Earliest | StartAt::Latest => BTreeMap::new(),
    };
    let low = offsets_at(consumer, partitions, Offset::Beginning, question.left()?)?;
    let ends = list_at(consumer, partitions, Offset::End, question.left()?)?;
    let (mut high, leading) = (offsets(&ends)?, raw_leaders::leader_epochs(&ends));
    let beyond = |tp: &&TopicPartition| committed.get(*tp) > high.get(*tp);
    let beyond: Vec<TopicPartition> = partitions.iter().filter(beyond).cloned().collect();
    if !beyond.is_empty() {
        high.extend(true_ends(question.client, &beyond, question.left()?)?);
    }
    let topics: BTreeSet<&str> = partitions.iter().map(|(topic, _)| &**topic).collect();
    let topics: Vec<&str> = topics.into_iter().collect();
    let found = raw_topics::describe(consumer.client(), &topics, question.left()?.min(DESCRIBED));
    let known = |tp: &TopicPartition, base: i64| {
        let owner = Owner {
            cluster_id: &cluster_id,
            destination_id: question.destination_id,
            topic: &tp.0,
            partition: tp.1,
        };
        Progress::decode(owner, base, metadata.get(tp)?)?.topic_id
    };
    let known: BTreeMap<TopicPartition, TopicId> = partitions
        .iter()
        .filter_map(|tp| {
            let base = committed.get(tp).copied().flatten()?;
            Some((tp.clone(), known(tp, base)?))
        })
        .collect();
    let found = match found {
        Ok(found) => found,
        // What is committed may be of another topic of this name.
        Err(error) if !known.is_empty() => return Err(error),
        // Without ids a topic that was made again shows in its offsets only, as on brokers before 2.8.
        Err(error) => {
            debug!(error, "the ids of topics are not known");
            BTreeMap::new()
        }
    };
    let kept = kept_positions(partitions, &committed, question)?;
    let mut starts = Vec::with_capacity(partitions.len());
    for tp in partitions {
        let same_topic =
            |(other, offset): (&TopicPartition, &Option<i64>)| other.0 == tp.0 && offset.is_some();
        let topic = TopicFacts {
            owned: tp.0.starts_with(question.owned_prefix),
            any_committed: committed.iter().any(same_topic),
        };
        let topic_id = found.get(&tp.0).copied().and_then(Found::id);
        let in_group = committed.get(tp).copied().flatten();
        let kept = kept.get(tp).filter(|_| in_group.is_none());
        let same = kept.filter(|kept| Some(kept.topic_id) == topic_id);
        let facts = PartitionFacts {
            committed: in_group.or(same.map(|kept| kept.offset)),
            low: low.get(tp).copied().flatten().ok_or("no low watermark")?,
            high: high.get(tp).copied().flatten().ok_or("no high watermark")?,
            at_time: at_time.get(tp).copied().flatten(),
            made_again: false,
            leader_known: leaders.contains_key(tp),
        };
        let known = match in_group {
            Some(_) => known.get(tp).copied(),
            // The broker forgets the offsets of a deleted topic. What was written to the new one meanwhile is not stepped over.
            None => question.seen.id(&tp.0).or(kept.map(|kept| kept.topic_id)),
        };
        let made_again = known.is_some() && topic_id.is_some() && known != topic_id;
        let facts = PartitionFacts {
            made_again,
            ..facts
        };
        let start = start_position(topic, facts, question.start_at, question.on_records_lost);
        let leader = leaders.get(tp).copied();
        let leader = leader.filter(|_| start.reason == StartReason::Committed);
        let unsure = leader.filter(|leader| leading.get(tp).is_none_or(|now| now != leader));
        starts.push(Resolved {
            leader,
            unsure,
            start,
            committed: facts.committed,
            kept: same.is_some(),
            metadata: metadata.remove(tp).filter(|_| !made_again),
            topic_id,
        });
    }
    Ok((cluster_id.into(), starts))
}

/// What is kept for the partitions of rules' topics of which the group has nothing committed.
fn kept_positions(
    partitions: &[TopicPartition],
    committed: &Offsets,
    question: &Question<'_>,
) -> Result<BTreeMap<TopicPartition, KeptPosition>, String> {
    let unknown = |tp: &&TopicPartition| {
        !tp.0.starts_with(question.owned_prefix) && committed.get(*tp).copied().flatten().is_none()
    };
    let unknown: Vec<&TopicPartition> = partitions.iter().filter(unknown).collect();
    if unknown.is_empty() {
        return Ok(BTreeMap::new());
    }
    let prefix = question.owned_prefix.trim_end_matches('.');
    let state = OwnedTopic::state(prefix).name;
    let (left, clock) = (question.left()?, question.clock);
    let all = question
        .kept
        .all(question.client, &state, left, clock, question.complaints)?;
    let of = |tp: &TopicPartition| {
        let id = question.destination_id.to_owned();
        all.get(&(id, tp.0.to_string(), tp.1)).copied()
    };
    let kept = unknown
        .into_iter()
        .filter_map(|tp| Some((tp.clone(), of(tp)?)));
    Ok(kept.collect())
}

/// The committed offsets of every partition of the topics, assigned to us or not: whether a topic is new to the group shows only in all of
/// them. And what was committed with them.
fn committed<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    partitions: &[TopicPartition],
    question: &Question<'_>,
) -> Result<Committed, String> {
    let topics: BTreeSet<&Arc<str>> = partitions.iter().map(|(topic, _)| topic).collect();
    let mut list = TopicPartitionList::new();
    for topic in topics {
        let metadata = consumer
            .fetch_metadata(Some(topic), question.left()?)
            .map_err(|e| e.to_string())?;
        let found = metadata.topics().iter().find(|t| t.name() == &**topic);
        let count = found.map_or(0, |topic| topic.partitions().len());
        if count == 0 {
            return Err(format!("topic {topic} has no partitions in the metadata"));
        }
        for partition in 0..i32::try_from(count).unwrap_or(i32::MAX) {
            list.add_partition(topic, partition);
        }
    }
    for (topic, partition) in partitions {
        if list.find_partition(topic, *partition).is_none() {
            list.add_partition(topic, *partition);
        }
    }
    let answer = consumer
        .committed_offsets(list, question.left()?)
        .map_err(|e| e.to_string())?;
    let leaders = raw_leaders::leader_epochs(&answer);
    Ok((offsets(&answer)?, raw::metadata(&answer), leaders))
}

/// The offset of each partition at `when`: a time in milliseconds, [`Offset::Beginning`] or [`Offset::End`], all of which the broker's
/// ListOffsets request knows.
fn offsets_at<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    partitions: &[TopicPartition],
    when: Offset,
    timeout: Duration,
) -> Result<Offsets, String> {
    offsets(&list_at(consumer, partitions, when, timeout)?)
}

fn list_at<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    partitions: &[TopicPartition],
    when: Offset,
    timeout: Duration,
) -> Result<TopicPartitionList, String> {
    let mut list = TopicPartitionList::with_capacity(partitions.len());
    for (topic, partition) in partitions {
        list.add_partition_offset(topic, *partition, when)
            .map_err(|e| e.to_string())?;
    }
    consumer
        .offsets_for_times(list, timeout)
        .map_err(|e| e.to_string())
}

/// The ends of partitions, open transactions included. A reader of committed records is told the end of what it may read, and a committed offset
/// behind that is not yet beyond the end.
fn true_ends(
    client: &ClientConfig,
    partitions: &[TopicPartition],
    timeout: Duration,
) -> Result<Offsets, String> {
    let mut config = client.clone();
    config.remove("group.id");
    config.set("isolation.level", "read_uncommitted");
    let reader: BaseConsumer = config.create().map_err(|e| e.to_string())?;
    offsets_at(&reader, partitions, Offset::End, timeout)
}

/// Takes the offsets out of a list without looking at its metadata, which rdkafka would want to be UTF-8. A list of the broker's must not live
/// longer than this.
fn offsets(list: &TopicPartitionList) -> Result<Offsets, String> {
    let mut offsets = BTreeMap::new();
    for element in list.elements() {
        if let Err(error) = element.error() {
            return Err(format!(
                "{} partition {}: {error}",
                element.topic(),
                element.partition()
            ));
        }
        let offset = match element.offset() {
            Offset::Offset(offset) => Some(offset),
            Offset::Beginning
            | Offset::End
            | Offset::Stored
            | Offset::Invalid
            | Offset::OffsetTail(_) => None,
        };
        offsets.insert((Arc::from(element.topic()), element.partition()), offset);
    }
    Ok(offsets)
}

/// Says where a partition begins; loudly where records are gone.
pub(super) fn say(
    destination: &str,
    topic: &str,
    partition: i32,
    owned: bool,
    resolved: &Resolved,
) {
    let Start {
        offset,
        reason,
        lost,
    } = resolved.start;
    if resolved.kept {
        warn!(
            destination,
            topic,
            partition,
            offset,
            "Kafka has forgotten the position of the group; reading goes on where this destination had left off. To begin elsewhere instead: `postrider pause --leave -d {destination}`, reset the offsets of the group with kafka-consumer-groups, `postrider resume -d {destination}`"
        );
    }
    match reason {
        StartReason::Expired => warn!(
            destination,
            topic, partition, offset, lost, "records expired before they were read"
        ),
        StartReason::Stopped => error!(
            destination,
            topic,
            partition,
            offset,
            lost,
            "records expired before they were read, and on_records_lost is \"stop\": nothing of this partition is read until somebody decides: write \"earliest\" or \"latest\" and restart, or `postrider pause --leave` and reset the offset of the group"
        ),
        StartReason::MadeAgain => warn!(
            destination,
            topic,
            partition,
            offset,
            committed = resolved.committed,
            "the topic was deleted and made again; what is left of the old one is gone, and the new one is read from its beginning"
        ),
        StartReason::BeyondEnd => warn!(
            destination,
            topic,
            partition,
            offset,
            committed = resolved.committed,
            "the committed offset is beyond the end of the partition: the topic was cut, or deleted and made again; reading from its beginning"
        ),
        // The ladder has twenty partitions, and nobody asks where they begin.
        StartReason::Committed | StartReason::Owned if owned => debug!(
            destination,
            topic,
            partition,
            offset,
            ?reason,
            "partition assigned"
        ),
        StartReason::Committed
        | StartReason::StartAt
        | StartReason::NewPartition
        | StartReason::Owned => {
            info!(
                destination,
                topic,
                partition,
                offset,
                ?reason,
                "partition assigned"
            );
        }
    }
}
