//! What a person may ask of a lane.

use std::sync::Arc;

use bytes::Bytes;

use crate::clock::Timestamp;

use super::delivery::State;
use super::endpoint::State as Endpoint;
use super::endpoints::Slot;
use super::event::{Action, Notice};
use super::machine::Lane;

/// What a person asks of a lane. Every instance is told, and each does what concerns the partitions it holds; asked twice, it is done once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// Begin nothing new. Partitions and positions are kept, and what is in flight may end.
    Pause,
    /// The same, and the consumer leaves its group, so that the group's offsets can be changed from outside. It joins again with any other word.
    Leave,
    /// A pause ends and nothing else does: what had to be known before the start is known.
    Begin,
    /// Its endpoint has said that it is gone, to another instance or before this start: as if it had said so here.
    Gone,
    /// Go on: after a pause, after the endpoint was gone, after the brake.
    Resume,
    /// Try what waits now: holds and the breaker's wait end, retries in the window are due.
    RetryNow,
    /// Write this record to the dead letters instead of trying it on, as soon as it is here and not in flight.
    Skip {
        /// The topic it was read from first.
        topic: Arc<str>,
        /// Its partition there.
        partition: i32,
        /// Its offset there.
        offset: i64,
    },
    /// This record has come to its end, here or elsewhere: nothing is to be skipped any more.
    SkipEnded {
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
            Order::Pause | Order::Leave => self.paused = true,
            Order::Begin => self.paused = false,
            Order::Gone => self.leave_for_good(Slot::SOLE),
            Order::Resume => self.resume(),
            Order::RetryNow => self.retry_now(),
            Order::Skip {
                topic,
                partition,
                offset,
            } => self.skip((topic, partition, offset)),
            Order::SkipEnded {
                topic,
                partition,
                offset,
            } => self.skips.forget(&(topic, partition, offset)),
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Now, Tick};
    use crate::delivery::{Attempt, DeliveryKey, Epoch, Verdict};
    use crate::lane::{AssignedPartition, Doing, Event, Incoming, LaneOptions, Source};
    use crate::record::Record;

    const EPOCH: Epoch = Epoch(1);

    /// A lane that holds one partition with three records in it, the first one in flight.
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
                    topic_id: None,
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

    /// What it asks for, but commits: those are acknowledged at once.
    fn tell(lane: &mut Lane, event: Event) -> Vec<Action> {
        tell_at(lane, 5, event)
    }

    fn tell_at(lane: &mut Lane, seconds: u32, event: Event) -> Vec<Action> {
        let now = Now {
            tick: Tick(std::time::Duration::from_secs(seconds.into())),
            wall: Timestamp(i64::from(seconds) * 1000),
        };
        lane.handle(now, event);
        let mut actions = Vec::new();
        while let Some(action) = lane.poll_action() {
            if let Action::Commit { positions } = action {
                lane.handle(now, Event::Committed { positions });
            } else {
                actions.push(action);
            }
        }
        actions
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
        tell_at(&mut lane, 6, Event::TimePassed);
        assert_eq!(lane.poll_timeout(), None, "and needs no waking");
        let actions = tell_at(&mut lane, 7, Event::Ordered(Order::Resume));
        assert_eq!(sent(&actions), [0]);
        assert_eq!(lane.status().doing, Doing::Running);
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
