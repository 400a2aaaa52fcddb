//! The state machine itself: what comes in, what is admitted, what it asks for next.
//!
//! How an attempt or a write ends a delivery is in `settle.rs`; how partitions leave is in `handover.rs`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Now, Tick};
use crate::delivery::{DeliveryId, DeliveryKey, Epoch, Verdict};

use super::admit::RateWait;
use super::counts::{Counts, Settlement, Waiting};
use super::event::{Action, AssignedPartition, Event, Incoming, Position};
use super::handover::Handover;
use super::options::LaneOptions;
use super::rate::Rate;
use super::retry::Hold;
use super::window::{Delivery, Destiny, Partition, Phase, State};

/// How long the broker may take for the acknowledgement of a commit before it is asked again.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// How much more a lane may read at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Records; 0: read nothing.
    pub records: usize,
    /// Bytes. One record may go over it, because its size is known only when it is there.
    pub bytes: usize,
}

/// Everything one destination decides while it runs.
#[derive(Debug)]
pub struct Lane {
    pub(super) options: LaneOptions,
    destination_id: Arc<str>,
    pub(super) cluster_id: Arc<str>,
    pub(super) partitions: BTreeMap<Epoch, Partition>,
    /// Deliveries that may be sent as soon as there is a place, oldest first.
    pub(super) ready: VecDeque<DeliveryKey>,
    /// Deliveries that wait for a time: their next attempt, or their dead letter to be written again.
    pub(super) timers: BTreeSet<(Tick, DeliveryKey)>,
    pub(super) hold: Hold,
    pub(super) rate: Rate,
    pub(super) rate_wait: RateWait,
    pub(super) handover: Handover,
    /// A person asked for a pause.
    pub(super) paused: bool,
    /// Requests under way, those of fenced epochs included: they burden the receiver all the same.
    pub(super) in_flight: usize,
    /// Unsettled records and their weight.
    pub(super) unsettled: usize,
    pub(super) unsettled_bytes: usize,
    pub(super) tally: Tally,
    pub(super) counts: Counts,
    pub(super) actions: VecDeque<Action>,
    /// When positions are committed next; `None`: there is nothing to commit.
    commit_due: Option<Tick>,
    last_commit: Option<Tick>,
    pub(super) settled_since_commit: usize,
    pub(super) now: Now,
}

/// How many unsettled records are in each state.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Tally {
    ready: usize,
    in_flight: usize,
    retry: usize,
    write: usize,
}

impl Tally {
    pub(super) fn of(&mut self, state: State) -> &mut usize {
        match state {
            State::Ready => &mut self.ready,
            State::InFlight => &mut self.in_flight,
            State::Retry => &mut self.retry,
            State::Write(_) => &mut self.write,
        }
    }
}

impl Lane {
    /// A lane that has read nothing, for the destination with this id.
    #[must_use]
    pub fn new(options: LaneOptions, destination_id: Arc<str>) -> Self {
        Self {
            destination_id,
            cluster_id: "".into(),
            partitions: BTreeMap::new(),
            ready: VecDeque::new(),
            timers: BTreeSet::new(),
            hold: Hold::default(),
            rate: Rate::new(&options.rate),
            rate_wait: RateWait::default(),
            handover: Handover::default(),
            paused: false,
            in_flight: 0,
            unsettled: 0,
            unsettled_bytes: 0,
            tally: Tally::default(),
            counts: Counts::default(),
            actions: VecDeque::new(),
            commit_due: None,
            last_commit: None,
            settled_since_commit: 0,
            now: Now::default(),
            options,
        }
    }

    /// Takes in what happened at `now`. Call [`Lane::poll_action`] until it has nothing more to ask.
    pub fn handle(&mut self, now: Now, event: Event) {
        self.now = now;
        match event {
            Event::Assigned {
                cluster_id,
                partitions,
            } => self.assigned(&cluster_id, partitions),
            Event::Committed { positions } => self.committed(&positions),
            Event::Revoking { epochs, deadline } => self.revoking(epochs, deadline),
            Event::Lost { epochs } => self.lost(&epochs),
            Event::Read { epoch, records } => self.read(epoch, records),
            Event::EndOfPartition { epoch, offset } => self.reached_end(epoch, offset),
            Event::AttemptEnded { key, attempt } => self.attempt_ended(now, key, attempt),
            Event::WriteEnded { key, result } => self.write_ended(now, key, result),
            Event::Drain { deadline } => self.drain(deadline),
            Event::Ordered(order) => self.ordered(order),
            Event::TimePassed => {}
        }
        self.fire_timers();
        self.admit();
        self.end_handovers(now);
        self.commit();
        debug_assert_eq!(
            self.counts.read,
            self.counts.settled_total() + self.counts.released + self.waiting().total() as u64,
            "every record read is settled, released or waiting"
        );
    }

    /// The next thing to do, if there is one.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When [`Event::TimePassed`] must be handed in at the latest.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Tick> {
        let timer = self.timers.first().map(|(due, _)| *due);
        let held = self.hold.is_held(self.now.tick).then(|| self.hold.until());
        let admission = held
            .or(self.rate_wait.until)
            .filter(|_| !self.ready.is_empty() && !self.paused);
        [timer, admission, self.commit_due, self.handover.deadline()]
            .into_iter()
            .flatten()
            .min()
    }

    /// How much more may be read now.
    #[must_use]
    pub fn room(&self) -> Room {
        let WindowRoom { records, bytes } = self.window_room();
        if self.handover.is_draining() || records == 0 || bytes == 0 {
            return Room {
                records: 0,
                bytes: 0,
            };
        }
        Room { records, bytes }
    }

    /// Whether there are records to send as soon as there is a place for them.
    #[must_use]
    pub fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// How full the window is by records, by bytes and by the distance of the partition read furthest ahead: 0 to 1, and beyond for what is
    /// larger than its bound.
    #[must_use]
    pub fn window_usage(&self) -> [f64; 3] {
        let bounds = self.options.window;
        let distance = self.partitions.values().map(Partition::distance).max();
        [
            self.unsettled as f64 / bounds.records as f64,
            self.unsettled_bytes as f64 / bounds.bytes as f64,
            distance.unwrap_or(0) as f64 / bounds.distance as f64,
        ]
    }

    /// What happened since the start.
    #[must_use]
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// What waits, by what it waits for.
    #[must_use]
    pub fn waiting(&self) -> Waiting {
        let Tally {
            ready,
            in_flight,
            retry,
            write,
        } = self.tally;
        let held = self.hold.is_held(self.now.tick);
        let (breaker, rate) = if held { (ready, 0) } else { (0, ready) };
        Waiting {
            in_flight,
            retry,
            rate,
            breaker,
            write,
        }
    }

    /// The timestamp of the oldest record that waits, if any record that waits has one.
    #[must_use]
    pub fn oldest_waiting(&self) -> Option<crate::clock::Timestamp> {
        let oldest = |partition: &Partition| {
            partition
                .unsettled()
                .next()
                .map(|(_, d)| d.record.timestamp)
        };
        self.partitions.values().filter_map(oldest).flatten().min()
    }

    fn window_room(&self) -> WindowRoom {
        WindowRoom {
            records: self.options.window.records.saturating_sub(self.unsettled),
            bytes: self
                .options
                .window
                .bytes
                .saturating_sub(self.unsettled_bytes),
        }
    }

    fn assigned(&mut self, cluster_id: &Arc<str>, assigned: Vec<AssignedPartition>) {
        self.cluster_id = Arc::clone(cluster_id);
        if self.handover.is_drained() {
            return;
        }
        for AssignedPartition {
            epoch,
            base,
            committed,
            ..
        } in assigned
        {
            self.partitions
                .insert(epoch, Partition::new(base, committed));
            if !committed {
                self.commit_due = Some(self.now.tick);
            }
        }
    }

    fn committed(&mut self, positions: &[Position]) {
        for Position { epoch, offset, .. } in positions {
            let Some(partition) = self.partitions.get_mut(epoch) else {
                continue;
            };
            partition.committed = Some(*offset);
            if partition.phase == Phase::Starting {
                partition.phase = Phase::Consuming;
                let waiting = partition
                    .unsettled()
                    .filter(|(_, d)| d.state == State::Ready);
                self.ready.extend(waiting.map(|(offset, _)| DeliveryKey {
                    epoch: *epoch,
                    offset,
                }));
            }
        }
    }

    fn read(&mut self, epoch: Epoch, records: Vec<Incoming>) {
        if !self.partitions.contains_key(&epoch) {
            self.counts.read += records.len() as u64;
            self.counts.released += records.len() as u64;
            return;
        }
        for incoming in records {
            self.read_one(epoch, incoming);
        }
        self.check_distance(epoch);
    }

    fn read_one(&mut self, epoch: Epoch, incoming: Incoming) {
        let Incoming {
            offset,
            record,
            verdict,
            ..
        } = incoming;
        let key = DeliveryKey { epoch, offset };
        let destiny = match verdict {
            Verdict::NotMatched => return self.step_over(key, Settlement::NotMatched),
            Verdict::Dropped => return self.step_over(key, Settlement::Dropped),
            Verdict::Foreign => return self.step_over(key, Settlement::NotMatched),
            Verdict::Deliver { rule } => Destiny::Deliver { rule },
            Verdict::DeadLetter { reason, error } => Destiny::DeadLetter { reason, error },
        };
        let delivery = Delivery {
            weight: record.weight(),
            id: DeliveryId::new(&self.cluster_id, &record, &self.destination_id),
            record,
            destiny,
            state: State::Ready,
            attempts: 0,
            first_attempt: None,
            last_attempt: None,
            last_failure: None,
        };
        let weight = delivery.weight;
        let Some(partition) = self.partitions.get_mut(&epoch) else {
            return;
        };
        if !partition.receive(key.offset, Some(Box::new(delivery))) {
            return;
        }
        let may_send = partition.phase == Phase::Consuming;
        self.counts.read += 1;
        self.unsettled += 1;
        self.unsettled_bytes += weight;
        *self.tally.of(State::Ready) += 1;
        if may_send {
            self.ready.push_back(key);
        }
    }

    /// A record that ends as soon as it is read.
    fn step_over(&mut self, key: DeliveryKey, settlement: Settlement) {
        let Some(partition) = self.partitions.get_mut(&key.epoch) else {
            return;
        };
        if partition.receive(key.offset, None) {
            self.counts.read += 1;
            self.count_settled(settlement);
        }
    }

    fn reached_end(&mut self, epoch: Epoch, offset: i64) {
        if let Some(partition) = self.partitions.get_mut(&epoch) {
            partition.reach_end(offset);
            self.want_commit();
        }
    }

    /// Stops reading a partition that has run too far ahead of its oldest record, and goes on when half of that is made up for.
    pub(super) fn check_distance(&mut self, epoch: Epoch) {
        let Some(partition) = self.partitions.get_mut(&epoch) else {
            return;
        };
        let limit = self.options.window.distance;
        let distance = partition.distance();
        if !partition.paused && distance > limit {
            partition.paused = true;
            self.actions.push_back(Action::Pause(epoch));
        } else if partition.paused && distance <= limit / 2 {
            partition.paused = false;
            self.actions.push_back(Action::Resume(epoch));
        }
    }

    /// Moves a delivery to another state. Its key goes to the queue or the timer that wakes it.
    pub(super) fn enter(&mut self, key: DeliveryKey, state: State) {
        let Some(delivery) = self
            .partitions
            .get_mut(&key.epoch)
            .and_then(|p| p.delivery(key.offset))
        else {
            return;
        };
        *self.tally.of(delivery.state) -= 1;
        *self.tally.of(state) += 1;
        delivery.state = state;
    }

    /// Whether something new may begin for a partition that is still ours.
    fn may_begin(&self, epoch: Epoch) -> bool {
        let leaving = |partition: &Partition| partition.phase == Phase::Revoking;
        !self.handover.is_draining() && !self.partitions.get(&epoch).is_none_or(leaving)
    }

    fn fire_timers(&mut self) {
        while let Some((due, key)) = self.timers.first().copied() {
            if due > self.now.tick {
                return;
            }
            self.timers.pop_first();
            let delivery = self
                .partitions
                .get_mut(&key.epoch)
                .and_then(|p| p.delivery(key.offset));
            match delivery.map(|d| d.state) {
                Some(State::Retry) => {
                    self.enter(key, State::Ready);
                    self.ready.push_front(key);
                }
                Some(State::Write(write)) if self.may_begin(key.epoch) => {
                    self.write_dead_letter(key, write);
                }
                Some(State::Write(_) | State::Ready | State::InFlight) | None => {}
            }
        }
    }

    /// Something may have become committable.
    pub(super) fn want_commit(&mut self) {
        if self.commit_due.is_none() {
            let earliest = self
                .last_commit
                .map(|last| last + self.options.commit_interval);
            self.commit_due = Some(earliest.map_or(self.now.tick, |due| due.max(self.now.tick)));
        }
    }

    /// Asks for a commit when its time has come, or when a window's worth of records has been settled since the last one. What the
    /// broker has not acknowledged after a while is asked for again.
    fn commit(&mut self) {
        let Some(due) = self.commit_due else { return };
        if self.handover.is_drained() {
            self.commit_due = None;
            return;
        }
        let now = self.now.tick;
        let many = self.settled_since_commit >= self.options.window.records;
        if due > now && !many {
            return;
        }
        let mut positions = self.positions(|_| true);
        if positions.is_empty() {
            self.commit_due = None;
            return;
        }
        self.commit_due = Some(now + self.options.commit_interval);
        positions.retain(|position| self.ask(position));
        if !positions.is_empty() {
            self.settled_since_commit = 0;
            self.last_commit = Some(now);
            self.actions.push_back(Action::Commit { positions });
        }
    }

    /// Whether this position is to be asked for now.
    fn ask(&mut self, position: &Position) -> bool {
        let now = self.now.tick;
        let Some(partition) = self.partitions.get_mut(&position.epoch) else {
            return false;
        };
        let on_the_way = |(offset, then): (i64, Tick)| {
            offset == position.offset && now.since(then) < ASK_AGAIN_AFTER
        };
        if partition.asked.is_some_and(on_the_way) {
            return false;
        }
        partition.asked = Some((position.offset, now));
        true
    }

    /// The positions of the chosen partitions, where they differ from what the broker has acknowledged.
    pub(super) fn positions(&self, chosen: impl Fn(Epoch) -> bool) -> Vec<Position> {
        let changed = |(epoch, partition): (&Epoch, &Partition)| {
            let offset = partition.position();
            let wanted = chosen(*epoch) && partition.committed != Some(offset);
            wanted.then_some(Position {
                epoch: *epoch,
                offset,
                metadata: "".into(),
            })
        };
        self.partitions.iter().filter_map(changed).collect()
    }
}

struct WindowRoom {
    records: usize,
    bytes: usize,
}
