//! What a person may ask of a lane.

use std::sync::Arc;

use bytes::Bytes;

use crate::clock::Timestamp;
use crate::delivery::{Attempt, DeadLetterReason, DeliveryKey};

use super::delivery::{DeadLetterWrite, State};
use super::endpoint::State as Endpoint;
use super::endpoints::Slot;
use super::event::{Action, Notice, Shed};
use super::machine::Lane;
use super::window::Phase;

/// What a person asks of a lane. Every instance is told, and each does what concerns the partitions it holds; asked twice, it is done once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// Begin nothing new. Partitions and positions are kept, and what is in flight may end.
    Pause,
    /// A pause ends and nothing else does: what had to be known before the start is known.
    Begin,
    /// Its endpoint has said that it is gone, to another instance or before this start: as if it had said so here.
    Gone,
    /// Go on: after a pause, after the endpoint was gone, after the brake.
    Resume,
    /// Try what waits now: holds and the breaker's wait end, retries in the window are due.
    RetryNow,
    /// Write this record to the dead letters instead of trying it on.
    Skip {
        /// The topic it was read from first.
        topic: Arc<str>,
        /// Its partition there.
        partition: i32,
        /// Its offset there.
        offset: i64,
    },
    /// The records of this key wait until they are released: a dead letter of theirs was written, before this start or by another instance.
    HoldKey {
        /// The key.
        key: Bytes,
    },
    /// The records of this key go on.
    ReleaseKey {
        /// The key.
        key: Bytes,
    },
    /// What was written to the ladder until this time, by the broker's clock, is due now.
    ReleaseRetries {
        /// The last moment that counts.
        until: Timestamp,
    },
    /// What was written to the ladder until this time, by the broker's clock, ends as a dead letter.
    CancelRetries {
        /// The last moment that counts.
        until: Timestamp,
    },
}

/// What was asked of the records on the ladder: it holds for those that are still to come up.
#[derive(Debug, Default)]
pub(super) struct LadderOrders {
    release_until: Option<Timestamp>,
    cancel_until: Option<Timestamp>,
}

impl LadderOrders {
    /// Whether a record that was appended at this time is to be tried now.
    pub(super) fn releases(&self, appended: Option<Timestamp>) -> bool {
        appended.is_some() && appended <= self.release_until
    }

    /// Whether it is to end as a dead letter.
    pub(super) fn cancels(&self, appended: Option<Timestamp>) -> bool {
        appended.is_some() && appended <= self.cancel_until
    }
}

impl Lane {
    /// Does what a person asks.
    pub(super) fn ordered(&mut self, order: Order) {
        match order {
            Order::Pause => self.paused = true,
            Order::Begin => self.paused = false,
            Order::Gone => self.leave_for_good(Slot::SOLE),
            Order::Resume => self.resume(),
            Order::RetryNow => self.retry_now(),
            Order::Skip {
                topic,
                partition,
                offset,
            } => self.skip(&topic, partition, offset),
            Order::HoldKey { key } => self.hold_key_as_ordered(key),
            Order::ReleaseKey { key } => self.release_key(&key),
            Order::ReleaseRetries { until } => {
                let orders = &mut self.ladder_orders;
                orders.release_until = orders.release_until.max(Some(until));
            }
            Order::CancelRetries { until } => {
                let orders = &mut self.ladder_orders;
                orders.cancel_until = orders.cancel_until.max(Some(until));
            }
        }
        self.endpoints.call_all();
        self.watch_standstill_of_all();
    }

    fn resume(&mut self) {
        self.paused = false;
        for endpoint in self.endpoints.every() {
            if matches!(endpoint.state, Endpoint::Gone) {
                endpoint.state = Endpoint::Closed;
            }
        }
        if self.brake.release() {
            self.actions.push_back(Action::Tell(Notice::Released));
        }
    }

    /// Ends holds and the wait for the next probe, and has everything in the window tried that waits for its time.
    fn retry_now(&mut self) {
        for endpoint in self.endpoints.every() {
            endpoint.hold.release();
            if let Endpoint::Open(open) = &mut endpoint.state {
                open.next_probe = self.now.tick;
            }
        }
        for (due, key) in std::mem::take(&mut self.timers) {
            let Some(delivery) = self.peek(key) else {
                continue;
            };
            let slot = delivery.endpoint;
            if delivery.state == State::Retry {
                self.enter(key, State::Ready);
                self.queue_last(slot, key);
            } else {
                self.timers.insert((due, key));
            }
        }
    }

    fn skip(&mut self, topic: &str, partition: i32, offset: i64) {
        let here = |record: &crate::record::Record| {
            &*record.topic == topic && record.partition == partition && record.offset == offset
        };
        let mut keys = self.partitions.iter().flat_map(|(epoch, held)| {
            let consuming = held.phase == Phase::Consuming;
            let found = held.unsettled().find(|(_, d)| consuming && here(&d.record));
            found.map(|(offset, _)| DeliveryKey {
                epoch: *epoch,
                offset,
            })
        });
        let Some(key) = keys.next() else { return };
        let Some(delivery) = self.peek(key) else {
            return;
        };
        let slot = delivery.endpoint;
        if !matches!(delivery.state, State::Ready | State::Behind | State::Retry) {
            return;
        }
        self.endpoints[slot].ready.retain(|other| *other != key);
        self.timers.retain(|(_, other)| *other != key);
        let held = self.partitions.get_mut(&key.epoch);
        if let Some(delivery) = held.and_then(|held| held.delivery(key.offset)) {
            delivery.last_failure.get_or_insert_with(|| {
                Attempt::failed_before_sending("skipped before it was tried".to_owned())
            });
        }
        let reason = DeadLetterReason::Skipped;
        let (shed, failures) = (Shed::Nothing, 0);
        let write = DeadLetterWrite {
            reason,
            shed,
            failures,
        };
        self.write_dead_letter(key, write);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Now, Tick};
    use crate::delivery::{Epoch, Verdict};
    use crate::lane::{AssignedPartition, Doing, Event, Incoming, LaneOptions, Source, WriteError};
    use crate::record::Record;

    const EPOCH: Epoch = Epoch(1);

    /// A lane that holds one partition with three records in it, the second one in flight first.
    fn lane(orders: &[Order]) -> (Lane, Vec<Action>) {
        let options = LaneOptions {
            concurrency: 1,
            ..LaneOptions::default()
        };
        let mut lane = Lane::new(options, "shop".into());
        let mut actions = tell(
            &mut lane,
            Event::Assigned {
                cluster_id: "c".into(),
                partitions: vec![AssignedPartition {
                    epoch: EPOCH,
                    topic: "orders".into(),
                    partition: 0,
                    source: Source::Topic,
                    base: 0,
                    committed: true,
                    metadata: None,
                }],
            },
        );
        for order in orders {
            actions.extend(tell(&mut lane, Event::Ordered(order.clone())));
        }
        let records = (0..3).map(incoming).collect();
        actions.extend(tell(
            &mut lane,
            Event::Read {
                epoch: EPOCH,
                records,
            },
        ));
        (lane, actions)
    }

    fn incoming(offset: i64) -> Incoming {
        let record = Record {
            topic: "orders".into(),
            partition: 0,
            offset,
            timestamp: None,
            key: None,
            value: None,
            headers: Vec::new(),
        };
        Incoming {
            offset,
            record: Arc::new(record),
            verdict: Verdict::Deliver { rule: "r".into() },
            endpoint: None,
            order_key: None,
            carried: None,
        }
    }

    fn tell(lane: &mut Lane, event: Event) -> Vec<Action> {
        let now = Now {
            tick: Tick(std::time::Duration::from_secs(5)),
            wall: Timestamp(5000),
        };
        lane.handle(now, event);
        std::iter::from_fn(|| lane.poll_action()).collect()
    }

    fn sent(actions: &[Action]) -> Vec<i64> {
        let offset = |action: &Action| {
            if let Action::Send(send) = action {
                return Some(send.key.offset);
            }
            None
        };
        actions.iter().filter_map(offset).collect()
    }

    #[test]
    fn a_paused_lane_begins_nothing_until_it_is_resumed() {
        let (mut lane, actions) = lane(&[Order::Pause, Order::Pause]);
        assert!(sent(&actions).is_empty());
        assert_eq!(lane.status().doing, Doing::Paused { by: None });
        assert_eq!(lane.poll_timeout(), None, "and needs no waking");
        let actions = tell(&mut lane, Event::Ordered(Order::Resume));
        assert_eq!(sent(&actions), [0]);
        assert_eq!(lane.status().doing, Doing::Running);
    }

    #[test]
    fn a_skipped_record_becomes_a_dead_letter_once_and_is_not_sent() {
        let skip = |offset| Order::Skip {
            topic: "orders".into(),
            partition: 0,
            offset,
        };
        let (mut lane, _) = lane(&[]);
        assert!(
            tell(&mut lane, Event::Ordered(skip(7))).is_empty(),
            "unknown"
        );
        let actions = tell(&mut lane, Event::Ordered(skip(1)));
        let [Action::WriteDeadLetter(letter)] = &actions[..] else {
            panic!("{actions:?}");
        };
        assert_eq!(letter.reason, DeadLetterReason::Skipped);
        assert!(tell(&mut lane, Event::Ordered(skip(1))).is_empty());
        let ended = Event::WriteEnded {
            key: letter.key,
            result: Err(WriteError::Failed("away".to_owned())),
        };
        assert!(sent(&tell(&mut lane, ended)).is_empty());
        let delivered = Event::AttemptEnded {
            key: DeliveryKey {
                epoch: EPOCH,
                offset: 0,
            },
            attempt: Attempt::delivered(200),
        };
        assert_eq!(sent(&tell(&mut lane, delivered)), [2]);
    }

    #[test]
    fn what_waits_for_its_next_attempt_is_tried_now() {
        let (mut lane, _) = lane(&[]);
        let failed = Event::AttemptEnded {
            key: DeliveryKey {
                epoch: EPOCH,
                offset: 0,
            },
            attempt: Attempt {
                outcome: crate::delivery::Outcome::Retry,
                ..Attempt::failed_before_sending(String::new())
            },
        };
        assert_eq!(sent(&tell(&mut lane, failed)), [1]);
        assert_eq!(lane.waiting().retry, 1);
        tell(&mut lane, Event::Ordered(Order::RetryNow));
        assert_eq!(lane.waiting().retry, 0);
    }
}
