//! Kill -9 at random instants while records sit in every state: in flight, waiting for their next attempt, on the ladder, suspected, on their way
//! to the dead letters.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::harness::broker::Broker;
use crate::harness::config::{Config, Destination};
use crate::harness::ledger::Attempt;
use crate::harness::place::New;
use crate::harness::receiver::{Answer, Receiver, Request};
use crate::harness::relay::Relay;
use crate::harness::wait::wait_until;

use super::kill::{COMMIT_INTERVAL, Random, seed};
use super::main_job::wait_no_lag;

const RECORDS: usize = 4000;
const SOON: Duration = Duration::from_secs(180);
/// What a commit may be late on a machine that does much else.
const SLACK: Duration = Duration::from_secs(1);

fn kills() -> u64 {
    let given = std::env::var("POSTRIDER_KILLS").ok();
    given.and_then(|text| text.parse().ok()).unwrap_or(20)
}

fn number(body: &[u8]) -> usize {
    std::str::from_utf8(body).unwrap().parse().unwrap()
}

/// One in a hundred fails once, one fails twice and waits a minute between, one is refused, and one in a thousand is forbidden.
fn answer(request: &Request) -> Answer {
    let attempt = request.attempt().unwrap_or(1);
    let status = match number(&request.body) {
        n if n % 100 == 7 && attempt < 2 => 500,
        n if n % 100 == 17 && attempt < 3 => 500,
        n if n % 100 == 27 => 400,
        n if n % 1000 == 37 => 403,
        _ => 200,
    };
    Answer::status(status).after(Duration::from_millis(20))
}

fn is_bad(n: usize) -> bool {
    n % 100 == 27 || n % 1000 == 37
}

/// An attempt that did not get further than the one before is extra. Each needs a kill of its own that came before the end of some attempt of the record
/// was committed: then the record is read again, or stands on the ladder twice.
fn unexplained(attempts: &[Attempt], kills: &[Instant]) -> Vec<String> {
    let mut by_record: BTreeMap<usize, Vec<&Attempt>> = BTreeMap::new();
    for attempt in attempts {
        let n = number(attempt.body.as_deref().unwrap());
        by_record.entry(n).or_default().push(attempt);
    }
    let mut found = Vec::new();
    for (n, mut of_record) in by_record.into_iter().filter(|(n, _)| !is_bad(*n)) {
        of_record.sort_by_key(|attempt| attempt.arrived);
        let pairs = of_record.windows(2);
        let extra = pairs.filter(|pair| pair[1].attempt <= pair[0].attempt);
        let extra = extra.count();
        let touches = |at: &Instant, attempt: &Attempt| {
            let ended = attempt.finished.unwrap_or(attempt.arrived);
            (attempt.arrived..ended + COMMIT_INTERVAL + SLACK).contains(at)
        };
        let touched = kills
            .iter()
            .filter(|at| of_record.iter().any(|a| touches(at, a)));
        let touched = touched.count();
        if extra > touched {
            found.push(format!(
                "record {n}: {extra} extra attempts, {touched} kills"
            ));
        }
    }
    found
}

#[test]
#[ignore = "takes minutes: make soak"]
fn a_kill_in_any_state_loses_nothing_and_costs_one_attempt_at_most() {
    let seed = seed();
    println!("POSTRIDER_KILL_SEED={seed}");
    let mut random = Random(seed);
    let kafka = Broker::start();
    kafka.create_topic("in", 4, &[]);
    let receiver = Receiver::start(answer);
    let config = Config::new(kafka.brokers(), "states")
        .topics(&["in"])
        .destination(
            Destination::new("hook", &receiver.url())
                .lane(r#"retry = { schedule = ["3s", "62s", "2s", "2s"], jitter = 0 }"#),
        );
    let mut produced = 0;
    let mut produce = |count: usize| {
        let until = (produced + count).min(RECORDS);
        let records = (produced..until).map(|n| New::to("in").value(n.to_string()));
        kafka.produce(&records.collect::<Vec<_>>());
        produced = until;
    };
    let kills_wanted = kills();
    let share = RECORDS / usize::try_from(kills_wanted).unwrap() + 1;
    let mut kills = Vec::new();
    let mut relay = Relay::start(&config);
    for _ in 0..kills_wanted {
        produce(share);
        std::thread::sleep(Duration::from_millis(1500 + random.below(4000)));
        relay.kill9();
        kills.push(Instant::now());
        relay = Relay::start(&config);
    }
    let good = (0..RECORDS).filter(|n| !is_bad(*n)).count();
    let accepted = || {
        let attempts = receiver.attempts();
        let accepted = attempts.iter().filter(|a| a.accepted());
        let numbers: BTreeSet<usize> = accepted
            .map(|a| number(a.body.as_deref().unwrap()))
            .collect();
        numbers.len()
    };
    wait_until(SOON, "every good record was accepted", || {
        // Where only records that fail are left, they look like a broken endpoint until others pass.
        kafka.produce(&[New::to("in").value("1")]);
        std::thread::sleep(Duration::from_millis(200));
        accepted() == good
    });
    let bad: BTreeSet<usize> = (0..RECORDS).filter(|n| is_bad(*n)).collect();
    let dead = || -> BTreeSet<usize> {
        let letters = kafka.read_all("states.dead-letters").into_iter();
        letters
            .map(|letter| number(letter.value.as_deref().unwrap()))
            .collect()
    };
    wait_until(SOON, "every bad record is a dead letter", || {
        // By the good ones the forbidden ones are known.
        kafka.produce(&[New::to("in").value("1")]);
        std::thread::sleep(Duration::from_secs(1));
        dead().len() >= bad.len()
    });
    wait_no_lag(&kafka, "states.hook", &["in"]);

    let attempts = receiver.attempts();
    let mut ids: BTreeMap<usize, BTreeSet<String>> = BTreeMap::new();
    for attempt in attempts
        .iter()
        .filter(|a| number(a.body.as_deref().unwrap()) != 1)
    {
        let n = number(attempt.body.as_deref().unwrap());
        ids.entry(n)
            .or_default()
            .insert(attempt.id.clone().unwrap());
    }
    assert!(
        ids.values().all(|of_record| of_record.len() == 1),
        "ids are stable"
    );
    let all: BTreeSet<&String> = ids.values().flatten().collect();
    assert_eq!(all.len(), ids.len(), "and belong to one record each");
    for letter in kafka.read_all("states.dead-letters") {
        assert_eq!(letter.header("postrider-reason"), Some("rejected"));
    }
    assert_eq!(dead(), bad);
    let repeats: Vec<Attempt> = attempts
        .into_iter()
        .filter(|a| number(a.body.as_deref().unwrap()) != 1)
        .collect();
    let unexplained = unexplained(&repeats, &kills);
    println!(
        "{} requests for {RECORDS} records in {kills_wanted} kills",
        repeats.len()
    );
    assert!(
        unexplained.is_empty(),
        "attempts spent again without a kill: {unexplained:#?}"
    );
}
