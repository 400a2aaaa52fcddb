//! What newcomers stumbled over on the command line: each test is named for what went wrong.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Output, Stdio};

use crate::harness::relay::binary;

fn read(output: Output) -> (i32, String, String) {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let code = output.status.code().unwrap();
    (code, text(output.stdout), text(output.stderr))
}

/// The exit code, and what stands on the two outputs.
pub(super) fn said(folder: &Path, arguments: &[&str]) -> (i32, String, String) {
    let mut command = binary();
    read(
        command
            .current_dir(folder)
            .args(arguments)
            .output()
            .unwrap(),
    )
}

pub(super) fn empty() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

const ORDER: [&str; 5] = ["pause", "-d", "hook", "--reason", "x"];

#[test]
fn a_file_that_is_named_and_not_there_is_never_some_other_daemon() {
    let folder = empty();
    for verb in [
        &["status"] as &[&str],
        &["health"],
        &["retries", "list", "-d", "x"],
        &ORDER,
    ] {
        let words = [&["-c", "no-such.toml"], verb].concat();
        let (code, stdout, stderr) = said(folder.path(), &words);
        assert_eq!((code, stdout.as_str()), (78, ""), "{verb:?}: {stderr}");
        let line = "error: cannot read no-such.toml: there is no such file\n";
        assert!(stderr.starts_with(line), "{stderr}");
        let mut by_name = binary();
        let by_name = by_name.current_dir(folder.path()).args(verb);
        let (code, _, _) = read(
            by_name
                .env("POSTRIDER_CONFIG", "no-such.toml")
                .output()
                .unwrap(),
        );
        assert_eq!(code, 78, "{verb:?}");
    }
    // A file that is no TOML names no socket either.
    fs::write(folder.path().join("bad.toml"), "not = = toml").unwrap();
    let (code, _, stderr) = said(folder.path(), &["-c", "bad.toml", "status"]);
    assert_eq!(code, 78);
    assert!(stderr.contains("postrider check"), "{stderr}");
}

#[test]
fn an_empty_variable_names_no_file() {
    let folder = empty();
    let mut command = binary();
    let command = command.current_dir(folder.path()).arg("check");
    let (code, _, stderr) = read(command.env("POSTRIDER_CONFIG", "").output().unwrap());
    assert_eq!(code, 78);
    assert!(stderr.contains("/etc/postrider/postrider.toml"), "{stderr}");
    let mut command = binary();
    let command = command
        .current_dir(folder.path())
        .args(["--socket", "none.sock"]);
    let (code, _, stderr) = read(command.env("POSTRIDER_SOCKET", "").output().unwrap());
    assert_eq!(code, 2, "{stderr}");
}

#[test]
fn an_answer_that_is_lost_is_no_success_and_one_that_nobody_wants_is() {
    let full = || File::options().write(true).open("/dev/full").unwrap();
    for words in [&["version"] as &[&str], &["--help"], &["schema"], &["man"]] {
        let mut command = binary();
        let output = command.args(words).stdout(full()).output().unwrap();
        let (code, _, stderr) = read(output);
        assert_eq!(code, 69, "{words:?}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        assert!(
            stderr.starts_with("error: the answer cannot be written: "),
            "{stderr}"
        );
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = binary().args(words).stdout(writer).output().unwrap();
        assert_eq!(read(output), (0, String::new(), String::new()), "{words:?}");
    }
}

#[test]
fn colours_of_help_and_errors_are_as_wanted() {
    for (colour, wanted) in [("always", true), ("never", false), ("auto", false)] {
        for words in [&["--help"] as &[&str], &["status", "--no-such"]] {
            let words = [&["--color", colour], words].concat();
            let (_, stdout, stderr) = said(Path::new("."), &words);
            let has = (stdout + &stderr).contains('\u{1b}');
            assert_eq!(has, wanted, "{words:?}");
        }
    }
}

#[test]
fn a_long_help_is_as_dense_as_a_short_one() {
    for verb in ["run", "check", "status", "dead-letters"] {
        let (code, long, _) = said(Path::new("."), &[verb, "--help"]);
        assert_eq!((code, &long), (0, &said(Path::new("."), &[verb, "-h"]).1));
        assert!(
            !long.contains("\n\n\n") && long.contains("--format <FORMAT>"),
            "{long}"
        );
    }
}

#[test]
fn every_help_has_an_example() {
    let (_, help, _) = said(Path::new("."), &["--help"]);
    let (_, verbs) = help.split_once("Commands:\n").unwrap();
    let (verbs, _) = verbs.split_once("\n\n").unwrap();
    let names = verbs.lines().filter_map(|line| line.strip_prefix("  "));
    let names = names.filter(|line| !line.starts_with(' '));
    let names: Vec<&str> = names.map(|line| line.split(' ').next().unwrap()).collect();
    assert!(names.len() > 20, "{names:?}");
    for verb in names
        .into_iter()
        .filter(|name| !["version", "help"].contains(name))
    {
        let (_, help, _) = said(Path::new("."), &[verb, "--help"]);
        assert!(
            help.contains("Examples:\n") && help.contains("postrider"),
            "{verb}"
        );
        assert!(help.contains("Common options:\n"), "{verb}");
    }
}

#[test]
fn a_reason_that_says_nothing_is_none() {
    for words in [
        ["pause", "-d", "hook", "--reason", ""],
        ["resume", "-d", "hook", "--reason", "  "],
    ] {
        let (code, _, stderr) = said(Path::new("."), &words);
        assert_eq!(code, 2, "{stderr}");
        assert!(stderr.contains("say why"), "{stderr}");
    }
}

#[test]
fn problems_are_json_where_json_is_wanted() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let wrong = "tests/config/invalid/ten_at_once.toml";
    let (code, stdout, stderr) = said(here, &["--format", "json", "check", wrong]);
    assert_eq!((code, stderr.as_str()), (78, ""));
    let report: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(report["valid"], false);
    let problems = report["problems"].as_array().unwrap();
    assert_eq!(problems.len(), 10);
    for problem in problems {
        assert_eq!(problem["file"], wrong);
        assert!(problem["line"].is_u64() && problem["column"].is_u64());
        assert!(problem["message"].is_string() && problem["hint"].is_string());
    }
    let (code, stdout, _) = said(here, &["check", "config.example.toml", "--format", "json"]);
    let report: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((code, &report["valid"]), (0, &true.into()));
    let (code, stdout, _) = said(here, &["check", "no-such.toml", "--format", "json"]);
    let report: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((code, &report["valid"]), (78, &false.into()));
}

#[test]
fn a_name_that_is_not_there_is_answered_with_those_that_are() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let words = ["-c", "config.example.toml", "check", "--live", "-d", "shpo"];
    let (code, _, stderr) = said(here, &words);
    assert_eq!(code, 2, "{stderr}");
    assert!(
        stderr.contains("there are: ") && stderr.contains("did you mean"),
        "{stderr}"
    );
}

#[test]
fn init_goes_where_it_is_told_and_asks_nothing_in_vain() {
    let folder = empty();
    let (code, stdout, _) = said(folder.path(), &["-c", "my file.toml", "init"]);
    assert_eq!(code, 0);
    assert!(folder.path().join("my file.toml").exists());
    assert!(
        stdout.contains("postrider -c 'my file.toml' run"),
        "{stdout}"
    );
    // On a terminal too: the folder is looked at before the first question.
    let terminal = nix::pty::openpty(None, None).unwrap();
    let slave = || Stdio::from(terminal.slave.try_clone().unwrap());
    let mut command = binary();
    command
        .current_dir(folder.path())
        .args(["init", "no such/p.toml"]);
    let output = command
        .stdin(slave())
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    let (code, _, stderr) = read(output);
    assert_eq!(code, 1);
    assert!(stderr.contains("mkdir -p 'no such'"), "{stderr}");
    assert!(!stderr.contains("brokers"), "{stderr}");
}

#[test]
fn questions_that_nobody_answers_leave_no_file() {
    use std::io::Write as _;
    let folder = empty();
    let terminal = nix::pty::openpty(None, None).unwrap();
    let slave = || Stdio::from(terminal.slave.try_clone().unwrap());
    let mut command = binary();
    command.current_dir(folder.path()).args(["init", "x.toml"]);
    let child = command
        .stdin(slave())
        .stderr(slave())
        .stdout(Stdio::piped());
    let child = child.spawn().unwrap();
    // Ctrl-D.
    let mut master = File::from(terminal.master);
    master.write_all(b"\x04").unwrap();
    let (code, stdout, _) = read(child.wait_with_output().unwrap());
    assert_eq!((code, stdout.as_str()), (1, ""));
    assert!(!folder.path().join("x.toml").exists());
}

#[test]
fn a_manual_has_the_sections_that_people_look_for() {
    let folder = empty();
    let (code, _, stderr) = said(folder.path(), &["man", "."]);
    assert_eq!(code, 0, "{stderr}");
    for page in [
        "postrider.1",
        "postrider-check.1",
        "postrider-dead-letters-replay.1",
    ] {
        let text = fs::read_to_string(folder.path().join(page)).unwrap();
        for section in ["EXAMPLES", "ENVIRONMENT", "FILES", "EXIT STATUS"] {
            let titles = [format!(".SH {section}\n"), format!(".SH \"{section}\"\n")];
            assert!(
                titles.iter().any(|title| text.contains(title)),
                "{page}: {section}"
            );
        }
        assert!(
            !text.contains("EXTRA") && text.contains("POSTRIDER_CONFIG"),
            "{page}"
        );
    }
}

/// Why Kafka is away is known within seconds, and said.
#[test]
fn dead_letters_say_soon_why_kafka_is_away() {
    let folder = empty();
    said(folder.path(), &["init"]);
    let file = folder.path().join("postrider.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("localhost:9092", "127.0.0.1:9")).unwrap();
    let begin = std::time::Instant::now();
    let (code, stdout, stderr) = said(
        folder.path(),
        &["-c", "postrider.toml", "dead-letters", "list"],
    );
    assert_eq!((code, stdout.as_str()), (69, ""), "{stderr}");
    assert!(
        stderr.starts_with("error: Kafka does not answer: 127.0.0.1:9: "),
        "{stderr}"
    );
    assert!(stderr.contains("refused"), "{stderr}");
    assert!(begin.elapsed().as_secs() < 8, "{:?}", begin.elapsed());
}

#[test]
fn the_least_file_of_the_readme_is_whole_and_its_commands_are_there() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = fs::read_to_string(here.join("README.md")).unwrap();
    let (_, rest) = readme.split_once("```toml\n").unwrap();
    let (least, rest) = rest.split_once("```").unwrap();
    assert!(
        least.contains("[admin]\nsocket = "),
        "status would not find it: {least}"
    );
    let folder = empty();
    fs::write(folder.path().join("postrider.toml"), least).unwrap();
    let (code, _, stderr) = said(folder.path(), &["check", "postrider.toml"]);
    assert_eq!((code, stderr.as_str()), (0, ""));
    let (walk, table) = rest.split_once("| command |").unwrap();
    let verbs = walk
        .lines()
        .filter_map(|line| line.strip_prefix("postrider "));
    let mut verbs: Vec<&str> = verbs.filter_map(|line| line.split(' ').next()).collect();
    assert!(verbs.len() > 3, "{walk}");
    let (table, _) = table.split_once("\n\n").unwrap();
    for row in table.lines().skip(2) {
        let names = row.split('|').nth(1).unwrap().split('`').skip(1).step_by(2);
        verbs.extend(names.map(|name| name.split(' ').next().unwrap()));
    }
    assert!(verbs.len() > 20, "{verbs:?}");
    for verb in verbs {
        let (code, stdout, _) = said(folder.path(), &[verb, "--help"]);
        assert_eq!(code, 0, "{verb}");
        assert!(stdout.contains(&format!(" {verb}")), "{verb}: {stdout}");
    }
}
