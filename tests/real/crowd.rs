//! Several instances of one lane.

use std::time::Duration;

use crate::harness::broker::Broker;
use crate::harness::config::{Config, Destination};
use crate::harness::place::New;
use crate::harness::receiver::Receiver;
use crate::harness::relay::Relay;

use super::main_job::wait_no_lag;

const SOON: Duration = Duration::from_secs(30);

#[test]
fn an_instance_that_gets_nothing_new_in_a_rebalance_stays_in_its_group() {
    let kafka = Broker::shared();
    kafka.create_topic("crowd-in", 1, &[]);
    kafka.produce(&[New::to("crowd-in").value("{}")]);
    let receiver = Receiver::ok();
    let config = Config::new(kafka.brokers(), "crowd")
        .topics(&["crowd-in"])
        .destination(Destination::new("hook", &receiver.url()));
    let mut first = Relay::start(&config);
    receiver.wait_accepted(1, SOON);
    let mut second = Relay::start(&config);
    let running = [("state", "running")];
    second.wait_metric("postrider_lane_state", &running, SOON, |is| is == 1.0);
    let assigned = [("kind", "assigned")];
    first.wait_metric("postrider_rebalances_total", &assigned, SOON, |n| n >= 2.0);
    kafka.produce(&[New::to("crowd-in").value("{}")]);
    receiver.wait_accepted(2, SOON);
    wait_no_lag(kafka, "crowd.hook", &["crowd-in"]);
    for relay in [&first, &second] {
        assert!(!relay.log().contains("leaving the group"));
    }
    assert_eq!(receiver.attempt_count(), 2);
}
