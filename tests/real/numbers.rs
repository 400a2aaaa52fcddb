//! What operators see: the numbers of `/metrics` against the receiver's ledger, and the lines of the log.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::harness::broker::Broker;
use crate::harness::config::{Config, Destination};
use crate::harness::ledger::Attempt;
use crate::harness::metrics::Metrics;
use crate::harness::place::New;
use crate::harness::receiver::{Answer, Receiver};
use crate::harness::relay::Relay;

use super::main_job::wait_no_lag;

const SOON: Duration = Duration::from_secs(60);
const PAYLOAD: &str = "payload-5f2c77";
const TOKEN: &str = "token-91d0aa";
const DELIVERED: f64 = 980.0;
const DEAD: f64 = 20.0;

/// promtool's opinion of a scrape; it must have none.
fn assert_promtool_agrees(text: &str) {
    let promtool = std::env::var_os("POSTRIDER_PROMTOOL")
        .expect("POSTRIDER_PROMTOOL is not set: this test is started by `make test`");
    assert!(
        Path::new(&promtool).exists(),
        "no promtool: `make test` fetches it; or install Debian's package prometheus"
    );
    let mut child = Command::new(promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool starts");
    let mut input = child.stdin.take().expect("its input");
    input.write_all(text.as_bytes()).expect("promtool reads");
    drop(input);
    let output = child.wait_with_output().expect("promtool ends");
    let said = [output.stdout, output.stderr].concat();
    assert!(
        output.status.success() && said.is_empty(),
        "promtool check metrics: {}\n{}",
        output.status,
        String::from_utf8_lossy(&said)
    );
}

/// 1000 records: some fail once with a 5xx or without an answer, a few are pushed back, every fiftieth is refused.
fn script() -> Receiver {
    Receiver::start(|request| match (request.offset() % 50, request.earlier) {
        (7, _) => Answer::status(422).body("no"),
        (11 | 12, 0) => Answer::status(503),
        (13, 0) => Answer::status(500),
        // A reset would be tried again within the attempt, as a pooled connection that had died.
        (17, 0) => Answer::hang(),
        (19, 0) => Answer::status(429).header("retry-after", "1"),
        _ => Answer::ok().after(Duration::from_millis(5)),
    })
}

fn load(relay_prefix: &str, receiver: &Receiver, more: &str) -> (&'static Broker, Config) {
    let kafka = Broker::shared();
    let topic = format!("{relay_prefix}-in");
    kafka.create_topic(&topic, 1, &[]);
    let record = |n: i32| New::to(&topic).value(format!("{{\"n\": {n}, \"text\": \"{PAYLOAD}\"}}"));
    kafka.produce(&(0..1000).map(record).collect::<Vec<_>>());
    let url = format!("{}?key={TOKEN}", receiver.url());
    let config = Config::new(kafka.brokers(), relay_prefix)
        .topics(&[&topic])
        .more(more)
        .destination(
            Destination::new("hook", &url)
                .webhook(r#"timeouts = { connect = "1s", total = "1s" }"#)
                .lane(r#"retry = { schedule = ["100ms", "200ms", "300ms", "1s", "1s"] }"#),
        );
    (kafka, config)
}

fn count(attempts: &[Attempt], is: impl Fn(&Attempt) -> bool) -> f64 {
    attempts.iter().filter(|a| is(a)).count() as f64
}

#[test]
fn the_metrics_agree_with_the_receivers_ledger_and_the_law_holds_in_every_scrape() {
    let receiver = script();
    let (kafka, config) = load("numbers", &receiver, "");
    let mut relay = Relay::start(&config);
    let (mut scrapes, mut busy) = (0, 0);
    let last = relay.wait_for(SOON, "everything is settled", |relay| {
        let (status, text) = relay.get("/metrics")?;
        assert_eq!(status, 200);
        let metrics = Metrics::parse(&text);
        let balance = metrics.balance("hook");
        assert!(balance.holds(), "scrape {scrapes}: {balance}");
        scrapes += 1;
        busy += usize::from(balance.waiting > 0.0);
        if busy == 3 {
            assert_promtool_agrees(&text);
        }
        (balance.settled > 999.5).then_some(text)
    });
    assert!(
        busy >= 10,
        "{busy} of {scrapes} scrapes saw the lane at work"
    );
    assert_promtool_agrees(&last);
    wait_no_lag(kafka, "numbers.hook", &["numbers-in"]);

    let metrics = Metrics::parse(&relay.get("/metrics").expect("an answer").1);
    let attempts = receiver.attempts();
    let of = |name: &str, label: &str, value: &str| {
        metrics.sum(
            &format!("postrider_{name}"),
            &[("destination", "hook"), (label, value)],
        )
    };
    let status = |low: u16, high: u16| {
        count(&attempts, |a| {
            a.status.is_some_and(|s| (low..=high).contains(&s))
        })
    };
    let unanswered = count(&attempts, |a| a.status.is_none());
    assert_eq!(unanswered, 20.0, "one request in fifty got no answer");
    let outcome = |outcome| of("attempts_total", "outcome", outcome);
    assert_eq!(outcome("delivered"), status(200, 299));
    assert_eq!(outcome("reject"), status(422, 422));
    assert_eq!(outcome("push_back"), status(429, 429));
    assert_eq!(outcome("retry"), status(500, 599) + unanswered);
    let all = metrics.sum("postrider_attempts_total", &[]);
    assert_eq!(all, attempts.len() as f64);
    assert_eq!(
        metrics.sum("postrider_attempt_duration_seconds_count", &[]),
        all
    );
    let failed = |reason| of("attempt_failures_total", "reason", reason);
    assert_eq!(failed("http_5xx"), status(500, 599));
    assert_eq!(failed("http_429"), status(429, 429));
    assert_eq!(failed("timeout"), unanswered);
    let settled = |how| of("records_settled_total", "settlement", how);
    assert_eq!(
        (settled("delivered"), settled("dead_lettered")),
        (DELIVERED, DEAD)
    );
    assert_eq!(settled("delivered"), receiver.accepted_count() as f64);
    assert_eq!(
        metrics.sum("postrider_delivery_age_seconds_count", &[]),
        DELIVERED
    );
    assert_eq!(of("dead_letters_total", "reason", "rejected"), DEAD);
    let written = [("kind", "dead_letter"), ("result", "ok")];
    assert_eq!(metrics.sum("postrider_owned_writes_total", &written), DEAD);
    assert_eq!(relay.stop(SOON).code(), Some(0));
}

#[test]
fn the_log_has_the_contracts_fields_and_no_payload() {
    let receiver = script();
    let level = "[log]\nformat = \"json\"\nlevel = \"debug\"\n";
    let (kafka, config) = load("lines", &receiver, level);
    let mut relay = Relay::start(&config);
    receiver.wait_accepted(980, SOON);
    wait_no_lag(kafka, "lines.hook", &["lines-in"]);
    assert_eq!(relay.stop(SOON).code(), Some(0));

    let log = relay.log();
    assert!(!log.contains(PAYLOAD), "a payload is in the log");
    assert!(!log.contains(TOKEN), "a URL's query is in the log");
    let mut lines: BTreeMap<String, Vec<serde_json::Value>> = BTreeMap::new();
    for line in log.lines() {
        let line: serde_json::Value = serde_json::from_str(line).expect("every line is JSON");
        let message = line["message"].as_str().unwrap().to_owned();
        lines.entry(message).or_default().push(line);
    }
    let letters = &lines["dead letter written"];
    assert_eq!(
        letters.len() as f64,
        DEAD,
        "one line for each settled failure"
    );
    for line in letters {
        assert_eq!(line["level"], "WARN");
        assert_eq!(line["destination"], "hook");
        assert_eq!(line["topic"], "lines-in");
        assert_eq!(line["partition"], 0);
        assert_eq!(line["offset"].as_i64().unwrap() % 50, 7);
        assert!(line["id"].as_str().unwrap().starts_with("msg_"), "{line}");
        assert_eq!(line["rule"], "hook");
        assert_eq!(line["attempt"], 1);
        assert_eq!(line["status"], 422);
        assert_eq!(line["reason"], "rejected");
    }
    let attempts = &lines["attempt ended"];
    assert_eq!(attempts.len(), receiver.attempt_count());
    let fields = "destination topic partition offset id rule attempt outcome duration_ms";
    for line in attempts {
        assert_eq!(line["level"], "DEBUG");
        for field in fields.split(' ') {
            assert!(!line[field].is_null(), "{field} is missing: {line}");
        }
        match line["outcome"].as_str().unwrap() {
            "delivered" => assert!(line["status"] == 200 && line["reason"].is_null(), "{line}"),
            _ => assert!(line["reason"].is_string(), "{line}"),
        }
    }
}
