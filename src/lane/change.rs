//! Other settings for a lane that goes on: what it knows of its endpoint and of its records stays, and so does what was paid of an unchanged rate.

use crate::delivery::DeliveryKey;

use super::delivery::State;
use super::endpoint::{Pressure, State as Endpoint};
use super::event::EndpointChange;
use super::machine::Lane;
use super::options::LaneOptions;

impl Lane {
    /// From here on these settings hold. With another address behind it, the endpoint is one of which nothing is known; what the old one
    /// still answers says nothing of it.
    ///
    /// The order stays what it was: it decides what is in the window, so a lane with another one is begun anew.
    pub(super) fn changed(&mut self, options: LaneOptions, endpoint: EndpointChange) {
        if options.rate != self.options.rate {
            self.rate.replace(&options.rate, self.now.tick);
        }
        let order = self.options.order;
        self.options = LaneOptions { order, ..options };
        match endpoint {
            EndpointChange::Same => {}
            EndpointChange::AskedOtherwise => {
                for endpoint in self.endpoints.every() {
                    if let Endpoint::Open(open) = &mut endpoint.state {
                        open.next_probe = self.now.tick;
                    }
                }
            }
            EndpointChange::Another => self.forget_endpoints(),
        }
        self.endpoints.call_all();
        self.watch_standstill_of_all();
    }

    fn forget_endpoints(&mut self) {
        let in_flight = self.partitions.iter();
        let in_flight = in_flight.flat_map(|(epoch, held)| {
            let flying = held.unsettled();
            let flying = flying.filter(|(_, delivery)| delivery.state == State::InFlight);
            flying.map(|(offset, _)| DeliveryKey {
                epoch: *epoch,
                offset,
            })
        });
        let in_flight: Vec<_> = in_flight.collect();
        self.of_the_old_endpoint.extend(in_flight);
        for slot in self.endpoints.slots() {
            self.acquit(slot);
            let endpoint = &mut self.endpoints[slot];
            endpoint.state = Endpoint::Closed;
            endpoint.hold.release();
            endpoint.breaker = Default::default();
            endpoint.ramp = None;
            endpoint.pressure = Pressure::default();
            self.endpoints.weigh(slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::lane::EndpointChange::{Another, AskedOtherwise, Same};
    use crate::lane::stage::{Stage, answer};
    use crate::lane::{
        Doing, EndpointChange, Event, LaneOptions, RateOptions, RateUnit, RetryOptions,
    };

    const SECOND: Duration = Duration::from_secs(1);

    fn options() -> LaneOptions {
        LaneOptions {
            retry: RetryOptions {
                schedule: vec![SECOND; 8],
                jitter: 0.0,
                ..RetryOptions::default()
            },
            ..LaneOptions::default()
        }
    }

    fn change(stage: &mut Stage, options: LaneOptions, endpoint: EndpointChange) {
        let options = Box::new(options);
        stage.tell(Event::Changed { options, endpoint });
    }

    fn per_second(records: u32) -> LaneOptions {
        LaneOptions {
            rate: vec![RateOptions {
                period: SECOND / records,
                burst: 1.try_into().unwrap(),
                unit: RateUnit::Requests,
            }],
            ..options()
        }
    }

    #[test]
    fn another_rate_holds_at_once_and_brings_no_burst() {
        let mut stage = Stage::new(per_second(10), |_| answer(200));
        stage.produce(1000);
        stage.pass(10 * SECOND);
        let slow = stage.delivered.len();
        assert!((99..=102).contains(&slow), "{slow}");
        for _ in 0..20 {
            change(&mut stage, per_second(10), Same);
            change(&mut stage, per_second(20), Same);
        }
        let changed = stage.delivered.len() - slow;
        assert!(changed <= 1, "{changed} by changing alone");
        stage.pass(10 * SECOND);
        let fast = stage.delivered.len() - slow;
        assert!((198..=203).contains(&fast), "{fast}");
        change(&mut stage, options(), Same);
        stage.pass(SECOND);
        assert_eq!(stage.delivered.len(), 1000, "no limit any more");
    }

    #[test]
    fn what_is_known_of_an_endpoint_stays_until_it_is_another_one() {
        let mut stage = Stage::new(options(), |seen| {
            answer(if seen.at < 60 * SECOND { 401 } else { 200 })
        });
        stage.produce(20);
        stage.pass(5 * SECOND);
        let open = |stage: &Stage| matches!(stage.lane.status().doing, Doing::Open { .. });
        assert!(open(&stage));
        let seen = stage.seen.len();
        change(&mut stage, per_second(100), Same);
        assert!(open(&stage), "another rate is no other endpoint");
        assert_eq!(stage.seen.len(), seen);
        change(&mut stage, per_second(100), AskedOtherwise);
        stage.pass(SECOND / 10);
        assert_eq!(
            stage.seen.len(),
            seen + 1,
            "another password is tried at once"
        );
        assert!(open(&stage));
        stage.pass(60 * SECOND);
        change(&mut stage, options(), Another);
        assert!(!open(&stage));
        stage.pass(SECOND);
        assert_eq!(stage.delivered.len(), 20);
        assert!(stage.letters.is_empty());
    }

    #[test]
    fn what_the_old_endpoint_still_answers_is_not_held_against_the_new_one() {
        let mut stage = Stage::new(options(), |seen| {
            answer(if seen.at < SECOND { 503 } else { 200 })
        });
        stage.latency = 3 * SECOND;
        stage.produce(16);
        stage.pass(SECOND);
        change(&mut stage, options(), Another);
        stage.pass(10 * SECOND);
        assert_eq!(stage.delivered.len(), 16);
        assert_eq!(stage.lane.counts().opens, 0);
        assert!(
            stage.seen.iter().all(|seen| seen.attempt == 1),
            "none spent"
        );
    }

    #[test]
    fn a_smaller_window_and_fewer_places_are_kept_to_as_soon_as_there_is_room() {
        let mut stage = Stage::new(options(), |_| answer(200));
        stage.latency = 5 * SECOND;
        stage.produce(100);
        let small = LaneOptions {
            concurrency: 2,
            window: crate::lane::WindowOptions {
                records: 4,
                ..LaneOptions::default().window
            },
            ..options()
        };
        change(&mut stage, small, Same);
        stage.pass(9 * SECOND);
        assert_eq!(stage.seen.len(), 18, "16 were under way");
        stage.pass(300 * SECOND);
        assert_eq!(stage.delivered.len(), 100);
    }
}
