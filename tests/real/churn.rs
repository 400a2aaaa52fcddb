//! Instances that join, leave, are killed and freeze, one after the other, while records arrive and some of them fail.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::harness::broker::Broker;
use crate::harness::config::{Config, Destination};
use crate::harness::ledger::Attempt;
use crate::harness::oracle::Oracle;
use crate::harness::place::{New, Offsets, Place, Stored};
use crate::harness::receiver::{Answer, Receiver, Request};
use crate::harness::relay::{Relay, Signal};
use crate::harness::wait::wait_until;

use super::kill::{Random, seed};
use super::main_job::wait_no_lag;

const SOON: Duration = Duration::from_secs(60);
const CHURN: Duration = Duration::from_secs(60);
/// Records per second.
const RATE: usize = 1000;
const PARTITIONS: i32 = 8;
/// Longer than the session of the tests' configuration, so that the group goes on without it.
const FROZEN: Duration = Duration::from_secs(9);
/// How much later than it was noted an end may come.
const SLACK: Duration = Duration::from_secs(1);
/// How long one that wakes may go on before it hears that its partitions are another's.
const WAKING: Duration = Duration::from_secs(1);

/// An instance that did not leave in good order.
struct Unclean {
    instance: String,
    /// What its group had committed until then. While a group hands out partitions it takes no commit, and it waits for one that hangs or was killed
    /// until its session ends.
    committed: Offsets,
    from: Instant,
    /// Until when, if it came back.
    until: Option<Instant>,
}

/// Five in a hundred fail at first.
fn answer(request: &Request) -> Answer {
    let first = request.attempt() == Some(1);
    let status = if first && request.offset() % 20 == 3 {
        500
    } else {
        200
    };
    Answer::status(status).after(Duration::from_millis(5))
}

/// An instance whose requests say that they are its own.
struct Instance {
    name: String,
    relay: Relay,
    frozen: Option<Unclean>,
}

impl Instance {
    fn start(kafka: &Broker, url: &str, name: String) -> Self {
        let destination = Destination::new("hook", url)
            .lane(r#"retry = { schedule = ["300ms", "1s", "2s"] }"#)
            .webhook(&format!(r#"headers = {{ x-instance = "{name}" }}"#));
        let config = Config::new(kafka.brokers(), "churn")
            .topics(&["in"])
            .destination(destination);
        let relay = Relay::start(&config);
        Self {
            name,
            relay,
            frozen: None,
        }
    }

    fn ends_badly(&self, kafka: &Broker) -> Unclean {
        Unclean {
            instance: self.name.clone(),
            committed: kafka.committed("churn.hook"),
            from: Instant::now(),
            until: None,
        }
    }

    fn wake(&mut self, unclean: &mut Vec<Unclean>) {
        if let Some(frozen) = self.frozen.take() {
            println!(
                "{:.2?} after it froze, {} wakes",
                frozen.from.elapsed(),
                self.name
            );
            unclean.push(Unclean {
                until: Some(Instant::now()),
                ..frozen
            });
            self.relay.signal(Signal::SIGCONT);
        }
    }
}

/// A record that was accepted again without a reason.
struct Unexplained {
    place: Place,
    by: [(String, Instant); 2],
    begin: Instant,
}

impl fmt::Debug for Unexplained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [(one, first), (other, then)] = &self.by;
        let begin = self.begin;
        let (first, then) = (first.duration_since(begin), then.duration_since(begin));
        write!(
            f,
            "{:?} by {one} at {first:.2?} and {other} at {then:.2?}",
            self.place
        )
    }
}

fn instance(attempt: &Attempt) -> &str {
    attempt.header("x-instance").unwrap_or("nobody")
}

/// Whether this acceptance may be forgotten: its instance was killed or frozen before it was committed.
fn may_be_forgotten(attempt: &Attempt, unclean: &[Unclean]) -> bool {
    let place = attempt.place.as_ref().unwrap();
    let of = (place.topic.clone(), place.partition);
    let forgets = |u: &Unclean| {
        let committed = u.committed.get(&of).copied().unwrap_or(0);
        attempt.arrived <= u.from + SLACK && place.offset >= committed
    };
    unclean
        .iter()
        .any(|u| u.instance == instance(attempt) && forgets(u))
}

/// Whether its instance had just woken and could not yet know what it had lost: it may repeat what another has done, and what it does itself it
/// cannot commit.
fn is_just_awake(attempt: &Attempt, unclean: &[Unclean]) -> bool {
    unclean.iter().any(|u| {
        let woken = |at: Instant| (at..at + WAKING).contains(&attempt.arrived);
        u.instance == instance(attempt) && u.until.is_some_and(woken)
    })
}

/// The repeats, and those of them that no unclean end explains.
fn repeats(
    attempts: &[Attempt],
    unclean: &[Unclean],
    begin: Instant,
) -> (usize, usize, Vec<Unexplained>) {
    let mut by_place: BTreeMap<&Place, Vec<&Attempt>> = BTreeMap::new();
    for attempt in attempts.iter().filter(|attempt| attempt.accepted()) {
        let place = attempt.place.as_ref().unwrap();
        by_place.entry(place).or_default().push(attempt);
    }
    let (mut count, mut waking, mut found) = (0, 0, Vec::new());
    for (place, mut accepted) in by_place {
        accepted.sort_by_key(|attempt| attempt.arrived);
        for pair in accepted.windows(2) {
            count += 1;
            if may_be_forgotten(pair[0], unclean) {
                continue;
            }
            if pair.iter().any(|attempt| is_just_awake(attempt, unclean)) {
                waking += 1;
                continue;
            }
            found.push(Unexplained {
                place: place.clone(),
                by: [pair[0], pair[1]].map(|a| (instance(a).to_owned(), a.arrived)),
                begin,
            });
        }
    }
    (count, waking, found)
}

#[test]
fn instances_that_come_and_go_lose_nothing_and_repeat_only_what_an_unclean_end_explains() {
    let seed = seed();
    println!("POSTRIDER_KILL_SEED={seed}");
    let mut random = Random(seed);
    let kafka = Broker::start();
    kafka.create_topic("in", PARTITIONS, &[]);
    let receiver = Receiver::start(answer);
    let url = receiver.url();
    let mut started = 0;
    let mut start = || {
        started += 1;
        Instance::start(&kafka, &url, format!("i{started}"))
    };
    let mut instances = [start(), start(), start()];
    let mut unclean = Vec::new();
    let mut left = 0;
    let done = AtomicBool::new(false);
    let begin = Instant::now();
    let produced = std::thread::scope(|scope| {
        let producing = scope.spawn(|| produce(&kafka, &done));
        let end = begin + CHURN;
        let mut turn = 0;
        while Instant::now() < end {
            std::thread::sleep(Duration::from_millis(2000 + random.below(2000)));
            let which = usize::try_from(random.below(3)).unwrap();
            for instance in &mut instances {
                let frozen = instance.frozen.as_ref();
                if frozen.is_some_and(|frozen| frozen.from.elapsed() > FROZEN) {
                    instance.wake(&mut unclean);
                }
            }
            let chosen = &mut instances[which];
            if chosen.frozen.is_some() {
                continue;
            }
            turn += 1;
            let what = ["leaves", "is killed", "freezes"][turn % 3];
            println!("{:.2?}: {} {what}", begin.elapsed(), chosen.name);
            match turn % 3 {
                0 => {
                    assert_eq!(chosen.relay.stop(SOON).code(), Some(0));
                    left += 1;
                    *chosen = start();
                }
                1 => {
                    unclean.push(chosen.ends_badly(&kafka));
                    chosen.relay.kill9();
                    *chosen = start();
                }
                _ => {
                    chosen.frozen = Some(chosen.ends_badly(&kafka));
                    chosen.relay.signal(Signal::SIGSTOP);
                }
            }
        }
        for instance in &mut instances {
            if let Some(frozen) = &instance.frozen {
                std::thread::sleep(FROZEN.saturating_sub(frozen.from.elapsed()));
                instance.wake(&mut unclean);
            }
        }
        done.store(true, Ordering::Relaxed);
        producing.join().unwrap()
    });
    wait_until(SOON, "every record was accepted", || {
        receiver.accepted_count() >= produced.len()
    });
    wait_no_lag(&kafka, "churn.hook", &["in"]);

    let committed = kafka.committed("churn.hook");
    let attempts = receiver.attempts();
    let report = Oracle::new(&produced)
        .destination("hook", &attempts)
        .committed(&committed)
        .judge();
    println!("{report}");
    report.assert_sound();
    let (count, waking, unexplained) = repeats(&attempts, &unclean, begin);
    let frozen = unclean.iter().filter(|u| u.until.is_some()).count();
    println!(
        "{} records; {left} left, {} were killed, {frozen} froze; {count} repeats, {waking} of them around a waking",
        produced.len(),
        unclean.len() - frozen,
    );
    let some = &unexplained[..unexplained.len().min(20)];
    assert!(
        unexplained.is_empty(),
        "{} repeated without a reason: {some:#?}",
        unexplained.len()
    );
}

fn produce(kafka: &Broker, done: &AtomicBool) -> Vec<Stored> {
    let mut produced = Vec::new();
    let begin = Instant::now();
    let mut batch = 0;
    while !done.load(Ordering::Relaxed) {
        let records = (0..RATE).map(|n| {
            let partition = i32::try_from(n).unwrap() % PARTITIONS;
            New::to("in").partition(partition).value("{}")
        });
        produced.extend(kafka.produce(&records.collect::<Vec<_>>()));
        batch += 1;
        let due = begin + Duration::from_secs(1) * batch;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    produced
}
