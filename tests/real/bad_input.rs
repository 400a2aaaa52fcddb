//! Whatever a producer writes has a defined, counted end, and the lane goes on.

use std::time::Duration;

use crate::harness::broker::Broker;
use crate::harness::config::{Config, Destination};
use crate::harness::place::{New, sha256};
use crate::harness::receiver::{Answer, Receiver};
use crate::harness::relay::Relay;
use crate::harness::wait::wait_until;

use super::main_job::wait_no_lag;

const SOON: Duration = Duration::from_secs(30);

#[test]
fn bad_input_ends_counted_and_stops_nothing() {
    let kafka = Broker::shared();
    kafka.create_topic("bad-in", 1, &[("max.message.bytes", "10000000")]);
    let good = |n: usize| New::to("bad-in").value(format!(r#"{{"type": "good", "n": {n}}}"#));
    let bad = [
        good(1),
        New::to("bad-in").value("not json"),
        New::to("bad-in").value([0xff, 0xfe, 0x00]),
        New::to("bad-in").value(r#"{"type": "good""#),
        New::to("bad-in").value("[".repeat(100_000)),
        New::to("bad-in"),
        New::to("bad-in").value(""),
        New::to("bad-in")
            .key([0xff, 0xfe])
            .value(r#"{"type": "good", "n": 2}"#),
        New::to("bad-in")
            .header([0xc3, 0x28], [0xff])
            .value(r#"{"type": "good", "n": 3}"#),
        New::to("bad-in")
            .null_header("h")
            .value(r#"{"type": "good", "n": 4}"#),
        New::to("bad-in").value(r#"{"type": "bad"}"#),
        New::to("bad-in").value(r#"{"n": 5}"#),
        New::to("bad-in").value(r#"{"type": {"deep": 1}}"#),
        New::to("bad-in").value(format!(
            r#"{{"type": "good", "n": "{}"}}"#,
            "x".repeat(5_000_000)
        )),
        good(6),
    ];
    let produced = kafka.produce(&bad);
    let receiver = Receiver::ok();
    let mut config = Config::new(kafka.brokers(), "bad");
    config = config.notification(r#"type = { field = "/type" }"#).more(&format!(
        "[destinations.hook]\nwebhook.url = \"{}\"\n[[rules]]\nname = \"good\"\ntopics = [\"bad-in\"]\ntypes = [\"good\"]\ndeliver_to = [\"hook\"]\n",
        receiver.url()
    ));
    let relay = Relay::start(&config);
    receiver.wait_accepted(6, SOON);
    wait_no_lag(kafka, "bad.hook", &["bad-in"]);

    let metrics = relay.metrics();
    let settled =
        |how: &str| metrics.sum("postrider_records_settled_total", &[("settlement", how)]);
    assert_eq!(settled("delivered"), 6.0);
    assert_eq!(
        settled("dead_lettered"),
        4.0,
        "not JSON, not UTF-8, cut off, too deep"
    );
    assert_eq!(settled("dropped"), 1.0, "the null value");
    assert_eq!(
        settled("not_matched"),
        4.0,
        "empty, another type, no type, a type that is no text"
    );
    assert_eq!(metrics.sum("postrider_records_read_total", &[]), 15.0);
    let undecodable = [("reason", "undecodable")];
    assert_eq!(
        metrics.sum("postrider_dead_letters_total", &undecodable),
        4.0
    );
    assert!(metrics.balance("hook").holds());

    let dead = kafka.read_all("bad.dead-letters");
    let mut values: Vec<_> = dead.iter().map(|d| d.value.clone()).collect();
    let mut expected: Vec<_> = produced[1..5].iter().map(|r| r.value.clone()).collect();
    values.sort();
    expected.sort();
    assert_eq!(
        values, expected,
        "dead letters carry the value byte for byte"
    );
    let attempts = receiver.attempts();
    assert!(
        attempts.iter().any(|a| a.body_length > 5_000_000),
        "5 MB pass"
    );
}

#[test]
fn five_megabytes_that_are_refused_become_a_dead_letter_and_too_large_ones_keep_a_pointer() {
    let kafka = Broker::shared();
    kafka.create_topic("large-in", 1, &[("max.message.bytes", "10000000")]);
    // Made beforehand, so small that the value must be shed.
    kafka.create_topic("large.dead-letters", 1, &[("max.message.bytes", "1000000")]);
    // Nothing that compresses: what counts for the topic is the size of the compressed batch.
    let noise: String = (0..5_000_000_u64 / 64)
        .map(|n| hex(&sha256(&n.to_be_bytes())))
        .collect();
    let value = format!("{{\"x\": \"{noise}\"}}");
    let produced = kafka.produce(&[
        New::to("large-in").key("k").value(&value),
        New::to("large-in").value("{}"),
    ]);
    let receiver = Receiver::start(|request| {
        if request.body.len() > 1000 {
            Answer::status(413)
        } else {
            Answer::ok()
        }
    });
    let config = Config::new(kafka.brokers(), "large")
        .topics(&["large-in"])
        .destination(Destination::new("hook", &receiver.url()));
    let _relay = Relay::start(&config);
    receiver.wait_accepted(1, SOON);
    wait_no_lag(kafka, "large.hook", &["large-in"]);
    let dead = kafka.read_all("large.dead-letters");
    assert_eq!(dead.len(), 1);
    assert_eq!(dead[0].value, None, "the value was shed");
    assert_eq!(dead[0].header("postrider-shed"), Some("value"));
    assert_eq!(dead[0].key, produced[0].key);
    assert_eq!(dead[0].header("postrider-topic"), Some("large-in"));
    assert_eq!(dead[0].header("postrider-offset"), Some("0"));
}

#[test]
fn answers_of_every_kind_end_and_none_is_read_without_bound() {
    let kafka = Broker::shared();
    kafka.create_topic("odd-in", 1, &[]);
    let values = [
        "endless",
        "hang",
        "close",
        "reset",
        "redirect",
        "truncated",
        "endless-500",
        "plain",
    ];
    let records: Vec<New> = values.iter().map(|v| New::to("odd-in").value(v)).collect();
    kafka.produce(&records);
    let receiver = Receiver::start(|request| match &request.body[..] {
        b"endless" => Answer::ok().endless(),
        b"truncated" => Answer::ok().truncated(),
        b"endless-500" => Answer::status(500).endless(),
        b"hang" => Answer::hang(),
        b"close" => Answer::close(),
        b"reset" => Answer::reset(),
        b"redirect" => Answer::status(302).header("location", "http://127.0.0.1:1/elsewhere"),
        _ => Answer::ok(),
    });
    let config = Config::new(kafka.brokers(), "odd")
        .topics(&["odd-in"])
        .destination(
            Destination::new("hook", &receiver.url())
                .lane(r#"retry = { schedule = ["50ms"] }"#)
                .lane(r#"breaker = { probe_interval = "100ms", probe_interval_max = "100ms" }"#)
                .webhook(r#"timeouts = { total = "1s" }"#),
        );
    let relay = Relay::start(&config);
    // Good ones keep coming: by them the bad ones are known.
    let dead = || {
        kafka.produce(&[New::to("odd-in").value("plain")]);
        relay.metrics().sum(
            "postrider_records_settled_total",
            &[("settlement", "dead_lettered")],
        )
    };
    wait_until(2 * SOON, "five dead letters", || dead() == 5.0);
    wait_no_lag(kafka, "odd.hook", &["odd-in"]);
    let metrics = relay.metrics();
    let settled =
        |how: &str| metrics.sum("postrider_records_settled_total", &[("settlement", how)]);
    let accepted = |body: &[u8]| {
        let attempts = receiver.attempts();
        let of = attempts.iter().filter(|a| a.body.as_deref() == Some(body));
        of.count()
    };
    for body in [&b"endless"[..], b"truncated"] {
        assert_eq!(
            accepted(body),
            1,
            "a 2xx head is the acknowledgement, whatever its body"
        );
    }
    assert_eq!(settled("dead_lettered"), 5.0);
    let failures = |why: &str| metrics.sum("postrider_attempt_failures_total", &[("reason", why)]);
    // More than two of each where the endpoint was open and they were its probes.
    assert!(failures("timeout") >= 2.0);
    assert!(failures("reset") >= 4.0);
    assert!(failures("http_3xx") >= 2.0);
    assert!(failures("http_5xx") >= 2.0);
    let taken = receiver
        .attempts()
        .iter()
        .map(|a| a.answer_bytes)
        .max()
        .unwrap();
    assert!(
        taken < 8_000_000,
        "{taken} bytes of an endless answer were read"
    );
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
