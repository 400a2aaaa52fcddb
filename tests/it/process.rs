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
    relay.wait_log("SIGHUP: this version cannot reload", SOON);
    let told = manager.wait_for("RELOADING=1", SOON);
    assert!(told.contains("\nMONOTONIC_USEC="), "{told}");
    manager.wait_for("READY=1", SOON);
    assert_eq!(relay.stop(SOON).code(), Some(0));
    manager.wait_for("STOPPING=1", SOON);
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
