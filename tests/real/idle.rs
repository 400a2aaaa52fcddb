//! A daemon that has nothing to do.

use std::time::{Duration, Instant};

use crate::harness::broker::Broker;
use crate::harness::config::{Config, Destination};
use crate::harness::port::free_port;
use crate::harness::receiver::Receiver;
use crate::harness::relay::Relay;
use crate::harness::systemd::Manager;

const SOON: Duration = Duration::from_secs(30);

/// A consumer sleeps for seconds when nothing comes for it, whatever the time of the watchdog.
#[test]
fn a_consumer_that_sleeps_is_not_taken_for_a_stuck_one() {
    const TIME: Duration = Duration::from_secs(2);
    let kafka = Broker::shared();
    kafka.create_topic("asleep", 1, &[]);
    let receiver = Receiver::ok();
    let config = Config::new(kafka.brokers(), "asleep")
        .topics(&["asleep"])
        .destination(Destination::new("hook", &receiver.url()));
    let manager = Manager::listen();
    let port = free_port();
    let mut relay = Relay::start_with(&config.text(port), port, |command| {
        let time = TIME.as_micros().to_string();
        command
            .env("NOTIFY_SOCKET", manager.path())
            .env("WATCHDOG_USEC", time);
    });
    let lag = [("destination", "hook")];
    relay.wait_metric("postrider_lag_records", &lag, SOON, |lag| lag == 0.0);
    let end = Instant::now() + Duration::from_secs(15);
    while Instant::now() < end {
        assert_ne!(manager.hears("WATCHDOG=1", TIME), None, "it is killed now");
    }
    let (status, text) = relay.get("/livez").expect("the process serves");
    assert_eq!((status, text.as_str()), (200, "alive\n"));
    assert!(
        !relay.log().contains("threads are stuck"),
        "{}",
        relay.log()
    );
    assert_eq!(relay.stop(SOON).code(), Some(0));
}
