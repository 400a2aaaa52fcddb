//! `examples/graphspace/postrider.toml`, the very file, on the first user's records.

use serde_json::{Value, json};

use crate::harness::broker::Broker;
use crate::harness::place::New;
use crate::harness::port::free_port;
use crate::harness::receiver::{Answer, Receiver};
use crate::harness::relay::Relay;

use super::main_job::wait_no_lag;

fn samples() -> Vec<(&'static str, &'static str)> {
    vec![
        (
            "owner",
            r#"{"owner_email": "user1@example.com", "message": "New graph wnt uploaded.", "resource": "graph", "resource_id": 7, "type": "upload"}"#,
        ),
        (
            "group",
            r#"{"group_id": "3", "message": "Graph wnt shared.", "resource": "graph", "resource_id": "7", "type": "share", "owner_email": "user1@example.com"}"#,
        ),
        (
            "group",
            r#"{"group_ids": [3, 5], "message": "Layout shared.", "resource": "layout", "resource_id": 8, "type": "share", "owner_email": null}"#,
        ),
        (
            "group",
            r#"{"group_ids": [], "message": "Layout shared.", "resource": "layout", "resource_id": 9, "type": "share"}"#,
        ),
        (
            "group",
            r#"{"type": "add", "resource": "group_member", "message": "Joined.", "group_id": 3, "resource_id": "4", "a new field": {"deep": [1]}}"#,
        ),
        (
            "watching",
            r#"{"message": "Layout changed.", "resource": "layout", "resource_id": 8, "type": "update"}"#,
        ),
        ("owner", "not JSON"),
    ]
}

#[test]
fn the_example_lights_up_the_browser_and_mails_the_owner() {
    // A broker of its own, because the file names its topics.
    let kafka = Broker::start();
    let topics = ["owner", "group", "watching"];
    for topic in topics {
        kafka.create_topic(topic, 1, &[]);
    }
    let records: Vec<New> = samples()
        .iter()
        .map(|(topic, value)| New::to(topic).value(value))
        .collect();
    kafka.produce(&records);
    let json_answer = || {
        Answer::ok()
            .header("content-type", "application/json")
            .body("{}")
    };
    let comes_early = |body: &[u8]| String::from_utf8_lossy(body).contains("Graph wnt shared.");
    let site = Receiver::start(move |request| match request.earlier {
        // The row is not there yet, then an error page with 200.
        0 if comes_early(&request.body) => Answer::status(404),
        1 if comes_early(&request.body) => Answer::ok()
            .header("content-type", "text/html")
            .body("<h1>Oops</h1>"),
        _ => json_answer(),
    });
    let mail = Receiver::ok();
    let admin_port = free_port();
    let file = include_str!("../../examples/graphspace/postrider.toml");
    let url = site.url().trim_end_matches("/hook").to_owned();
    let relay = Relay::start_with(file, admin_port, |command| {
        command
            .env("KAFKA_BROKERS", kafka.brokers())
            .env("GRAPHSPACE_URL", &url)
            .env("MAIL_URL", mail.url())
            .env("POSTRIDER_ADMIN", format!("127.0.0.1:{admin_port}"));
    });
    wait_no_lag(&kafka, "postrider.browser", &topics);
    wait_no_lag(&kafka, "postrider.mail", &["owner", "group"]);

    let taken: Vec<Value> = site
        .attempts()
        .iter()
        .filter(|a| {
            let early = comes_early(a.body.as_deref().unwrap());
            a.attempt == Some(if early { 3 } else { 1 })
        })
        .map(|a| serde_json::from_slice(a.body.as_deref().unwrap()).unwrap())
        .collect();
    for (topic, value) in samples()
        .into_iter()
        .filter(|(_, value)| value.starts_with('{'))
    {
        let mut message: Value = serde_json::from_str(value).unwrap();
        message["topic"] = json!(topic);
        let wanted = json!({"type": "notification", "message": message});
        assert!(
            taken.contains(&wanted),
            "{wanted} did not reach the site: {taken:?}"
        );
    }
    assert_eq!(taken.len(), 6);
    assert!(
        site.attempts()
            .iter()
            .all(|a| a.header("accept") == Some("application/json"))
    );

    let mails: Vec<Value> = mail
        .attempts()
        .iter()
        .map(|a| serde_json::from_slice(a.body.as_deref().unwrap()).unwrap())
        .collect();
    assert_eq!(mails.len(), 2, "{mails:?}");
    for mail in &mails {
        assert_eq!(mail["to"], json!([{"email": "user1@example.com"}]));
        assert_eq!(mail["from"]["email"], "noreply@graphspace.example");
    }
    let dead = kafka.read_all("postrider.dead-letters");
    let values: Vec<_> = dead.iter().map(|d| d.value.clone().unwrap()).collect();
    assert_eq!(
        values,
        [b"not JSON".to_vec(), b"not JSON".to_vec()],
        "one for each destination"
    );
    assert!(relay.metrics().balance("browser").holds());
}
