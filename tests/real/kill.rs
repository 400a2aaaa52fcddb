//! Kill -9 at random instants while another instance comes and goes.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::harness::broker::Broker;
use crate::harness::config::{Config, Destination};
use crate::harness::ledger::Attempt;
use crate::harness::oracle::Oracle;
use crate::harness::place::New;
use crate::harness::receiver::{Answer, Receiver};
use crate::harness::relay::Relay;
use crate::harness::wait::wait_until;

use super::main_job::wait_no_lag;

const RECORDS: usize = 20_000;
const PARTITIONS: i32 = 8;
const KILLS: usize = 20;
const SOON: Duration = Duration::from_secs(60);
/// The default of `kafka.commit_interval`.
pub(crate) const COMMIT_INTERVAL: Duration = Duration::from_millis(500);

/// SplitMix64, so that a run can be made again from its seed.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (x ^ (x >> 31)) % bound
    }
}

pub(crate) fn seed() -> u64 {
    let given = std::env::var("POSTRIDER_KILL_SEED")
        .ok()
        .and_then(|text| text.parse().ok());
    given.unwrap_or_else(|| {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        u64::from(now.subsec_nanos())
    })
}

/// What a kill at `at` may repeat: what was in flight, and what was accepted within the last commit interval.
fn may_repeat(attempts: &[Attempt], at: Instant) -> usize {
    let open = |a: &&Attempt| a.arrived <= at && a.finished.is_none_or(|end| end > at);
    let fresh = |a: &&Attempt| {
        a.accepted()
            && a.finished
                .is_some_and(|end| end <= at && end + COMMIT_INTERVAL >= at)
    };
    attempts.iter().filter(open).count() + attempts.iter().filter(fresh).count()
}

#[test]
fn nothing_is_lost_and_little_repeated_by_twenty_kills() {
    let seed = seed();
    println!("POSTRIDER_KILL_SEED={seed}");
    let mut random = Random(seed);
    let kafka = Broker::start();
    kafka.create_topic("in", PARTITIONS, &[]);
    let records: Vec<New> = (0..RECORDS)
        .map(|n| {
            let partition = i32::try_from(n).unwrap() % PARTITIONS;
            New::to("in")
                .partition(partition)
                .value(format!("{{\"n\": {n}}}"))
        })
        .collect();
    let produced = kafka.produce(&records);
    let slow = |_: &_| Answer::ok().after(Duration::from_millis(60));
    let receivers = [Receiver::start(slow), Receiver::start(slow)];
    let mut config = Config::new(kafka.brokers(), "kill").topics(&["in"]);
    for (name, receiver) in ["one", "two"].iter().zip(&receivers) {
        config = config.destination(Destination::new(name, &receiver.url()));
    }
    let mut other: Option<Relay> = None;
    let mut kills: Vec<Instant> = Vec::new();
    let mut relay = Relay::start(&config);
    for kill in 0..KILLS {
        // The other instance joins in one round and leaves, in good order, in the next.
        match other.take() {
            None => other = Some(Relay::start(&config)),
            Some(mut leaving) => assert_eq!(leaving.stop(SOON).code(), Some(0)),
        }
        let before = relay
            .try_metrics()
            .map_or(0.0, |m| m.sum("postrider_attempts_total", &[]));
        let work = 20.0 + random.below(300) as f64;
        wait_until(
            SOON,
            &format!("kill {kill}: the instance is at work"),
            || {
                let attempts =
                    |m: crate::harness::metrics::Metrics| m.sum("postrider_attempts_total", &[]);
                let drained = receivers.iter().all(|r| r.accepted_count() >= RECORDS);
                drained
                    || relay
                        .try_metrics()
                        .is_some_and(|m| attempts(m) >= before + work)
            },
        );
        std::thread::sleep(Duration::from_millis(random.below(700)));
        relay.kill9();
        kills.push(Instant::now());
        relay = Relay::start(&config);
    }
    for receiver in &receivers {
        wait_until(
            Duration::from_secs(180),
            "every record was accepted",
            || receiver.accepted_count() >= RECORDS,
        );
    }
    wait_no_lag(&kafka, "kill.one", &["in"]);
    wait_no_lag(&kafka, "kill.two", &["in"]);

    let committed = ["kill.one", "kill.two"].map(|group| kafka.committed(group));
    let attempts = receivers.each_ref().map(Receiver::attempts);
    let report = Oracle::new(&produced)
        .destination("one", &attempts[0])
        .committed(&committed[0])
        .destination("two", &attempts[1])
        .committed(&committed[1])
        .judge();
    println!("{report}");
    report.assert_sound();
    for (name, attempts) in ["one", "two"].iter().zip(&attempts) {
        let bound: usize = kills.iter().map(|at| may_repeat(attempts, *at)).sum();
        let repeats = report.of(name).repeats();
        println!("{name}: {repeats} repeats by {KILLS} kills; the bound is 1.1 x {bound}");
        assert!(
            repeats * 10 <= bound * 11,
            "{name}: {repeats} repeats, more than 1.1 x {bound}"
        );
    }
}
