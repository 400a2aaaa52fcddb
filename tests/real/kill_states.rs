//! Kill -9 at random instants while records sit in every state: in flight, waiting for their next attempt, on the ladder, suspected, on their way to
//! the dead letters, and behind an endpoint that is broken or asks for patience.
//!
//! Twenty kills are part of `make test`; `make soak` makes two hundred, and says how far it is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::harness::broker::Broker;
use crate::harness::config::{Config, Destination};
use crate::harness::ledger::Attempt;
use crate::harness::place::New;
use crate::harness::receiver::{Answer, Receiver, Request};
use crate::harness::relay::Relay;
use crate::harness::wait::wait_until;

use super::kill::{COMMIT_INTERVAL, Random, seed};
use super::main_job::wait_no_lag;

const RECORDS_EACH: usize = 200;
/// These kills take about a minute: who waits that long on the ladder was produced before.
const LAST_KILLS: usize = 12;
const SOON: Duration = Duration::from_secs(180);
/// A kill does not wait for work longer than that: what waits may wait for a minute on the ladder.
const WORK: Duration = Duration::from_secs(15);
/// What a commit may be late on a machine that does much else.
const SLACK: Duration = Duration::from_secs(1);
/// The session of the instances, in milliseconds.
const SESSION_MS: u64 = 3000;
/// How long a group takes no commit at most: it waits for a killed member until its session ends, then for those that were killed while they joined.
const REBALANCE: Duration = Duration::from_millis(3 * SESSION_MS);
/// How long after a kill the receiver may still find a request of the one that was killed.
const ARRIVES: Duration = Duration::from_millis(500);
/// How long a request takes.
const TAKES: Duration = Duration::from_millis(40);

fn kills_wanted() -> usize {
    let given = std::env::var("POSTRIDER_KILLS").ok();
    given.and_then(|text| text.parse().ok()).unwrap_or(20)
}

/// `None`: a record that only shows that others pass.
fn number(body: &[u8]) -> Option<usize> {
    std::str::from_utf8(body).ok()?.parse().ok()
}

/// What becomes of the records of one run, by their numbers.
#[derive(Debug, Clone, Copy)]
struct Fates {
    records: usize,
}

impl Fates {
    /// One in a hundred fails once, one fails twice, one is refused, and one in a thousand is forbidden: that one waits on the ladder too.
    fn answer(self, request: &Request) -> Answer {
        let Some(n) = number(&request.body) else {
            return Answer::ok();
        };
        let status = match n {
            _ if self.is_forbidden(n) => 403,
            _ if self.is_refused(n) => 400,
            _ if request.attempt().unwrap_or(1) <= self.failures(n) => 500,
            _ => 200,
        };
        Answer::status(status).after(TAKES)
    }

    /// Who fails twice waits on the ladder for a minute: only early ones, so that nobody has to wait for them at the end.
    fn failures(self, n: usize) -> u32 {
        match n % 100 {
            17 if self.is_early(n) => 2,
            7 | 17 => 1,
            _ => 0,
        }
    }

    fn is_refused(self, n: usize) -> bool {
        n % 100 == 27
    }

    fn is_forbidden(self, n: usize) -> bool {
        n % 1000 == 37 && self.is_early(n)
    }

    fn is_early(self, n: usize) -> bool {
        n + LAST_KILLS * RECORDS_EACH < self.records
    }

    fn bad(self) -> BTreeSet<usize> {
        let is_bad = |n: &usize| self.is_refused(*n) || self.is_forbidden(*n);
        (0..self.records).filter(is_bad).collect()
    }
}

/// Twelve seconds in which an endpoint works, forgets the password, works, and has had enough.
fn moody(since: Duration) -> Answer {
    match since.as_millis() % 12_000 {
        0..6_000 | 8_000..10_000 => Answer::ok().after(TAKES),
        6_000..8_000 => Answer::status(401),
        _ => Answer::status(429).header("retry-after", "1"),
    }
}

/// The end of an instance, and what a destination's group had taken from it before.
#[derive(Debug, Clone, Copy)]
struct Kill {
    /// When the instance was started.
    since: Instant,
    at: Instant,
    /// When the last commit was acknowledged, or the start where there was none.
    committed: Instant,
    /// How many the brokers refused because the group was handing out partitions or for another reason.
    refused: f64,
    /// How often it lost partitions because the brokers missed it for longer than its session: what was not committed is repeated then too.
    lost: usize,
}

impl Kill {
    /// What `destination` will have lost when `relay`, started at `since`, ends now.
    fn ahead(relay: &Relay, destination: &str, since: Instant) -> Self {
        let at = Instant::now();
        let metrics = relay.try_metrics();
        let labels = [("destination", destination)];
        let lost = [("destination", destination), ("kind", "lost")];
        let losses = metrics
            .as_ref()
            .map_or(0.0, |m| m.sum("postrider_rebalances_total", &lost));
        let metric = |name| metrics.as_ref().map_or(0.0, |m| m.sum(name, &labels));
        let last = metric("postrider_last_commit_timestamp_seconds");
        let last = UNIX_EPOCH + Duration::from_secs_f64(last);
        let age = SystemTime::now().duration_since(last).unwrap_or_default();
        let committed = at.checked_sub(age).unwrap_or(since);
        Self {
            since,
            at,
            committed: committed.max(since),
            refused: metric("postrider_commit_errors_total"),
            lost: losses as usize,
        }
    }

    fn sent(&self, attempt: &Attempt) -> bool {
        (self.since..self.at + ARRIVES).contains(&attempt.arrived)
    }

    /// Whether `attempt` was this instance's, and its end may not have been committed.
    fn touches(&self, attempt: &Attempt) -> bool {
        let ended = attempt.finished.unwrap_or(attempt.arrived);
        // Nobody is believed to have been without commits for longer than a group waits for members that are dead.
        let waited = self.at.checked_sub(REBALANCE);
        let committed = waited.map_or(self.committed, |at| self.committed.max(at));
        self.sent(attempt) && ended + COMMIT_INTERVAL + SLACK > committed
    }

    /// How often the attempts of one record may be spent again because of this instance.
    fn may_repeat(&self, of_record: &[&Attempt]) -> usize {
        let any = |is: fn(&Self, &Attempt) -> bool| of_record.iter().any(|of| is(self, of));
        let lost = if any(Self::sent) { self.lost } else { 0 };
        usize::from(any(Self::touches)) + lost
    }

    /// How old the last commit was, in seconds.
    fn age(&self) -> f64 {
        (self.at - self.committed).as_secs_f64()
    }
}

/// An attempt that did not get further than the one before is extra. Each needs a kill of its own that came before the end of some attempt of the record
/// was committed: then the record is read again, or stands on the ladder twice.
fn unexplained(attempts: &[Attempt], kills: &[Kill], fates: Fates) -> (usize, Vec<String>) {
    let mut by_record: BTreeMap<usize, Vec<&Attempt>> = BTreeMap::new();
    for attempt in attempts {
        if let Some(n) = number(attempt.body.as_deref().unwrap()) {
            by_record.entry(n).or_default().push(attempt);
        }
    }
    let (mut all, mut found) = (0, Vec::new());
    for (n, mut of_record) in by_record {
        if fates.is_forbidden(n) {
            continue;
        }
        of_record.sort_by_key(|attempt| attempt.arrived);
        let is_extra = |pair: &&[&Attempt]| {
            // Of these an endpoint is to blame, or it asked for patience: they cost no attempt.
            let spent = !matches!(pair[0].status, Some(401 | 429));
            pair[1].attempt < pair[0].attempt.map(|before| before + u32::from(spent))
        };
        let extra = of_record.windows(2).filter(is_extra).count();
        let explained: usize = kills.iter().map(|kill| kill.may_repeat(&of_record)).sum();
        all += extra;
        if extra > explained {
            let story = story(&of_record, kills);
            found.push(format!(
                "record {n}: {extra} extra, {explained} explained: {story}"
            ));
        }
    }
    (all, found)
}

/// The attempts of a record and the kills between them, in seconds since the first attempt.
fn story(of_record: &[&Attempt], kills: &[Kill]) -> String {
    let first = of_record[0].arrived;
    let last = of_record.last().map_or(first, |last| last.arrived);
    let mut events: Vec<(Instant, String)> = Vec::new();
    for attempt in of_record {
        let (number, status) = (attempt.attempt, attempt.status);
        let words = format!("attempt {number:?} is answered {status:?}");
        events.push((attempt.arrived, words));
    }
    for kill in kills
        .iter()
        .filter(|kill| (first..=last).contains(&kill.at))
    {
        let age = kill.age();
        let Kill { refused, lost, .. } = kill;
        let words = format!(
            "kill, {age:.3} s after the last commit; {refused} were refused, and {lost} times partitions lost"
        );
        events.push((kill.at, words));
    }
    events.sort();
    let lines = events.into_iter().map(|(at, words)| {
        let seconds = (at - first).as_secs_f64();
        format!("\n  {seconds:8.3} {words}")
    });
    lines.chain(["\n".to_owned()]).collect()
}

/// Every record has one id, and no two records have the same.
fn assert_ids_stable(attempts: &[Attempt]) {
    let mut ids: BTreeMap<usize, BTreeSet<String>> = BTreeMap::new();
    for attempt in attempts {
        if let Some(n) = number(attempt.body.as_deref().unwrap()) {
            let id = attempt.id.clone().unwrap();
            ids.entry(n).or_default().insert(id);
        }
    }
    let changed: Vec<_> = ids.iter().filter(|(_, of)| of.len() != 1).collect();
    assert!(changed.is_empty(), "ids are stable: {changed:?}");
    let all: BTreeSet<&String> = ids.values().flatten().collect();
    assert_eq!(all.len(), ids.len(), "and belong to one record each");
}

fn accepted(receiver: &Receiver) -> usize {
    let attempts = receiver.attempts();
    let accepted = attempts.iter().filter(|a| a.accepted());
    let numbers: BTreeSet<usize> = accepted
        .filter_map(|a| number(a.body.as_deref().unwrap()))
        .collect();
    numbers.len()
}

/// Waits until the instance is at work, some way into it, or as long as there may be none.
fn wait_for_work(relay: &Relay, random: &mut Random) {
    let work = 1.0 + random.below(RECORDS_EACH as u64) as f64;
    let since = Instant::now();
    let at_work = || {
        let metrics = relay.try_metrics()?;
        Some(metrics.sum("postrider_attempts_total", &[]) >= work)
    };
    while since.elapsed() < WORK && at_work() != Some(true) {
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_kill_in_any_state_loses_nothing_and_costs_one_attempt_at_most() {
    let seed = seed();
    let kills_wanted = kills_wanted();
    let fates = Fates {
        records: RECORDS_EACH * kills_wanted,
    };
    println!("POSTRIDER_KILL_SEED={seed}");
    let mut random = Random(seed);
    // A dead instance is missed after three seconds: there are many of them.
    let kafka = Broker::builder()
        .property("group.min.session.timeout.ms", "1000")
        .start();
    kafka.create_topic("in", 4, &[]);
    let receiver = Receiver::start(move |request| fates.answer(request));
    let (since, is_moody) = (Instant::now(), Arc::new(AtomicBool::new(true)));
    let calm = Arc::clone(&is_moody);
    let other = Receiver::start(move |_| match is_moody.load(Ordering::Relaxed) {
        true => moody(since.elapsed()),
        false => Answer::ok(),
    });
    let config = Config::new(kafka.brokers(), "states")
        .property("session.timeout.ms", &SESSION_MS.to_string())
        .property("heartbeat.interval.ms", "500")
        .topics(&["in"])
        .destination(
            Destination::new("hook", &receiver.url())
                .lane("concurrency = 8")
                .lane(r#"retry = { schedule = ["3s", "62s", "2s", "2s"], jitter = 0 }"#),
        )
        .destination(
            Destination::new("moody", &other.url())
                .lane("concurrency = 8")
                .lane(r#"breaker = { probe_interval = "1s" }"#),
        );
    let names = ["hook", "moody"];
    let mut kills = names.map(|_| Vec::new());
    let (mut relay, mut started) = (Relay::start(&config), Instant::now());
    for kill in 0..kills_wanted {
        let numbers = RECORDS_EACH * kill..RECORDS_EACH * (kill + 1);
        let records = numbers.map(|n| New::to("in").value(n.to_string()));
        kafka.produce(&records.collect::<Vec<_>>());
        // One in five comes whenever it likes, while the instance starts or joins its groups too.
        if random.below(5) > 0 {
            wait_for_work(&relay, &mut random);
        }
        std::thread::sleep(Duration::from_millis(random.below(3500)));
        let ahead = names.map(|name| Kill::ahead(&relay, name, started));
        relay.kill9();
        let at = Instant::now();
        for (of_name, ahead) in kills.iter_mut().zip(ahead) {
            let ended = Kill { at, ..ahead };
            if ended.refused > 0.0 || ended.lost > 0 {
                println!(
                    "kill {kill}, {:.3} s after the last commit; {} were refused, and {} times partitions lost",
                    ended.age(),
                    ended.refused,
                    ended.lost
                );
            }
            of_name.push(ended);
        }
        (relay, started) = (Relay::start(&config), Instant::now());
        if (kill + 1) % 10 == 0 {
            let [ok, other] = [&receiver, &other].map(accepted);
            println!(
                "{} kills of {kills_wanted} in {} s; of {} records, {ok} and {other} are accepted",
                kill + 1,
                since.elapsed().as_secs(),
                RECORDS_EACH * (kill + 1)
            );
        }
    }
    calm.store(false, Ordering::Relaxed);
    let bad = fates.bad();
    // Where only records that fail are left, they look like a broken endpoint until others pass.
    let poke = || {
        kafka.produce(&[New::to("in").value("others pass")]);
        std::thread::sleep(Duration::from_millis(500));
    };
    wait_until(SOON, "every good record was accepted", || {
        poke();
        accepted(&receiver) == fates.records - bad.len() && accepted(&other) == fates.records
    });
    let letters = || kafka.read_all("states.dead-letters");
    let dead = || -> BTreeSet<usize> {
        let values = letters().into_iter().filter_map(|letter| letter.value);
        values.filter_map(|value| number(&value)).collect()
    };
    wait_until(SOON, "every bad record is a dead letter", || {
        poke();
        dead().len() >= bad.len()
    });
    for group in ["states.hook", "states.moody"] {
        wait_no_lag(&kafka, group, &["in"]);
    }
    assert_eq!(dead(), bad);
    for letter in letters() {
        assert_eq!(letter.header("postrider-reason"), Some("rejected"));
        assert_eq!(letter.header("postrider-destination"), Some("hook"));
    }
    let receivers = [&receiver, &other];
    // The last one lives, all that it did is committed, and it may have lost partitions as well.
    for (of_name, name) in kills.iter_mut().zip(names) {
        let last = Kill::ahead(&relay, name, started);
        of_name.push(Kill {
            committed: last.at,
            ..last
        });
    }
    for ((name, receiver), kills) in names.into_iter().zip(receivers).zip(&kills) {
        let attempts = receiver.attempts();
        assert_ids_stable(&attempts);
        let (extra, unexplained) = unexplained(&attempts, kills, fates);
        println!(
            "{name}: {} requests for {} records in {kills_wanted} kills, {extra} of them extra",
            attempts.len(),
            fates.records
        );
        let count = unexplained.len();
        assert!(
            unexplained.is_empty(),
            "attempts of {count} records spent again without a kill: {}",
            unexplained.iter().take(5).cloned().collect::<String>()
        );
    }
    println!("{} s for everything", since.elapsed().as_secs());
}
