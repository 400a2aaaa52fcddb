//! "This record is bad" and "this endpoint is broken", told apart on a real Kafka.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::harness::broker::Broker;
use crate::harness::config::{Config, Destination};
use crate::harness::place::New;
use crate::harness::receiver::{Answer, Receiver};
use crate::harness::relay::Relay;
use crate::harness::wait::wait_until;

use super::main_job::wait_no_lag;

const PARTITIONS: i32 = 4;
const LONG: Duration = Duration::from_secs(180);

fn numbers(topic: &str, count: usize) -> Vec<New> {
    (0..count)
        .map(|n| New::to(topic).value(n.to_string()))
        .collect()
}

#[test]
fn an_outage_in_front_of_twenty_thousand_records_costs_probes_and_one_interval() {
    let kafka = Broker::shared();
    kafka.create_topic("faulty-in", 4, &[]);
    kafka.produce(&numbers("faulty-in", 20_000));
    let began = Instant::now();
    let phase = move || match began.elapsed().as_secs() {
        0..60 => 401,
        60..72 => 429,
        _ => 200,
    };
    let receiver = Receiver::start(move |_| Answer::status(phase()));
    let config = Config::new(kafka.brokers(), "faulty")
        .topics(&["faulty-in"])
        .destination(Destination::new("hook", &receiver.url()));
    let relay = Relay::start(&config);
    wait_until(LONG, "the outage ends", || phase() == 200);
    let tried = receiver.attempt_count();
    assert!(tried < 60, "{tried} requests in 72 s of outage");
    wait_until(LONG, "everything is delivered", || {
        receiver.accepted_count() == 20_000
    });
    let over = began.elapsed().saturating_sub(Duration::from_secs(72));
    println!("20,000 records delivered {over:.1?} after the end of the outage");
    // One probe interval, at its longest so far 40 s and held for push-back by much less, and fifteen seconds for so many requests of a test.
    assert!(over < Duration::from_secs(25), "{over:?}");
    wait_no_lag(kafka, "faulty.hook", &["faulty-in"]);
    let spent = receiver
        .attempts()
        .iter()
        .filter(|a| a.attempt > Some(1))
        .count();
    assert_eq!(spent, 0, "no attempt is spent");
    assert!(kafka.read_all("faulty.dead-letters").is_empty());
    let hook = [("destination", "hook")];
    assert_eq!(
        relay.metrics().sum("postrider_breaker_opens_total", &hook),
        1.0
    );
}

/// How long the good ones of so many records take when some are bad, and what is dead in the end.
fn with_bad_ones(name: &str, bad: bool) -> (Duration, BTreeMap<u16, usize>) {
    let kafka = Broker::shared();
    let topic = format!("{name}-in");
    kafka.create_topic(&topic, PARTITIONS, &[]);
    let status = |body: &[u8]| {
        let number: usize = std::str::from_utf8(body).unwrap().parse().unwrap();
        match number % 1000 {
            250 => 400,
            500 => 403,
            750 => 429,
            _ => 200,
        }
    };
    let receiver = Receiver::start(move |request| {
        let status = if bad { status(&request.body) } else { 200 };
        Answer::status(status).after(Duration::from_millis(4))
    });
    let config = Config::new(kafka.brokers(), name)
        .topics(&[&topic])
        .destination(
            Destination::new("hook", &receiver.url())
                .lane(r#"retry = { schedule = ["1s", "1s", "1s", "1s"], jitter = 0 }"#),
        );
    let mut relay = Relay::start(&config);
    // While its group still hands out partitions it takes no commit, and a partition begins with one.
    let all = f64::from(PARTITIONS);
    let of_hook = [("destination", "hook")];
    relay.wait_metric("postrider_partitions_assigned", &of_hook, LONG, |n| {
        n == all
    });
    kafka.produce(&numbers(&topic, 20_000));
    let good = if bad { 20_000 - 60 } else { 20_000 };
    wait_until(LONG, "the good ones are delivered", || {
        receiver.accepted_count() >= good
    });
    let attempts = receiver.attempts();
    let accepted: Vec<Instant> = attempts
        .iter()
        .filter(|a| a.accepted())
        .map(|a| a.arrived)
        .collect();
    let took = *accepted.iter().max().unwrap() - *accepted.iter().min().unwrap();
    // Some more good ones, by which the bad ones are known.
    let dead = || {
        let more: Vec<New> = (0..4).map(|_| New::to(&topic).value("1")).collect();
        kafka.produce(&more);
        relay.metrics().sum(
            "postrider_records_settled_total",
            &[("settlement", "dead_lettered")],
        )
    };
    let wanted = if bad { 60.0 } else { 0.0 };
    wait_until(LONG, "the bad ones are dead letters", || dead() >= wanted);
    wait_no_lag(kafka, &format!("{name}.hook"), &[&topic]);
    let mut letters = BTreeMap::new();
    for letter in kafka.read_all(&format!("{name}.dead-letters")) {
        assert_eq!(letter.header("postrider-reason"), Some("rejected"));
        let answered = status(letter.value.as_deref().unwrap());
        *letters.entry(answered).or_default() += 1;
    }
    (took, letters)
}

#[test]
fn bad_records_among_a_thousand_end_as_dead_letters_and_the_others_keep_their_rate() {
    // At the same time, so that a machine that is busy for a while is busy for both.
    let ((without, none), (with, letters)) = std::thread::scope(|scope| {
        let without = scope.spawn(|| with_bad_ones("allgood", false));
        let with = with_bad_ones("somebad", true);
        (without.join().unwrap(), with)
    });
    println!("20,000 records in {without:.2?}, with 60 bad ones among them in {with:.2?}");
    assert!(none.is_empty());
    assert_eq!(letters, BTreeMap::from([(400, 20), (403, 20), (429, 20)]));
    let rate = without.as_secs_f64() / with.as_secs_f64();
    assert!(rate >= 0.95, "{rate:.3} of the rate without bad records");
}
