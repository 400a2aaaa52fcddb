//! How fast records go from Kafka to a webhook, and what that costs: Postrider beside the least program that does the same.
//!
//! `make bench` runs every contestant in turn, and all of them again for each round, so that a machine that is busy for a while is busy for
//! all. Contestants are processes of their own; what they cost is read from `/proc`. Rates are taken by the receiver, from the first
//! request to the last, so that no start-up is in them.

#![allow(
    clippy::unwrap_used,
    clippy::unwrap_in_result,
    reason = "a bench that cannot go on stops"
)]
#![allow(
    clippy::disallowed_methods,
    reason = "a bench measures real processes in real time"
)]
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the table is what it is for"
)]
#![allow(clippy::wildcard_enum_match_arm, reason = "the unexpected is a panic")]

#[path = "../../tests/harness/mod.rs"]
mod harness;

mod bare_loop;
mod consumer;
mod contest;
mod load;
mod many;
mod receiver;
mod report;
mod usage;

/// A contestant is this same program with the contestant's name and its arguments.
fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["consumer", brokers, topic, records] => consumer::run(brokers, topic, number(records)),
        ["bare-loop", brokers, topic, records, url, in_flight] => {
            bare_loop::run(brokers, topic, number(records), url, number(in_flight));
        }
        ["load", address, records, connections] => {
            load::run(address, number(records), number(connections));
        }
        _ => contest::run(),
    }
}

fn number(text: &str) -> usize {
    text.parse().expect("a number")
}

/// Says that the work is done, and waits to be ended: what a process has cost can be read as long as it is there.
fn done(seconds: f64) {
    println!("{seconds}");
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).ok();
}
