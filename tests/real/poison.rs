//! A record whose delivery ends the process, each time, and kills that only look so.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::broker::Broker;
use crate::harness::config::{Config, Destination};
use crate::harness::place::New;
use crate::harness::receiver::{Answer, Receiver, Request};
use crate::harness::relay::Relay;
use crate::harness::wait::wait_until;

use super::main_job::wait_no_lag;

const SOON: Duration = Duration::from_secs(60);
const RECORDS: usize = 300;
/// In the midst of the others.
const DEADLY: usize = 150;
/// What finding it may cost: three to suspect, three to be sure, and a few before its neighbours' settlements are committed.
const KILLS_MAX: u32 = 12;

fn number(body: &[u8]) -> usize {
    std::str::from_utf8(body).unwrap().parse().unwrap()
}

fn records() -> Vec<New> {
    let value = |n: usize| New::to("in").partition(0).value(n.to_string());
    (0..RECORDS).map(value).collect()
}

fn dead(kafka: &Broker, prefix: &str) -> Vec<(usize, String, String)> {
    let letters = kafka.read_all(&format!("{prefix}.dead-letters"));
    let told = |name: &str, letter: &crate::harness::place::Stored| {
        letter.header(name).unwrap_or_default().to_owned()
    };
    letters
        .iter()
        .map(|letter| {
            (
                number(letter.value.as_deref().unwrap()),
                told("postrider-reason", letter),
                told("postrider-destination", letter),
            )
        })
        .collect()
}

#[test]
fn a_record_that_kills_the_process_each_time_ends_as_a_dead_letter_and_no_other_does() {
    let kafka = Broker::start();
    kafka.create_topic("in", 1, &[]);
    let victim = Arc::new(AtomicU32::new(0));
    let kills = Arc::new(AtomicU32::new(0));
    let (target, count) = (Arc::clone(&victim), Arc::clone(&kills));
    let deadly = Receiver::start(move |request: &Request| {
        // As it would be if the answer, or making the request, took the process down.
        let pid = target.load(Ordering::SeqCst);
        if number(&request.body) == DEADLY && pid != 0 {
            target.store(0, Ordering::SeqCst);
            count.fetch_add(1, Ordering::SeqCst);
            kill(Pid::from_raw(i32::try_from(pid).unwrap()), Signal::SIGKILL).unwrap();
            return Answer::hang();
        }
        Answer::ok().after(Duration::from_millis(2))
    });
    // Another lane of the same process, in which nothing is wrong, and one that is too slow to move.
    let neighbour = Receiver::start(|_: &Request| Answer::ok().after(Duration::from_millis(2)));
    let slow = Receiver::start(|_: &Request| Answer::ok().after(Duration::from_secs(5)));
    let config = Config::new(kafka.brokers(), "poison")
        .topics(&["in"])
        .destination(Destination::new("hook", &deadly.url()))
        .destination(Destination::new("neighbour", &neighbour.url()))
        .destination(Destination::new("slow", &slow.url()).lane("concurrency = 100"));
    kafka.produce(&records());
    let mut relay = Relay::start(&config);
    victim.store(relay.pid(), Ordering::SeqCst);
    let mut logs = String::new();
    let deadline = Instant::now() + 3 * SOON;
    while dead(&kafka, "poison").is_empty() {
        assert!(Instant::now() < deadline, "no dead letter: {}", relay.log());
        std::thread::sleep(Duration::from_millis(50));
        if relay.has_ended().is_some() {
            logs.push_str(&relay.log());
            let times = kills.load(Ordering::SeqCst);
            assert!(times <= KILLS_MAX, "killed {times} times: {}", relay.log());
            relay = Relay::start(&config);
            victim.store(relay.pid(), Ordering::SeqCst);
        }
    }
    let times = kills.load(Ordering::SeqCst);
    println!("killed {times} times");
    assert!(times >= 5, "it takes more than {times} to be sure");
    let accepted = |receiver: &Receiver| -> BTreeSet<usize> {
        let attempts = receiver.attempts().into_iter().filter(|a| a.accepted());
        attempts
            .map(|a| number(a.body.as_deref().unwrap()))
            .collect()
    };
    let all: BTreeSet<usize> = (0..RECORDS).collect();
    let others: BTreeSet<usize> = all.iter().copied().filter(|n| *n != DEADLY).collect();
    wait_until(SOON, "the others were delivered", || {
        accepted(&deadly) == others
    });
    wait_until(SOON, "the neighbour got all", || {
        accepted(&neighbour) == all
    });
    wait_until(2 * SOON, "the slow one got all", || accepted(&slow) == all);
    for group in ["poison.hook", "poison.neighbour", "poison.slow"] {
        wait_no_lag(&kafka, group, &["in"]);
    }
    let expected = (DEADLY, "panic".to_owned(), "hook".to_owned());
    let letters = dead(&kafka, "poison");
    assert!(
        letters.iter().all(|letter| *letter == expected),
        "{letters:?}"
    );
    logs.push_str(&relay.log());
    assert!(logs.contains("records go one at a time, to find the one that ends it"));
    assert!(logs.contains("it becomes a dead letter"));
}

#[test]
fn five_kills_while_the_receiver_is_down_or_slow_make_no_dead_letter() {
    let kafka = Broker::start();
    kafka.create_topic("in", 1, &[]);
    let well = Arc::new(AtomicU32::new(0));
    let answering = |ill: fn() -> Answer| {
        let well = Arc::clone(&well);
        Receiver::start(move |_: &Request| match well.load(Ordering::SeqCst) {
            0 => ill(),
            _ => Answer::ok(),
        })
    };
    let down = answering(|| Answer::status(503));
    let refusing = answering(|| Answer::status(401));
    let slow = answering(|| Answer::ok().after(Duration::from_secs(20)));
    let config = Config::new(kafka.brokers(), "kills")
        .topics(&["in"])
        .destination(
            Destination::new("down", &down.url()).lane("breaker = { probe_interval = \"1s\" }"),
        )
        .destination(
            Destination::new("refusing", &refusing.url())
                .lane("breaker = { probe_interval = \"1s\" }"),
        )
        .destination(Destination::new("slow", &slow.url()));
    kafka.produce(&records());
    let receivers = [&down, &refusing, &slow];
    for _ in 0..5 {
        let before = receivers.map(|receiver| receiver.attempts().len());
        let mut relay = Relay::start(&config);
        wait_until(SOON, "each lane tries something", || {
            let now = receivers.map(|receiver| receiver.attempts().len());
            now.iter().zip(before).all(|(now, before)| *now > before)
        });
        std::thread::sleep(Duration::from_millis(700));
        relay.kill9();
    }
    well.store(1, Ordering::SeqCst);
    let _relay = Relay::start(&config);
    for (receiver, group) in receivers.iter().zip(["down", "refusing", "slow"]) {
        wait_until(2 * SOON, &format!("{group} got all"), || {
            receiver.accepted_count() >= RECORDS
        });
        wait_no_lag(&kafka, &format!("kills.{group}"), &["in"]);
    }
    let letters = kafka.read_all("kills.dead-letters");
    assert!(letters.is_empty(), "{letters:?}");
}
