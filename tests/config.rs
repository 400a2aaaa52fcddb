//! Whole files: those in `tests/config/valid` are taken, those in `tests/config/invalid` are refused with exactly what stands in the
//! `.expected` beside them. `POSTRIDER_BLESS=1` writes these anew; read the difference before it is committed.

#![allow(
    clippy::unwrap_used,
    clippy::unwrap_in_result,
    clippy::print_stdout,
    reason = "a test may end where something unexpected happens, and says what it left out"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use postrider::config::{Config, Problems};

/// The environment of every file here.
fn environment(name: &str) -> Option<String> {
    match name {
        "SHOP_URL" => Some("https://hooks.example/T0/secret\n".to_owned()),
        "EMPTY" => Some(String::new()),
        "CREDENTIALS_DIRECTORY" => Some("tests/config/credentials".to_owned()),
        _ => None,
    }
}

fn parse(path: &Path) -> Result<Config, Problems> {
    Config::load(path, &environment)
}

/// The files in `folder` that end in `.toml`, by name. Paths are relative, as they are shown.
fn files(folder: &str, least: usize) -> Vec<PathBuf> {
    assert_eq!(
        std::env::current_dir().unwrap(),
        Path::new(env!("CARGO_MANIFEST_DIR"))
    );
    let entries = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let is_toml = |path: &PathBuf| {
        path.extension()
            .is_some_and(|extension| extension == "toml")
    };
    let mut files: Vec<PathBuf> = entries.filter(is_toml).collect();
    files.sort();
    assert!(
        files.len() >= least,
        "only {} files in {folder}",
        files.len()
    );
    files
}

#[test]
fn valid_files_are_taken() {
    for path in files("tests/config/valid", 6) {
        let config = parse(&path).unwrap_or_else(|problems| panic!("{problems}"));
        let expected = path.with_extension("expected");
        compare(&expected, &config.warnings);
    }
}

#[test]
fn invalid_files_are_refused_with_what_is_expected() {
    for path in files("tests/config/invalid", 25) {
        let problems = match parse(&path) {
            Ok(_) => panic!("{} was taken", path.display()),
            Err(problems) => problems,
        };
        compare(&path.with_extension("expected"), &problems);
    }
}

/// Compares with the file at `expected`; no problems, no file.
fn compare(expected: &Path, problems: &Problems) {
    let shown = problems.to_string();
    assert!(
        !shown.contains("secret/") && !shown.contains("hunter2"),
        "{shown}"
    );
    if std::env::var_os("POSTRIDER_BLESS").is_some() {
        if !problems.is_empty() {
            fs::write(expected, &shown).unwrap();
        }
        return;
    }
    let wanted = match problems.is_empty() {
        true => format!("{}: no problems\n", problems_file(expected)),
        false => fs::read_to_string(expected).unwrap_or_default(),
    };
    assert!(
        shown == wanted,
        "{}\n--- is\n{shown}\n--- should be\n{wanted}",
        expected.display()
    );
}

fn problems_file(expected: &Path) -> String {
    expected.with_extension("toml").display().to_string()
}

#[test]
fn every_expected_text_has_its_file() {
    let folders = ["tests/config/valid", "tests/config/invalid"];
    for entry in folders
        .iter()
        .flat_map(|folder| fs::read_dir(folder).unwrap())
    {
        let path = entry.unwrap().path();
        assert!(
            path.with_extension("toml").exists(),
            "{} belongs to nothing",
            path.display()
        );
    }
}

#[test]
fn ten_problems_come_at_once_and_as_data() {
    let problems = parse(Path::new("tests/config/invalid/ten_at_once.toml")).unwrap_err();
    assert_eq!(problems.errors(), 10);
    let data = serde_json::to_value(problems.list()).unwrap();
    let first = &data[0];
    assert_eq!(first["severity"], "error");
    assert_eq!(first["file"], "tests/config/invalid/ten_at_once.toml");
    assert_eq!(
        (first["line"].as_u64(), first["column"].as_u64()),
        (Some(2), Some(12))
    );
    assert_eq!(first["key"], "kafka.brokers[0]");
    for problem in problems.list() {
        assert!(
            !problem.message.is_empty() && !problem.hint.is_empty(),
            "{problem:?}"
        );
    }
}

#[test]
fn a_file_that_cannot_be_read_is_a_problem_with_its_reason() {
    let folder = "cannot read tests/config: it is a folder";
    let missing = "cannot read tests/config/none.toml: there is no such file";
    for (path, message) in [
        ("tests/config", folder),
        ("tests/config/none.toml", missing),
    ] {
        let problems = parse(Path::new(path)).unwrap_err();
        assert_eq!((problems.list().len(), problems.errors()), (1, 1));
        assert_eq!(problems.list()[0].message, message);
        assert_eq!(problems.list()[0].file, path);
    }
}

/// What editors on Windows put before the first character is no part of it.
#[test]
fn a_byte_order_mark_is_stepped_over() {
    let text = fs::read_to_string("tests/config/valid/windows.toml").unwrap();
    assert!(text.contains("\r\n"));
    let marked = format!("\u{feff}{text}");
    let config = Config::parse(&marked, Path::new("marked.toml"), &environment).unwrap();
    assert_eq!(config.destinations.len(), 1);
}

/// Another reader of TOML must agree that every file we take is TOML 1.0.
#[test]
fn the_example_and_the_valid_files_are_read_by_python_too() {
    let script =
        "import sys, tomllib\nfor path in sys.argv[1:]:\n    tomllib.load(open(path, 'rb'))";
    let probe = Command::new("python3")
        .args(["-c", "import tomllib"])
        .output();
    if !probe.is_ok_and(|output| output.status.success()) {
        println!("left out: no python3 of 3.11 or later");
        return;
    }
    let paths = files("tests/config/valid", 6);
    let output = Command::new("python3")
        .args(["-c", script, "config.example.toml"])
        .args(paths)
        .output();
    let output = output.unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
