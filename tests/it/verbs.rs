//! The verbs around the daemon that need neither Kafka nor a daemon: the first file, what editors and shells want to know, keys.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Output, Stdio};

use crate::harness::relay::binary;

/// The exit code, and what stands on the two outputs.
fn said(folder: &Path, arguments: &[&str]) -> (i32, String, String) {
    let output = binary()
        .current_dir(folder)
        .args(arguments)
        .output()
        .unwrap();
    read(output)
}

fn read(output: Output) -> (i32, String, String) {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let code = output.status.code().unwrap();
    (code, text(output.stdout), text(output.stderr))
}

fn here(arguments: &[&str]) -> (i32, String, String) {
    said(Path::new(env!("CARGO_MANIFEST_DIR")), arguments)
}

#[test]
fn a_first_file_passes_check_and_is_never_written_over() {
    let folder = tempfile::tempdir().unwrap();
    let (code, stdout, stderr) = said(folder.path(), &["init"]);
    assert_eq!(code, 0, "{stderr}");
    assert!(
        stdout.contains("postrider check postrider.toml"),
        "{stdout}"
    );
    let (code, stdout, stderr) = said(folder.path(), &["check", "postrider.toml"]);
    assert_eq!((code, stderr.as_str()), (0, ""), "{stdout}");

    let file = folder.path().join("postrider.toml");
    fs::write(&file, "mine").unwrap();
    let (code, _, stderr) = said(folder.path(), &["init"]);
    assert_eq!(code, 1);
    assert!(stderr.contains("is there already"), "{stderr}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
    let (code, _, stderr) = said(folder.path(), &["init", "no/such/folder.toml"]);
    assert_eq!(code, 1);
    assert!(stderr.contains("mkdir -p no/such"), "{stderr}");
}

/// On a terminal three questions are asked, and an answer that is wrong is asked for again.
#[test]
fn a_first_file_has_what_was_answered() {
    let folder = tempfile::tempdir().unwrap();
    let terminal = nix::pty::openpty(None, None).unwrap();
    let slave = || Stdio::from(terminal.slave.try_clone().unwrap());
    let mut command = binary();
    command.current_dir(folder.path()).args(["init", "x.toml"]);
    let child = command
        .stdin(slave())
        .stderr(slave())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut master = fs::File::from(terminal.master);
    let answers = "k1:9092, k2:9092\norders,^billing\\..+\nnowhere\nhttps://hooks.example/T$0\n";
    master.write_all(answers.as_bytes()).unwrap();
    let (code, _, _) = read(child.wait_with_output().unwrap());
    assert_eq!(code, 0);
    let text = fs::read_to_string(folder.path().join("x.toml")).unwrap();
    for line in [
        r#"brokers = ["k1:9092", "k2:9092"]"#,
        r"topics = ['^billing\..+']",
        r#"url = "https://hooks.example/T$$0""#,
    ] {
        let line = line.replace("topics = ['", "topics = [\"orders\", '");
        assert!(text.contains(&line), "{line}: {text}");
    }
    let (code, _, stderr) = said(folder.path(), &["check", "x.toml"]);
    assert_eq!(code, 0, "{stderr}");
}

#[test]
fn a_new_key_signs() {
    let folder = tempfile::tempdir().unwrap();
    let (code, key, _) = here(&["keys", "new"]);
    assert_eq!(code, 0);
    assert_ne!(key, here(&["keys", "new"]).1);
    said(folder.path(), &["init"]);
    fs::write(folder.path().join("hook.secret"), key).unwrap();
    let file = folder.path().join("postrider.toml");
    let text = fs::read_to_string(&file).unwrap();
    let text = text.replace("# signing = ", "signing = ");
    assert!(text.contains("\nsigning = "));
    fs::write(&file, text).unwrap();
    let (code, _, stderr) = said(folder.path(), &["check", "postrider.toml"]);
    assert_eq!(code, 0, "{stderr}");
}

#[test]
fn a_new_private_key_signs_and_its_public_one_is_shown() {
    let folder = tempfile::tempdir().unwrap();
    let ed25519 = ["keys", "new", "--scheme", "standard-webhooks-ed25519"];
    let (code, key, said_beside) = here(&ed25519);
    assert!(code == 0 && key.starts_with("whsk_"), "{said_beside}");
    assert_eq!(key.lines().count(), 1, "what a file may hold");
    let (_, public) = said_beside.trim().split_once(": ").unwrap();
    assert!(public.starts_with("whpk_"), "{public}");
    let (_, both, _) = here(&[&ed25519[..], &["--format", "json"]].concat());
    let both: serde_json::Value = serde_json::from_str(&both).unwrap();
    assert_ne!(both["public"], public);
    let piped = |key: &str| {
        let mut command = binary();
        command.args(["keys", "public"]).stdin(Stdio::piped());
        let streams = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = streams.spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        input.write_all(key.as_bytes()).unwrap();
        drop(input);
        read(child.wait_with_output().unwrap())
    };
    let (code, shown, _) = piped(both["secret"].as_str().unwrap());
    assert_eq!((code, shown.trim()), (0, both["public"].as_str().unwrap()));

    fs::write(folder.path().join("hook.secret"), &key).unwrap();
    let of_file = |file| said(folder.path(), &["keys", "public", file]);
    assert_eq!(
        of_file("hook.secret"),
        (0, format!("{public}\n"), String::new())
    );
    let (code, shown, stderr) = of_file(key.trim());
    assert_eq!((code, &*shown), (2, ""));
    assert!(
        stderr.contains("command line") && !stderr.contains(key.trim()),
        "{stderr}"
    );
    for (text, word) in [
        (
            "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX",
            "the secret itself",
        ),
        (public, "is a public key"),
        ("whsk_c2hvcnQtb25l", "holds 9 bytes"),
        ("c2hvcnQtb25l", "does not begin with `whsk_`"),
        ("", "does not begin with `whsk_`"),
    ] {
        let (code, _, stderr) = piped(text);
        assert!(code == 1 && stderr.contains(word), "{text}: {stderr}");
        assert!(!stderr.contains("c2hvcnQ"), "{stderr}");
    }
    assert_eq!(of_file("nowhere").0, 1);
    assert_eq!(here(&["keys", "new", "--scheme", "rsa"]).0, 2);

    said(folder.path(), &["init"]);
    let file = folder.path().join("postrider.toml");
    let text = fs::read_to_string(&file).unwrap();
    let text = text.replace(
        "# signing = { scheme = \"standard-webhooks\"",
        "signing = { scheme = \"standard-webhooks-ed25519\"",
    );
    assert!(text.contains("\nsigning = "));
    fs::write(&file, text).unwrap();
    let (code, _, stderr) = said(folder.path(), &["check", "postrider.toml"]);
    assert_eq!(code, 0, "{stderr}");
}

#[test]
fn shells_editors_and_manuals_are_told_of_every_verb() {
    for shell in ["bash", "zsh", "fish"] {
        let (code, stdout, _) = here(&["completions", shell]);
        assert_eq!(code, 0);
        assert!(stdout.contains("dead-letters"), "{shell}");
    }
    let (code, stdout, _) = here(&["man"]);
    assert!(code == 0 && stdout.contains(".TH postrider 1"), "{stdout}");
    let folder = tempfile::tempdir().unwrap();
    let (code, _, stderr) = said(folder.path(), &["man", "."]);
    assert_eq!(code, 0, "{stderr}");
    for page in [
        "postrider",
        "postrider-check",
        "postrider-keys-public",
        "postrider-dead-letters-replay",
    ] {
        assert!(folder.path().join(format!("{page}.1")).exists(), "{page}");
    }
    let (code, stdout, _) = here(&["schema"]);
    let schema: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(code, 0);
    assert!(schema["properties"]["kafka"].is_object());
    let (code, stdout, _) = here(&["version"]);
    assert!(code == 0 && stdout.starts_with("postrider 0."), "{stdout}");
}

#[test]
fn recipes_are_listed_and_shown() {
    let (code, stdout, _) = here(&["recipes", "list"]);
    assert_eq!(code, 0);
    assert!(
        stdout.contains("sendgrid") && stdout.contains("token?"),
        "{stdout}"
    );
    let (code, stdout, _) = here(&["recipes", "show", "generic"]);
    assert!(code == 0 && stdout.contains("[request]"), "{stdout}");
    let (code, _, stderr) = here(&["recipes", "show", "pigeon"]);
    assert_eq!(code, 1);
    assert!(stderr.contains("there are: generic, sendgrid"), "{stderr}");
}

#[test]
fn colours_are_where_they_are_wanted() {
    let wrong = "tests/config/invalid/ten_at_once.toml";
    for (colour, wanted) in [("auto", false), ("always", true), ("never", false)] {
        let (code, _, stderr) = here(&["check", wrong, "--color", colour]);
        assert_eq!((code, stderr.contains('\u{1b}')), (78, wanted), "{colour}");
    }
}

#[test]
fn warnings_can_be_denied() {
    let file = "tests/config/valid/warnings.toml";
    assert_eq!(here(&["check", file]).0, 0);
    let (code, stdout, stderr) = here(&["check", file, "--deny-warnings"]);
    assert_eq!((code, stdout.as_str()), (78, ""));
    assert!(stderr.contains("warning"), "{stderr}");
    let (code, _, stderr) = here(&["check", file, "--send-test"]);
    assert_eq!(code, 2);
    assert!(stderr.contains("--live"), "{stderr}");
}

/// A file whose Kafka and whose receiver are away.
fn away(folder: &Path) {
    said(folder, &["init"]);
    let file = folder.join("postrider.toml");
    let text = fs::read_to_string(&file).unwrap();
    let away = text
        .replace("localhost:9092", "127.0.0.1:9")
        .replace("localhost:8000", "127.0.0.1:9");
    fs::write(&file, away).unwrap();
}

/// A pipe gets a row for each finding, whole and without colours.
#[test]
fn a_look_at_what_is_away_says_so_in_rows() {
    let folder = tempfile::tempdir().unwrap();
    away(folder.path());
    let (code, stdout, stderr) = said(folder.path(), &["check", "postrider.toml", "--live"]);
    assert_eq!((code, stderr.as_str()), (69, ""), "{stdout}");
    let rows: Vec<&str> = stdout.lines().collect();
    let begins = [
        "away     kafka             does not answer: 127.0.0.1:9: ",
        "away     destination hook  http://127.0.0.1:9 is not reached: ",
    ];
    assert_eq!(rows.len(), begins.len(), "{stdout}");
    for (row, begin) in rows.iter().zip(begins) {
        assert!(row.starts_with(begin), "{row}");
    }
}

#[test]
fn a_narrow_terminal_is_not_written_beyond() {
    use std::io::Read as _;
    let folder = tempfile::tempdir().unwrap();
    away(folder.path());
    let size = nix::pty::Winsize {
        ws_row: 24,
        ws_col: 50,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    let terminal = nix::pty::openpty(Some(&size), None).unwrap();
    let mut command = binary();
    command
        .current_dir(folder.path())
        .args(["check", "postrider.toml", "--live"])
        .env("NO_COLOR", "1")
        .stderr(Stdio::null())
        .stdout(Stdio::from(terminal.slave));
    let status = command.status().unwrap();
    // The last handle on the other end: without it, reading ends.
    drop(command);
    assert_eq!(status.code(), Some(69));
    let mut text = Vec::new();
    // Linux ends a terminal whose other end is closed with an error.
    fs::File::from(terminal.master).read_to_end(&mut text).ok();
    let text = String::from_utf8(text).unwrap();
    assert!(
        text.lines().count() > 4 && !text.contains('\u{1b}'),
        "{text}"
    );
    for line in text.lines() {
        assert!(line.chars().count() <= 50, "{line}");
    }
}
