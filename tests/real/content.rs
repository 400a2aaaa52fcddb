//! What receivers get: bodies and headers from templates, and mails through a bridge.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::broker::Broker;
use crate::harness::config::{Config, Destination};
use crate::harness::place::New;
use crate::harness::receiver::{Answer, Attempt, Receiver, Request};
use crate::harness::relay::Relay;
use crate::main_job::wait_no_lag;

const SOON: Duration = Duration::from_secs(30);

fn json_body(attempt: &Attempt) -> Value {
    serde_json::from_slice(attempt.body.as_deref().unwrap()).unwrap()
}

#[test]
fn templates_make_bodies_and_headers_and_what_cannot_be_made_is_a_dead_letter() {
    let kafka = Broker::shared();
    kafka.create_topic("templated-in", 1, &[]);
    let values = [
        r#"{"m": "a \"b\" <é>", "source": "plain"}"#,
        r#"{"source": "no message"}"#,
        "not JSON",
        "{\"m\": \"injected\", \"source\": \"a\\r\\nx-evil: 1\"}",
        r#"{"m": "größe", "source": "größe"}"#,
        r#"{"m": null, "source": "null"}"#,
        r#"{"m": "last", "source": "plain"}"#,
    ];
    let produced = kafka
        .produce(&values.map(|value| New::to("templated-in").header("trace", "t7").value(value)));
    let receivers = [Receiver::ok(), Receiver::ok()];
    let templates = |destination: Destination| {
        destination
            .webhook(r#"body = '{"text": {{ value.m | tojson }}, "rule": {{ rule | tojson }}}'"#)
            .webhook(r#"headers = { x-source = "{{ value.source }}", x-fixed = "fixed" }"#)
            .webhook(r#"pass_headers = ["trace"]"#)
    };
    let config = Config::new(kafka.brokers(), "templated")
        .topics(&["templated-in"])
        .destination(templates(Destination::new("hook", &receivers[0].url())))
        .destination(
            templates(Destination::new("lax", &receivers[1].url()))
                .lane("on_render_error = \"drop\""),
        );
    let mut relay = Relay::start(&config);
    for receiver in &receivers {
        receiver.wait_accepted(3, SOON);
    }
    for group in ["templated.hook", "templated.lax"] {
        wait_no_lag(kafka, group, &["templated-in"]);
    }

    let mut sent: Vec<_> = receivers[0].attempts();
    sent.sort_by_key(|attempt| attempt.place.clone().map(|place| place.offset));
    let bodies: Vec<_> = sent.iter().map(json_body).collect();
    let expected = ["a \"b\" <é>", "null", "last"].map(|text| match text {
        "null" => json!({"text": null, "rule": "hook"}),
        text => json!({"text": text, "rule": "hook"}),
    });
    assert_eq!(bodies, expected);
    let header = |name: &str| sent.iter().map(|a| a.header(name)).collect::<Vec<_>>();
    assert_eq!(
        header("x-source"),
        [Some("plain"), Some("null"), Some("plain")]
    );
    assert_eq!(header("x-fixed"), [Some("fixed"); 3]);
    assert_eq!(header("trace"), [Some("t7"); 3]);
    assert!(sent.iter().all(|a| a.header("x-evil").is_none()));

    let dead = kafka.read_all("templated.dead-letters");
    let reasons: BTreeMap<_, _> = dead
        .iter()
        .map(|letter| {
            let header = |name: &str| letter.header(name).unwrap_or("-");
            assert_eq!(header("postrider-reason"), "unrenderable");
            assert_eq!(header("postrider-attempts"), "1");
            assert_eq!(header("postrider-destination"), "hook");
            (
                header("postrider-offset").to_owned(),
                header("postrider-error").to_owned(),
            )
        })
        .collect();
    let reasons: Vec<_> = reasons.values().map(String::as_str).collect();
    assert_eq!(reasons[0], "body: `value.m | tojson` is missing (line 1)");
    assert!(
        reasons[1].starts_with("the value is not JSON"),
        "{}",
        reasons[1]
    );
    let value = "header x-source: has a character in its value that no header can carry";
    assert_eq!(reasons[2..], [value, value]);
    for letter in &dead {
        let offset: usize = letter.header("postrider-offset").unwrap().parse().unwrap();
        assert_eq!(
            letter.value, produced[offset].value,
            "the record is untouched"
        );
    }

    assert_eq!(receivers[1].attempt_count(), 3);
    relay.wait_metric(
        "postrider_records_settled_total",
        &[("destination", "lax"), ("settlement", "dropped")],
        SOON,
        |dropped| dropped == 4.0,
    );
    for destination in ["hook", "lax"] {
        let balance = relay.metrics().balance(destination);
        assert!(balance.holds(), "{balance}");
    }
    let log = relay.log();
    assert!(
        !log.contains("injected") && !log.contains("no message"),
        "{log}"
    );
    assert_eq!(
        log.matches("record dropped: nothing can be sent for it")
            .count(),
        4
    );
}

/// What SendGrid's v3 Mail Send says to a request, as its documentation has it.
fn sendgrid(request: &Request) -> Answer {
    let refused = |status: u16, why: &str| {
        let body = json!({"errors": [{"message": why, "field": null, "help": null}]});
        Answer::status(status).body(body.to_string())
    };
    if request.header("authorization") != Some("Bearer SG.hunter2") {
        return refused(
            401,
            "The provided authorization grant is invalid, expired, or revoked",
        );
    }
    if request.header("content-type") != Some("application/json") || request.method != "POST" {
        return refused(415, "Content-Type should be application/json.");
    }
    if request.path != "/v3/mail/send" {
        return refused(404, "not found");
    }
    let Ok(mail) = serde_json::from_slice::<Value>(&request.body) else {
        return refused(400, "Bad Request");
    };
    let known = [
        "personalizations",
        "from",
        "subject",
        "content",
        "custom_args",
    ];
    let is_text = |value: &Value| value.as_str().is_some_and(|text| !text.is_empty());
    let is_person = |value: &Value| {
        let only = value
            .as_object()
            .is_some_and(|o| o.keys().all(|k| k == "email" || k == "name"));
        only && is_text(&value["email"]) && (value["name"].is_null() || is_text(&value["name"]))
    };
    let everyone = |list: &Value| {
        list.as_array()
            .is_some_and(|l| !l.is_empty() && l.iter().all(is_person))
    };
    let personalizations = mail["personalizations"].as_array();
    let types: Vec<_> = mail["content"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|c| &c["type"])
        .collect();
    let contents = mail["content"].as_array().into_iter().flatten();
    let checks = [
        (
            mail.as_object()
                .is_some_and(|o| o.keys().all(|k| known.contains(&k.as_str()))),
            "an unknown field",
        ),
        (
            personalizations.is_some_and(|p| p.iter().all(|p| everyone(&p["to"]))),
            "personalizations",
        ),
        (is_person(&mail["from"]), "from"),
        (is_text(&mail["subject"]), "subject"),
        (
            contents.clone().count() > 0 && contents.clone().all(|c| is_text(&c["value"])),
            "content",
        ),
        (
            types == ["text/plain", "text/html"]
                || types == ["text/html"]
                || types == ["text/plain"],
            "order",
        ),
        (
            mail["custom_args"]
                .as_object()
                .is_some_and(|o| o.values().all(Value::is_string)),
            "custom_args",
        ),
    ];
    match checks.iter().find(|(holds, _)| !holds) {
        Some((_, what)) => refused(400, what),
        None => Answer::status(202).header("x-message-id", "14c5d75ce93"),
    }
}

#[test]
fn a_mail_service_gets_what_its_documentation_asks_for() {
    let kafka = Broker::shared();
    kafka.create_topic("mail-in", 1, &[]);
    let values = [
        r#"{"email": "anna@g.example", "name": "Anna", "m": "Graph <1> \"shared\"\nsee it"}"#,
        r#"{"email": null, "name": "Nobody", "m": "no recipient"}"#,
        r#"{"email": "ben@g.example", "name": "Ben\r\nBcc: eve@g.example", "m": "injection"}"#,
        r#"{"email": "cy@g.example, eve@g.example", "name": "Cy", "m": "two in one"}"#,
    ];
    let produced = kafka.produce(&values.map(|value| New::to("mail-in").value(value)));
    let receiver = Receiver::start(sendgrid);
    let url = receiver.url().replace("/hook", "/v3/mail/send");
    let mails = format!(
        r#"
[destinations.mails.email]
from = "GraphSpace <noreply@g.example>"
to = ["{{{{ value.email }}}}"]
subject = "News for {{{{ value.name }}}}"
text = "{{{{ value.m }}}}"
html = "<p>{{{{ value.m }}}}</p>"
bridge = {{ recipe = "sendgrid", with = {{ api_key = {{ env = "SENDGRID_KEY" }}, url = "{url}" }} }}

[[rules]]
name = "mails"
topics = ["mail-in"]
deliver_to = ["mails"]
"#
    );
    let config = Config::new(kafka.brokers(), "mail").more(&mails);
    let port = crate::harness::port::free_port();
    let relay = Relay::start_with(&config.text(port), port, |command| {
        command.env("SENDGRID_KEY", "SG.hunter2");
    });
    receiver.wait_accepted(2, SOON);
    wait_no_lag(kafka, "mail.mails", &["mail-in"]);

    let attempts = receiver.attempts();
    let dead = kafka.read_all("mail.dead-letters");
    let reasons: Vec<_> = dead
        .iter()
        .map(|letter| letter.header("postrider-reason"))
        .collect();
    assert_eq!(reasons, [Some("unrenderable"); 2]);
    let mut sent: Vec<_> = attempts.iter().map(json_body).collect();
    sent.sort_by_key(|mail| mail["personalizations"][0]["to"][0]["email"].to_string());
    let subjects: Vec<_> = sent
        .iter()
        .map(|mail| mail["subject"].as_str().unwrap())
        .collect();
    assert_eq!(
        subjects,
        ["News for Anna", "News for Ben  Bcc: eve@g.example"]
    );
    let anna = json!([
        {"type": "text/plain", "value": "Graph <1> \"shared\"\nsee it"},
        {"type": "text/html", "value": "<p>Graph &lt;1&gt; &quot;shared&quot;\nsee it</p>"},
    ]);
    assert_eq!(sent[0]["content"], anna);
    assert_eq!(
        sent[0]["from"],
        json!({"name": "GraphSpace", "email": "noreply@g.example"})
    );
    assert_eq!(
        sent[0]["personalizations"],
        json!([{"to": [{"email": "anna@g.example"}]}])
    );
    assert!(
        !relay.log().contains("hunter2") && !relay.log().contains("anna@"),
        "{}",
        relay.log()
    );
    drop(produced);
}
