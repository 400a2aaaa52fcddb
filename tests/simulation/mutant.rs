//! Bugs, planted one at a time between the shell and the real lane, so that the code of the daemon holds none of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use postrider::clock::{Now, Tick};
use postrider::delivery::{DeliveryId, DeliveryKey, Epoch, Outcome};
use postrider::lane::{
    Action, AssignedPartition, Counts, Event, Lane, LaneOptions, Order, Position, Room, Waiting,
};

use crate::bugs::Memory;
use crate::check::Check;

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
    /// The rate is not kept.
    IgnoresRate,
    /// One request more than allowed.
    OneRequestTooMany,
    /// One record more than the window holds.
    OneRecordTooMany,
    /// A partition is never paused.
    NeverPauses,
    /// Requests leave before the start of their partition is committed.
    SendsBeforeStart,
    /// The lane names no time at which it wants to be woken.
    SleepsThroughDeadlines,
    /// The lane wants to be woken at once, always.
    NeverRests,
    /// A revoke is answered without waiting for what is in flight.
    RevokesAtOnce,
    /// A lost assignment goes on.
    IgnoresLosses,
    /// What should be retried is given up.
    GivesUpAtOnce,
    /// The waits between the attempts are left out.
    RetriesAtOnce,
    /// A record here and there is not taken in.
    SkipsRecords,
    /// The end of a partition is not heard of.
    IgnoresEnds,
    /// Answers of receivers are forgotten.
    ForgetsAnswers,
    /// Positions are committed for partitions that have gone to others. Planted in the shell.
    CommitsWhatIsNotOwned,
    /// A lane reads nothing while another one of its instance has something waiting. Planted in the shell.
    SharesAQueue,
    /// A record of the ladder is read before its step has passed. Planted in the gate.
    LadderReadEarly,
    /// A record of the ladder is kept back for ever. Planted in the gate.
    LadderReadNever,
    /// Steps that the schedule does not name (any more) are not read. Planted in the consumer.
    StrandedByNewSchedule,
    /// A failed probe counts as an attempt like any other.
    SpendsWhileOpen,
    /// What was spent is not known to the next owner of a partition.
    ForgetsBudgets,
    /// Whatever well-formed progress lies beside an offset is taken for one's own.
    BelievesAnyMetadata,
    /// An answer that may speak of the endpoint stops the lane, whatever others get.
    FaultStopsTheLane,
    /// What an earlier life of the lane has had in its hands is in no order any more.
    OrderForgottenAtRestart,
    /// All endpoints of a destination are taken for one.
    OneEndpointForAll,
    /// An answer that may speak of the endpoint holds it for as long as a receiver could ask for.
    FaultHoldsTheLane,
}

impl Mutant {
    /// Bugs that show one by one that no check is blind.
    pub(crate) const FOR_EACH_CHECK: &[(Self, Check)] = &[
        (Self::IgnoresRate, Check::Bounds),
        (Self::OneRequestTooMany, Check::Bounds),
        (Self::OneRecordTooMany, Check::Bounds),
        (Self::NeverPauses, Check::Bounds),
        (Self::SendsBeforeStart, Check::Start),
        (Self::SleepsThroughDeadlines, Check::Handover),
        (Self::NeverRests, Check::Busy),
        (Self::RevokesAtOnce, Check::Calm),
        (Self::IgnoresLosses, Check::Fence),
        (Self::GivesUpAtOnce, Check::DeadLetter),
        (Self::RetriesAtOnce, Check::Attempt),
        (Self::SkipsRecords, Check::Commit),
        (Self::IgnoresEnds, Check::Liveness),
        (Self::ForgetsAnswers, Check::Balance),
        (Self::CommitsWhatIsNotOwned, Check::CommitRange),
        (Self::SharesAQueue, Check::Healthy),
        (Self::NewIdOnRetry, Check::Identity),
        (Self::LadderReadEarly, Check::Ladder),
        (Self::ForgetsBudgets, Check::Budget),
        (Self::FaultHoldsTheLane, Check::Standstill),
    ];

    /// The bug of this name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        let more = Self::FOR_EACH_CHECK.iter().map(|(mutant, _)| *mutant);
        let all = more.chain([
            Self::CommitBeforeSettlement,
            Self::StartFromFirstRecord,
            Self::StaleSettlementCounted,
            Self::DeadLetterNotAwaited,
            Self::LatestAfterRestart,
            Self::LadderReadNever,
            Self::StrandedByNewSchedule,
            Self::SpendsWhileOpen,
            Self::BelievesAnyMetadata,
            Self::FaultStopsTheLane,
            Self::OneEndpointForAll,
            Self::OrderForgottenAtRestart,
        ]);
        all.into_iter().find(|mutant| format!("{mutant:?}") == name)
    }
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
    memory: Memory,
}

impl Subject {
    pub(crate) fn new(
        mut options: LaneOptions,
        destination_id: Arc<str>,
        mutant: Option<Mutant>,
    ) -> Self {
        match mutant {
            Some(Mutant::IgnoresRate) => options.rate.clear(),
            Some(Mutant::OneRequestTooMany) => options.concurrency += 1,
            Some(Mutant::OneRecordTooMany) => options.window.records += 1,
            Some(Mutant::RetriesAtOnce) => options.retry.schedule.fill(Duration::ZERO),
            _ => {}
        }
        let entries = options.retry.schedule.len();
        Self {
            memory: Memory::new(Arc::clone(&destination_id), entries),
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
            Some(Mutant::CommitBeforeSettlement) => self.watch_reading(event),
            Some(Mutant::StartFromFirstRecord) => self.begin_with_first_record(event),
            Some(Mutant::StaleSettlementCounted) => self.stamp_anew(event),
            Some(Mutant::DeadLetterNotAwaited) => match event {
                // The true end of the write interests nobody.
                Event::WriteEnded { key, .. } if self.ended.contains(&key) => Event::TimePassed,
                other => other,
            },
            Some(mutant) => self.memory.bend(mutant, bent(mutant, now, event)),
            None => event,
        };
        let stops = self.mutant == Some(Mutant::FaultStopsTheLane) && is_fault(&event);
        self.lane.handle(now, event);
        if stops {
            self.lane.handle(now, Event::Ordered(Order::Pause));
        }
    }

    pub(crate) fn poll_action(&mut self) -> Option<Action> {
        let mut action = self.lane.poll_action()?;
        while self.mutant == Some(Mutant::NeverPauses)
            && matches!(action, Action::Pause(_) | Action::Resume(_))
        {
            action = self.lane.poll_action()?;
        }
        Some(match self.mutant {
            Some(Mutant::CommitBeforeSettlement) => self.commit_what_was_read(action),
            Some(Mutant::NewIdOnRetry) => with_new_id(action),
            Some(Mutant::DeadLetterNotAwaited) => {
                if let Action::WriteDeadLetter(letter) = &action {
                    self.ended.insert(letter.key);
                    self.lane.handle(
                        self.now,
                        Event::WriteEnded {
                            key: letter.key,
                            result: Ok(()),
                        },
                    );
                }
                action
            }
            Some(mutant) => self.memory.bend_action(mutant, action),
            None => action,
        })
    }

    fn watch_reading(&mut self, event: Event) -> Event {
        if let Event::Read { epoch, records } = &event {
            let end = records
                .iter()
                .map(|incoming| incoming.record.offset + 1)
                .max()
                .unwrap_or(0);
            let read_to = self.read_to.entry(*epoch).or_default();
            *read_to = (*read_to).max(end);
        }
        event
    }

    fn commit_what_was_read(&self, mut action: Action) -> Action {
        if let Action::Commit { positions }
        | Action::Revoked { positions, .. }
        | Action::Drained { positions } = &mut action
        {
            for Position { epoch, offset, .. } in positions {
                *offset = self
                    .read_to
                    .get(epoch)
                    .map_or(*offset, |read_to| *read_to.max(offset));
            }
        }
        action
    }

    /// The base of a partition is the offset of the first record that comes, in the order in which they come.
    fn begin_with_first_record(&mut self, event: Event) -> Event {
        match event {
            Event::Assigned {
                cluster_id,
                partitions,
            } => {
                self.cluster_id = cluster_id;
                self.withheld.extend(
                    partitions
                        .into_iter()
                        .map(|partition| (partition.epoch, partition)),
                );
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
        let (Some(base), Some(assigned)) = (first, self.withheld.remove(&epoch)) else {
            return;
        };
        let committed = assigned.committed && assigned.base == base;
        let partitions = vec![AssignedPartition {
            base,
            committed,
            ..assigned
        }];
        let cluster_id = Arc::clone(&self.cluster_id);
        self.lane.handle(
            self.now,
            Event::Assigned {
                cluster_id,
                partitions,
            },
        );
    }

    fn stamp_anew(&mut self, event: Event) -> Event {
        match event {
            Event::Assigned {
                cluster_id,
                partitions,
            } => {
                for AssignedPartition {
                    epoch,
                    topic,
                    partition,
                    ..
                } in &partitions
                {
                    let place = (Arc::clone(topic), *partition);
                    self.place.insert(*epoch, place.clone());
                    self.newest.insert(place, *epoch);
                }
                Event::Assigned {
                    cluster_id,
                    partitions,
                }
            }
            Event::AttemptEnded { key, attempt } => Event::AttemptEnded {
                key: self.newest_key(key),
                attempt,
            },
            Event::WriteEnded { key, result } => Event::WriteEnded {
                key: self.newest_key(key),
                result,
            },
            other => other,
        }
    }

    fn newest_key(&self, key: DeliveryKey) -> DeliveryKey {
        let newest = self
            .place
            .get(&key.epoch)
            .and_then(|place| self.newest.get(place));
        DeliveryKey {
            epoch: newest.copied().unwrap_or(key.epoch),
            ..key
        }
    }

    pub(crate) fn poll_timeout(&self) -> Option<Tick> {
        match self.mutant {
            Some(Mutant::SleepsThroughDeadlines) => None,
            Some(Mutant::NeverRests) => Some(self.now.tick),
            _ => self.lane.poll_timeout(),
        }
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

fn is_fault(event: &Event) -> bool {
    matches!(event, Event::AttemptEnded { attempt, .. } if attempt.outcome == Outcome::EndpointFault)
}

/// What the lane hears of an event, with bugs that need no memory.
fn bent(mutant: Mutant, now: Now, mut event: Event) -> Event {
    match (mutant, &mut event) {
        (Mutant::SendsBeforeStart, Event::Assigned { partitions, .. }) => {
            partitions
                .iter_mut()
                .for_each(|partition| partition.committed = true);
        }
        (Mutant::RevokesAtOnce, Event::Revoking { deadline, .. }) => *deadline = now.tick,
        (Mutant::GivesUpAtOnce, Event::AttemptEnded { attempt, .. })
            if attempt.outcome == Outcome::Retry =>
        {
            attempt.outcome = Outcome::Reject;
        }
        (Mutant::SkipsRecords, Event::Read { records, .. }) => {
            records.retain(|incoming| incoming.record.offset % 50 != 7)
        }
        (Mutant::OneEndpointForAll, Event::Read { records, .. }) => {
            records
                .iter_mut()
                .for_each(|incoming| incoming.endpoint = None);
        }
        (Mutant::IgnoresLosses, Event::Lost { .. })
        | (Mutant::IgnoresEnds, Event::EndOfPartition { .. })
        | (Mutant::ForgetsAnswers, Event::AttemptEnded { .. }) => event = Event::TimePassed,
        _ => {}
    }
    event
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
