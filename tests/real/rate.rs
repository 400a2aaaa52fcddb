//! The rate and the age of records, on the real thing.

use std::time::Duration;

use crate::harness::broker::Broker;
use crate::harness::config::{Config, Destination};
use crate::harness::oracle::Oracle;
use crate::harness::place::New;
use crate::harness::receiver::Receiver;
use crate::harness::relay::Relay;

use super::main_job::wait_no_lag;

const SOON: Duration = Duration::from_secs(30);

#[test]
fn the_rate_is_kept_from_the_first_record_on_and_reached() {
    let kafka = Broker::shared();
    kafka.create_topic("rate-in", 2, &[]);
    let produced = kafka.produce(&vec![New::to("rate-in").value("{}"); 520]);
    let receiver = Receiver::ok();
    let config = Config::new(kafka.brokers(), "rate")
        .topics(&["rate-in"])
        .destination(Destination::new("hook", &receiver.url()).lane(
            r#"rate = [{ limit = "100/s", burst = 20 }, { limit = "1MiB/s", burst = 100_000 }]"#,
        ));
    let relay = Relay::start(&config);
    receiver.wait_accepted(520, SOON);
    wait_no_lag(kafka, "rate.hook", &["rate-in"]);
    let attempts = receiver.attempts();
    Oracle::new(&produced)
        .destination("hook", &attempts)
        .judge()
        .assert_exactly_once();
    let took = attempts[519].arrived - attempts[0].arrived;
    assert!(
        took >= Duration::from_millis(4900),
        "500 records after the burst need 5 s, not {took:?}"
    );
    assert!(
        took < Duration::from_millis(6000),
        "the rate is not reached: {took:?}"
    );
    // In no stretch more than the burst and what the rate lets through, with 50 ms for the way.
    for (index, last) in attempts.iter().enumerate() {
        let within = |a: &&crate::harness::ledger::Attempt| {
            last.arrived - a.arrived <= Duration::from_secs(1)
        };
        let count = attempts[..=index].iter().filter(within).count();
        assert!(count <= 20 + 100 + 5, "{count} within a second");
    }
    assert!(
        attempts.iter().all(|a| a.attempt == Some(1)),
        "waiting spends no attempt"
    );
    let waited = relay
        .metrics()
        .sum("postrider_rate_wait_seconds_total", &[]);
    assert!((4.0..7.0).contains(&waited), "{waited}");
}

#[test]
fn a_record_older_than_expire_after_is_dropped_and_counted() {
    let kafka = Broker::shared();
    kafka.create_topic("old-in", 1, &[]);
    let old = 1_700_000_000_000;
    kafka.produce(&[
        New::to("old-in").timestamp(old).value("old"),
        New::to("old-in").value("new"),
    ]);
    let receiver = Receiver::ok();
    let config = Config::new(kafka.brokers(), "old")
        .topics(&["old-in"])
        .destination(Destination::new("hook", &receiver.url()).lane(r#"expire_after = "1h""#));
    let relay = Relay::start(&config);
    receiver.wait_accepted(1, SOON);
    wait_no_lag(kafka, "old.hook", &["old-in"]);
    assert_eq!(
        receiver.attempts()[0].body.as_deref(),
        Some(b"new".as_slice())
    );
    let dropped = [("destination", "hook"), ("settlement", "dropped")];
    assert_eq!(
        relay
            .metrics()
            .sum("postrider_records_settled_total", &dropped),
        1.0
    );
}
