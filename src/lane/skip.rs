//! Records that a person does not want tried any more: they end as dead letters.
//!
//! The order is kept, here and in the state topic, until the record has come to its end: it may be in flight, on the ladder, or not read yet, and
//! its partition may go to another instance, which was told the same.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use crate::delivery::{Attempt, DeadLetterReason, DeliveryKey, Epoch};
use crate::record::Record;

use super::counts::Settlement;
use super::delivery::{DeadLetterWrite, Delivery, State};
use super::event::{Action, Notice, Shed};
use super::ladder::Source;
use super::machine::Lane;
use super::order::Order;
use super::window::{Partition, Phase};

/// Topic, partition and offset that a record was read from first.
pub type Place = (Arc<str>, i32, i64);

/// So many are kept; a person asks for one at a time.
pub const SKIPS_MAX: usize = 10_000;

/// Where a lane finds a record that it is asked for, from what says least to what says most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Found {
    /// Its partition is not held here.
    Elsewhere,
    /// Its partition is held, and it is settled there. It may be on the ladder.
    Settled,
    /// Its partition is held, and it is not read yet.
    Ahead,
    /// Its partition stands still before it: it is in a batch that does not read.
    Damaged,
    /// A write ends it, or carries it to the ladder.
    Leaving,
    /// A request for it is under way, or it waits for what others meet with.
    InFlight,
    /// It waits for its turn or its time.
    Waiting,
}

/// The records that are to be skipped.
#[derive(Debug, Default)]
pub(super) struct Skips(BTreeSet<Place>);

impl Skips {
    /// Whether this record is one of them.
    pub(super) fn contains(&self, record: &Record) -> bool {
        // Nearly always there are none, and this is asked for each request.
        !self.0.is_empty() && self.0.contains(&place(record))
    }

    pub(super) fn forget(&mut self, place: &Place) {
        self.0.remove(place);
    }
}

fn place(record: &Record) -> Place {
    (Arc::clone(&record.topic), record.partition, record.offset)
}

impl Lane {
    /// Where a record is, by the place that it was read from first.
    #[must_use]
    pub fn find(&self, place: &Place) -> Found {
        if let Some(state) = self.whereabouts(place).and_then(|key| self.peek(key)) {
            return match state.state {
                State::Ready | State::Behind | State::Retry => Found::Waiting,
                State::InFlight | State::Accused => Found::InFlight,
                State::Write(_) | State::Ladder(_) => Found::Leaving,
            };
        }
        let (topic, partition, offset) = place;
        let origin = |held: &&Partition| {
            held.source == Source::Topic && held.topic == *topic && held.partition == *partition
        };
        match self.partitions.values().rfind(origin) {
            None => Found::Elsewhere,
            Some(held) if held.is_read(*offset) => Found::Settled,
            Some(_) => Found::Ahead,
        }
    }

    /// The same for the record that an order is about, if it is about one.
    #[must_use]
    pub fn find_ordered(&self, order: &Order) -> Option<Found> {
        match order {
            Order::Skip {
                topic,
                partition,
                offset,
            } => Some(self.find(&(Arc::clone(topic), *partition, *offset))),
            Order::Pause
            | Order::Leave
            | Order::Begin
            | Order::Gone
            | Order::Resume
            | Order::RetryNow
            | Order::SkipEnded { .. }
            | Order::HoldKey { .. }
            | Order::ReleaseKey { .. }
            | Order::ReleaseRetries { .. }
            | Order::CancelRetries { .. } => None,
        }
    }

    /// Whether the record at this place is to be skipped.
    #[must_use]
    pub fn is_to_skip(&self, place: &Place) -> bool {
        self.skips.0.contains(place)
    }

    /// Offsets that nobody can read were stepped over: they are settled, and orders to skip them
    /// are over.
    pub(super) fn stepped_over(&mut self, epoch: Epoch, offsets: &Range<i64>) {
        let Some(held) = self.partitions.get(&epoch) else {
            return;
        };
        let is_there = |(topic, partition, offset): &&Place| {
            *topic == held.topic && *partition == held.partition && offsets.contains(offset)
        };
        let places: Vec<Place> = self.skips.0.iter().filter(is_there).cloned().collect();
        for place in places {
            self.skips.forget(&place);
            self.actions
                .push_back(Action::Tell(Notice::SteppedOver { place }));
        }
        self.reached_end(epoch, offsets.end);
    }

    /// Its name here, if it is in the window.
    fn whereabouts(&self, wanted: &Place) -> Option<DeliveryKey> {
        let is_it = |delivery: &Delivery| {
            let record = &delivery.record;
            record.offset == wanted.2 && record.partition == wanted.1 && record.topic == wanted.0
        };
        self.partitions.iter().find_map(|(epoch, held)| {
            let (offset, _) = held.unsettled().find(|(_, delivery)| is_it(delivery))?;
            Some(DeliveryKey {
                epoch: *epoch,
                offset,
            })
        })
    }

    /// Has a record skipped now, or as soon as that can be.
    pub(super) fn skip(&mut self, place: Place) {
        let key = self.whereabouts(&place);
        if self.skips.0.len() < SKIPS_MAX {
            self.skips.0.insert(place);
        }
        if let Some(key) = key {
            self.skip_waiting(key);
        }
    }

    /// Skips a record that waits for its turn or its time, in a partition that is not about to leave.
    pub(super) fn skip_waiting(&mut self, key: DeliveryKey) {
        let Some(held) = self.partitions.get_mut(&key.epoch) else {
            return;
        };
        let consuming = held.phase == Phase::Consuming;
        let Some(delivery) = held.delivery(key.offset) else {
            return;
        };
        if !consuming || !matches!(delivery.state, State::Ready | State::Behind | State::Retry) {
            return;
        }
        let (write, slot) = (skipped(delivery), delivery.endpoint);
        self.endpoints[slot].ready.retain(|other| *other != key);
        self.timers.retain(|(_, other)| *other != key);
        self.write_dead_letter(key, write);
    }

    /// A record has come to its end: if it was to be skipped, that is over, whatever end it was.
    pub(super) fn end_skip(&mut self, record: &Record, settlement: Settlement) {
        if settlement == Settlement::Deferred || !self.skips.contains(record) {
            return;
        }
        let place = place(record);
        self.skips.forget(&place);
        let notice = Notice::SkipEnded { place, settlement };
        self.actions.push_back(Action::Tell(notice));
    }
}

/// The dead letter of a record that is skipped; without an attempt it has nothing else to say.
pub(super) fn skipped(delivery: &mut Delivery) -> DeadLetterWrite {
    delivery.last_failure.get_or_insert_with(|| {
        Attempt::failed_before_sending("skipped before it was tried".to_owned())
    });
    DeadLetterWrite {
        reason: DeadLetterReason::Skipped,
        shed: Shed::Nothing,
        failures: 0,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::lane::stage::{Stage, answer};
    use crate::lane::{Event, LaneOptions, RetryOptions};

    const SECOND: Duration = Duration::from_secs(1);

    fn at(offset: i64) -> Place {
        ("orders".into(), 0, offset)
    }

    fn skip(stage: &mut Stage, offset: i64) {
        let (topic, partition, offset) = at(offset);
        stage.tell(Event::Ordered(Order::Skip {
            topic,
            partition,
            offset,
        }));
    }

    /// Record 1 fails until its second attempt, and takes a second each time.
    fn stage(delay: Duration) -> Stage {
        let options = LaneOptions {
            retry: RetryOptions {
                schedule: vec![delay],
                jitter: 0.0,
                ..LaneOptions::default().retry
            },
            ..LaneOptions::default()
        };
        let mut stage = Stage::new(options, |seen| {
            answer(if seen.offset == 1 && seen.attempt == 1 {
                500
            } else {
                200
            })
        });
        stage.latency = SECOND;
        stage
    }

    #[track_caller]
    fn assert_skipped(stage: &Stage, offset: i64, attempts: usize) {
        let letters = stage.letters.iter();
        let letters: Vec<_> = letters.map(|l| (l.record.offset, l.reason)).collect();
        assert_eq!(letters, [(offset, DeadLetterReason::Skipped)]);
        let seen = stage.seen.iter().filter(|seen| seen.offset == offset);
        assert_eq!(seen.count(), attempts);
        assert_eq!(ended(stage), [(offset, Settlement::DeadLettered)]);
        assert!(stage.lane.skips.0.is_empty());
    }

    fn ended(stage: &Stage) -> Vec<(i64, Settlement)> {
        let of = |notice: &Notice| {
            if let Notice::SkipEnded { place, settlement } = notice {
                return Some((place.2, *settlement));
            }
            None
        };
        stage.notices.iter().filter_map(of).collect()
    }

    #[test]
    fn what_waits_for_its_next_attempt_is_skipped_at_once() {
        let mut stage = stage(30 * SECOND);
        stage.produce(3);
        stage.pass(2 * SECOND);
        assert_eq!(stage.lane.find(&at(1)), Found::Waiting);
        skip(&mut stage, 1);
        assert_skipped(&stage, 1, 1);
        assert_eq!(stage.letters[0].status, Some(500));
        assert_eq!(stage.lane.find(&at(1)), Found::Settled);
        stage.pass(60 * SECOND);
        assert_skipped(&stage, 1, 1);
    }

    #[test]
    fn what_is_in_flight_is_skipped_when_it_fails_and_not_when_it_is_delivered() {
        let mut stage = stage(3600 * SECOND);
        stage.produce(3);
        assert_eq!(stage.lane.find(&at(1)), Found::InFlight);
        skip(&mut stage, 1);
        skip(&mut stage, 2);
        assert!(stage.letters.is_empty());
        stage.pass(2 * SECOND);
        let mut all = ended(&stage);
        all.sort_unstable();
        assert_eq!(
            all,
            [(1, Settlement::DeadLettered), (2, Settlement::Delivered)]
        );
        assert!(stage.ladder.is_empty(), "not to the ladder first");
        assert_eq!(stage.letters[0].reason, DeadLetterReason::Skipped);
        assert!(stage.delivered.contains_key(&2));
    }

    #[test]
    fn what_is_not_read_yet_is_skipped_when_it_comes() {
        let mut stage = stage(SECOND);
        assert_eq!(stage.lane.find(&at(4)), Found::Ahead);
        skip(&mut stage, 4);
        stage.produce(6);
        stage.pass(10 * SECOND);
        assert_skipped(&stage, 4, 0);
        assert_eq!(stage.delivered.len(), 5);
    }

    #[test]
    fn what_is_on_the_ladder_is_skipped_when_it_comes_up() {
        let mut stage = stage(90 * SECOND);
        stage.produce(3);
        stage.pass(5 * SECOND);
        assert_eq!(
            stage.lane.find(&at(1)),
            Found::Settled,
            "it is on the ladder"
        );
        skip(&mut stage, 1);
        assert!(ended(&stage).is_empty());
        stage.pass(100 * SECOND);
        assert_skipped(&stage, 1, 1);
    }

    #[test]
    fn what_does_not_read_is_stepped_over_and_the_order_is_over() {
        let mut stage = stage(SECOND);
        stage.produce(3);
        stage.pass(10 * SECOND);
        skip(&mut stage, 3);
        assert!(stage.lane.is_to_skip(&at(3)));
        let epoch = *stage.lane.partitions.keys().next().unwrap();
        let offsets = 3..8;
        stage.tell(Event::SteppedOver { epoch, offsets });
        assert!(!stage.lane.is_to_skip(&at(3)));
        let over = Notice::SteppedOver { place: at(3) };
        assert!(stage.notices.contains(&over));
        assert_eq!(stage.lane.find(&at(7)), Found::Settled);
        assert_eq!(stage.lane.partitions[&epoch].position(), 8);
    }

    #[test]
    fn an_order_is_forgotten_when_it_is_over_elsewhere() {
        let mut stage = stage(SECOND);
        skip(&mut stage, 4);
        let (topic, partition, offset) = at(4);
        stage.tell(Event::Ordered(Order::SkipEnded {
            topic,
            partition,
            offset,
        }));
        stage.produce(6);
        stage.pass(10 * SECOND);
        assert!(stage.letters.is_empty());
        assert_eq!(stage.lane.find(&("others".into(), 0, 4)), Found::Elsewhere);
    }
}
