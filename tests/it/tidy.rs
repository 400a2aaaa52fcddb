//! The floors of the house: which room may name what, and how long a file may be.
//!
//! Rooms are the first names after `crate::`; a file belongs to the room whose name it or its folder has. The pure rooms see nouns and
//! themselves, edges do not see each other, and options flow one way: `config` sees the rooms, and no room sees `config`.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::Path;

mod scan;

use scan::{Token, code_lines, root_imports, tokens};

/// Code that crosses every door.
const NOUNS: &[&str] = &["record", "delivery", "clock"];
/// Rooms that decide and do nothing else.
const PURE: &[&str] = &["rules", "lane"];
/// Rooms that touch the world.
const EDGES: &[&str] = &["send", "kafka", "admin"];
/// Those who know how everything is put together; nobody else sees them.
const WIRING: &[&str] = &["config", "relay", "cli", "main"];

/// Words that pure rooms and nouns never say, and why.
const NOT_PURE: &[(&str, &str)] = &[
    ("tokio", "I/O belongs to the shell"),
    ("tokio_util", "I/O belongs to the shell"),
    ("rdkafka", "I/O belongs to the shell"),
    ("reqwest", "I/O belongs to the shell"),
    ("Instant", "time comes as an argument"),
    ("SystemTime", "time comes as an argument"),
    ("rand", "randomness comes as an argument"),
    ("fastrand", "randomness comes as an argument"),
    ("getrandom", "randomness comes as an argument"),
    ("RandomState", "randomness comes as an argument"),
    ("std::fs", "I/O belongs to the shell"),
    ("std::net", "I/O belongs to the shell"),
    ("std::env", "what is set outside comes as an argument"),
    ("std::thread", "threads belong to the shell"),
    ("std::process", "processes belong to the shell"),
];

/// Words that only these places may say; a place is a path below `src` or the beginning of one.
const ONLY_IN: &[(&str, &[&str])] = &[
    ("Instant::now", &["clock.rs"]),
    ("SystemTime::now", &["clock.rs"]),
    ("rdkafka", &["kafka/", "kafka.rs", "cli/demo"]),
    ("reqwest", &["send/", "send.rs"]),
    ("unsafe", &["kafka/raw.rs"]),
];

/// The longest file, in lines of code. Split by responsibility long before.
const FILE_LINES_MAX: usize = 500;

/// Whether code in `room` may import `other`.
fn may_import(room: &str, other: &str) -> bool {
    if room == other || matches!(room, "lib" | "main" | "cli") {
        return true;
    }
    if NOUNS.contains(&room) || PURE.contains(&room) {
        return NOUNS.contains(&other);
    }
    match room {
        "relay" => !matches!(other, "cli" | "main"),
        "config" => !matches!(other, "relay" | "cli" | "main"),
        _ if WIRING.contains(&other) => false,
        _ => !(EDGES.contains(&room) && EDGES.contains(&other)),
    }
}

/// The room of a file, by its path below `src`.
fn room(path: &str) -> &str {
    let first = path.split('/').next().unwrap_or(path);
    first.strip_suffix(".rs").unwrap_or(first)
}

/// Everything that is wrong with one file, a line each.
fn problems(path: &str, text: &str) -> Vec<String> {
    let room = room(path);
    let tokens = tokens(text);
    let mut found = vec![];
    for (line, other) in root_imports(path, &tokens) {
        if other == "*" {
            found.push(format!(
                "src/{path}:{line}: may not import the whole crate by *"
            ));
        } else if !may_import(room, &other) {
            found.push(format!("src/{path}:{line}: may not import {other}"));
        }
    }
    let pure = PURE.contains(&room) || (NOUNS.contains(&room) && room != "clock");
    for (word, why) in NOT_PURE.iter().filter(|_| pure) {
        for line in lines_saying(&tokens, word) {
            found.push(format!("src/{path}:{line}: may not say {word}: {why}"));
        }
    }
    for (word, places) in ONLY_IN {
        if !places.iter().any(|place| path.starts_with(place)) {
            for line in lines_saying(&tokens, word) {
                let places = places.join(", ");
                found.push(format!(
                    "src/{path}:{line}: may not say {word}: only {places}"
                ));
            }
        }
    }
    found.extend(too_long(&format!("src/{path}"), text));
    found
}

fn too_long(path: &str, text: &str) -> Option<String> {
    let lines = code_lines(text);
    let message = format!("{path}: {lines} lines of code, {FILE_LINES_MAX} at most: split it");
    (lines > FILE_LINES_MAX).then_some(message)
}

/// The lines where the words of `path` stand one after the other with `::` between, and also inside a group, as in `std::{fs, net}`.
fn lines_saying(tokens: &[Token<'_>], path: &str) -> BTreeSet<usize> {
    let words: Vec<&str> = path.split("::").collect();
    let (last, before) = words.split_last().expect("a path has a word");
    let mut lines = BTreeSet::new();
    for (at, token) in tokens
        .iter()
        .enumerate()
        .filter(|(_, t)| t.text == words[0])
    {
        if before.is_empty() {
            lines.insert(token.line);
        } else {
            let heads = scan::heads(&tokens[at + 1..]);
            lines.extend(
                heads
                    .into_iter()
                    .filter(|(_, head)| head == last)
                    .map(|(line, _)| line),
            );
        }
    }
    lines
}

/// Every Rust file below `folder`: its path from there and its text.
fn rust_files(folder: &Path) -> Vec<(String, String)> {
    let mut files = vec![];
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let name = path
                    .strip_prefix(folder)
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .to_owned();
                files.push((name, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    files.sort();
    files
}

fn assert_none(problems: &[String]) {
    let mut text = String::new();
    for problem in problems {
        writeln!(text, "  {problem}").unwrap();
    }
    assert!(problems.is_empty(), "the house rules are broken:\n{text}");
}

#[test]
fn the_rooms_keep_to_their_floors() {
    let files = rust_files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    // A test that reads no file passes for ever.
    for expected in ["record.rs", "delivery.rs", "clock.rs", "lane/mod.rs"] {
        assert!(
            files.iter().any(|(path, _)| path == expected),
            "src/{expected} was not found"
        );
    }
    let problems: Vec<String> = files
        .iter()
        .flat_map(|(path, text)| problems(path, text))
        .collect();
    assert_none(&problems);
}

#[test]
fn test_files_are_not_too_long() {
    let files = rust_files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests"));
    assert!(
        files.iter().any(|(path, _)| path == "it/tidy.rs"),
        "this very file was not found"
    );
    let long: Vec<String> = files
        .iter()
        .filter_map(|(path, text)| too_long(&format!("tests/{path}"), text))
        .collect();
    assert_none(&long);
}

// === planted ===

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
        "fn f() -> rdkafka::Offset { reqwest::get() }",
        &[
            &format!("1: may not say rdkafka: {io}"),
            &format!("1: may not say reqwest: {io}"),
            "1: may not say rdkafka: only kafka/, kafka.rs, cli/demo",
            "1: may not say reqwest: only send/, send.rs",
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
        &["1: may not say unsafe: only kafka/raw.rs"],
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
