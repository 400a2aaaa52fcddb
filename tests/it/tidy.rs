//! The floors of the house: which room may name what, and how long a file may be.
//!
//! Rooms are the first names after `crate::`; a file belongs to the room whose name it or its folder has. The pure rooms see nouns and
//! themselves, edges do not see each other, and options flow one way: `config` sees the rooms, and no room sees `config`.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::Path;

mod planted;
mod scan;

use scan::{Token, code_lines, root_imports, tokens};

/// Code that crosses every door.
const NOUNS: &[&str] = &["record", "delivery", "clock", "heartbeat"];
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
    ("hyper", "I/O belongs to the shell"),
    ("hyper_rustls", "I/O belongs to the shell"),
    ("hyper_util", "I/O belongs to the shell"),
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
    ("hyper_rustls", &["send/", "send.rs"]),
    ("rustls", &["send/", "send.rs"]),
    (
        "unsafe",
        &[
            "kafka/raw.rs",
            "kafka/raw_leaders.rs",
            "kafka/raw_topics.rs",
            "process_exit.rs",
        ],
    ),
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

/// The files that no `mod` line leads to. A test in such a file is never run, and nobody notices.
fn orphans(files: &[(String, String)]) -> Vec<String> {
    let says_mod = |text: &str, name: &str| {
        tokens(text)
            .windows(2)
            .any(|pair| pair[0].text == "mod" && pair[1].text == name)
    };
    let is_orphan = |path: &str| {
        let (folder, file) = path.rsplit_once('/').unwrap_or(("", path));
        let (folder, name) = match file.strip_suffix(".rs").unwrap_or(file) {
            "main" | "lib" => return false,
            "mod" => folder.rsplit_once('/').unwrap_or(("", folder)),
            name => (folder, name),
        };
        let beside = |parent: &str| {
            format!("{folder}/{parent}")
                .trim_start_matches('/')
                .to_owned()
        };
        let parents = [
            beside("mod.rs"),
            beside("main.rs"),
            beside("lib.rs"),
            format!("{folder}.rs"),
        ];
        !files
            .iter()
            .any(|(path, text)| parents.contains(path) && says_mod(text, name))
    };
    files
        .iter()
        .filter(|(path, _)| is_orphan(path))
        .map(|(path, _)| path.clone())
        .collect()
}

#[test]
fn every_file_is_reached_by_a_mod_line() {
    for folder in ["src", "tests"] {
        let files = rust_files(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder));
        let mut orphans = orphans(&files);
        // The harness is included by its path; a file right in `tests` is a test target.
        orphans
            .retain(|path| path != "harness/mod.rs" && (folder != "tests" || path.contains('/')));
        let say = |path: &String| format!("{folder}/{path}: no mod line leads to it");
        assert_none(&orphans.iter().map(say).collect::<Vec<_>>());
    }
}
