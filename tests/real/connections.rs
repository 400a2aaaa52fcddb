//! The ways to a receiver: TLS, HTTP/2, and proxies.

mod proxy;
mod secure;

use std::fs;
use std::path::Path;
use std::time::Duration;

use hyper::Version;
use tempfile::TempDir;

use crate::harness::broker::Broker;
use crate::harness::config::{Config, Destination};
use crate::harness::place::New;
use crate::harness::port::free_port;
use crate::harness::receiver::Receiver;
use crate::harness::relay::Relay;
use crate::harness::wait::wait_for;

use proxy::Proxy;
use secure::{Authority, SecureReceiver};

const SOON: Duration = Duration::from_secs(30);
const RECORDS: usize = 20;
/// `shop:let-me-through`
const AUTHORIZATION: &str = "Basic c2hvcDpsZXQtbWUtdGhyb3VnaA==";

/// A topic with records, and the start of a file for it.
fn config(prefix: &str) -> Config {
    let broker = Broker::shared();
    let topic = format!("{prefix}-in");
    broker.create_topic(&topic, 1, &[]);
    let records: Vec<New> = (0..RECORDS)
        .map(|n| New::to(&topic).value(body(n)))
        .collect();
    broker.produce(&records);
    Config::new(broker.brokers(), prefix).topics(&[&topic])
}

fn body(number: usize) -> String {
    format!(r#"{{"number":{number}}}"#)
}

/// An instance that trusts whom this authority has signed.
fn start(config: &Config, authority: &Path) -> Relay {
    let admin_port = free_port();
    Relay::start_with(&config.text(admin_port), admin_port, |command| {
        command.env("SSL_CERT_FILE", authority);
    })
}

#[track_caller]
fn has_all(receiver: &SecureReceiver, version: Version) {
    let all = || Some(receiver.seen()).filter(|seen| seen.len() >= RECORDS);
    let seen = wait_for(SOON, "the receiver has every record", all);
    let mut bodies: Vec<String> = (0..RECORDS).map(body).collect();
    for (used, path, body) in seen {
        assert_eq!((used, &*path), (version, "/hooks?v=1"));
        let at = bodies.iter().position(|known| known.as_bytes() == body);
        bodies.remove(at.expect("each record once"));
    }
}

fn failures(relay: &mut Relay, destination: &str, reason: &str) {
    let labels = [("destination", destination), ("reason", reason)];
    let name = "postrider_attempt_failures_total";
    relay.wait_metric(name, &labels, SOON, |count| count >= 1.0);
}

#[test]
fn records_go_over_tls_by_http_2_where_the_receiver_speaks_it() {
    let folder = TempDir::with_prefix("postrider-tls-").unwrap();
    let known = Authority::new(folder.path(), "known");
    let unknown = Authority::new(folder.path(), "unknown");
    let newer = SecureReceiver::start(&known, &["h2", "http/1.1"]);
    let older = SecureReceiver::start(&known, &["http/1.1"]);
    let silent = SecureReceiver::start(&known, &[]);
    let stranger = SecureReceiver::start(&unknown, &["h2", "http/1.1"]);
    let config = config("tls")
        .destination(Destination::new("newer", &newer.url()))
        .destination(Destination::new("older", &older.url()))
        .destination(Destination::new("silent", &silent.url()))
        .destination(Destination::new("stranger", &stranger.url()));
    let mut relay = start(&config, &known.file);
    has_all(&newer, Version::HTTP_2);
    has_all(&older, Version::HTTP_11);
    has_all(&silent, Version::HTTP_11);
    failures(&mut relay, "stranger", "tls");
    assert!(stranger.seen().is_empty());
    relay.stop(SOON);
}

#[test]
fn records_go_through_a_proxy() {
    let folder = TempDir::with_prefix("postrider-proxy-").unwrap();
    let authority = Authority::new(folder.path(), "known");
    let secure = SecureReceiver::start(&authority, &["h2", "http/1.1"]);
    let proxy = Proxy::start(AUTHORIZATION);
    // What a proxy is handed whole is what a receiver sees.
    let forwards = Receiver::ok();
    let through = |url: &str, password: &str| {
        format!("proxy = {{ url = {url:?}, username = \"shop\", password = {password:?} }}")
    };
    let forwarder = format!("http://127.0.0.1:{}", forwards.port());
    let nobody = format!("http://127.0.0.1:{}", free_port());
    let config = config("proxied")
        .destination(
            Destination::new("tunnelled", &secure.url())
                .webhook(&through(&proxy.url(), "let-me-through")),
        )
        .destination(
            Destination::new("forwarded", "http://shop.invalid:8080/hooks?v=1")
                .webhook(&through(&forwarder, "let-me-through")),
        )
        .destination(
            Destination::new("refused", &secure.url()).webhook(&through(&proxy.url(), "wrong")),
        )
        .destination(
            Destination::new("nobody", "http://shop.invalid/")
                .webhook(&through(&nobody, "let-me-through")),
        );
    let mut relay = start(&config, &authority.file);
    has_all(&secure, Version::HTTP_2);
    let tunnels = proxy.asked();
    let there = format!("localhost:{}", secure.port());
    assert!(
        !tunnels.is_empty() && tunnels.iter().all(|to| *to == there),
        "{tunnels:?}"
    );
    forwards.wait_accepted(RECORDS, SOON);
    for attempt in forwards.attempts() {
        assert_eq!(attempt.path, "http://shop.invalid:8080/hooks?v=1");
        assert_eq!(attempt.header("host"), Some("shop.invalid:8080"));
        assert_eq!(attempt.header("proxy-authorization"), Some(AUTHORIZATION));
    }
    failures(&mut relay, "refused", "proxy");
    failures(&mut relay, "nobody", "proxy");
    assert_eq!(secure.seen().len(), RECORDS, "nothing came by another way");
    relay.stop(SOON);
}

#[test]
fn a_receiver_learns_who_asks_and_is_vouched_for_by_whom_the_file_names() {
    let folder = TempDir::with_prefix("postrider-mutual-").unwrap();
    let [system, house, other] =
        ["system", "house", "other"].map(|name| Authority::new(folder.path(), name));
    let receiver = SecureReceiver::start_for(&house, &["h2", "http/1.1"], Some(&house));
    let public = SecureReceiver::start(&system, &["h2", "http/1.1"]);
    house.vouch_for("postrider");
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (ca, of_house) = (path("ca.pem"), path("house.pem"));
    fs::copy(&other.file, &ca).unwrap();
    let client = format!(
        "client_cert = {{ file = {:?} }}, client_key = {{ file = {:?} }}, ",
        path("postrider.crt"),
        path("postrider.key")
    );
    let tls = |client: &str, ca: &str| format!("tls = {{ {client}ca = {{ file = {ca:?} }} }}");
    let config = config("mutual")
        .destination(Destination::new("known", &receiver.url()).webhook(&tls(&client, &ca)))
        .destination(Destination::new("unknown", &receiver.url()).webhook(&tls("", &of_house)))
        // Whom the system trusts is not trusted where the file says whom.
        .destination(Destination::new("public", &public.url()).webhook(&tls("", &of_house)));
    let mut relay = start(&config, &system.file);
    failures(&mut relay, "known", "tls");
    failures(&mut relay, "public", "tls");
    // A receiver that wants a certificate says so and hangs up; which of it is seen first is chance.
    relay.wait_for(SOON, "attempts fail", |relay| {
        let labels = [("destination", "unknown")];
        let metrics = relay.try_metrics()?;
        let sum = metrics.sum("postrider_attempt_failures_total", &labels);
        (sum >= 1.0).then_some(())
    });
    assert!(receiver.seen().is_empty() && public.seen().is_empty());
    // An authority that is replaced in its file is read again without a word.
    fs::copy(&of_house, &ca).unwrap();
    has_all(&receiver, Version::HTTP_2);
    assert_eq!(receiver.seen().len(), RECORDS);
    relay.stop(SOON);
}
