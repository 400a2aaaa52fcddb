//! The end of the process: bounded, committed, and nothing sent twice that need not be.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::harness::broker::Broker;
use crate::harness::config::{Config, Destination};
use crate::harness::oracle::Oracle;
use crate::harness::place::New;
use crate::harness::receiver::{Answer, Receiver};
use crate::harness::relay::Relay;

use super::main_job::wait_no_lag;

const SOON: Duration = Duration::from_secs(30);

#[test]
fn a_graceful_stop_in_the_middle_of_the_work_repeats_nothing() {
    let kafka = Broker::shared();
    kafka.create_topic("stop-in", 4, &[]);
    let produced = kafka.produce(&vec![New::to("stop-in").value("{}"); 4000]);
    let receiver = Receiver::start(|_| Answer::ok().after(Duration::from_millis(20)));
    let config = Config::new(kafka.brokers(), "stop")
        .topics(&["stop-in"])
        .destination(Destination::new("hook", &receiver.url()));
    for round in 1..=3 {
        let mut relay = Relay::start(&config);
        receiver.wait_accepted(round * 900, SOON);
        let signal = if round == 2 {
            Signal::SIGINT
        } else {
            Signal::SIGTERM
        };
        relay.signal(signal);
        assert_eq!(relay.wait_exit(SOON).code(), Some(0));
        let committed = kafka.committed("stop.hook");
        let attempts = receiver.attempts();
        let settled: i64 = committed.values().sum();
        assert_eq!(
            settled,
            i64::try_from(receiver.accepted_count()).unwrap(),
            "everything delivered is committed"
        );
        assert_eq!(attempts.len(), receiver.accepted_count());
    }
    let _relay = Relay::start(&config);
    receiver.wait_accepted(4000, SOON);
    wait_no_lag(kafka, "stop.hook", &["stop-in"]);
    let attempts = receiver.attempts();
    Oracle::new(&produced)
        .destination("hook", &attempts)
        .judge()
        .assert_exactly_once();
}

#[test]
fn the_drain_is_bounded_and_a_second_signal_ends_at_once() {
    let kafka = Broker::shared();
    kafka.create_topic("bound-in", 1, &[]);
    kafka.produce(&vec![New::to("bound-in").value("{}"); 100]);
    let receiver = Receiver::start(|_| Answer::hang());
    let config = Config::new(kafka.brokers(), "bound")
        .topics(&["bound-in"])
        .limits(r#"drain = "2s""#)
        .destination(Destination::new("hook", &receiver.url()));
    let mut relay = Relay::start(&config);
    receiver.wait_attempts(16, SOON);
    let begin = Instant::now();
    assert_eq!(
        relay.stop(SOON).code(),
        Some(0),
        "nothing is lost: what was in flight comes back"
    );
    let took = begin.elapsed();
    assert!(
        took >= Duration::from_secs(2) && took < Duration::from_secs(8),
        "{took:?}"
    );
    assert_eq!(kafka.lag("bound.hook", "bound-in"), 100);

    let mut relay = Relay::start(&config.limits(r#"drain = "60s""#));
    receiver.wait_attempts(32, SOON);
    relay.signal(Signal::SIGTERM);
    relay.wait_log("draining", SOON);
    let begin = Instant::now();
    assert_eq!(relay.stop(SOON).code(), Some(143));
    assert!(begin.elapsed() < Duration::from_secs(2));
}
