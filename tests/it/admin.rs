//! The admin server against those who mean it no good, over raw TCP.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::harness::config::{Config, Destination};
use crate::harness::http;
use crate::harness::port::free_port;
use crate::harness::relay::Relay;
use crate::harness::wait::wait_for;

const SOON: Duration = Duration::from_secs(30);
/// As many places as there are, and some for what is on its way in and out.
const HELD_MAX: usize = 256 + 40;
const CROWD: usize = 10_000;

fn start(admin: &str) -> Relay {
    // Its Kafka is away.
    let config = Config::new("127.0.0.1:1", "admin")
        .topics(&["t"])
        .destination(Destination::new("hook", "http://127.0.0.1:9/"));
    let port = free_port();
    let text = config.text(port);
    assert!(text.contains("[admin]\n"), "{text}");
    let text = text.replace("[admin]\n", &format!("[admin]\n{admin}\n"));
    let mut relay = Relay::start_text(&text, port);
    wait_alive(&mut relay);
    relay
}

fn wait_alive(relay: &mut Relay) {
    relay.wait_for(SOON, "the relay is alive", |relay| {
        relay.get("/livez").filter(|(status, _)| *status == 200)
    });
}

fn connect(relay: &Relay) -> TcpStream {
    let stream = TcpStream::connect(relay.admin()).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream
}

/// What comes back until the connection ends.
fn rest(mut stream: &TcpStream) -> String {
    let mut answer = vec![];
    stream.read_to_end(&mut answer).ok();
    String::from_utf8_lossy(&answer).into_owned()
}

fn say(relay: &Relay, request: &str) -> String {
    let mut stream = connect(relay);
    stream.write_all(request.as_bytes()).unwrap();
    rest(&stream)
}

fn descriptors(relay: &Relay) -> usize {
    fs::read_dir(format!("/proc/{}/fd", relay.pid()))
        .unwrap()
        .count()
}

#[test]
fn a_head_that_comes_byte_by_byte_has_ten_seconds() {
    let relay = start("");
    let begun = Instant::now();
    let mut slow = connect(&relay);
    let mut bytes = b"GET /livez HTTP/1.1\r\nhost: a\r\nx: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy"
        .iter()
        .cycle();
    let ended = wait_for(SOON, "the connection is closed", || {
        let byte = bytes.next().unwrap();
        slow.write_all(&[*byte]).is_err().then(|| begun.elapsed())
    });
    assert!(ended >= Duration::from_secs(9), "{ended:?}");
    assert_eq!(relay.get("/livez").unwrap().0, 200);
}

#[test]
fn a_head_has_a_size() {
    let relay = start("");
    let mut stream = connect(&relay);
    stream.write_all(b"GET /livez HTTP/1.1\r\nx: ").unwrap();
    // It is refused long before all of it has come.
    let sent = (0..10_000)
        .take_while(|_| stream.write_all(&[b'y'; 10_000]).is_ok())
        .count();
    assert!(sent < 5_000, "{sent}");
    assert_eq!(relay.get("/livez").unwrap().0, 200);
}

#[test]
fn ten_thousand_connections_are_bounded_and_keep_out_no_probe() {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    let wanted = CROWD as u64 + 2_000;
    if soft < wanted {
        assert!(hard >= wanted, "this needs {wanted} descriptors");
        setrlimit(Resource::RLIMIT_NOFILE, wanted, hard).unwrap();
    }
    let mut relay = start("");
    // By then all that is opened after the start is there.
    relay.wait_log("Kafka does not answer", SOON);
    let before = descriptors(&relay);
    let mut crowd = Vec::with_capacity(CROWD);
    for count in 0..CROWD {
        let mut stream = connect(&relay);
        if count % 2 == 0 {
            stream.write_all(b"GET /livez HTTP/1.1\r\n").ok();
        }
        crowd.push(stream);
        if count % 1000 == 999 {
            assert_eq!(relay.get("/livez").unwrap().0, 200, "behind {count}");
            let held = descriptors(&relay) - before;
            assert!(held <= HELD_MAX, "{held} behind {count}");
        }
    }
    drop(crowd);
    relay.wait_for(SOON, "they are forgotten", |relay| {
        (descriptors(relay) <= before + 16).then_some(())
    });
    assert_eq!(relay.stop(SOON).code(), Some(0));
}

#[test]
fn whoever_asks_on_and_takes_no_answer_is_cut_off() {
    let relay = start("");
    let mut stream = connect(&relay);
    stream.set_write_timeout(Some(2 * SOON)).unwrap();
    let asks = "GET /metrics HTTP/1.1\r\nhost: a\r\n\r\n".repeat(100);
    let begun = Instant::now();
    while stream.write_all(asks.as_bytes()).is_ok() {}
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(50), "{took:?}");
    assert_eq!(relay.get("/livez").unwrap().0, 200);
}

#[test]
fn what_a_person_looks_at_is_shown_under_known_names_alone() {
    let relay = start("allowed_hosts = [\"postrider.example\"]");
    let ask = |path: &str, host: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        say(&relay, &request)
    };
    for path in ["/", "/api/v1/status"] {
        for host in ["127.0.0.1:1", "localhost", "[::1]", "postrider.example:80"] {
            let answer = ask(path, host);
            assert!(
                answer.starts_with("HTTP/1.1 200"),
                "{path} {host}: {answer}"
            );
        }
        for host in ["evil.example", "", "localhost.evil.example"] {
            let answer = ask(path, host);
            assert!(
                answer.starts_with("HTTP/1.1 403"),
                "{path} {host}: {answer}"
            );
            assert!(!answer.contains("hook"), "{answer}");
        }
    }
    let line = "GET http://evil.example/ HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    assert!(say(&relay, line).starts_with("HTTP/1.1 403"));
    for path in ["/metrics", "/livez"] {
        let answer = ask(path, "evil.example");
        assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
    }
}

/// Asks for something to be changed; the answer, head and body.
fn change(relay: &Relay, path: &str, token: Option<&str>) -> String {
    let token = token.map(|token| format!("authorization: Bearer {token}\r\n"));
    let token = token.unwrap_or_default();
    say(
        relay,
        &format!(
            "POST {path} HTTP/1.1\r\nhost: postrider.example\r\ncontent-length: 0\r\n{token}connection: close\r\n\r\n"
        ),
    )
}

#[test]
fn without_a_token_in_the_file_nothing_is_changed_over_http() {
    let relay = start("");
    for token in [None, Some(""), Some("0123456789abcdef")] {
        let answer = change(&relay, "/-/reload", token);
        assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
        assert!(answer.contains("[admin] token"), "{answer}");
    }
    assert!(!relay.log().contains("reading the file again"));
}

#[test]
fn whoever_has_the_token_reloads_over_http() {
    const FIRST: &str = "first-Hobby-90c1d2";
    const SECOND: &str = "second-Lanner-5be773";
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("admin.token");
    fs::write(&file, format!("{FIRST}\n")).unwrap();
    let mut relay = start(&format!("token = {{ file = {file:?} }}"));
    for (token, challenge) in [(None, "realm"), (Some(SECOND), "invalid_token")] {
        for path in ["/-/reload", "/api/v1/reload", "/api/v1/pause"] {
            let answer = change(&relay, path, token);
            // What is under /api/ is asked by known names alone, whoever asks.
            let by_any_name = path == "/-/reload";
            let status = if by_any_name { 401 } else { 403 };
            let begins = format!("HTTP/1.1 {status}");
            assert!(answer.starts_with(&begins), "{path}: {answer}");
            assert_eq!(answer.contains(challenge), by_any_name, "{answer}");
        }
    }
    assert!(!relay.log().contains("reading the file again"));
    let answer = change(&relay, "/-/reload", Some(FIRST));
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("\"result\":\"done\""), "{answer}");
    assert!(relay.log().contains("over HTTP, with the token"));

    // A file that is wrong is refused as it is on the socket.
    let right = fs::read_to_string(relay.file()).unwrap();
    fs::write(relay.file(), right.replace("start_at", "start")).unwrap();
    let answer = change(&relay, "/-/reload", Some(FIRST));
    assert!(answer.starts_with("HTTP/1.1 409"), "{answer}");
    assert!(answer.contains("\"result\":\"refused\""), "{answer}");

    // Another token counts from the reload that reads it.
    fs::write(&file, SECOND).unwrap();
    let hosts = "[admin]\nallowed_hosts = [\"postrider.example\"]\n";
    let right = right.replace("[admin]\n", hosts);
    fs::write(relay.file(), right).unwrap();
    let answer = change(&relay, "/-/reload", Some(FIRST));
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("admin: token has changed"), "{answer}");
    let hosts = "admin: allowed_hosts [] -> [postrider.example]";
    assert!(answer.contains(hosts), "{answer}");
    for path in ["/-/reload", "/api/v1/reload"] {
        let answer = change(&relay, path, Some(FIRST));
        assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
        let answer = change(&relay, path, Some(SECOND));
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    let answer = change(&relay, "/api/v1/diff", Some(SECOND));
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");

    // One that is put there without a reload counts some seconds later.
    fs::write(&file, FIRST).unwrap();
    relay.wait_for(SOON, "the first one counts again", |relay| {
        let answer = change(relay, "/-/reload", Some(FIRST));
        answer.starts_with("HTTP/1.1 200").then_some(())
    });
    assert_eq!(relay.stop(SOON).code(), Some(0));
    for token in [FIRST, SECOND] {
        assert!(!relay.log().contains(token), "the log shows a token");
    }
}

#[test]
fn without_descriptors_it_waits_and_says_so_once() {
    let mut relay = start("");
    let limit = |files: usize| {
        let mut command = Command::new("prlimit");
        command
            .arg(format!("--pid={}", relay.pid()))
            .arg(format!("--nofile={files}:"));
        let done = command.status().expect("util-linux has prlimit");
        assert!(done.success());
    };
    let before = soft_limit(&relay);
    limit(3);
    let waiting: Vec<TcpStream> = (0..20).map(|_| connect(&relay)).collect();
    let word = "cannot take a connection";
    let said = |relay: &Relay| relay.log().matches(word).count();
    wait_for(SOON, "it says so", || (said(&relay) > 0).then_some(()));
    let quiet = Instant::now();
    wait_for(SOON, "some more tries", || {
        (quiet.elapsed() > Duration::from_secs(4)).then_some(())
    });
    limit(before);
    assert_eq!(http::get(&relay.admin(), "/livez").unwrap().0, 200);
    assert_eq!(said(&relay), 1, "{}", relay.log());
    drop(waiting);
    assert_eq!(relay.stop(SOON).code(), Some(0));
}

fn soft_limit(relay: &Relay) -> usize {
    let limits = fs::read_to_string(format!("/proc/{}/limits", relay.pid())).unwrap();
    let line = limits.lines().find(|l| l.starts_with("Max open files"));
    let mut words = line.unwrap().split_whitespace().skip(3);
    words.next().unwrap().parse().unwrap()
}
