//! The process itself, where no Kafka is needed to see it.

use std::fs::File;
use std::process::Command;
use std::time::Duration;

use crate::harness::config::{Config, Destination};
use crate::harness::port::free_port;
use crate::harness::relay::{Relay, Signal, binary};
use crate::harness::systemd::Manager;
use crate::harness::wait::wait_for;

const SOON: Duration = Duration::from_secs(30);

/// A configuration whose Kafka is away.
fn config() -> Config {
    Config::new("127.0.0.1:1", "process")
        .topics(&["t"])
        .destination(Destination::new("hook", "http://127.0.0.1:9/"))
}

/// A relay that believes systemd to be its parent.
fn start_under(manager: &Manager, adapt: impl FnOnce(&mut Command)) -> Relay {
    let port = free_port();
    Relay::start_with(&config().text(port), port, |command| {
        command.env("NOTIFY_SOCKET", manager.path());
        adapt(command);
    })
}

fn wait_alive(relay: &mut Relay) {
    relay.wait_for(SOON, "the relay is alive", |relay| {
        relay.get("/livez").filter(|(status, _)| *status == 200)
    });
}

#[test]
fn a_log_that_cannot_be_written_ends_nothing() {
    let port = free_port();
    let mut relay = Relay::start_with(&config().text(port), port, |command| {
        let full = File::options().write(true).open("/dev/full");
        command.stderr(full.expect("Linux has a full disk for tests"));
    });
    wait_alive(&mut relay);
    assert_eq!(relay.stop(SOON).code(), Some(0));
}

#[test]
fn with_nothing_enabled_the_process_waits_for_its_signal() {
    let off = Destination::new("hook", "http://127.0.0.1:9/").lane("enabled = false");
    let config = Config::new("127.0.0.1:1", "off")
        .topics(&["t"])
        .destination(off);
    let mut relay = Relay::start(&config);
    relay.wait_log("postrider runs", SOON);
    wait_alive(&mut relay);
    assert_eq!(relay.has_ended(), None);
    assert_eq!(relay.stop(SOON).code(), Some(0));
}

#[test]
fn a_hangup_is_no_end() {
    let manager = Manager::listen();
    let mut relay = start_under(&manager, |_| {});
    manager.wait_for("READY=1", SOON);
    relay.signal(Signal::SIGHUP);
    relay.wait_log("the file is taken over", SOON);
    let told = manager.wait_for("RELOADING=1", SOON);
    assert!(told.contains("\nMONOTONIC_USEC="), "{told}");
    manager.wait_for("READY=1", SOON);
    assert_eq!(relay.stop(SOON).code(), Some(0));
    manager.wait_for("STOPPING=1", SOON);
}

/// systemd kills a service whose watchdog it has not heard for its time; here it is only waited for.
#[test]
fn the_watchdog_hears_nothing_of_a_process_with_a_stuck_consumer() {
    let manager = Manager::listen();
    let mut relay = start_under(&manager, |command| {
        command
            .env("WATCHDOG_USEC", "4000000")
            .env("POSTRIDER_TEST_STALL", "c-hook");
    });
    manager.wait_for("WATCHDOG=1", SOON);
    manager.wait_for("WATCHDOG=1", SOON);
    relay.wait_log("this thread stands still, as asked", SOON);
    relay.wait_log("the consumer of hook", SOON);
    while manager
        .hears("WATCHDOG=1", Duration::from_millis(1))
        .is_some()
    {}
    let heard = manager.hears("WATCHDOG=1", Duration::from_secs(4));
    assert_eq!(heard, None, "it would be killed now");
    let (status, text) = relay.get("/livez").expect("the runtime is well");
    assert_eq!(status, 503);
    assert!(text.contains("the consumer of hook"), "{text}");
    relay.kill9();
}

#[test]
fn a_drain_asks_for_its_time() {
    let manager = Manager::listen();
    let mut relay = start_under(&manager, |_| {});
    // It may come before READY=1, which is not waited for: what is not asked for is gone.
    let status = manager.wait_for("STATUS=", SOON);
    assert!(
        status.contains("the destination does not deliver"),
        "{status}"
    );
    assert!(status.contains("hook: "), "{status}");
    relay.signal(Signal::SIGTERM);
    manager.wait_for("STOPPING=1", SOON);
    manager.wait_for("STATUS=draining", SOON);
    manager.wait_for("EXTEND_TIMEOUT_USEC=15000000", SOON);
    assert_eq!(relay.wait_exit(SOON).code(), Some(0));
}

#[test]
fn the_numbers_of_an_idle_lane_do_not_grow_old() {
    let mut relay = Relay::start(&config());
    let name = "postrider_consumer_loop_timestamp_seconds";
    let first = relay.wait_metric(name, &[], SOON, |time| time > 0.0);
    relay.wait_metric(name, &[], SOON, |time| time >= first + 4.0);
}

/// `postrider -c postrider.toml run` in the folder of the file, whose `admin.socket` is a name alone.
#[test]
fn a_socket_without_a_folder_stands_beside_a_file_without_one() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    std::fs::write(folder.path().join("here.toml"), config().text(port)).unwrap();
    let mut child = binary()
        .current_dir(folder.path())
        .args(["-c", "here.toml", "run"])
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let found = wait_for(SOON, "the socket answers", || {
        let mut health = binary();
        health
            .current_dir(folder.path())
            .args(["-c", "here.toml", "health"]);
        let code = health.output().unwrap().status.code();
        // It is not well, for its Kafka is away; but it answers.
        (code == Some(1) || child.try_wait().unwrap().is_some()).then_some(code)
    });
    child.kill().ok();
    child.wait().ok();
    assert_eq!(found, Some(1));
}

/// What operators ask of the daemon that needs no Kafka: another log level, and names that are not there.
#[test]
fn operators_are_heard_while_kafka_is_away() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let off = Destination::new("off", "http://127.0.0.1:9/").lane("enabled = false");
    let text = config().destination(off).text(port);
    std::fs::write(folder.path().join("here.toml"), text).unwrap();
    let log = File::create(folder.path().join("log")).unwrap();
    let mut child = binary()
        .current_dir(folder.path())
        .args(["-c", "here.toml", "run"])
        .stderr(log)
        .spawn()
        .unwrap();
    let ask = |words: &[&str]| {
        let mut command = binary();
        let command = command.current_dir(folder.path()).args(["-c", "here.toml"]);
        let output = command.args(words).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let code = output.status.code().unwrap();
        (code, text(&output.stdout), text(&output.stderr))
    };
    wait_for(SOON, "the socket answers", || {
        (ask(&["health"]).0 == 1).then_some(())
    });
    let (code, stdout, _) = ask(&["status"]);
    let words = "no Kafka broker has answered since the start\n";
    assert!(code == 0 && stdout.starts_with(words), "{stdout}");
    let place = ["--topic", "t", "--partition", "0", "--offset", "0"];
    for words in [
        &["status", "-d", "hok"] as &[&str],
        &["pause", "-d", "hok", "--reason", "x"],
        &["drain", "-d", "hok", "--reason", "x"],
        &["resume", "-d", "hok", "--reason", "x"],
        &["retry-now", "-d", "hok", "--reason", "x"],
        &["release", "-d", "hok", "--key", "k"],
        &["retries", "release", "-d", "hok"],
        &[&["skip", "-d", "hok"] as &[&str], &place].concat(),
    ] {
        let (code, stdout, stderr) = ask(words);
        assert_eq!((code, stdout.as_str()), (2, ""), "{words:?}: {stderr}");
        assert!(
            stderr.contains("there are: hook") && stderr.contains("did you mean hook?"),
            "{words:?}: {stderr}"
        );
    }
    let (code, _, stderr) = ask(&["pause", "-d", "off", "--reason", "x"]);
    assert!(code == 2 && stderr.contains("enabled = false"), "{stderr}");
    // Whether anything waits there is for Kafka to say.
    let (code, _, stderr) = ask(&["retries", "list", "-d", "hook"]);
    assert_eq!(code, 69, "{stderr}");
    assert!(stderr.contains("127.0.0.1:1: "), "{stderr}");

    let (code, _, stderr) = ask(&["log-level", "loud"]);
    assert!(
        code == 2 && stderr.contains("none of error, warn, info"),
        "{stderr}"
    );
    let (code, stdout, _) = ask(&["log-level", "debug", "--for", "1s"]);
    assert_eq!(code, 0);
    assert_eq!(
        stdout,
        "this instance logs from debug on, for 1 s, then info again\n"
    );
    wait_for(SOON, "the level is taken back", || {
        let log = std::fs::read_to_string(folder.path().join("log")).unwrap();
        let at_debug = log.contains("\"level\":\"DEBUG\"");
        (at_debug && log.contains("what it was at the start again")).then_some(())
    });
    child.kill().ok();
    child.wait().ok();
}
