//! Bugs, planted one at a time between the shell and the real lane, so that the code of the daemon holds none of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use postrider::clock::{Now, Tick};
use postrider::delivery::{DeliveryId, DeliveryKey, Epoch};
use postrider::lane::{Action, AssignedPartition, Counts, Event, Lane, LaneOptions, Position, Room, Waiting};

/// A bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mutant {
    /// Positions are committed as soon as the records before them are read.
    CommitBeforeSettlement,
    /// A partition begins with the first record that happens to be seen.
    StartFromFirstRecord,
    /// What ends for an assignment that is over counts for the one that followed it.
    StaleSettlementCounted,
    /// A dead letter counts as soon as it is handed to the producer.
    DeadLetterNotAwaited,
    /// Every attempt has an id of its own.
    NewIdOnRetry,
    /// A partition without a committed offset begins at `start_at` even when the group knows its topic. Planted in the shell.
    LatestAfterRestart,
}

impl Mutant {
    pub(crate) const ALL: [Self; 6] = [
        Self::CommitBeforeSettlement,
        Self::StartFromFirstRecord,
        Self::StaleSettlementCounted,
        Self::DeadLetterNotAwaited,
        Self::NewIdOnRetry,
        Self::LatestAfterRestart,
    ];
}

/// The lane, with a bug or without.
pub(crate) struct Subject {
    lane: Lane,
    mutant: Option<Mutant>,
    now: Now,
    cluster_id: Arc<str>,
    /// Where each assignment is read to.
    read_to: BTreeMap<Epoch, i64>,
    /// Which partition an assignment is of, and which assignment is the partition's newest.
    place: BTreeMap<Epoch, (Arc<str>, i32)>,
    newest: BTreeMap<(Arc<str>, i32), Epoch>,
    /// Assignments that the lane has not been told of.
    withheld: BTreeMap<Epoch, AssignedPartition>,
    ended: BTreeSet<DeliveryKey>,
}

impl Subject {
    pub(crate) fn new(options: LaneOptions, destination_id: Arc<str>, mutant: Option<Mutant>) -> Self {
        Self {
            lane: Lane::new(options, destination_id),
            mutant,
            now: Now::default(),
            cluster_id: "".into(),
            read_to: BTreeMap::new(),
            place: BTreeMap::new(),
            newest: BTreeMap::new(),
            withheld: BTreeMap::new(),
            ended: BTreeSet::new(),
        }
    }

    pub(crate) fn handle(&mut self, now: Now, event: Event) {
        self.now = now;
        let event = match self.mutant {
            None | Some(Mutant::NewIdOnRetry | Mutant::LatestAfterRestart) => event,
            Some(Mutant::CommitBeforeSettlement) => self.watch_reading(event),
            Some(Mutant::StartFromFirstRecord) => self.begin_with_first_record(event),
            Some(Mutant::StaleSettlementCounted) => self.stamp_anew(event),
            Some(Mutant::DeadLetterNotAwaited) => match event {
                // The true end of the write interests nobody.
                Event::WriteEnded { key, .. } if self.ended.contains(&key) => Event::TimePassed,
                other => other,
            },
        };
        self.lane.handle(now, event);
    }

    pub(crate) fn poll_action(&mut self) -> Option<Action> {
        let action = self.lane.poll_action()?;
        Some(match self.mutant {
            Some(Mutant::CommitBeforeSettlement) => self.commit_what_was_read(action),
            Some(Mutant::NewIdOnRetry) => with_new_id(action),
            Some(Mutant::DeadLetterNotAwaited) => {
                if let Action::WriteDeadLetter(letter) = &action {
                    self.ended.insert(letter.key);
                    self.lane.handle(self.now, Event::WriteEnded { key: letter.key, result: Ok(()) });
                }
                action
            }
            _ => action,
        })
    }

    fn watch_reading(&mut self, event: Event) -> Event {
        if let Event::Read { epoch, records } = &event {
            let end = records.iter().map(|incoming| incoming.record.offset + 1).max().unwrap_or(0);
            let read_to = self.read_to.entry(*epoch).or_default();
            *read_to = (*read_to).max(end);
        }
        event
    }

    fn commit_what_was_read(&self, mut action: Action) -> Action {
        if let Action::Commit { positions } | Action::Revoked { positions, .. } | Action::Drained { positions } = &mut action {
            for Position { epoch, offset } in positions {
                *offset = self.read_to.get(epoch).map_or(*offset, |read_to| *read_to.max(offset));
            }
        }
        action
    }

    /// The base of a partition is the offset of the first record that comes, in the order in which they come.
    fn begin_with_first_record(&mut self, event: Event) -> Event {
        match event {
            Event::Assigned { cluster_id, partitions } => {
                self.cluster_id = cluster_id;
                self.withheld.extend(partitions.into_iter().map(|partition| (partition.epoch, partition)));
                Event::TimePassed
            }
            Event::Read { epoch, records } => {
                let first = records.first().map(|incoming| incoming.record.offset);
                self.begin(epoch, first);
                Event::Read { epoch, records }
            }
            Event::EndOfPartition { epoch, offset } => {
                self.begin(epoch, Some(offset));
                Event::EndOfPartition { epoch, offset }
            }
            other => other,
        }
    }

    fn begin(&mut self, epoch: Epoch, first: Option<i64>) {
        let (Some(base), Some(assigned)) = (first, self.withheld.remove(&epoch)) else { return };
        let committed = assigned.committed && assigned.base == base;
        let partitions = vec![AssignedPartition { base, committed, ..assigned }];
        let cluster_id = Arc::clone(&self.cluster_id);
        self.lane.handle(self.now, Event::Assigned { cluster_id, partitions });
    }

    fn stamp_anew(&mut self, event: Event) -> Event {
        match event {
            Event::Assigned { cluster_id, partitions } => {
                for AssignedPartition { epoch, topic, partition, .. } in &partitions {
                    let place = (Arc::clone(topic), *partition);
                    self.place.insert(*epoch, place.clone());
                    self.newest.insert(place, *epoch);
                }
                Event::Assigned { cluster_id, partitions }
            }
            Event::AttemptEnded { key, attempt } => Event::AttemptEnded { key: self.newest_key(key), attempt },
            Event::WriteEnded { key, result } => Event::WriteEnded { key: self.newest_key(key), result },
            other => other,
        }
    }

    fn newest_key(&self, key: DeliveryKey) -> DeliveryKey {
        let newest = self.place.get(&key.epoch).and_then(|place| self.newest.get(place));
        DeliveryKey { epoch: newest.copied().unwrap_or(key.epoch), ..key }
    }

    pub(crate) fn poll_timeout(&self) -> Option<Tick> {
        self.lane.poll_timeout()
    }

    pub(crate) fn room(&self) -> Room {
        self.lane.room()
    }

    pub(crate) fn counts(&self) -> &Counts {
        self.lane.counts()
    }

    pub(crate) fn waiting(&self) -> Waiting {
        self.lane.waiting()
    }
}

fn with_new_id(mut action: Action) -> Action {
    if let Action::Send(send) = &mut action
        && send.attempt > 1
    {
        let DeliveryId(bytes) = &mut send.id;
        bytes[15] ^= send.attempt as u8;
    }
    action
}
