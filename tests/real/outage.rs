//! Kafka away, the dead-letter topic away, the receiver away: waited for, said, nothing lost.

use std::time::Duration;

use crate::harness::broker::Broker;
use crate::harness::config::{Config, Destination};
use crate::harness::oracle::Oracle;
use crate::harness::place::New;
use crate::harness::port::free_port;
use crate::harness::receiver::{Answer, Receiver};
use crate::harness::relay::Relay;

use super::main_job::wait_no_lag;

const SOON: Duration = Duration::from_secs(60);

#[test]
fn kafka_away_at_the_start_is_waited_for() {
    let config = Config::new(&format!("127.0.0.1:{}", free_port()), "away")
        .topics(&["in"])
        .destination(Destination::new("hook", "http://127.0.0.1:1/"));
    let mut relay = Relay::start(&config);
    relay.wait_log("Kafka does not answer", SOON);
    assert_eq!(
        relay.get("/livez").unwrap().0,
        200,
        "being alone is no reason to be killed"
    );
    let (status, why) = relay.get("/readyz").unwrap();
    assert_eq!(status, 503);
    assert!(why.contains("no Kafka broker has answered"), "{why}");
    assert_eq!(relay.stop(Duration::from_secs(15)).code(), Some(0));
}

#[test]
fn a_broker_that_is_killed_and_comes_back_loses_nothing() {
    let kafka = Broker::start();
    kafka.create_topic("in", 4, &[]);
    let mut produced = kafka.produce(&vec![New::to("in").value("{}"); 2000]);
    let receiver = Receiver::start(|request| {
        if request.number % 50 == 0 {
            Answer::status(422)
        } else {
            Answer::ok().after(Duration::from_millis(5))
        }
    });
    let config = Config::new(kafka.brokers(), "outage")
        .topics(&["in"])
        .destination(Destination::new("hook", &receiver.url()));
    let mut relay = Relay::start(&config);
    receiver.wait_attempts(500, SOON);
    kafka.kill9();
    // Long enough for rejected records to want their dead letters written while nobody can take them.
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(relay.has_ended(), None);
    kafka.restart();
    produced.extend(kafka.produce(&vec![New::to("in").value("{}"); 500]));
    relay.wait_for(SOON, "everything is settled", |relay| {
        let metrics = relay.try_metrics()?;
        let settled = metrics.sum("postrider_records_settled_total", &[]);
        (settled >= 2500.0 && kafka.lag("outage.hook", "in") == 0).then_some(())
    });
    let committed = kafka.committed("outage.hook");
    let dead = kafka.read_all("outage.dead-letters");
    let attempts = receiver.attempts();
    Oracle::new(&produced)
        .destination("hook", &attempts)
        .committed(&committed)
        .dead_letters(&dead)
        .judge()
        .assert_sound();
    assert!(relay.metrics().balance("hook").holds());
}

#[test]
fn a_dead_letter_that_cannot_be_written_keeps_its_record() {
    let kafka = Broker::shared();
    kafka.create_topic("blocked-in", 1, &[]);
    let produced = kafka.produce(&vec![New::to("blocked-in").value("{}"); 10]);
    let receiver = Receiver::start(|_| Answer::status(400));
    let config = Config::new(kafka.brokers(), "blocked")
        .topics(&["blocked-in"])
        .kafka("owned_topics = { create = false }")
        .destination(Destination::new("hook", &receiver.url()));
    let mut relay = Relay::start(&config);
    relay.wait_log("dead letter not written", SOON);
    let error = [("kind", "dead_letter"), ("result", "error")];
    relay.wait_metric("postrider_owned_writes_total", &error, SOON * 2, |n| {
        n >= 10.0
    });
    let lines = relay.log().matches("dead letter not written").count();
    assert_eq!(lines, 1, "one line, not one for each record and try");
    let blocked = [("state", "blocked")];
    assert_eq!(relay.metrics().sum("postrider_lane_state", &blocked), 1.0);
    let (status, why) = relay.get("/readyz").unwrap();
    assert_eq!(status, 503);
    assert!(
        why.contains("kafka-topics.sh") && why.contains("blocked.dead-letters"),
        "{why}"
    );
    assert_eq!(
        kafka.lag("blocked.hook", "blocked-in"),
        10,
        "nothing is settled"
    );
    kafka.create_topic("blocked.dead-letters", 1, &[]);
    wait_no_lag(kafka, "blocked.hook", &["blocked-in"]);
    let dead = kafka.read_all("blocked.dead-letters");
    let attempts = receiver.attempts();
    Oracle::new(&produced)
        .destination("hook", &attempts)
        .dead_letters(&dead)
        .judge()
        .assert_exactly_once();
    assert_eq!(
        attempts.len(),
        10,
        "a rejected record is not sent again while its dead letter waits"
    );
}

#[test]
fn what_arrives_while_a_full_lane_rests_is_not_stepped_over() {
    let kafka = Broker::start();
    kafka.create_topic("in", 2, &[]);
    let to = |partition| New::to("in").partition(partition).value("{}");
    let mut produced = kafka.produce(&[to(0)]);
    let receiver = Receiver::ok();
    let config = Config::new(kafka.brokers(), "rest")
        .topics(&["in"])
        .destination(Destination::new("hook", &receiver.url()).lane("window = { records = 4 }"));
    let mut relay = Relay::start(&config);
    receiver.wait_accepted(1, SOON);
    wait_no_lag(&kafka, "rest.hook", &["in"]);
    // The first partition is read to its end; the second fills the window for longer than the consumer goes on without a rest.
    receiver.script(|_| Answer::ok().after(Duration::from_secs(9)));
    produced.extend(kafka.produce(&vec![to(1); 20]));
    receiver.wait_attempts(5, SOON);
    std::thread::sleep(Duration::from_secs(7));
    produced.extend(kafka.produce(&[to(0)]));
    receiver.script(|_| Answer::ok());
    receiver.wait_accepted(produced.len(), SOON);
    wait_no_lag(&kafka, "rest.hook", &["in"]);
    assert_eq!(receiver.attempt_count(), produced.len(), "each once");
    assert_eq!(relay.stop(SOON).code(), Some(0));
}
