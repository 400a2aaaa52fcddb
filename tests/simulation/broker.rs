//! The model broker's data: logs with holes, groups with members and committed offsets.
//!
//! What it does with requests over time is in `service.rs`.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use postrider::lane::Source;

use crate::rng::Rng;
use crate::world::Time;

/// One partition of one incarnation of a topic: a topic that was deleted and made again is another one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Tp {
    pub(crate) topic: usize,
    pub(crate) incarnation: u32,
    pub(crate) partition: usize,
}

impl fmt::Debug for Tp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            topic,
            incarnation,
            partition,
        } = self;
        write!(f, "topic-{topic}/{partition}")?;
        if *incarnation > 0 {
            write!(f, " (made again {incarnation} times)")
        } else {
            Ok(())
        }
    }
}

/// A record's place in a log, and its number among all records of the run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stored {
    pub(crate) offset: i64,
    pub(crate) number: usize,
    /// On the ladder: which of the oracle's rungs it is.
    pub(crate) rung: Option<usize>,
}

/// One partition.
#[derive(Debug, Clone, Default)]
pub(crate) struct Log {
    pub(crate) low: i64,
    /// The offset after the last one, whatever it is.
    pub(crate) end: i64,
    pub(crate) records: Vec<Stored>,
}

impl Log {
    pub(crate) fn starting_at(low: i64) -> Self {
        Self {
            low,
            end: low,
            records: Vec::new(),
        }
    }

    /// The records from `position` on.
    pub(crate) fn from(&self, position: i64) -> &[Stored] {
        let first = self
            .records
            .partition_point(|stored| stored.offset < position);
        &self.records[first..]
    }

    /// Deletes everything below `low`.
    pub(crate) fn expire(&mut self, low: i64) {
        self.low = self.low.max(low);
        self.records.retain(|stored| stored.offset >= low);
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Topic {
    pub(crate) name: std::sync::Arc<str>,
    pub(crate) source: Source,
    pub(crate) exists: bool,
    pub(crate) incarnation: u32,
    pub(crate) partitions: Vec<Log>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Member {
    pub(crate) shell: usize,
    pub(crate) life: u32,
    /// It is in a rebalance callback, or has one on its way.
    pub(crate) busy: bool,
}

/// What a group has committed of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Committed {
    pub(crate) offset: i64,
    pub(crate) metadata: Bytes,
}

/// The consumer group of one destination.
#[derive(Debug, Clone, Default)]
pub(crate) struct Group {
    pub(crate) generation: u32,
    pub(crate) members: BTreeMap<u32, Member>,
    pub(crate) members_ever: u32,
    pub(crate) owner: BTreeMap<Tp, u32>,
    pub(crate) committed: BTreeMap<Tp, Committed>,
    pub(crate) rebalance_pending: bool,
}

impl Group {
    pub(crate) fn remove_member(&mut self, member: u32) -> bool {
        self.owner.retain(|_, owner| *owner != member);
        self.members.remove(&member).is_some()
    }

    /// Who should have which partition: everyone keeps what they have unless it is more than their share.
    pub(crate) fn target(&self, partitions: &[Tp], rng: &mut Rng) -> BTreeMap<Tp, u32> {
        let mut load: BTreeMap<u32, usize> =
            self.members.keys().map(|member| (*member, 0)).collect();
        if load.is_empty() {
            return BTreeMap::new();
        }
        let share = partitions.len().div_ceil(load.len());
        let mut target = BTreeMap::new();
        for tp in partitions {
            let Some(owner) = self.owner.get(tp) else {
                continue;
            };
            let Some(held) = load.get_mut(owner) else {
                continue;
            };
            // Now and then the assignor moves a partition for reasons of its own.
            if *held < share && !rng.chance(5) {
                *held += 1;
                target.insert(*tp, *owner);
            }
        }
        for tp in partitions {
            if target.contains_key(tp) {
                continue;
            }
            let least = load.values().copied().min().unwrap_or(0);
            let idle: Vec<u32> = load
                .iter()
                .filter(|(_, held)| **held == least)
                .map(|(m, _)| *m)
                .collect();
            let member = rng.pick(&idle);
            *load.entry(member).or_default() += 1;
            target.insert(*tp, member);
        }
        target
    }
}

/// Everything the brokers keep.
#[derive(Debug, Clone, Default)]
pub(crate) struct Broker {
    pub(crate) topics: Vec<Topic>,
    /// One for each destination.
    pub(crate) groups: Vec<Group>,
}

impl Broker {
    pub(crate) fn partitions(&self) -> Vec<Tp> {
        let mut all = Vec::new();
        for (number, topic) in self.topics.iter().enumerate() {
            if topic.exists {
                let incarnation = topic.incarnation;
                all.extend((0..topic.partitions.len()).map(|partition| Tp {
                    topic: number,
                    incarnation,
                    partition,
                }));
            }
        }
        all
    }

    pub(crate) fn log(&self, tp: Tp) -> Option<&Log> {
        let topic = self.topics.get(tp.topic)?;
        let there = topic.exists && topic.incarnation == tp.incarnation;
        if there {
            topic.partitions.get(tp.partition)
        } else {
            None
        }
    }

    /// Deletes a topic, with what the groups know of it.
    pub(crate) fn delete(&mut self, topic: usize) {
        self.topics[topic].exists = false;
        self.topics[topic].partitions.clear();
        for group in &mut self.groups {
            group.committed.retain(|tp, _| tp.topic != topic);
            group.owner.retain(|tp, _| tp.topic != topic);
        }
    }
}

/// What a consumer asked to be committed.
#[derive(Debug, Clone)]
pub(crate) struct CommitRequest {
    pub(crate) group: usize,
    pub(crate) shell: usize,
    pub(crate) life: u32,
    pub(crate) member: u32,
    pub(crate) generation: u32,
    pub(crate) entries: Vec<CommitEntry>,
    pub(crate) purpose: CommitPurpose,
    pub(crate) fate: CommitFate,
    pub(crate) answered: Time,
}

#[derive(Clone)]
pub(crate) struct CommitEntry {
    pub(crate) tp: Tp,
    pub(crate) position: postrider::lane::Position,
    /// Where the broker's answers say that this member had to begin.
    pub(crate) licence: i64,
}

impl fmt::Debug for CommitEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} at {} ({:?}, {} bytes)",
            self.tp,
            self.position.offset,
            self.position.epoch,
            self.position.metadata.len()
        )
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CommitPurpose {
    Timer,
    Revoke,
    Leave,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CommitFate {
    Works,
    Fails,
    AnswerLost,
}

/// What the broker says of a partition that was assigned.
#[derive(Debug, Clone)]
pub(crate) struct PartitionAnswer {
    pub(crate) tp: Tp,
    pub(crate) any_committed: bool,
    pub(crate) committed: Option<Committed>,
    pub(crate) low: i64,
    pub(crate) high: i64,
    pub(crate) at_time: Option<i64>,
    /// Where the oracle says this member has to begin.
    pub(crate) licence: i64,
}
