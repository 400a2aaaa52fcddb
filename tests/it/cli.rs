//! What a person meets on the command line: texts, where they go, and exit codes.

use std::fs::File;
use std::process::Output;

use crate::harness::relay::binary;

fn postrider(arguments: &[&str]) -> Output {
    binary().args(arguments).output().unwrap()
}

/// The exit code, and what stands on the two outputs.
fn said(arguments: &[&str]) -> (i32, String, String) {
    let output = postrider(arguments);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let code = output.status.code().unwrap();
    (code, text(output.stdout), text(output.stderr))
}

#[test]
fn without_a_verb_it_says_which_there_are_and_does_nothing() {
    for arguments in [&[] as &[&str], &["-c", "config.example.toml"]] {
        let (code, stdout, stderr) = said(arguments);
        assert_eq!((code, stdout.as_str()), (2, ""), "{stderr}");
        for verb in ["run", "check", "demo", "version"] {
            assert!(stderr.contains(verb), "{verb}: {stderr}");
        }
    }
}

#[test]
fn a_file_behind_run_is_answered_with_where_it_goes() {
    let (code, _, stderr) = said(&["run", "postrider.toml"]);
    assert_eq!(code, 2);
    assert!(stderr.contains("postrider [-c FILE] run"), "{stderr}");
}

#[test]
fn help_names_every_value_of_a_choice() {
    let (code, stdout, _) = said(&["run", "--help"]);
    assert_eq!(code, 0);
    let stdout = stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    for values in ["text or json", "error, warn, info, debug or trace"] {
        assert!(stdout.contains(values), "{stdout}");
    }
}

#[test]
fn check_answers_on_the_right_output_with_the_right_code() {
    let (code, stdout, stderr) = said(&["check", "config.example.toml"]);
    assert_eq!((code, stderr.as_str()), (0, ""));
    assert_eq!(
        stdout,
        "config.example.toml: valid; destinations: 2, rules: 4\n"
    );
    // A pipe gets no colours.
    let wrong = "tests/config/invalid/ten_at_once.toml";
    let (code, stdout, stderr) = said(&["check", wrong]);
    assert_eq!((code, stdout.as_str()), (78, ""));
    assert!(stderr.ends_with("ten_at_once.toml: 10 errors\n") && !stderr.contains('\u{1b}'));
    for verb in ["check", "run"] {
        let (code, _, stderr) = said(&["-c", "no-such.toml", verb]);
        assert_eq!(code, 78);
        let message = "error: cannot read no-such.toml: there is no such file\n";
        assert!(stderr.starts_with(message), "{stderr}");
    }
}

/// An output that cannot be written turns a yes into "nobody has heard it", and leaves what is worse as it is.
#[test]
fn an_answer_that_is_lost_is_no_yes() {
    let full = || File::options().write(true).open("/dev/full").unwrap();
    let cases = [
        ("config.example.toml", 69),
        ("tests/config/valid/warnings.toml", 69),
        ("tests/config/invalid/ten_at_once.toml", 78),
    ];
    for (file, wanted) in cases {
        let mut command = binary();
        command.args(["check", file]).stdout(full()).stderr(full());
        assert_eq!(command.status().unwrap().code(), Some(wanted), "{file}");
    }
}

/// What librdkafka says about a setting repeats its value; neither verb lets that through.
#[test]
fn a_misspelt_password_is_not_shown() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("postrider.toml");
    let text = std::fs::read_to_string("config.example.toml").unwrap();
    let setting = "security.protocol = \"plaintext\"";
    let wrong = text.replace(setting, "sasl.pasword = { env = \"THE_PASSWORD\" }");
    assert_ne!(wrong, text);
    std::fs::write(&file, wrong).unwrap();
    for verb in ["check", "run"] {
        let mut command = binary();
        command
            .env("THE_PASSWORD", "hunter2")
            .arg("-c")
            .arg(&file)
            .arg(verb);
        let output = command.output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(78), "{stderr}");
        assert!(stderr.contains("did you mean `sasl.password`?"), "{stderr}");
        assert!(!stderr.contains("hunter2") && output.stdout.is_empty());
    }
}

#[test]
fn dead_letters_say_how_they_are_asked_for() {
    let (code, _, stderr) = said(&["dead-letters"]);
    assert_eq!(code, 2);
    for verb in ["list", "stats", "show", "replay", "purge"] {
        assert!(stderr.contains(verb), "{verb}: {stderr}");
        let (code, stdout, _) = said(&["dead-letters", verb, "--help"]);
        assert_eq!(code, 0);
        let example = format!("postrider dead-letters {verb}");
        assert!(
            stdout.contains("Examples:") && stdout.contains(&example),
            "{stdout}"
        );
    }
    let (_, stdout, _) = said(&["dead-letters", "replay", "--help"]);
    let stdout = stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    for word in [
        "--dry-run",
        "--rate",
        "--limit",
        "--force",
        "--yes",
        "130 interrupted",
        "rejected",
    ] {
        assert!(stdout.contains(word), "{word}: {stdout}");
    }
}

#[test]
fn dead_letters_are_not_touched_by_what_makes_no_sense() {
    let asked = |words: &[&str]| {
        let words: Vec<&str> = ["-c", "config.example.toml", "dead-letters"]
            .into_iter()
            .chain(words.iter().copied())
            .collect();
        let (code, stdout, stderr) = said(&words);
        assert_eq!(stdout, "", "{words:?}");
        (code, stderr)
    };
    for (words, hint) in [
        (&["replay"] as &[&str], "or --all"),
        (&["replay", "--all", "--rate", "fast"], "\"50/s\""),
        (&["replay", "--all", "--rate", "1MiB/s"], "\"50/s\""),
        (&["list", "--since", "noon"], "how long ago"),
        (&["purge", "--yes"], "--before"),
        (&["show", "everything"], "begin with msg_"),
    ] {
        let (code, stderr) = asked(words);
        assert_eq!(code, 2, "{words:?}: {stderr}");
        assert!(stderr.contains(hint), "{words:?}: {stderr}");
    }
    let (code, stdout, _) = said(&["-c", "no-such.toml", "dead-letters", "list"]);
    assert_eq!((code, stdout.as_str()), (78, ""));
}

/// That Kafka is away is said with what is known of it, and is no crash.
#[test]
fn dead_letters_of_a_kafka_that_is_away() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("postrider.toml");
    let text = std::fs::read_to_string("config.example.toml").unwrap();
    std::fs::write(&file, text.replace("localhost:9092", "127.0.0.1:9")).unwrap();
    let file = file.to_str().unwrap();
    let (code, stdout, stderr) = said(&["-c", file, "dead-letters", "stats"]);
    assert_eq!((code, stdout.as_str()), (69, ""), "{stderr}");
    assert!(
        stderr.starts_with("error: Kafka does not answer: "),
        "{stderr}"
    );
}
