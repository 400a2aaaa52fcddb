//! The ladder: records that wait for more than a minute, on topics of our own, through whatever happens to the process and to its file.

use std::time::{Duration, Instant};

use crate::harness::broker::Broker;
use crate::harness::config::{Config, Destination};
use crate::harness::place::New;
use crate::harness::receiver::{Answer, Receiver};
use crate::harness::relay::Relay;
use crate::harness::wait::wait_until;

use super::main_job::wait_no_lag;
use super::operations::{code, done};

const SOON: Duration = Duration::from_secs(30);
/// The shortest step, the wait behind it, and the time of a busy machine.
const STEP: Duration = Duration::from_secs(95);

/// Waits until so many records were written to the ladder.
fn wait_deferred(relay: &mut Relay, count: f64) {
    let written = [("kind", "ladder"), ("result", "ok")];
    relay.wait_metric("postrider_owned_writes_total", &written, SOON, |n| {
        n == count
    });
}

#[test]
fn a_record_waits_on_the_ladder_through_kill_nine() {
    let kafka = Broker::shared();
    kafka.create_topic("defer-in", 1, &[("retention.ms", "-1")]);
    let record = New::to("defer-in")
        .key("k")
        .timestamp(1_700_000_000_000)
        .header("trace", "t1")
        .header("postrider-attempts", "99")
        .value(r#"{"n": 1}"#);
    let produced = kafka.produce(&[record]);
    let receiver = Receiver::start(|request| match request.attempt() {
        Some(1) => Answer::status(500),
        _ => Answer::ok(),
    });
    let config = Config::new(kafka.brokers(), "defer")
        .topics(&["defer-in"])
        .destination(
            Destination::new("hook", &receiver.url())
                .lane(r#"retry = { schedule = ["65s", "1h"], jitter = 0 }"#),
        );
    let mut relay = Relay::start(&config);
    receiver.wait_attempts(1, SOON);
    let begin = Instant::now();
    wait_deferred(&mut relay, 1.0);
    wait_no_lag(kafka, "defer.hook", &["defer-in"]);
    // Its own, twenty of the ladder and four of the replay, which were made after it had subscribed.
    let hook = [("destination", "hook")];
    let soon = Duration::from_secs(10);
    relay.wait_metric("postrider_partitions_assigned", &hook, soon, |n| n == 25.0);
    assert!(!relay.log().contains("Subscribed topic not available"));
    relay.kill9();

    let [deferred] = &kafka.read_all("defer.retry.1m")[..] else {
        panic!("one record on the ladder")
    };
    let source = &produced[0];
    let first = receiver.attempts()[0].clone();
    let header = |name: &str| deferred.header(&format!("postrider-{name}"));
    assert_eq!(deferred.value, source.value);
    assert_eq!(deferred.headers[0], source.headers[0]);
    assert_eq!(
        deferred.key.as_deref(),
        first.id.as_deref().map(str::as_bytes)
    );
    assert_eq!(header("version"), Some("1"));
    assert_eq!(header("id"), first.id.as_deref());
    assert_eq!(header("destination"), Some("hook"));
    assert_eq!(
        header("attempts"),
        Some("1"),
        "what a rule's topic says is not believed"
    );
    assert_eq!(header("key"), Some("k"));
    assert_eq!(header("topic"), Some("defer-in"));
    assert_eq!(header("timestamp"), Some("1700000000000"));
    assert!(
        deferred.timestamp > Some(1_700_000_000_000),
        "the broker says when it was appended: {:?}",
        deferred.timestamp
    );

    let mut relay = Relay::start(&config);
    receiver.wait_accepted(1, STEP);
    let waited = begin.elapsed();
    assert!(waited >= Duration::from_secs(63), "{waited:?}");
    wait_no_lag(kafka, "defer.hook", &["defer-in", "defer.retry.1m"]);
    let attempts = receiver.attempts();
    assert_eq!(attempts.len(), 2, "each attempt once");
    assert_eq!(attempts[1].id, first.id);
    assert_eq!(attempts[1].attempt, Some(2));
    assert!(relay.metrics().balance("hook").holds());
    assert_eq!(relay.stop(SOON).code(), Some(0));
}

#[test]
fn a_changed_file_finds_what_is_on_the_ladder() {
    let kafka = Broker::shared();
    for topic in ["change-in", "change-else"] {
        kafka.create_topic(topic, 1, &[]);
    }
    kafka.produce(&[New::to("change-in").value("{}")]);
    let receiver = Receiver::start(|_| Answer::status(500));
    let destination = |name: &str, id: &str, rule: &str, topic: &str| {
        format!(
            "[destinations.{name}]\nid = \"{id}\"\nretry = {{ schedule = [\"61s\", \"1h\"], jitter = 0 }}\n\
             [destinations.{name}.webhook]\nurl = \"{}{name}\"\n\
             [[rules]]\nname = \"{rule}\"\ntopics = [\"{topic}\"]\ndeliver_to = [\"{name}\"]\n\n",
            receiver.url()
        )
    };
    let config = || Config::new(kafka.brokers(), "change");
    let before = config()
        .more(&destination("old", "kept", "first", "change-in"))
        .more(&destination("bare", "bare", "second", "change-in"))
        .more(&destination("away", "away", "third", "change-in"));
    let mut relay = Relay::start(&before);
    receiver.wait_attempts(3, SOON);
    wait_deferred(&mut relay, 3.0);
    assert_eq!(relay.stop(SOON).code(), Some(0));
    let first = receiver.attempts();
    let sent = |name: &str| {
        let to = receiver.attempts();
        let to: Vec<_> = to.into_iter().filter(|a| a.path.ends_with(name)).collect();
        to
    };

    receiver.script(|_| Answer::ok());
    let changed = config()
        .more(&destination("new", "kept", "first", "change-in"))
        .more(&destination("bare", "bare", "another", "change-else"));
    let mut relay = Relay::start(&changed);
    receiver.wait_attempts(4, STEP);
    relay.wait_for(SOON, "the dead letter is written", |_| {
        (kafka
            .end_offsets("change.dead-letters")
            .values()
            .sum::<i64>()
            == 1)
            .then_some(())
    });
    let [letter] = &kafka.read_all("change.dead-letters")[..] else {
        panic!("one dead letter")
    };
    assert_eq!(letter.header("postrider-reason"), Some("rule_removed"));
    assert_eq!(letter.header("postrider-destination"), Some("bare"));
    assert_eq!(letter.header("postrider-rule"), Some("second"));
    assert_eq!(letter.header("postrider-topic"), Some("change-in"));
    assert_eq!(letter.header("postrider-id"), sent("bare")[0].id.as_deref());
    let (old, new) = (&sent("old")[0], &sent("new")[0]);
    assert_eq!(
        (&old.id, new.attempt),
        (&new.id, Some(2)),
        "renamed, and the same"
    );
    // What another file has left behind is counted as it is read.
    let stray = New::to("change.retry.1m")
        .header("postrider-version", "1")
        .header("postrider-destination", "nobody");
    kafka.produce(&[stray]);
    relay.wait_metric("postrider_ladder_records_unknown_total", &[], SOON, |n| {
        n >= 1.0
    });
    relay.wait_log("is not in the file", SOON);
    let list = done(&relay, &["retries", "list", "-d", "away"]);
    assert!(list.ends_with("1 record waits in the ladder\n"), "{list}");
    let list = ["retries", "list", "-d", "never"];
    assert_eq!(code(&relay.file(), &list), Some(2));
    assert_eq!(relay.stop(SOON).code(), Some(0));

    let mut relay = Relay::start(&before);
    receiver.wait_attempts(5, SOON);
    let away = sent("away");
    assert_eq!(away.len(), 2, "removed, and brought back");
    assert_eq!((&away[0].id, away[1].attempt), (&away[1].id, Some(2)));
    assert_eq!(receiver.attempt_count(), first.len() + 2);
    assert_eq!(relay.stop(SOON).code(), Some(0));
}

/// Most lanes have nothing to retry, and reading the ladder costs each a client and threads.
#[test]
fn a_lane_reads_the_ladder_when_there_is_something_on_it_for_its_group() {
    let kafka = Broker::shared();
    for topic in ["need-in", "need-else"] {
        kafka.create_topic(topic, 2, &[]);
    }
    let receiver = Receiver::start(|request| match (&request.body[..], request.attempt()) {
        (b"later", Some(1)) => Answer::status(500),
        _ => Answer::ok(),
    });
    let lane = |name, topic| {
        Destination::new(name, &receiver.url())
            .topics(&[topic])
            .lane(r#"retry = { schedule = ["61s", "1h"], jitter = 0 }"#)
    };
    let lanes = [lane("hook", "need-in"), lane("else", "need-else")];
    let config = Config::new(kafka.brokers(), "need").destinations(lanes.into_iter());
    let mut first = Relay::start(&config);
    let mut second = Relay::start(&config);
    let partitions = |relay: &Relay| {
        let Some(metrics) = relay.try_metrics() else {
            return [0, 0];
        };
        let of = |name| metrics.get("postrider_partitions_assigned", &[("destination", name)]);
        ["hook", "else"].map(|name| of(name).unwrap_or(0.0) as usize)
    };
    wait_until(SOON, "each has a half of each topic", || {
        [&first, &second]
            .iter()
            .all(|relay| partitions(relay) == [1, 1])
    });
    kafka.produce(&[New::to("need-in").value("now")]);
    receiver.wait_accepted(1, SOON);
    assert_eq!(partitions(&first), [1, 1], "nobody reads the ladder");

    kafka.produce(&[New::to("need-in").value("later")]);
    receiver.wait_attempts(2, SOON);
    let begin = Instant::now();
    // Twenty of the steps and four of the replay. The other lane looks whether any of it is for it.
    wait_until(SOON, "all read the ladder, in both instances", || {
        [&first, &second]
            .iter()
            .all(|relay| partitions(relay) == [13, 13])
    });
    // Whoever has the record, the other one delivers it; or it does so itself.
    first.kill9();
    receiver.wait_accepted(2, STEP);
    let waited = begin.elapsed();
    assert!(waited >= Duration::from_secs(59), "{waited:?}");
    wait_no_lag(kafka, "need.hook", &["need-in", "need.retry.1m"]);
    wait_no_lag(kafka, "need.else", &["need-else", "need.retry.1m"]);
    assert_eq!(receiver.attempt_count(), 3);
    assert_eq!(second.stop(SOON).code(), Some(0));

    // Somebody reads as long as records are there: else what the groups have committed would be forgotten one day. Nothing is sent again.
    let mut third = Relay::start(&config);
    wait_until(SOON, "it has all of both topics and the ladder", || {
        partitions(&third) == [26, 26]
    });
    wait_no_lag(kafka, "need.hook", &["need-in", "need.retry.1m"]);
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(receiver.attempt_count(), 3);
    assert_eq!(third.stop(SOON).code(), Some(0));
}

/// An instance that has never read the ladder finds what another one has written there and left behind.
#[test]
fn a_record_on_the_ladder_is_found_by_an_instance_that_never_read_it() {
    let kafka = Broker::shared();
    kafka.create_topic("heir-in", 1, &[]);
    let receiver = Receiver::start(|request| match request.attempt() {
        Some(1) => Answer::status(500),
        _ => Answer::ok(),
    });
    let hook = Destination::new("hook", &receiver.url())
        .lane(r#"retry = { schedule = ["61s", "1h"], jitter = 0 }"#);
    let config = Config::new(kafka.brokers(), "heir")
        .topics(&["heir-in"])
        .destination(hook);
    let mut first = Relay::start(&config);
    let assigned = [("destination", "hook")];
    first.wait_metric("postrider_partitions_assigned", &assigned, SOON, |n| {
        n == 1.0
    });
    let mut second = Relay::start(&config);
    let joined = [("kind", "assigned")];
    first.wait_metric("postrider_rebalances_total", &joined, SOON, |n| n >= 2.0);
    kafka.produce(&[New::to("heir-in").value("{}")]);
    receiver.wait_attempts(1, SOON);
    wait_until(SOON, "it is on the ladder", || {
        kafka.end_offsets("heir.retry.1m").values().sum::<i64>() == 1
    });
    first.kill9();
    receiver.wait_accepted(1, STEP);
    wait_no_lag(kafka, "heir.hook", &["heir.retry.1m"]);
    assert_eq!(second.stop(SOON).code(), Some(0));
}

#[test]
fn a_ladder_that_would_lose_records_is_not_written_until_it_is_mended() {
    let kafka = Broker::shared();
    kafka.create_topic("unfit-in", 1, &[]);
    // As it is made by whoever does not know better.
    kafka.create_topic("unfit.retry.1m", 1, &[]);
    let value = |n: usize| New::to("unfit-in").value(n.to_string());
    kafka.produce(&(0..10).map(value).collect::<Vec<_>>());
    let receiver = Receiver::start(|request| match &request.body[..] {
        b"3" => Answer::status(500),
        _ => Answer::ok(),
    });
    let config = Config::new(kafka.brokers(), "unfit")
        .topics(&["unfit-in"])
        .destination(
            Destination::new("hook", &receiver.url())
                .lane(r#"retry = { schedule = ["250s", "1h"], jitter = 0 }"#),
        );
    let mut relay = Relay::start(&config);
    receiver.wait_accepted(9, SOON);
    relay.wait_log("record not written to the ladder", SOON);
    let command = "--entity-name unfit.retry.1m --add-config message.timestamp.type=LogAppendTime";
    assert!(relay.wait_log("unfit.retry.1m has", SOON).contains(command));
    let (status, why) = relay.get("/readyz").unwrap();
    assert_eq!(status, 503);
    assert!(why.contains(command), "{why}");
    let blocked = [("state", "blocked")];
    assert_eq!(relay.metrics().sum("postrider_lane_state", &blocked), 1.0);
    wait_until(SOON, "all is committed below the record that stays", || {
        kafka
            .committed("unfit.hook")
            .get(&("unfit-in".to_owned(), 0))
            == Some(&3)
    });

    kafka.alter_topic(
        "unfit.retry.1m",
        &[("message.timestamp.type", "LogAppendTime")],
    );
    wait_deferred(&mut relay, 1.0);
    wait_no_lag(kafka, "unfit.hook", &["unfit-in"]);
    relay.wait_ready(SOON);
    assert_eq!(
        relay.log().matches("unfit.retry.1m has").count(),
        2,
        "said once, with its reason"
    );
    assert_eq!(relay.stop(SOON).code(), Some(0));
}

#[test]
fn an_envelope_of_another_version_is_stepped_over_by_nobody() {
    let kafka = Broker::shared();
    kafka.create_topic("stuck-in", 1, &[]);
    let receiver = Receiver::ok();
    let config = Config::new(kafka.brokers(), "stuck")
        .topics(&["stuck-in"])
        .destination(Destination::new("hook", &receiver.url()));
    let mut relay = Relay::start(&config);
    relay.wait_ready(SOON);
    let to = |partition, version| {
        New::to("stuck.retry.5m")
            .partition(partition)
            .header("postrider-version", version)
            .header("postrider-destination", "other")
    };
    kafka.produce(&[to(0, "1"), to(0, "9"), to(0, "1"), to(1, "1"), to(1, "1")]);
    relay.wait_log("a record of the ladder cannot be read", SOON);
    let committed = |partition| {
        let of = ("stuck.retry.5m".to_owned(), partition);
        kafka.committed("stuck.hook").get(&of).copied()
    };
    wait_until(SOON, "the other partition goes on", || {
        committed(1) == Some(2)
    });
    kafka.produce(&[New::to("stuck-in").value("{}")]);
    receiver.wait_accepted(1, SOON);
    wait_no_lag(kafka, "stuck.hook", &["stuck-in"]);
    assert_eq!(committed(0), Some(1), "what is behind it waits");
    let lines = relay.log().matches("cannot be read").count();
    assert_eq!(lines, 1, "said once");
    assert_eq!(relay.stop(SOON).code(), Some(0));
}
