//! `postrider demo` as a person runs it who keeps its output: it ends by itself, fits the page, and its balance adds up.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops")]

use std::process::{Command, Stdio};

/// The numbers of the line of the balance that begins with `name`.
#[track_caller]
fn balance(page: &str, name: &str) -> Vec<u64> {
    let line = page
        .lines()
        .skip_while(|line| !line.starts_with("The balance"))
        .find(|line| line.split_whitespace().next() == Some(name))
        .unwrap_or_else(|| panic!("no balance of {name} in:\n{page}"));
    line.split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect()
}

#[test]
fn the_demo_ends_by_itself_and_its_balance_adds_up() {
    let temporary = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_postrider"))
        .arg("demo")
        .env("TMPDIR", temporary.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let page = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{page}\n{errors}");
    assert_eq!(errors, "");
    assert!(!page.contains(['\x1b', '\r']), "{page}");
    for line in page
        .lines()
        .filter(|line| !line.contains("log of this run"))
    {
        assert!(line.chars().count() <= 80, "wider than 80 columns: {line}");
        assert_eq!(line, line.trim_end());
    }

    let [browser, mail, both] = ["browser", "mail", "both"].map(|name| balance(&page, name));
    for numbers in [&browser, &mail, &both] {
        assert_eq!(
            numbers.len(),
            5,
            "read, delivered, dead-lettered, dropped, not matched"
        );
        assert_eq!(numbers[0], numbers[1..].iter().sum::<u64>(), "{page}");
    }
    assert_eq!(browser[1..], [359, 0, 1, 0], "{page}");
    assert_eq!(
        mail[2..4],
        [2, 1],
        "one refused and one undecodable, one null: {page}"
    );
    assert!(mail[1] > 100, "{page}");

    for moment in [
        "mail answers 503",
        "mail is back",
        "mail has caught up",
        "mail refuses one",
    ] {
        assert!(page.contains(moment), "{moment:?} is missing in:\n{page}");
    }
    assert!(
        page.contains("rejected for mail") && page.contains("undecodable for mail"),
        "{page}"
    );
    assert!(!page.contains("\n  NO "), "{page}");
}
