//! Every command of `docs/OPERATIONS.md`, typed in the order in which it stands there, with the names of a relay that runs and has its troubles.

use std::fs;
use std::path::Path;
use std::process::Output;
use std::time::Duration;

use crate::harness::broker::Broker;
use crate::harness::config::{Config, Destination};
use crate::harness::place::New;
use crate::harness::receiver::{Answer, Receiver};
use crate::harness::relay::{Relay, binary};
use crate::harness::wait::{wait_for, wait_until};

use super::operations::{try_status, wait_state};

const SOON: Duration = Duration::from_secs(30);

/// The lines of the page's blocks of commands.
fn commands() -> Vec<String> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/OPERATIONS.md");
    let page = fs::read_to_string(page).unwrap();
    let blocks = page.split("```sh\n").skip(1);
    let lines = blocks.flat_map(|block| block.split("```").next().unwrap_or_default().lines());
    lines.map(str::to_owned).collect()
}

/// A line as a shell takes it apart: at blanks, but not between quotes.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (place, part) in line.split('"').enumerate() {
        if place % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    words
}

#[test]
fn a_line_is_taken_apart_as_a_shell_does() {
    let line = "postrider pause -d NAME --reason \"at the receiver\" --for 1h";
    let expected = [
        "postrider",
        "pause",
        "-d",
        "NAME",
        "--reason",
        "at the receiver",
        "--for",
        "1h",
    ];
    assert_eq!(words(line), expected);
}

fn postrider(file: &Path, words: &[String]) -> Output {
    binary().arg("-c").arg(file).args(words).output().unwrap()
}

#[test]
fn every_command_of_the_page_works() {
    let kafka = Broker::shared();
    kafka.create_topic("page-in", 1, &[]);
    let receiver = Receiver::start(|request| {
        if request.body.starts_with(b"bad") && request.earlier == 0 {
            Answer::status(422)
        } else if request.body.starts_with(b"stuck") {
            Answer::status(500)
        } else {
            Answer::ok()
        }
    });
    let ordered = Receiver::start(|request| match (&request.body[..], request.earlier) {
        (b"bad", 0) => Answer::status(422),
        _ => Answer::ok(),
    });
    let config = Config::new(kafka.brokers(), "page")
        .topics(&["page-in"])
        .destination(
            Destination::new("hook", &receiver.url())
                .lane("retry = { schedule = [\"2h\"] }")
                .lane("breaker = { min_attempts = 1000 }"),
        )
        .destination(
            Destination::new("ordered", &ordered.url())
                .lane("order = { by = \"{{ key }}\", after_dead_letter = \"hold\" }"),
        );
    let record = |key: &str, value: &str| New::to("page-in").key(key).value(value);
    kafka.produce(&[
        record("fine", "fine"),
        record("Anna", "bad"),
        record("Anna", "behind it"),
        record("Ben", "stuck"),
    ]);
    let mut relay = Relay::start(&config);
    relay.wait_metric("postrider_dead_letters_total", &[], SOON, |n| n == 2.0);
    wait_until(SOON, "the other one waits in the ladder", || {
        let asked = ["retries", "list", "-d", "hook"].map(str::to_owned);
        let list = postrider(&relay.file(), &asked);
        String::from_utf8_lossy(&list.stdout).contains("1 record waits")
    });
    let id = receiver
        .attempts()
        .into_iter()
        .find(|a| a.status == Some(422));
    let id = id.and_then(|attempt| attempt.id).unwrap();
    let file = relay.file();
    let names = [
        ("NAME", "hook"),
        ("TOPIC", "page-in"),
        ("PARTITION", "0"),
        ("OFFSET", "3"),
        ("KEY", "Anna"),
        ("ID", &id),
        ("FILE", file.to_str().unwrap()),
        ("BROKER", kafka.brokers()),
        ("PREFIX.NAME", "page.hook"),
    ];
    let mut typed = 0;
    for line in commands() {
        let mut words = words(&line);
        let of_keys = words.get(1).is_some_and(|verb| verb == "release");
        for word in &mut words {
            if of_keys && word == "NAME" {
                // Only such a destination holds keys.
                "ordered".clone_into(word);
            } else if let Some((_, name)) =
                names.iter().find(|(placeholder, _)| placeholder == word)
            {
                (*name).clone_into(word);
            }
        }
        match words.remove(0).as_str() {
            "postrider" => {
                let output = postrider(&file, &words);
                let [out, error] = [&output.stdout, &output.stderr]
                    .map(|bytes| String::from_utf8_lossy(bytes).into_owned());
                println!("$ {line}\n{out}{error}");
                assert_eq!(output.status.code(), Some(0), "{line}");
                assert!(!out.is_empty(), "{line} says nothing");
                typed += 1;
            }
            "kafka-consumer-groups.sh" => {
                wait_for(SOON, "the group has no members", || {
                    let members = ["--describe", "--group", "page.hook", "--state"];
                    kafka
                        .consumer_groups(&members)
                        .contains(" Empty")
                        .then_some(())
                });
                let words: Vec<&str> = words.iter().skip(2).map(String::as_str).collect();
                kafka.consumer_groups(&words);
                typed += 1;
            }
            // In a booted systemd: `make test-system`.
            "systemctl" | "journalctl" => {}
            other => panic!("nobody types {other}: {line}"),
        }
        assert_eq!(relay.has_ended(), None, "{line}");
    }
    assert!(typed >= 25, "{typed} commands were typed");
    wait_state(&mut relay, "hook", "running");

    // And what they were typed for has come true.
    let got = |receiver: &Receiver, what: &[u8]| {
        let attempts = receiver.attempts().into_iter();
        let accepted = attempts.filter(|a| a.accepted() && a.body.as_deref() == Some(what));
        accepted.count()
    };
    // Until it has joined its group again nobody has counted what waits for it there.
    wait_until(SOON, "the group was set back", || {
        got(&receiver, b"fine") == 2
    });
    wait_until(SOON, "everything is at its end", || {
        let report = try_status(&relay, "hook").unwrap_or_default();
        report["words"] == "running: nothing waits"
    });
    assert_eq!(
        got(&receiver, b"bad"),
        2,
        "replayed, and the group was set back"
    );
    assert_eq!(got(&ordered, b"behind it"), 1, "released");
    assert_eq!(relay.stop(SOON).code(), Some(0));
}
