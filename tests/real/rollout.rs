//! Another file, one instance after the other: what only the newer one takes is never stepped over by who has the older one.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::harness::broker::Broker;
use crate::harness::config::Config;
use crate::harness::place::{New, Place};
use crate::harness::receiver::Receiver;
use crate::harness::relay::Relay;
use crate::harness::wait::wait_until;

use super::operations::{done, try_status, wait_state};

const SOON: Duration = Duration::from_secs(30);
const PARTITIONS: i32 = 6;
/// Each needs a second to begin to produce.
const THREADS: usize = 6;
/// An instance that is not heard of for a minute is gone; its successor has to hear itself first, and to join.
const GONE: Duration = Duration::from_secs(85);

/// Since when it may be there, its type, and where.
type Produced = (Instant, &'static str, Place);

/// Records of two types, one as many as the other, on every partition, again and again.
struct Stream {
    produced: Arc<Mutex<Vec<Produced>>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Stream {
    fn start(kafka: &'static Broker, topic: &'static str) -> Self {
        let (produced, stop) = (
            Arc::<Mutex<Vec<_>>>::default(),
            Arc::<AtomicBool>::default(),
        );
        let threads = (0..THREADS).map(|_| {
            let (book, ends) = (Arc::clone(&produced), Arc::clone(&stop));
            std::thread::spawn(move || {
                while !ends.load(Ordering::Relaxed) {
                    let of_both = some(kafka, topic);
                    book.lock().unwrap().extend(of_both);
                }
            })
        });
        Self {
            threads: threads.collect(),
            produced,
            stop,
        }
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
    }

    /// Those of a type that were produced in this time.
    fn of(&self, kind: &str, from: Instant, until: Instant) -> BTreeSet<Place> {
        let produced = self.produced.lock().unwrap();
        let these = produced
            .iter()
            .filter(|(at, is, _)| *is == kind && *at >= from && *at < until);
        these.map(|(_, _, place)| place.clone()).collect()
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// A record of each type on every partition, and since when they may be there.
fn some(kafka: &Broker, topic: &str) -> Vec<Produced> {
    let at = Instant::now();
    let kinds = ["t1", "t2"].into_iter();
    let places: Vec<_> = kinds
        .flat_map(|kind| (0..PARTITIONS).map(move |partition| (kind, partition)))
        .collect();
    let new = |(kind, partition): &(&str, i32)| {
        let value = format!(r#"{{"type": "{kind}"}}"#);
        New::to(topic).partition(*partition).value(value)
    };
    let stored = kafka.produce(&places.iter().map(new).collect::<Vec<_>>());
    let kinds = places.into_iter().map(|(kind, _)| kind);
    let all = kinds.zip(stored);
    all.map(|(kind, stored)| (at, kind, stored.place)).collect()
}

fn delivered(receiver: &Receiver) -> BTreeSet<Place> {
    let attempts = receiver.attempts().into_iter();
    attempts.filter_map(|attempt| attempt.place).collect()
}

fn wait_delivered(receiver: &Receiver, wanted: &BTreeSet<Place>, what: &str) {
    assert!(!wanted.is_empty(), "{what}: there are some");
    let mut missing = Vec::new();
    let began = Instant::now();
    while began.elapsed() < SOON {
        let delivered = delivered(receiver);
        missing = wanted.difference(&delivered).cloned().collect();
        if missing.is_empty() {
            return;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    let (count, all) = (missing.len(), wanted.len());
    panic!(
        "{what}: {count} of {all} were not delivered, the first {}",
        missing[0]
    );
}

/// A file whose one destination takes these types.
fn config(kafka: &Broker, topic: &str, receiver: &Receiver, types: &[&str]) -> Config {
    Config::new(kafka.brokers(), &format!("of-{topic}"))
        .notification(r#"type = [{ field = "/type" }]"#)
        .more(&format!(
            "[destinations.hook.webhook]\nurl = \"{}\"\n[[rules]]\nname = \"some\"\ntopics = [\"{topic}\"]\ntypes = {types:?}\ndeliver_to = [\"hook\"]\n",
            receiver.url()
        ))
}

struct Ground {
    receiver: Receiver,
    old: Config,
    new: Config,
    a: Relay,
    b: Relay,
    stream: Stream,
    began: Instant,
}

/// Two instances that take the first type alone, and records of both.
fn two_old_ones(
    kafka: &'static Broker,
    topic: &'static str,
    adapt: fn(Config) -> Config,
) -> Ground {
    kafka.create_topic(topic, PARTITIONS, &[]);
    let receiver = Receiver::ok();
    let old = adapt(config(kafka, topic, &receiver, &["t1"]));
    let new = adapt(config(kafka, topic, &receiver, &["t1", "t2"]));
    let (mut a, mut b) = (Relay::start(&old), Relay::start(&old));
    for relay in [&mut a, &mut b] {
        relay.wait_ready(SOON);
        wait_state(relay, "hook", "running");
    }
    let began = Instant::now();
    let stream = Stream::start(kafka, topic);
    receiver.wait_accepted(60, SOON);
    Ground {
        receiver,
        old,
        new,
        a,
        b,
        stream,
        began,
    }
}

/// Starts it again with this file, and waits until it says that it is ready.
fn restart(relay: &mut Relay, config: &Config) -> Instant {
    assert_eq!(relay.stop(SOON).code(), Some(0));
    relay.rewrite(config);
    relay.start_again();
    relay.wait_ready(SOON);
    Instant::now()
}

/// Has it take over this file, and waits until it has.
fn reload(relay: &mut Relay, config: &Config) -> Instant {
    relay.rewrite(config);
    done(relay, &["reload"]);
    Instant::now()
}

fn wait_outdated(relay: &mut Relay) {
    let report = wait_state(relay, "hook", "outdated");
    let words = report["words"].as_str().unwrap();
    assert!(
        words.starts_with("another instance runs a newer configuration (")
            && words.contains("reload it with the new file"),
        "{words}"
    );
    let paused = [("destination", "hook"), ("state", "paused")];
    relay.wait_metric("postrider_lane_state", &paused, SOON, |v| v == 1.0);
}

fn state(relay: &Relay) -> String {
    let report = try_status(relay, "hook").unwrap();
    report["state"].as_str().unwrap().to_owned()
}

fn roll(
    kafka: &'static Broker,
    topic: &'static str,
    adapt: fn(Config) -> Config,
    deploy: fn(&mut Relay, &Config) -> Instant,
) {
    let Ground {
        receiver,
        old: _,
        new,
        mut a,
        mut b,
        mut stream,
        began,
    } = two_old_ones(kafka, topic, adapt);
    let ready = deploy(&mut a, &new);
    wait_outdated(&mut b);
    b.wait_log("another instance runs a newer configuration", SOON);
    b.wait_ready(SOON);
    wait_state(&mut a, "hook", "running");
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(state(&b), "outdated");
    // The newer one is started again, and nobody takes its place meanwhile.
    deploy(&mut a, &new);
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(state(&b), "outdated");
    deploy(&mut b, &new);
    for relay in [&mut a, &mut b] {
        wait_state(relay, "hook", "running");
    }
    std::thread::sleep(Duration::from_secs(3));
    stream.end();
    let now = Instant::now();
    let first = stream.of("t1", began, now);
    wait_delivered(&receiver, &first, "what both files take");
    let second = stream.of("t2", ready, now);
    wait_delivered(&receiver, &second, "what the newer file takes");
    println!(
        "{} of the old type, {} of the new",
        first.len(),
        second.len()
    );
    let attempts = receiver.attempt_count();
    assert_eq!(attempts, receiver.accepted_count(), "no repeats");
    for relay in [&mut a, &mut b] {
        assert_eq!(relay.stop(SOON).code(), Some(0));
    }
}

#[test]
fn what_only_the_newer_file_takes_is_never_stepped_over() {
    roll(Broker::shared(), "rolled", |config| config, restart);
}

#[test]
fn a_reload_is_a_deployment_like_any_other() {
    roll(Broker::shared(), "rolled-in-place", |config| config, reload);
}

#[test]
fn nor_where_the_brokers_decide() {
    let kafka = Broker::shared_that_decides();
    roll(kafka, "rolled-there", Config::consumer_protocol, restart);
}

#[test]
fn the_file_that_was_deployed_last_counts_also_when_its_text_is_an_older_one() {
    let Ground {
        receiver,
        old,
        new,
        mut a,
        mut b,
        mut stream,
        began,
    } = two_old_ones(Broker::shared(), "rolled-back", |config| config);
    restart(&mut a, &new);
    wait_outdated(&mut b);
    // Half-way: the text of the other is the last one again.
    let back = Instant::now();
    restart(&mut a, &old);
    for relay in [&mut a, &mut b] {
        wait_state(relay, "hook", "running");
    }
    assert!(back.elapsed() < SOON);
    b.wait_log("joins the consumer group again", SOON);
    // And after both had the newer one.
    restart(&mut a, &new);
    restart(&mut b, &new);
    for relay in [&mut a, &mut b] {
        wait_state(relay, "hook", "running");
    }
    let ready = restart(&mut a, &old);
    wait_outdated(&mut b);
    wait_state(&mut a, "hook", "running");
    restart(&mut b, &old);
    wait_state(&mut b, "hook", "running");
    stream.end();
    let now = Instant::now();
    let first = stream.of("t1", began, now);
    wait_delivered(&receiver, &first, "what both files take");
    let delivered = delivered(&receiver);
    let second = stream.of("t2", ready, now);
    assert!(!second.is_empty());
    assert_eq!(second.intersection(&delivered).count(), 0, "taken back");
}

#[test]
fn whoever_waits_for_one_that_was_killed_comes_back_after_a_minute() {
    let Ground {
        receiver,
        old: _,
        new,
        mut a,
        mut b,
        mut stream,
        began,
    } = two_old_ones(Broker::shared(), "rolled-dead", |config| config);
    restart(&mut a, &new);
    wait_outdated(&mut b);
    // The older file is not newer because its instance was started again.
    b.kill9();
    b.start_again();
    wait_outdated(&mut b);
    a.kill9();
    let killed = Instant::now();
    b.wait_for(GONE, "it comes back", |relay| {
        let report = try_status(relay, "hook")?;
        (report["state"] == "running").then_some(())
    });
    println!("it came back after {:?}", killed.elapsed());
    assert!(killed.elapsed() > Duration::from_secs(35), "not at once");
    stream.end();
    let now = Instant::now();
    let first = stream.of("t1", began, now);
    wait_delivered(&receiver, &first, "what both files take");
    // It is no newer one when it is dead.
    wait_until(SOON, "the old one runs", || state(&b) == "running");
}
