//! `postrider check --live` on a broker with an authorizer, and with receivers that do what they should or not.

use std::sync::OnceLock;

use crate::harness::broker::Broker;
use crate::harness::config::{Config, Destination};
use crate::harness::place::New;
use crate::harness::receiver::{Answer, Receiver};
use crate::harness::relay::binary;

/// One that knows of rights, and lets everybody do what no rule forbids.
fn guarded() -> &'static Broker {
    static SHARED: OnceLock<Broker> = OnceLock::new();
    let authorizer = "org.apache.kafka.metadata.authorizer.StandardAuthorizer";
    SHARED.get_or_init(|| {
        Broker::builder()
            .property("authorizer.class.name", authorizer)
            .property("allow.everyone.if.no.acl.found", "true")
            .start()
    })
}

/// What was said: the exit code, the findings as (about, state, text), and everything on both outputs.
pub(super) struct Said {
    pub(super) code: i32,
    pub(super) findings: Vec<[String; 3]>,
    pub(super) grant: Vec<String>,
    pub(super) all: String,
}

impl Said {
    /// The finding about this, with its state.
    #[track_caller]
    pub(super) fn finds(&self, about: &str, state: &str) -> &str {
        let found = self
            .findings
            .iter()
            .find(|[a, s, _]| a == about && s == state);
        let Some([_, _, text]) = found else {
            panic!("no {state} about {about}: {}", self.all)
        };
        text
    }
}

pub(super) fn check(config: &Config, arguments: &[&str]) -> Said {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("postrider.toml");
    std::fs::write(&file, config.text(18_474)).unwrap();
    let mut command = binary();
    command.arg("check").arg(&file).arg("--live");
    let output = command
        .args(["--format", "json"])
        .args(arguments)
        .output()
        .unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    let json: serde_json::Value = serde_json::from_str(&stdout).unwrap_or_default();
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let list = |name: &str| json[name].as_array().cloned().unwrap_or_default();
    Said {
        code: output.status.code().unwrap(),
        findings: list("findings")
            .iter()
            .map(|f| [text(&f["about"]), text(&f["state"]), text(&f["text"])])
            .collect(),
        grant: list("grant").iter().map(text).collect(),
        all: format!("{stdout}{stderr}"),
    }
}

fn config(prefix: &str, topic: &str, receiver: &Receiver) -> Config {
    Config::new(guarded().brokers(), prefix)
        .topics(&[topic])
        .destination(Destination::new("hook", &receiver.url()))
}

#[test]
fn where_all_is_right_it_says_so_and_changes_nothing() {
    let kafka = guarded();
    kafka.create_topic("live-right", 2, &[]);
    kafka.produce(&[New::to("live-right").value("{}")]);
    let receiver = Receiver::ok();
    let config = config("live-right-relay", "live-right", &receiver);
    let before = kafka.topics();
    let said = check(&config, &[]);
    assert_eq!(said.code, 0, "{}", said.all);
    said.finds("kafka", "ok");
    assert!(said.finds("rights on topics", "ok").contains("live-right"));
    said.finds("rights on groups", "ok");
    let made = said.finds("topics of our own", "ok");
    assert!(made.contains("live-right-relay.retry.8h"), "{made}");
    said.finds("retention for hook", "ok");
    said.finds("destination hook", "ok");
    assert_eq!(kafka.topics(), before, "read-only");
    assert_eq!(kafka.members(&config.group("hook")), 0);
    let methods: Vec<String> = receiver
        .attempts()
        .iter()
        .map(|a| a.method.clone())
        .collect();
    assert_eq!(methods, ["HEAD"]);

    let said = check(&config, &["-d", "hook", "--send-test"]);
    assert_eq!(said.code, 0, "{}", said.all);
    assert!(said.finds("destination hook", "ok").contains("test record"));
    let sent = &receiver.attempts()[1];
    assert_eq!(sent.method, "POST");
    let body = sent.body.clone().unwrap_or_default();
    assert!(String::from_utf8_lossy(&body).contains("postrider.test"));

    let said = check(&config, &["-d", "hok"]);
    assert_eq!(said.code, 2, "{}", said.all);
    assert!(said.all.contains("there are: hook"), "{}", said.all);
}

#[test]
fn a_broker_that_is_not_there_and_a_receiver_that_is() {
    let receiver = Receiver::ok();
    let config = Config::new("127.0.0.1:9", "live-away")
        .topics(&["t"])
        .destination(Destination::new("hook", &receiver.url()));
    let said = check(&config, &[]);
    assert_eq!(said.code, 69, "{}", said.all);
    let away = said.finds("kafka", "unreachable");
    assert!(
        away.contains("127.0.0.1:9") && away.contains("Connection refused"),
        "{away}"
    );
    said.finds("destination hook", "ok");
}

#[test]
fn a_topic_that_is_missing_and_one_that_forgets_too_soon() {
    let kafka = guarded();
    kafka.create_topic("live-short", 1, &[("retention.ms", "3600000")]);
    kafka.create_topic(
        "live-missing-relay.retry.1m",
        1,
        &[("retention.ms", "60000")],
    );
    let receiver = Receiver::ok();
    let config = config("live-missing-relay", "live-gone", &receiver)
        .destination(Destination::new("short", &receiver.url()).topics(&["live-short"]));
    let said = check(&config, &[]);
    assert_eq!(said.code, 1, "{}", said.all);
    let missing = said.finds("topic live-gone", "wrong");
    assert!(missing.contains("there is no such topic"), "{missing}");
    let short = said.finds("retention for short", "warning");
    assert!(
        short.contains("keeps records for 1h") && short.contains("1d"),
        "{short}"
    );
    let unfit = said.finds("topic live-missing-relay.retry.1m", "wrong");
    assert!(unfit.contains("kafka-configs.sh"), "{unfit}");
    assert!(!kafka.topics().contains("live-gone"));
}

#[test]
fn a_right_that_is_missing_comes_with_the_command_that_grants_it() {
    let kafka = guarded();
    let prefix = "live-rights-relay";
    for topic in ["live-rights", "live-seen"] {
        kafka.create_topic(topic, 1, &[]);
    }
    let acl = |arguments: &[&str]| {
        kafka.acls(&[&["--add", "--force"], arguments].concat());
    };
    let somebody = ["--allow-principal", "User:somebody", "--operation", "Read"];
    acl(&[&somebody[..], &["--topic", "live-rights"]].concat());
    let group = format!("{prefix}.hook");
    acl(&[&somebody[..], &["--group", &group]].concat());
    let seen = "--allow-principal User:ANONYMOUS --operation Describe --topic live-seen";
    acl(&seen.split(' ').collect::<Vec<_>>());
    let receiver = Receiver::ok();
    let config = Config::new(kafka.brokers(), prefix)
        .topics(&["live-rights", "live-seen"])
        .destination(Destination::new("hook", &receiver.url()));
    let said = check(&config, &[]);
    assert_eq!(said.code, 1, "{}", said.all);
    for about in [
        "topic live-rights",
        "topic live-seen",
        &*format!("group {group}"),
    ] {
        assert!(said.finds(about, "wrong").contains("Read"), "{about}");
    }
    let granted = |end: &str| said.grant.iter().any(|command| command.ends_with(end));
    assert!(
        granted("--operation Read --operation DescribeConfigs --topic live-seen"),
        "{}",
        said.all
    );
    assert!(granted(&format!("--operation Read --group {group}")));
}

#[test]
fn receivers_that_do_not_let_us_in_or_are_not_there() {
    let kafka = guarded();
    kafka.create_topic("live-doors", 1, &[]);
    let strict = Receiver::start(|_| Answer::status(401).body("who are you?"));
    let elsewhere = Receiver::start(|_| Answer::status(302));
    let config = Config::new(kafka.brokers(), "live-doors-relay")
        .topics(&["live-doors"])
        .destination(Destination::new("strict", &strict.url()))
        .destination(Destination::new("elsewhere", &elsewhere.url()));
    let said = check(&config, &[]);
    assert_eq!(said.code, 1, "{}", said.all);
    assert!(said.finds("destination strict", "wrong").contains("401"));
    let redirect = said.finds("destination elsewhere", "wrong");
    assert!(redirect.contains("redirect"), "{redirect}");
    let said = check(&config, &["--send-test", "-d", "strict"]);
    assert_eq!(said.code, 1, "{}", said.all);
    let refused = said.finds("destination strict", "wrong");
    assert!(refused.contains("has not taken a test record"), "{refused}");

    let config = config
        .destination(Destination::new("closed", "http://127.0.0.1:9/secret-path"))
        .destination(Destination::new("nameless", "http://no-such.invalid/"));
    let said = check(&config, &[]);
    assert_eq!(said.code, 69, "{}", said.all);
    said.finds("destination closed", "unreachable");
    let nameless = said.finds("destination nameless", "unreachable");
    assert!(nameless.contains("DNS"), "{nameless}");
    assert!(!said.all.contains("secret-path"), "{}", said.all);
}
