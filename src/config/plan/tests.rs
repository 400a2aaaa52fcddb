use std::path::Path;

use super::*;

const FILE: &str = r#"
[kafka]
brokers = ["localhost:9092"]
prefix = "p"
start_at = "earliest"

[destinations.slack]
rate = { limit = "50/s" }
[destinations.slack.webhook]
url = "https://slack.example/services/s3cret"
headers = { authorization = "Bearer s3cret", accept = "text/plain" }
signing.scheme = "standard-webhooks"
signing.secrets = ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]

[destinations.partner]
[destinations.partner.webhook]
url = "https://partner.example/in"

[[rules]]
name = "orders"
topics = ["orders"]
types = ["created"]
deliver_to = ["slack", "partner"]

[[rules]]
name = "bills"
topics = ["bills"]
deliver_to = ["partner"]
"#;

fn parse(text: &str) -> Config {
    match Config::parse(text, Path::new("postrider.toml"), &|_| None) {
        Ok(config) => config,
        Err(problems) => panic!("{}", problems.render(false)),
    }
}

/// What a reload from [`FILE`] would do when each of these texts stands for another.
fn plan(changes: &[(&str, &str)]) -> Plan {
    let text = changes.iter().fold(FILE.to_owned(), |text, (old, new)| {
        assert!(text.contains(old), "{old}");
        text.replace(old, new)
    });
    let plan = Plan::new(&parse(FILE), &parse(&text));
    assert!(!plan.lines().join("\n").contains("s3cret"));
    assert!(!format!("{plan:?}").contains("s3cret"));
    plan
}

#[track_caller]
fn assert_lines(changes: &[(&str, &str)], lines: &[&str]) {
    assert_eq!(plan(changes).lines(), lines);
}

const SLACK: &str = "[destinations.slack]";
const RULES: &str = "[[rules]]\nname = \"bills\"";

#[test]
fn the_same_file_changes_nothing() {
    let same = plan(&[("[kafka]", "# a remark\n[kafka]")]);
    assert!(same.is_empty() && same.lines().is_empty());
    assert_eq!(same.unchanged(), 2);
}

#[test]
fn numbers_are_shown_before_and_after() {
    assert_lines(&[("50/s", "80/s")], &["slack: rate 50/s -> 80/s"]);
    assert_lines(
        &[(
            "rate = { limit = \"50/s\" }",
            "rate = { limit = \"7/m\", burst = 3 }\nconcurrency = 4",
        )],
        &["slack: concurrency 16 -> 4; rate 50/s -> 7/m burst 3"],
    );
    assert_lines(
        &[(
            SLACK,
            "[defaults]\nretry.schedule = [\"1s\", \"90m\"]\nexpire_after = \"1h\"\n[destinations.slack]",
        )],
        &[
            "partner: retry.schedule [5s 30s 5m 30m 2h 5h 10h 10h] -> [1s 1h30m]; expire_after never -> 1h",
            "slack: retry.schedule [5s 30s 5m 30m 2h 5h 10h 10h] -> [1s 1h30m]; expire_after never -> 1h",
        ],
    );
}

#[test]
fn of_what_may_be_a_secret_only_that_it_has_changed() {
    assert_lines(
        &[("services/s3cret", "services/another-s3cret")],
        &["slack: url, behind its host, has changed"],
    );
    assert_lines(
        &[("https://slack.example", "http://slack.example:81")],
        &["slack: url https://slack.example -> http://slack.example:81"],
    );
    assert_lines(
        &[
            ("Bearer s3cret", "Bearer another-s3cret"),
            ("MfKQ9r8G", "AfKQ9r8G"),
        ],
        &["slack: headers.authorization has changed; signing has changed"],
    );
}

#[test]
fn topics_groups_and_rules_that_go_restart_a_lane() {
    assert_lines(
        &[(
            "topics = [\"bills\"]",
            "topics = [\"bills\", \"^credit-.*\"]",
        )],
        &["partner: restarted (topics +^credit-.*)"],
    );
    let renamed = plan(&[(SLACK, "[destinations.slack]\nid = \"chat\"")]);
    let lines = ["slack: restarted (id slack -> chat: another consumer group)"];
    assert_eq!(renamed.lines(), lines);
    assert_eq!(renamed.lanes[1].new_topics, ["orders"], "a new group");
    assert_lines(
        &[
            ("slack", "chat"),
            ("[destinations.chat]", "[destinations.chat]\nid = \"slack\""),
        ],
        &[
            "chat: restarted (renamed from slack); url https://slack.example -> https://chat.example",
        ],
    );
    assert_lines(
        &[(RULES, "[[rules]]\nname = \"invoices\"")],
        &[
            "partner: restarted (rule bills takes nothing for it any more); rule invoices is new here",
        ],
    );
    assert_lines(
        &[(SLACK, "[destinations.slack]\norder = \"key\"")],
        &["slack: restarted (its order has changed)"],
    );
}

#[test]
fn what_a_rule_takes_is_swapped() {
    assert_lines(
        &[("types = [\"created\"]", "types = [\"created\", \"paid\"]")],
        &[
            "partner: rule orders: what it takes has changed",
            "slack: rule orders: what it takes has changed",
        ],
    );
    let read = plan(&[(
        "[kafka]",
        "[notification]\ntype = [{ field = \"/t\" }]\n[kafka]",
    )]);
    let said = read.lines().join("\n");
    assert_eq!(said.matches("how records are read has changed").count(), 2);
}

#[test]
fn lanes_come_and_go_the_audit_too() {
    let added = plan(&[
        (
            "[destinations.partner]\n",
            "[destinations.new.webhook]\nurl = \"https://new.example\"\n[destinations.partner]\n",
        ),
        (
            "[\"slack\", \"partner\"]",
            "[\"slack\", \"partner\", \"new\"]",
        ),
    ]);
    assert_eq!(added.lines()[0], "new: added, reads orders");
    assert_eq!(added.lanes[0].new_topics, ["orders"]);
    let disabled = plan(&[(SLACK, "[destinations.slack]\nenabled = false")]);
    assert!(
        disabled
            .lines()
            .contains(&"slack: disabled in the file".to_owned())
    );
    let gone = |line: &String| line.starts_with("slack: removed; it drains");
    assert!(disabled.lines().iter().any(gone), "{disabled:?}");
    let audit = plan(&[(
        RULES,
        "[[rules]]\nname = \"noise\"\ntopics = [\"noise\"]\naction = \"drop\"\n[[rules]]\nname = \"bills\"",
    )]);
    assert_eq!(audit.lines()[0], "audit: added, reads bills, noise, orders");
}

#[test]
fn a_lane_and_its_change_by_the_rule_for_its_commit() {
    let faster = plan(&[("prefix = \"p\"", "prefix = \"p\"\ncommit_interval = \"1s\"")]);
    assert!(faster.everything.is_empty());
    assert_eq!(faster.lines()[1], "slack: commit_interval 500ms -> 1s");
}

#[test]
fn the_connection_to_kafka_has_everything_start_anew() {
    assert_lines(
        &[
            ("localhost:9092", "localhost:9093"),
            (
                "[destinations.slack]\n",
                "[kafka.properties]\n\"sasl.password\" = \"s3cret\"\n[admin]\nlisten = \"127.0.0.1:1\"\n[destinations.slack]\n",
            ),
        ],
        &[
            "everything: starts anew (brokers localhost:9092 -> localhost:9093; sasl.password has changed; listen 127.0.0.1:8474 -> 127.0.0.1:1)",
        ],
    );
    assert_lines(
        &[(
            "[kafka]",
            "[limits]\ndrain = \"5s\"\n[log]\nlevel = \"debug\"\nformat = \"json\"\n[kafka]",
        )],
        &[
            "limits: drain 30s -> 5s",
            "log: level info -> debug",
            "log: format auto -> json; holds after the next start of the process",
        ],
    );
}
