//! The state machine itself: what it holds, and the order in which it looks at it.
//!
//! What comes in is in `intake.rs`, what may begin in `admit.rs`, how an attempt or a write ends a delivery in `settle.rs`, what answers say of the
//! endpoint in `evidence.rs`, which of its records is tried next in `choice.rs`, what an endpoint of many may keep waiting in `share.rs`, what is committed in `commit.rs`, and how partitions leave in `handover.rs`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::clock::{Now, Tick};
use crate::delivery::{DeliveryKey, Epoch};

use super::admit::RateWait;
use super::allotment::Allotment;
use super::brake::Brake;
use super::caution::OneAtATime;
use super::counts::{Counts, Waiting};
use super::delivery::{Delivery, State};
use super::endpoint::State as Endpoint;
use super::endpoints::{EndpointStates, Endpoints, Slot};
use super::event::{Action, Event};
use super::handover::Handover;
use super::options::LaneOptions;
use super::order::LadderOrders;
use super::rate::Rate;
use super::skip::Skips;
use super::status::LastFailure;
use super::window::{Partition, Phase};

/// An endpoint that is left alone is read for until so many records wait that were never tried, so that its probes have a choice.
pub(super) const WAITING_WHILE_OPEN: usize = 8;

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
    /// What it has of the limits of the process.
    pub(super) allotment: Allotment,
    pub(super) destination_id: Arc<str>,
    pub(super) cluster_id: Arc<str>,
    pub(super) partitions: BTreeMap<Epoch, Partition>,
    /// Deliveries that wait for a time: their next attempt, or their dead letter to be written again.
    pub(super) timers: BTreeSet<(Tick, DeliveryKey)>,
    pub(super) endpoints: Endpoints,
    /// Keys whose records wait for a person.
    pub(super) held_keys: BTreeSet<Bytes>,
    /// Whether it was said that nothing more can be read because of them and of others that are waited for.
    pub(super) held_up: bool,
    pub(super) brake: Brake,
    pub(super) ladder_orders: LadderOrders,
    pub(super) skips: Skips,
    /// A person asked for a pause.
    pub(super) paused: bool,
    /// Whether nothing may be tried, whatever its endpoint says, as far as the endpoints know.
    stands_still: bool,
    /// When something may begin that may not begin now, whatever its endpoint says.
    pub(super) wake: Option<Tick>,
    /// When a full window is looked through again at the earliest.
    pub(super) next_look: Tick,
    pub(super) rate: Rate,
    pub(super) rate_wait: RateWait,
    pub(super) handover: Handover,
    pub(super) one_at_a_time: OneAtATime,
    /// Requests under way, those of fenced epochs included: they burden the receiver all the same.
    pub(super) in_flight: usize,
    /// Unsettled records and their weight.
    pub(super) unsettled: usize,
    pub(super) unsettled_bytes: usize,
    /// Requests to an address that is not the destination's any more.
    pub(super) of_the_old_endpoint: BTreeSet<DeliveryKey>,
    /// The last attempt that failed.
    pub(super) last_failure: Option<LastFailure>,
    pub(super) tally: Tally,
    pub(super) counts: Counts,
    pub(super) actions: VecDeque<Action>,
    /// When positions are committed next; `None`: there is nothing to commit.
    pub(super) commit_due: Option<Tick>,
    pub(super) last_commit: Option<Tick>,
    pub(super) settled_since_commit: usize,
    pub(super) now: Now,
}

/// How many unsettled records are in each state.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Tally {
    ready: usize,
    behind: usize,
    in_flight: usize,
    retry: usize,
    accused: usize,
    write: usize,
}

impl Tally {
    pub(super) fn of(&mut self, state: State) -> &mut usize {
        match state {
            State::Ready => &mut self.ready,
            State::Behind => &mut self.behind,
            State::InFlight => &mut self.in_flight,
            State::Retry => &mut self.retry,
            State::Accused => &mut self.accused,
            State::Write(_) | State::Ladder(_) => &mut self.write,
        }
    }
}

impl Lane {
    /// A lane that has read nothing, for the destination with this id.
    #[must_use]
    pub fn new(options: LaneOptions, destination_id: Arc<str>) -> Self {
        Self {
            allotment: Allotment::UNLIMITED,
            destination_id,
            cluster_id: "".into(),
            partitions: BTreeMap::new(),
            timers: BTreeSet::new(),
            endpoints: Endpoints::default(),
            held_keys: BTreeSet::new(),
            held_up: false,
            brake: Brake::default(),
            ladder_orders: LadderOrders::default(),
            skips: Skips::default(),
            paused: false,
            stands_still: false,
            wake: None,
            next_look: Tick::default(),
            rate: Rate::new(&options.rate),
            rate_wait: RateWait::default(),
            handover: Handover::default(),
            one_at_a_time: OneAtATime::default(),
            in_flight: 0,
            unsettled: 0,
            unsettled_bytes: 0,
            of_the_old_endpoint: BTreeSet::new(),
            last_failure: None,
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
            Event::SteppedOver { epoch, offsets } => self.stepped_over(epoch, &offsets),
            Event::AttemptEnded { key, attempt } => self.attempt_ended(now, key, attempt),
            Event::Aborted { key } => self.aborted(key),
            Event::WriteEnded { key, result } => self.write_ended(now, key, result),
            Event::Drain { deadline } => self.drain(deadline),
            Event::Hush(hushed) => self.hush(hushed),
            Event::Still => self.is_still_around(),
            Event::Explained => self.is_explained(),
            Event::Ordered(order) => self.ordered(order),
            Event::Changed { options, endpoint } => self.changed(*options, endpoint),
            Event::Allotted(allotment) => self.allotment = allotment,
            Event::TimePassed => {}
        }
        self.fire_timers();
        self.admit();
        self.let_others_go_on();
        self.keep_to_shares();
        self.watch_brake_and_pause();
        self.watch_held_keys();
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
        let admission = [self.wake, self.endpoints.wakes_at(), self.rate_wait.until]
            .into_iter()
            .flatten()
            .min();
        let others = self.one_at_a_time.deadline();
        let handover = self.handover.deadline();
        [timer, admission, self.commit_due, handover, others]
            .into_iter()
            .flatten()
            .min()
    }

    /// How much more may be read now.
    #[must_use]
    pub fn room(&self) -> Room {
        let WindowRoom { mut records, bytes } = self.window_room();
        if self.is_stopped() || self.endpoints[Slot::SOLE].is_left_alone() {
            records = records.min(WAITING_WHILE_OPEN.saturating_sub(self.untried()));
        }
        if self.handover.is_draining() || records == 0 || bytes == 0 {
            return Room {
                records: 0,
                bytes: 0,
            };
        }
        Room { records, bytes }
    }

    /// How many endpoints are in which state.
    #[must_use]
    pub fn endpoint_states(&self) -> EndpointStates {
        let mut states = EndpointStates::default();
        for (_, endpoint) in self.endpoints.all() {
            *match &endpoint.state {
                _ if self.paused => &mut states.paused,
                Endpoint::Closed | Endpoint::Doubt(_) => &mut states.closed,
                Endpoint::Open(open) if open.trial.is_some() => &mut states.half_open,
                Endpoint::Open(_) => &mut states.open,
                Endpoint::Gone => &mut states.gone,
            } += 1;
        }
        states
    }

    /// Whether there are records to send as soon as there is a place for them.
    #[must_use]
    pub fn has_ready(&self) -> bool {
        self.tally.ready > 0
    }

    /// How full the window is by records, by bytes and by the distance of the partition read furthest ahead: 0 to 1, and beyond for what is
    /// larger than its bound.
    #[must_use]
    pub fn window_usage(&self) -> [f64; 3] {
        let bounds = self.options.window;
        let distance = self.partitions.values().map(Partition::distance).max();
        [
            self.unsettled as f64 / bounds.records as f64,
            self.unsettled_bytes as f64 / self.window_bytes() as f64,
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
            behind,
            in_flight,
            retry,
            accused,
            write,
        } = self.tally;
        let now = self.now.tick;
        let sole_stopped = self.endpoints[Slot::SOLE].is_waited_for(now);
        let breaker = if self.is_stopped() || sole_stopped {
            ready
        } else {
            let all = self.endpoints.all();
            let stopped = all.filter(|(_, endpoint)| endpoint.is_waited_for(now));
            let waiting: usize = stopped.map(|(_, endpoint)| endpoint.ready.len()).sum();
            waiting.min(ready)
        };
        let rate = ready - breaker;
        Waiting {
            in_flight,
            retry,
            order: behind,
            rate,
            breaker: breaker + accused,
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

    /// Whether nothing more can be read because of what is here.
    pub(super) fn is_full(&self) -> bool {
        let WindowRoom { records, bytes } = self.window_room();
        records == 0 || bytes == 0
    }

    /// How many of the ready records were never tried.
    fn untried(&self) -> usize {
        let untried = |key: &&DeliveryKey| {
            self.peek(**key)
                .is_some_and(|delivery| delivery.first_attempt.is_none())
        };
        let all = self.endpoints.all();
        all.flat_map(|(_, endpoint)| &endpoint.ready)
            .filter(untried)
            .count()
    }

    fn window_room(&self) -> WindowRoom {
        WindowRoom {
            records: self.options.window.records.saturating_sub(self.unsettled),
            bytes: self.window_bytes().saturating_sub(self.unsettled_bytes),
        }
    }

    /// The delivery of this name, if it is still here.
    pub(super) fn delivery(&mut self, key: DeliveryKey) -> Option<&mut Delivery> {
        self.partitions
            .get_mut(&key.epoch)
            .and_then(|partition| partition.delivery(key.offset))
    }

    /// The same, to look at.
    pub(super) fn peek(&self, key: DeliveryKey) -> Option<&Delivery> {
        self.partitions
            .get(&key.epoch)
            .and_then(|partition| partition.peek(key.offset))
    }

    /// Moves a delivery to another state. Its key goes to the queue or the timer that wakes it.
    pub(super) fn enter(&mut self, key: DeliveryKey, state: State) {
        let Some(delivery) = self.delivery(key) else {
            return;
        };
        let before = std::mem::replace(&mut delivery.state, state);
        *self.tally.of(before) -= 1;
        *self.tally.of(state) += 1;
    }

    /// A delivery waits for its turn, before the others of its endpoint.
    pub(super) fn queue_first(&mut self, slot: Slot, key: DeliveryKey) {
        self.endpoints[slot].ready.push_front(key);
        self.endpoints.call(slot);
        self.endpoints.weigh(slot);
    }

    /// The same, behind the others.
    pub(super) fn queue_last(&mut self, slot: Slot, key: DeliveryKey) {
        self.endpoints[slot].ready.push_back(key);
        self.endpoints.call(slot);
        self.endpoints.weigh(slot);
    }

    /// For how long the endpoint of a delivery has been stopped in total.
    pub(super) fn stopped(&self, key: DeliveryKey) -> Duration {
        let endpoint = self.peek(key).map_or(Slot::SOLE, |d| d.endpoint);
        self.endpoints[endpoint].stopwatch.total(self.now.tick)
    }

    /// Whether something new may begin for a partition that is still ours.
    pub(super) fn may_begin(&self, epoch: Epoch) -> bool {
        let leaving = |partition: &Partition| partition.phase == Phase::Revoking;
        !self.handover.is_draining() && !self.partitions.get(&epoch).is_none_or(leaving)
    }

    fn fire_timers(&mut self) {
        self.endpoints.wake(self.now.tick);
        while let Some((due, key)) = self.timers.first().copied() {
            if due > self.now.tick {
                return;
            }
            self.timers.pop_first();
            let Some(delivery) = self.peek(key) else {
                continue;
            };
            let slot = delivery.endpoint;
            match delivery.state {
                State::Retry => {
                    self.enter(key, State::Ready);
                    self.queue_first(slot, key);
                }
                State::Write(write) if self.may_begin(key.epoch) => {
                    self.write_dead_letter(key, write);
                }
                State::Ladder(write) if self.may_begin(key.epoch) => {
                    self.write_ladder_again(key, write);
                }
                State::Write(_)
                | State::Ladder(_)
                | State::Ready
                | State::Behind
                | State::InFlight
                | State::Accused => {}
            }
        }
    }

    /// Whether nothing may be tried, whatever its endpoint says.
    pub(super) fn is_stopped(&self) -> bool {
        self.paused || self.brake.since().is_some()
    }

    /// Keeps count of the time in which nothing of an endpoint may be tried, whatever waits.
    pub(super) fn watch_standstill(&mut self, slot: Slot) {
        let stopped = self.is_stopped();
        let endpoint = &mut self.endpoints[slot];
        let until = match stopped || endpoint.is_left_alone() {
            true => Tick(Duration::MAX),
            false => endpoint.hold.until(),
        };
        endpoint.stopwatch.stopped_until(self.now.tick, until);
    }

    /// The same for all.
    pub(super) fn watch_standstill_of_all(&mut self) {
        for slot in self.endpoints.slots() {
            self.watch_standstill(slot);
        }
    }

    /// A pause or the brake has begun or ended: that concerns all endpoints.
    fn watch_brake_and_pause(&mut self) {
        let stands_still = self.is_stopped();
        if std::mem::replace(&mut self.stands_still, stands_still) != stands_still {
            self.watch_standstill_of_all();
        }
    }
}

struct WindowRoom {
    records: usize,
    bytes: usize,
}
