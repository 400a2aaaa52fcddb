//! Kafka behind TLS and SASL: with the right credentials everything works; with wrong ones it is said once, clearly, and waited for.

mod guarded;
mod live;
mod secrets;

use std::path::Path;
use std::time::Duration;

use crate::harness::config::{Config, Destination};
use crate::harness::oracle::Oracle;
use crate::harness::place::New;
use crate::harness::port::free_port;
use crate::harness::receiver::{Answer, Receiver};
use crate::harness::relay::Relay;

use super::main_job::wait_no_lag;
use guarded::{Guarded, PASSWORD, USER};

const SOON: Duration = Duration::from_secs(30);
/// How long a relay that is not let in is watched, and how many lines it may write in that time.
const WATCHED: Duration = Duration::from_secs(20);
const LINES_MAX: usize = 20;
const WRONG_PASSWORD: &str = "wrong-Horse-0b5d22";

/// Names and TOML values of `[kafka.properties]`.
type Properties = Vec<(&'static str, String)>;

fn quoted(text: &str) -> String {
    format!("{text:?}")
}

fn sasl(protocol: &str, mechanism: &str) -> Properties {
    vec![
        ("security.protocol", quoted(protocol)),
        ("sasl.mechanism", quoted(mechanism)),
        ("sasl.username", quoted(USER)),
        ("sasl.password", r#"{ env = "KAFKA_PASSWORD" }"#.to_owned()),
    ]
}

fn authority(file: &Path) -> (&'static str, String) {
    ("ssl.ca.location", quoted(&file.display().to_string()))
}

fn start(config: &Config, properties: &Properties, password: &str) -> Relay {
    let mut config = config.clone();
    for (name, value) in properties {
        config = config.property_toml(name, value);
    }
    let admin_port = free_port();
    Relay::start_with(&config.text(admin_port), admin_port, |command| {
        command.env("KAFKA_PASSWORD", password);
    })
}

/// Everything there is to do behind one door: records delivered, a dead letter written, the topic of dead letters made.
fn works(prefix: &str, address: &str, properties: &Properties) {
    let kafka = &Guarded::shared().broker;
    let topic = format!("{prefix}-in");
    kafka.create_topic(&topic, 2, &[]);
    let record = |n: i32| New::to(&topic).value(format!("{{\"n\": {n}}}"));
    let produced = kafka.produce(&(0..100).map(record).collect::<Vec<_>>());
    let receiver = Receiver::start(|request| {
        if request.body.ends_with(b" 7}") {
            Answer::status(422)
        } else {
            Answer::ok()
        }
    });
    let config = Config::new(address, prefix)
        .topics(&[&topic])
        .destination(Destination::new("hook", &receiver.url()));
    let mut relay = start(&config, properties, PASSWORD);
    receiver.wait_accepted(99, SOON);
    let group = config.group("hook");
    wait_no_lag(kafka, &group, &[&topic]);
    relay.wait_ready(SOON);
    let (attempts, committed) = (receiver.attempts(), kafka.committed(&group));
    let dead = kafka.read_all(&config.dead_letters());
    Oracle::new(&produced)
        .destination("hook", &attempts)
        .committed(&committed)
        .dead_letters(&dead)
        .judge()
        .assert_exactly_once();
    assert_eq!(dead.len(), 1);
    assert_eq!(relay.stop(SOON).code(), Some(0));
    assert!(!relay.log().contains(PASSWORD), "{}", relay.log());
}

/// A door that stays closed: said clearly and a few times only, waited for, and left in time when asked to.
fn refused(prefix: &str, address: &str, properties: &Properties, password: &str, says: &[&str]) {
    let config = Config::new(address, prefix)
        .topics(&["in"])
        .destination(Destination::new("one", "http://127.0.0.1:1/"))
        .destination(Destination::new("two", "http://127.0.0.1:1/"));
    let mut relay = start(&config, properties, password);
    std::thread::sleep(WATCHED);
    assert_eq!(relay.has_ended(), None, "to be refused is no reason to end");
    let (status, why) = relay.get("/readyz").expect("the admin server answers");
    assert_eq!(status, 503);
    assert_eq!(
        relay.get("/livez").expect("the admin server answers").0,
        200
    );
    let log = relay.log();
    println!("{prefix}: /readyz: {why}{log}");
    for word in says {
        assert!(log.contains(word), "the log does not say {word:?}:\n{log}");
        assert!(why.contains(word), "/readyz does not say {word:?}: {why}");
    }
    let lines = log.lines().count();
    assert!(lines <= LINES_MAX, "{lines} lines in {WATCHED:?}:\n{log}");
    let kept_back = "postrider_log_lines_suppressed_total";
    relay.wait_metric(kept_back, &[], SOON, |lines| lines > 0.0);
    assert_eq!(relay.stop(Duration::from_secs(15)).code(), Some(0));
    let log = relay.log();
    for secret in [PASSWORD, WRONG_PASSWORD] {
        assert!(!log.contains(secret) && !why.contains(secret), "{log}{why}");
    }
}

#[test]
fn sasl_plain_without_tls_works() {
    let guarded = Guarded::shared();
    works("sec-plain", &guarded.sasl, &sasl("SASL_PLAINTEXT", "PLAIN"));
}

#[test]
fn sasl_scram_over_tls_works() {
    let guarded = Guarded::shared();
    let mut properties = sasl("SASL_SSL", "SCRAM-SHA-256");
    properties.push(authority(&guarded.ca));
    works("sec-scram", &guarded.sasl_ssl, &properties);
}

#[test]
fn tls_with_the_authority_as_a_secret_works() {
    let guarded = Guarded::shared();
    let pem = format!("{{ file = {:?} }}", guarded.ca.display().to_string());
    let properties = vec![("security.protocol", quoted("SSL")), ("ssl.ca.pem", pem)];
    works("sec-tls", &guarded.ssl, &properties);
}

#[test]
fn a_wrong_password_is_said_and_waited_for() {
    let guarded = Guarded::shared();
    let plain = sasl("SASL_PLAINTEXT", "PLAIN");
    let says = ["Authentication failed"];
    refused(
        "sec-wrong-plain",
        &guarded.sasl,
        &plain,
        WRONG_PASSWORD,
        &says,
    );
    let mut scram = sasl("SASL_SSL", "SCRAM-SHA-256");
    scram.push(authority(&guarded.ca));
    refused(
        "sec-wrong-scram",
        &guarded.sasl_ssl,
        &scram,
        WRONG_PASSWORD,
        &says,
    );
}

#[test]
fn an_unknown_authority_is_said_and_waited_for() {
    let guarded = Guarded::shared();
    let mut other = sasl("SASL_SSL", "SCRAM-SHA-256");
    other.push(authority(&guarded.other_ca));
    let says = ["certificate"];
    refused("sec-other-ca", &guarded.sasl_ssl, &other, PASSWORD, &says);
    let properties = vec![("security.protocol", quoted("SSL"))];
    refused("sec-no-ca", &guarded.ssl, &properties, PASSWORD, &says);
}

#[test]
fn missing_credentials_are_said_and_waited_for() {
    let guarded = Guarded::shared();
    // A client that speaks plainly to a door that wants TLS, and one that brings no user to a door that wants one.
    refused(
        "sec-no-tls",
        &guarded.ssl,
        &vec![],
        PASSWORD,
        &["security.protocol"],
    );
    refused(
        "sec-no-sasl",
        &guarded.sasl,
        &vec![],
        PASSWORD,
        &["security.protocol"],
    );
}

/// What the client library refuses outright is a mistake of the file: said with its reason, and no start.
#[test]
fn half_of_the_credentials_are_a_mistake_of_the_file() {
    let config = Config::new("127.0.0.1:1", "sec-half")
        .topics(&["in"])
        .destination(Destination::new("hook", "http://127.0.0.1:1/"));
    let mut half = sasl("SASL_PLAINTEXT", "PLAIN");
    half.retain(|(name, _)| *name != "sasl.username");
    let no_file = vec![
        ("security.protocol", quoted("SSL")),
        authority(Path::new("/nowhere/ca.pem")),
    ];
    for (properties, says) in [(half, "sasl.username"), (no_file, "ssl.ca.location")] {
        let mut relay = start(&config, &properties, PASSWORD);
        assert_eq!(relay.wait_exit(SOON).code(), Some(78));
        let log = relay.log();
        assert!(log.contains(says) && !log.contains(PASSWORD), "{log}");
    }
}
