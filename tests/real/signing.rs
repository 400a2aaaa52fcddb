//! Signed requests on their whole way, verified by the packages that receivers use.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::json;

use crate::harness::broker::Broker;
use crate::harness::config::{Config, Destination};
use crate::harness::place::New;
use crate::harness::receiver::{Attempt, Receiver};
use crate::harness::relay::Relay;

const SOON: Duration = Duration::from_secs(30);
const NEW: &str = "whsec_bmV3IG5ldyBuZXcgbmV3IG5ldyBuZXcgbmV3";
const OLD: &str = "whsec_b2xkIG9sZCBvbGQgb2xkIG9sZCBvbGQgb2xk";
/// RFC 8032's keys of test 3.
const PRIVATE: &str = "whsk_xaqN9D+fg3vtt0QvMdy3sWbThTUHbwlLhc46LgtEWPc=";
const PUBLIC: &str = "whpk_/FHNjmIYoaONpH7QAjDwWAgW7RO6MwOsXeuRFUiQgCU=";

/// What the packages are given: the request as it was on the wire, and one secret.
fn as_data(attempt: &Attempt, secret: &str) -> serde_json::Value {
    let named = ["webhook-id", "webhook-timestamp", "webhook-signature"];
    let headers: BTreeMap<_, _> = named.iter().map(|n| (*n, attempt.header(n))).collect();
    let body = String::from_utf8(attempt.body.clone().unwrap().to_vec()).unwrap();
    json!({ "secret": secret, "headers": headers, "body": body })
}

/// Whether the package of `language` verifies the requests in `file`; `false` when this machine does not have the language.
fn verified(language: &str, file: &Path, count: usize) -> bool {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = Command::new(root.join("tests/peers/standardwebhooks.sh"))
        .arg(language)
        .arg(
            root.join("target/peers")
                .join(format!("standardwebhooks-{language}")),
        )
        .arg(file)
        .output()
        .unwrap();
    if output.status.code() == Some(77) {
        // Written past the test runner, which keeps to itself what a passing test prints.
        let note = format!("LEFT OUT: no {language} here to verify signatures with\n");
        std::io::stderr().write_all(note.as_bytes()).unwrap();
        return false;
    }
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{language}: {errors}");
    assert_eq!(
        said.trim(),
        format!("verified {count}"),
        "{language}: {errors}"
    );
    true
}

/// Sends four records to a destination that signs with `scheme` and `secrets` (and `OLD_SECRET` in the environment), has the packages verify
/// each request with what is in `known`, and gives the requests.
fn verified_requests(name: &str, scheme: &str, secrets: &str, known: &[&str]) -> Vec<Attempt> {
    let kafka = Broker::shared();
    let topic = format!("{name}-in");
    kafka.create_topic(&topic, 1, &[]);
    let values = [r#"{"type": "upload"}"#, "\"größe\"", "", "{ \"n\" :1.0}\n"];
    kafka.produce(&values.map(|value| New::to(&topic).value(value)));
    let receiver = Receiver::ok();
    let signing = format!("signing = {{ scheme = \"{scheme}\", secrets = [{secrets}] }}");
    let config = Config::new(kafka.brokers(), name)
        .topics(&[&topic])
        .destination(Destination::new("hook", &receiver.url()).webhook(&signing));
    let port = crate::harness::port::free_port();
    let relay = Relay::start_with(&config.text(port), port, |command| {
        command.env("OLD_SECRET", OLD);
    });
    receiver.wait_accepted(values.len(), SOON);

    let attempts = receiver.attempts();
    // Those packages read the body as JSON once it is verified, so what they are given is what has one.
    let with_body = attempts.iter().filter(|a| a.body_length > 0);
    let requests: Vec<_> = with_body
        .flat_map(|attempt| known.iter().map(|secret| as_data(attempt, secret)))
        .collect();
    let file = tempfile::NamedTempFile::new().unwrap();
    serde_json::to_writer(&file, &requests).unwrap();
    let verified =
        ["python", "node"].map(|language| verified(language, file.path(), requests.len()));
    assert!(
        verified.contains(&true),
        "neither Python nor Node is here to verify signatures"
    );
    for secret in [NEW, OLD, PRIVATE] {
        let (_, secret) = secret.split_once('_').unwrap();
        assert!(!relay.log().contains(secret), "a secret stands in the log");
    }
    attempts
}

/// The versions of the signatures of each request.
fn versions(attempt: &Attempt) -> Vec<String> {
    let signatures = attempt.header("webhook-signature").unwrap();
    let version = |signature: &str| signature.split(',').next().unwrap().to_owned();
    signatures.split(' ').map(version).collect()
}

#[test]
fn signatures_are_verified_by_the_packages_that_receivers_use() {
    let secrets =
        format!("\"{NEW}\", {{ env = \"OLD_SECRET\", not_after = 2100-01-01T00:00:00Z }}");
    let attempts = verified_requests("signed", "standard-webhooks", &secrets, &[NEW, OLD]);
    for attempt in &attempts {
        assert_eq!(versions(attempt), ["v1", "v1"]);
    }
}

/// With a private key, and for a while with the secret that it takes the place of.
#[test]
fn signatures_with_a_private_key_are_verified_with_the_public_one() {
    let secrets =
        format!("\"{PRIVATE}\", {{ env = \"OLD_SECRET\", not_after = 2100-01-01T00:00:00Z }}");
    let scheme = "standard-webhooks-ed25519";
    let attempts = verified_requests("signed-pair", scheme, &secrets, &[PUBLIC, OLD]);
    for attempt in &attempts {
        assert_eq!(versions(attempt), ["v1a", "v1"]);
    }
}
