//! Records are asked for again with Kafka's own tool, which wants the group to have no members; and pauses that end by themselves.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::harness::broker::Broker;
use crate::harness::config::{Config, Destination};
use crate::harness::place::New;
use crate::harness::receiver::{Answer, Receiver};
use crate::harness::relay::Relay;
use crate::harness::wait::wait_until;

use super::main_job::wait_no_lag;
use super::operations::{code, done, try_status, wait_state};

const SOON: Duration = Duration::from_secs(30);
const OUT: &str = "out of its consumer group";

/// How often each record of a partition was tried.
fn tries(receiver: &Receiver, partition: i32) -> BTreeMap<i64, usize> {
    let mut tries = BTreeMap::new();
    let places = receiver.attempts().into_iter().filter_map(|a| a.place);
    for place in places.filter(|place| place.partition == partition) {
        *tries.entry(place.offset).or_default() += 1;
    }
    tries
}

fn wait_out(relay: &mut Relay) {
    relay.wait_for(SOON, "it is out of its group", |relay| {
        let report = try_status(relay, "hook")?;
        let words = report["words"].as_str()?;
        (report["state"] == "paused" && words.contains(OUT)).then_some(())
    });
}

#[test]
fn the_standard_tool_resets_offsets_after_the_group_was_left() {
    let kafka = Broker::shared();
    kafka.create_topic("seek-in", 2, &[]);
    let to = |partition| New::to("seek-in").partition(partition).value("{}");
    kafka.produce(&(0..40).map(|n| to(n % 2)).collect::<Vec<_>>());
    // One record waits, so that what lies behind it is known from the metadata of the commit.
    let receiver = Receiver::start(|request| match request.place() {
        Some(place) if place.partition == 0 && place.offset == 5 && request.earlier == 0 => {
            Answer::status(500)
        }
        _ => Answer::ok(),
    });
    let config = Config::new(kafka.brokers(), "seek")
        .topics(&["seek-in"])
        .destination(
            Destination::new("hook", &receiver.url())
                .lane(r#"retry = { schedule = ["55s"], jitter = 0 }"#),
        );
    let mut first = Relay::start(&config);
    let mut second = Relay::start(&config);
    receiver.wait_accepted(39, SOON);
    let stands_at = |offset: i64| {
        wait_until(SOON, "the position is committed", || {
            kafka.committed("seek.hook").get(&("seek-in".to_owned(), 0)) == Some(&offset)
        });
    };
    stands_at(5);
    assert_eq!(
        code(
            &first.file(),
            &["pause", "-d", "hook", "-e", "else", "--reason", "r"]
        ),
        Some(1)
    );
    assert_eq!(
        code(
            &first.file(),
            &["pause", "-d", "hook", "--for", "0s", "--reason", "r"]
        ),
        Some(2)
    );
    let endpoint = format!("127.0.0.1:{}", receiver.port());
    let leave = [
        "pause", "-d", "hook", "-e", &endpoint, "--leave", "--reason", "again",
    ];
    let say = done(&first, &leave);
    assert!(
        say.contains("out of the consumer group seek.hook") && say.contains("2 instances obey"),
        "{say}"
    );
    wait_out(&mut first);
    wait_out(&mut second);
    // A start hears of it too.
    second.kill9();
    let mut third = Relay::start(&config);
    wait_out(&mut third);
    stands_at(5);

    let reset = [
        "--reset-offsets",
        "--group",
        "seek.hook",
        "--topic",
        "seek-in",
        "--execute",
    ];
    wait_until(SOON, "the group has no members", || {
        let members = ["--describe", "--group", "seek.hook", "--state"];
        kafka.consumer_groups(&members).contains(" Empty")
    });
    kafka.consumer_groups(&[&reset[..], &["--to-earliest"]].concat());
    let before = tries(&receiver, 0);
    assert_eq!(
        before.values().sum::<usize>(),
        20,
        "nothing was sent meanwhile"
    );
    done(
        &first,
        &["resume", "-d", "hook", "--reason", "from the beginning"],
    );
    for partition in [0, 1] {
        wait_until(SOON, "every record came again", || {
            tries(&receiver, partition)
                .values()
                .all(|tries| *tries >= 2)
        });
    }
    wait_no_lag(kafka, "seek.hook", &["seek-in"]);
    for relay in [&mut first, &mut third] {
        wait_state(relay, "hook", "running");
    }

    done(&third, &leave);
    wait_out(&mut first);
    wait_out(&mut third);
    let before = tries(&receiver, 0);
    wait_until(SOON, "the group has no members", || {
        let members = ["--describe", "--group", "seek.hook", "--state"];
        kafka.consumer_groups(&members).contains(" Empty")
    });
    kafka.consumer_groups(&[&reset[..], &["--to-offset", "17"]].concat());
    done(
        &first,
        &["resume", "-d", "hook", "--reason", "the last ones"],
    );
    wait_until(SOON, "the last records came again", || {
        let now = tries(&receiver, 0);
        (17..20).all(|offset| now[&offset] > before[&offset])
    });
    wait_no_lag(kafka, "seek.hook", &["seek-in"]);
    let now = tries(&receiver, 0);
    assert!(
        (0..17).all(|offset| now[&offset] == before[&offset]),
        "and no others"
    );
    assert_eq!(first.stop(SOON).code(), Some(0));
    assert_eq!(third.stop(SOON).code(), Some(0));
}

#[test]
fn a_pause_ends_by_itself_at_its_time_over_a_restart_too() {
    let kafka = Broker::shared();
    kafka.create_topic("pause-for-in", 1, &[]);
    let receiver = Receiver::ok();
    let config = Config::new(kafka.brokers(), "pause-for")
        .topics(&["pause-for-in"])
        .destination(Destination::new("hook", &receiver.url()));
    let mut relay = Relay::start(&config);
    wait_state(&mut relay, "hook", "running");
    let since = Instant::now();
    let pause = [
        "pause",
        "-d",
        "hook",
        "--for",
        "12s",
        "--reason",
        "a short one",
    ];
    done(&relay, &pause);
    let report = wait_state(&mut relay, "hook", "paused");
    let words = report["words"].as_str().unwrap();
    assert!(words.contains("goes on by itself in "), "{words}");
    assert!(report["paused"]["until"].is_string());
    kafka.produce(&[New::to("pause-for-in").value("{}")]);
    assert_eq!(relay.stop(SOON).code(), Some(0));
    let mut relay = Relay::start(&config);
    relay.wait_log("paused before this start", SOON);
    assert_eq!(receiver.attempt_count(), 0);
    receiver.wait_accepted(1, SOON);
    assert!(since.elapsed() >= Duration::from_secs(12));
    wait_state(&mut relay, "hook", "running");
    relay.wait_log("the pause has come to its end", SOON);
    // One that ended while nobody ran.
    done(
        &relay,
        &["pause", "-d", "hook", "--for", "2s", "--reason", "shorter"],
    );
    assert_eq!(relay.stop(SOON).code(), Some(0));
    std::thread::sleep(Duration::from_secs(2));
    let mut relay = Relay::start(&config);
    wait_state(&mut relay, "hook", "running");
    assert!(!relay.log().contains("paused before this start"));
}
