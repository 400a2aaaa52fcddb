//! The exit of the process with a Kafka that is away, hangs or refuses TLS: its exit code, and
//! never a signal.
//!
//! OpenSSL cleans up at the exit of a process, under threads of librdkafka that still end: about
//! one stop in forty of a process that had done TLS died of SIGSEGV.

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, crypto};

use crate::harness::config::{Config, Destination};
use crate::harness::port::free_port;
use crate::harness::relay::{Relay, Signal, binary};
use crate::harness::wait::wait_for;

/// Debug binaries, many at once, on a machine that does much else.
const SOON: Duration = Duration::from_secs(90);
/// How many are started, and stopped, at a time.
const AT_ONCE: usize = 20;

/// Listens, does this with each connection on a thread of its own, and returns the address.
fn server(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let serve = Arc::new(serve);
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let serve = Arc::clone(&serve);
            std::thread::spawn(move || serve(stream));
        }
    });
    address
}

/// A broker whose certificate nobody trusts.
fn untrusted() -> String {
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(own.signing_key.serialize_der()));
    let provider = Arc::new(crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![own.cert.der().clone()], key)
        .unwrap();
    let config = Arc::new(config);
    server(move |mut stream| {
        let mut tls = ServerConnection::new(Arc::clone(&config)).unwrap();
        while tls
            .complete_io(&mut stream)
            .is_ok_and(|done| done != (0, 0))
        {}
    })
}

/// A broker that takes connections and never says a word.
fn silent() -> String {
    server(|stream| {
        std::thread::sleep(SOON);
        drop(stream);
    })
}

fn config(brokers: &str) -> Config {
    let destination = |name: &str| Destination::new(name, "http://127.0.0.1:9/");
    Config::new(brokers, "exits")
        .topics(&["t"])
        .destination(destination("one"))
        .destination(destination("two"))
        .limits(r#"drain = "2s""#)
}

fn with_tls(brokers: &str) -> Config {
    config(brokers)
        .property("security.protocol", "SASL_SSL")
        .property("sasl.mechanism", "PLAIN")
        .property("sasl.username", "postrider")
        .property("sasl.password", "not-a-secret")
}

/// Starts and stops as many relays, some at a time; each must end with 0. They are stopped when
/// their log says `when`.
#[track_caller]
fn stop_often(config: &Config, times: usize, when: &str) {
    for begun in (0..times).step_by(AT_ONCE) {
        let count = AT_ONCE.min(times - begun);
        let mut relays: Vec<Relay> = (0..count).map(|_| Relay::start(config)).collect();
        for relay in &mut relays {
            relay.wait_log(when, SOON);
        }
        for relay in &mut relays {
            relay.signal(Signal::SIGTERM);
        }
        for relay in &mut relays {
            let ended = relay.wait_exit(SOON);
            assert_eq!(ended.code(), Some(0), "{ended}\n{}", relay.log());
        }
    }
}

#[test]
fn a_stop_while_kafka_refuses_tls_ends_with_its_exit_code() {
    stop_often(&with_tls(&untrusted()), 60, "certificate");
}

#[test]
fn a_stop_while_no_broker_is_there_ends_with_its_exit_code() {
    let away = format!("127.0.0.1:{}", free_port());
    stop_often(&config(&away), 20, "postrider runs");
}

#[test]
fn a_stop_while_the_broker_hangs_ends_with_its_exit_code() {
    stop_often(&with_tls(&silent()), 20, "postrider runs");
}

#[test]
fn verbs_that_open_a_kafka_client_end_with_their_exit_code_whatever_state_kafka_is_in() {
    let away = format!("127.0.0.1:{}", free_port());
    let folder = tempfile::tempdir().unwrap();
    let verbs: [&[&str]; 3] = [
        &["check", "--live"],
        &["dead-letters", "list"],
        &[
            "explain",
            "--topic",
            "t",
            "--partition",
            "0",
            "--offset",
            "0",
        ],
    ];
    let kafkas = [with_tls(&untrusted()), with_tls(&silent()), config(&away)];
    let mut children: Vec<(String, Child)> = vec![];
    for (number, kafka) in kafkas.iter().enumerate() {
        let file = folder.path().join(format!("{number}.toml"));
        std::fs::write(&file, kafka.text(free_port())).unwrap();
        for verb in verbs {
            for _ in 0..3 {
                let mut command = binary();
                command.arg("-c").arg(&file).args(verb);
                command.stdout(Stdio::null()).stderr(Stdio::null());
                children.push((format!("{number}: {verb:?}"), command.spawn().unwrap()));
            }
        }
    }
    for (what, mut child) in children {
        let ended = wait_for(SOON, &what, || child.try_wait().unwrap());
        assert_eq!(ended.code(), Some(69), "{what}: {ended}");
    }
}
