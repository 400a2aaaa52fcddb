//! The limits of the process as a whole: shared evenly, what one lane does not use lent, and kept.

use std::time::{Duration, Instant};

use crate::harness::broker::Broker;
use crate::harness::config::{Config, Destination};
use crate::harness::place::New;
use crate::harness::receiver::{Answer, Receiver};
use crate::harness::relay::Relay;
use crate::harness::wait::wait_until;

use super::operations::ask;

const SOON: Duration = Duration::from_secs(60);

fn records(topic: &str, count: usize) -> Vec<New> {
    let value = |n: usize| New::to(topic).value(format!("{topic}-{n}"));
    (0..count).map(value).collect()
}

#[test]
fn a_slow_destination_borrows_places_and_another_finds_its_own_at_once() {
    const IN_FLIGHT: usize = 16;
    let kafka = Broker::shared();
    for topic in ["limits-slow", "limits-quick"] {
        kafka.create_topic(topic, 1, &[]);
    }
    let slow = Receiver::start(|_| Answer::ok().after(Duration::from_secs(3)));
    let quick = Receiver::start(|_| Answer::ok().after(Duration::from_millis(20)));
    let config = Config::new(kafka.brokers(), "limits")
        .limits(&format!("in_flight = {IN_FLIGHT}"))
        .destination(
            Destination::new("slow", &slow.url())
                .topics(&["limits-slow"])
                .lane("concurrency = 16"),
        )
        .destination(
            Destination::new("quick", &quick.url())
                .topics(&["limits-quick"])
                .lane("concurrency = 16"),
        );
    let mut relay = Relay::start(&config);
    kafka.produce(&records("limits-slow", 200));
    wait_until(SOON, "what the other does not use is lent", || {
        slow.waiting_count() == 14
    });
    let began = Instant::now();
    kafka.produce(&records("limits-quick", 400));
    quick.wait_attempts(1, Duration::from_secs(2));
    let mut most = 0;
    wait_until(SOON, "the quick one has delivered all", || {
        most = most.max(slow.waiting_count() + quick.waiting_count());
        quick.accepted_count() == 400
    });
    // Two places at once, and half of all when the first slow requests have ended.
    assert!(began.elapsed() < Duration::from_secs(6));
    assert!(most <= IN_FLIGHT, "{most} in flight");
    wait_until(SOON, "and then it is lent again", || {
        slow.waiting_count() == 14
    });
    slow.wait_accepted(200, SOON * 2);
    assert_eq!(relay.stop(SOON).code(), Some(0));
}

#[test]
fn many_lanes_with_a_backlog_stay_within_the_memory_that_the_file_allows() {
    const LANES: usize = 20;
    const MIB: u64 = 1 << 20;
    let kafka = Broker::shared();
    kafka.create_topic("limits-large", 1, &[]);
    let value = "x".repeat(8 * 1024);
    let large: Vec<New> = (0..5000)
        .map(|_| New::to("limits-large").value(value.clone()))
        .collect();
    kafka.produce(&large);
    let receiver = Receiver::start(|_| Answer::hang());
    let mut config = Config::new(kafka.brokers(), "limits-bytes")
        .limits("window_bytes = \"32MiB\"")
        .limits("drain = \"0s\"")
        .topics(&["limits-large"]);
    for lane in 0..LANES {
        config = config.destination(Destination::new(&format!("d{lane}"), &receiver.url()));
    }
    let mut relay = Relay::start(&config);
    wait_until(SOON, "every lane waits for its receiver", || {
        receiver.waiting_count() >= LANES * 16
    });
    // What else they would read they have read by then.
    std::thread::sleep(Duration::from_secs(3));
    let status = std::fs::read_to_string(format!("/proc/{}/status", relay.pid())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let peak: u64 = peak.unwrap().trim_end_matches("kB").trim().parse().unwrap();
    let peak = peak * 1024 / MIB;
    // Twenty lanes that hold nothing are half of it. Without the limit it is more than 400 MiB.
    assert!(peak < 130, "{peak} MiB");
    let usage = relay.metrics();
    for lane in 0..LANES {
        let name = format!("d{lane}");
        let labels = [("destination", &*name), ("bound", "bytes")];
        let usage = usage.get("postrider_window_usage_ratio", &labels).unwrap();
        assert!(usage > 0.3, "{name} holds its part: {usage}");
    }
    assert_eq!(relay.stop(SOON).code(), Some(0));
}

#[test]
fn a_reload_that_brings_more_lanes_than_descriptors_is_refused() {
    let kafka = Broker::shared();
    kafka.create_topic("limits-few", 1, &[]);
    let receiver = Receiver::ok();
    let config = |lanes: usize| {
        let destination = |lane| Destination::new(&format!("d{lane}"), &receiver.url());
        let config = Config::new(kafka.brokers(), "limits-few").topics(&["limits-few"]);
        config.destinations((0..lanes).map(destination))
    };
    let mut relay = Relay::start(&config(1));
    relay.wait_ready(SOON);
    allow_descriptors(&relay, 90);
    relay.rewrite(&config(3));
    let refused = ask(&relay.file(), &["reload"]);
    assert_eq!(refused.status.code(), Some(78));
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        words.contains("3 lanes need 103 file descriptors"),
        "{words}"
    );
    kafka.produce(&records("limits-few", 5));
    receiver.wait_accepted(5, SOON);
    assert_eq!(relay.stop(SOON).code(), Some(0));
}

#[test]
fn kept_connections_leave_descriptors_to_all_others() {
    let kafka = Broker::shared();
    let topics = ["limits-kept-1", "limits-kept-2", "limits-kept-3"];
    for topic in topics {
        kafka.create_topic(topic, 1, &[]);
    }
    let receiver = Receiver::start(|_| Answer::ok().after(Duration::from_millis(20)));
    let config = |lanes: usize| {
        let destination = |(lane, topic): (usize, &&str)| {
            // With another path the sender of the first is made anew, under the new limit.
            let url = format!("{}/{lanes}", receiver.url());
            Destination::new(&format!("d{lane}"), &url)
                .topics(&[topic])
                .lane("concurrency = 32")
        };
        let config = Config::new(kafka.brokers(), "limits-kept");
        config.destinations(topics.iter().enumerate().take(lanes).map(destination))
    };
    let mut relay = Relay::start(&config(1));
    relay.wait_ready(SOON);
    allow_descriptors(&relay, 128);
    relay.rewrite(&config(3));
    assert!(ask(&relay.file(), &["reload"]).status.success());
    relay.wait_ready(SOON);
    wait_until(SOON, "all lanes have their partitions", || {
        let assigned = relay.metrics().sum("postrider_partitions_assigned", &[]);
        assigned >= 3.0
    });
    let mut most = 0;
    // One after the other has all that the others do not use, and keeps some of its connections.
    for (lane, topic) in topics.iter().enumerate() {
        kafka.produce(&records(topic, 200));
        wait_until(SOON, "its records are delivered", || {
            most = most.max(connections_to(receiver.port()));
            receiver.accepted_count() == (lane + 1) * 200
        });
    }
    assert!((6..=16).contains(&most), "{most} connections at once");
    assert_eq!(relay.stop(SOON).code(), Some(0));
}

/// From here on it may have no more.
fn allow_descriptors(relay: &Relay, allowed: usize) {
    let limited = std::process::Command::new("prlimit")
        .arg(format!("--pid={}", relay.pid()))
        .arg(format!("--nofile={allowed}:"))
        .status();
    assert!(limited.expect("util-linux has prlimit").success());
}

/// How many connections there are to this port of this machine.
fn connections_to(port: u16) -> usize {
    const ESTABLISHED: &str = "01";
    let peer = format!("0100007F:{port:04X}");
    let all = std::fs::read_to_string("/proc/net/tcp").expect("Linux shows them");
    let fields = all.lines().map(|line| line.split_ascii_whitespace());
    fields
        .filter(|fields| {
            let mut fields = fields.clone().skip(2);
            fields.next() == Some(peer.as_str()) && fields.next() == Some(ESTABLISHED)
        })
        .count()
}
