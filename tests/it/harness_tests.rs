//! The harness itself, but for the broker (`tests/real/ground.rs`), the receiver and the oracle, which have files of their own.

use std::process::Command;
use std::time::Duration;

use crate::harness::config::{Config, Destination};
use crate::harness::leash::Leash;
use crate::harness::metrics::Metrics;
use crate::harness::port::free_port;
use crate::harness::relay::binary;
use crate::harness::wait::{wait_for, wait_until};

#[test]
fn waiting_ends_with_what_was_found() {
    let mut looks = 0;
    let found = wait_for(Duration::from_secs(5), "the third look", || {
        looks += 1;
        (looks == 3).then_some("it")
    });
    assert_eq!(found, "it");
}

#[test]
#[should_panic(expected = "a thing that never comes")]
fn waiting_in_vain_says_what_for() {
    wait_until(
        Duration::from_millis(20),
        "a thing that never comes",
        || false,
    );
}

#[test]
fn ports_are_free_and_given_out_once() {
    let ports: std::collections::BTreeSet<u16> = (0..50).map(|_| free_port()).collect();
    assert_eq!(ports.len(), 50);
    assert!(
        ports
            .iter()
            .all(|p| std::net::TcpListener::bind(("127.0.0.1", *p)).is_ok())
    );
}

#[test]
fn a_leash_kills_when_the_test_ends_and_lets_go_when_it_is_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let mut kept = Command::new("sleep").arg("100").spawn().unwrap();
    let mut killed = Command::new("sleep").arg("100").spawn().unwrap();
    drop(Leash::on(kept.id(), folder.path()));
    assert!(folder.path().exists());
    Leash::on(killed.id(), folder.path()).pull();
    assert!(!killed.wait().unwrap().success());
    assert!(!folder.path().exists());
    assert!(
        kept.try_wait().unwrap().is_none(),
        "the other one was killed too"
    );
    kept.kill().unwrap();
    kept.wait().unwrap();
}

#[test]
fn metrics_are_read_with_their_labels() {
    let metrics = Metrics::parse(concat!(
        "# HELP postrider_records_read_total Records.\n",
        "# TYPE postrider_records_read_total counter\n",
        "postrider_records_read_total{destination=\"a\",source=\"topic\"} 7\n",
        "postrider_records_read_total{destination=\"a\",source=\"ladder\"} 3\n",
        "postrider_records_read_total{destination=\"b\",source=\"topic\"} 1\n",
        "postrider_records_settled_total{destination=\"a\",settlement=\"delivered\"} 4\n",
        "postrider_records_released_total{destination=\"a\"} 1\n",
        "postrider_records_waiting{destination=\"a\",state=\"retry\"} 5\n",
        "postrider_odd{text=\"a \\\"b\\\" {c} d=\\\\\",other=\"\"} +Inf\n",
        "postrider_kafka_connected 1\n",
    ));
    assert_eq!(metrics.get("postrider_kafka_connected", &[]), Some(1.0));
    let read = "postrider_records_read_total";
    assert_eq!(metrics.get(read, &[("destination", "a")]), Some(10.0));
    assert_eq!(metrics.get(read, &[("source", "topic")]), Some(8.0));
    assert_eq!(metrics.get(read, &[("destination", "c")]), None);
    let odd = metrics.get(
        "postrider_odd",
        &[("text", "a \"b\" {c} d=\\"), ("other", "")],
    );
    assert_eq!(odd, Some(f64::INFINITY));
    let balance = metrics.balance("a");
    assert!(balance.holds(), "{balance}");
    assert!(!metrics.balance("b").holds());
}

#[test]
fn configurations_are_toml_with_every_line_in_its_place() {
    let config = Config::new("127.0.0.1:9092", "test")
        .topics(&["owner", "group"])
        .kafka("commit_interval = \"100ms\"")
        .property("session.timeout.ms", "7000")
        .limits("drain = \"3s\"")
        .destination(
            Destination::new("alpha", "http://127.0.0.1:1/hook")
                .lane("concurrency = 4")
                .webhook("timeouts = { total = \"1s\" }"),
        )
        .destination(Destination::new("beta", "http://127.0.0.1:2/hook").topics(&["group"]));
    let table: toml::Table = config.text(8474).parse().unwrap();
    let at = |path: &str| {
        let mut value = &toml::Value::Table(table.clone());
        for key in path.split('/') {
            value = key
                .parse::<usize>()
                .map_or_else(|_| &value[key], |index| &value[index]);
        }
        value.to_string()
    };
    assert_eq!(at("kafka/brokers"), r#"["127.0.0.1:9092"]"#);
    assert_eq!(at("kafka/commit_interval"), r#""100ms""#);
    assert_eq!(at("kafka/properties/session/timeout/ms"), r#""7000""#);
    assert_eq!(at("limits/drain"), r#""3s""#);
    assert_eq!(at("destinations/alpha/concurrency"), "4");
    assert_eq!(at("destinations/alpha/webhook/timeouts/total"), r#""1s""#);
    assert_eq!(at("rules/0/topics"), r#"["owner", "group"]"#);
    assert_eq!(at("rules/1/topics"), r#"["group"]"#);
    assert_eq!(at("rules/1/deliver_to"), r#"["beta"]"#);
    assert_eq!(at("admin/listen"), r#""127.0.0.1:8474""#);
}

#[test]
fn the_binary_starts() {
    let output = binary().arg("--version").output().unwrap();
    assert!(output.status.success(), "{output:?}");
}
