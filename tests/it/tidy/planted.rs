//! Breaches of the house rules, planted: each is found, and what is allowed is not.

use super::{FILE_LINES_MAX, orphans, problems};

#[test]
fn a_planted_orphan_is_found() {
    let file = |path: &str, text: &str| (path.to_owned(), text.to_owned());
    let files = [
        file("lib.rs", "pub mod a;\n// mod b;"),
        file("a/mod.rs", "mod inner; #[cfg(test)] mod tests;"),
        file("a/inner.rs", "mod deep;"),
        file("a/inner/deep.rs", ""),
        file("a/tests.rs", ""),
        file("a/lost.rs", "mod inner;"),
        file("b.rs", ""),
    ];
    assert_eq!(orphans(&files), ["a/lost.rs", "b.rs"]);
}

/// Asserts that a file of that content has exactly these problems, written without `src/PATH:`.
#[track_caller]
fn planted(path: &str, text: &str, expected: &[&str]) {
    let expected: Vec<String> = expected.iter().map(|e| format!("src/{path}:{e}")).collect();
    assert_eq!(problems(path, text), expected, "{text}");
}

#[test]
fn planted_imports_into_pure_rooms_are_found() {
    planted(
        "lane/machine.rs",
        "use crate::kafka::Consumer;",
        &["1: may not import kafka"],
    );
    planted(
        "rules/mod.rs",
        "//! A room.\n\nuse crate::lane::Lane;",
        &["3: may not import lane"],
    );
    let grouped = "use crate::{\n    record::Record,\n    kafka,\n    send::{Sender, webhook},\n};";
    planted(
        "lane/a.rs",
        grouped,
        &["3: may not import kafka", "4: may not import send"],
    );
    let in_code = "fn f() {\n    crate::config::load();\n}";
    planted("lane/a/b.rs", in_code, &["2: may not import config"]);
    planted(
        "lane/a.rs",
        "pub(crate) use crate::{self, admin as a};",
        &["1: may not import admin"],
    );
    planted(
        "lane/a.rs",
        "use crate::*;",
        &["1: may not import the whole crate by *"],
    );
    planted(
        "lane/a.rs",
        "use crate::{record, *};",
        &["1: may not import the whole crate by *"],
    );
    planted(
        "record.rs",
        "use crate::lane::Lane;",
        &["1: may not import lane"],
    );
    planted(
        "lane/a.rs",
        "use ::postrider::send;",
        &["1: may not import send"],
    );
    planted(
        "lane/a.rs",
        "macro_rules! m { () => { $crate::send::f() } }",
        &["1: may not import send"],
    );
}

#[test]
fn planted_imports_by_super_are_found() {
    planted(
        "lane/mod.rs",
        "use super::kafka;",
        &["1: may not import kafka"],
    );
    planted(
        "lane/a.rs",
        "use super::super::send::x;",
        &["1: may not import send"],
    );
    planted(
        "lane/a.rs",
        "use super::window; use super::{super::send, retry};",
        &["1: may not import send"],
    );
    planted(
        "lane/a/mod.rs",
        "use super::super::send;",
        &["1: may not import send"],
    );
    let inside =
        "mod tests {\n    use super::super::super::send;\n    use super::super::window;\n}";
    planted("lane/a.rs", inside, &["2: may not import send"]);
    planted(
        "lane/a.rs",
        "use super::kafka; fn f() { super::send() }",
        &[],
    );
}

#[test]
fn planted_words_in_pure_rooms_are_found() {
    let io = "I/O belongs to the shell";
    planted(
        "lane/a.rs",
        "use tokio::time;",
        &[&format!("1: may not say tokio: {io}")],
    );
    planted(
        "rules/a.rs",
        "let x: std::net::TcpStream;",
        &[&format!("1: may not say std::net: {io}")],
    );
    planted(
        "rules/a.rs",
        "use std::{fmt, fs::File};",
        &[&format!("1: may not say std::fs: {io}")],
    );
    planted(
        "lane/a.rs",
        "fn f() -> rdkafka::Offset { hyper_rustls::get() }",
        &[
            &format!("1: may not say rdkafka: {io}"),
            &format!("1: may not say hyper_rustls: {io}"),
            "1: may not say rdkafka: only kafka/, kafka.rs, cli/demo",
            "1: may not say hyper_rustls: only send/, send.rs",
        ],
    );
    planted(
        "lane/a.rs",
        "let now = Instant :: now();",
        &[
            "1: may not say Instant: time comes as an argument",
            "1: may not say Instant::now: only clock.rs",
        ],
    );
    planted(
        "delivery.rs",
        "use rand::Rng;",
        &["1: may not say rand: randomness comes as an argument"],
    );
}

#[test]
fn planted_imports_between_edges_and_into_the_wiring_are_found() {
    planted(
        "send/a.rs",
        "use crate::kafka;",
        &["1: may not import kafka"],
    );
    planted(
        "kafka/a.rs",
        "use crate::{admin, send};",
        &["1: may not import admin", "1: may not import send"],
    );
    planted(
        "admin/a.rs",
        "crate::relay::stop();",
        &["1: may not import relay"],
    );
    for room in [
        "send/a.rs",
        "kafka/a.rs",
        "admin/a.rs",
        "metrics.rs",
        "logging.rs",
        "signal.rs",
    ] {
        planted(
            room,
            "use crate::config::Config;",
            &["1: may not import config"],
        );
    }
    planted(
        "config/a.rs",
        "use crate::relay;",
        &["1: may not import relay"],
    );
    planted("relay.rs", "use crate::cli;", &["1: may not import cli"]);
    planted(
        "admin/a.rs",
        "let t = std::time::SystemTime::now();",
        &["1: may not say SystemTime::now: only clock.rs"],
    );
    planted(
        "send/a.rs",
        "unsafe { x() }",
        &[
            "1: may not say unsafe: only kafka/raw.rs, kafka/raw_leaders.rs, kafka/raw_topics.rs, process_exit.rs",
        ],
    );
}

#[test]
fn what_is_allowed_is_not_found() {
    planted(
        "lane/a.rs",
        "use crate::{lane::b, record::Record, clock::{Now, Tick}};",
        &[],
    );
    planted(
        "config/a.rs",
        "use crate::{send::Options, lane::LaneOptions, kafka, admin, rules};",
        &[],
    );
    planted(
        "relay.rs",
        "use crate::{config, kafka, send, admin, lane, rules, metrics};",
        &[],
    );
    planted(
        "relay/start.rs",
        "use crate::{config, kafka}; use super::stop;",
        &[],
    );
    planted("cli/run.rs", "use crate::{relay, config};", &[]);
    planted("main.rs", "use postrider::{cli, config};", &[]);
    planted("kafka/raw.rs", "use rdkafka::bindings; unsafe { f() }", &[]);
    planted("clock.rs", "use std::time::Instant; Instant::now()", &[]);
    planted(
        "send/a.rs",
        "use crate::{metrics, rules, record, delivery}; use std::time::Instant;",
        &[],
    );
}

#[test]
fn comments_strings_and_longer_words_are_not_code() {
    planted(
        "lane/a.rs",
        "/// Not tokio, not crate::kafka.\n// use crate::send;\n/* tokio /* rand */ x */",
        &[],
    );
    planted(
        "lane/a.rs",
        r##"let s = "crate::kafka \" tokio"; let r = r#"use "tokio";"#;"##,
        &[],
    );
    planted(
        "lane/a.rs",
        "let c = '\"'; let tokio_like = b'\\''; fn f<'tokio>() {}",
        &[],
    );
    planted(
        "lane/a.rs",
        "'\"'; use crate::send; '\"'",
        &["1: may not import send"],
    );
    planted(
        "lane/a.rs",
        "let operand = random_state; my::krate::kafka;",
        &[],
    );
}

#[test]
fn a_planted_long_file_is_found() {
    let code = "let x = 1;\n".repeat(FILE_LINES_MAX);
    planted(
        "send/a.rs",
        &format!("//! Words.\n\n// More.\n/*\n\n*/\n{code}"),
        &[],
    );
    let expected = " 501 lines of code, 500 at most: split it";
    planted(
        "send/a.rs",
        &format!("{code}let s = \"// code\"; // and a comment\n"),
        &[expected],
    );
}
