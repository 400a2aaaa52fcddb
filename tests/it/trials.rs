//! Records that are tried without being delivered: `explain`, `test`; and `listen`, to which they are delivered for a try.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use crate::harness::relay::binary;

use super::words::{empty, said};

const RULES: &str = r#"
[kafka]
brokers = ["127.0.0.1:9"]
prefix = "p"
start_at = "earliest"

[notification]
type = [{ topic = true }, { field = "/type" }]

[destinations.shop.webhook]
url = "https://hooks.example/T0123456789/secret-path"
headers = { authorization = "Bearer hunter2hunter2", x-shop = "{{ value.shop }}" }
signing = { scheme = "standard-webhooks", secrets = ["whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX"] }
body = '{"text": "an order of {{ value.total }}"}'

[destinations.crm.webhook]
url = "http://127.0.0.1:9/"

[[rules]]
name = "orders"
topics = ["orders"]
types = ["orders.created"]
match = { "/shop" = "north" }
deliver_to = ["shop"]

[[rules]]
name = "all"
topics = ["orders", "^more\\..+"]
types = ["*.deleted"]
deliver_to = ["crm"]
"#;

/// A folder with rules and a record.
fn rules() -> tempfile::TempDir {
    let folder = empty();
    // Without certificates no client can be made for https; none is needed to see what would be sent.
    let text = RULES.replace("https://", "http://");
    fs::write(folder.path().join("p.toml"), text).unwrap();
    let order = r#"{"type":"created","shop":"north","total":7}"#;
    fs::write(folder.path().join("order.json"), order).unwrap();
    folder
}

#[test]
fn a_record_is_explained_without_its_secrets() {
    let folder = rules();
    let words = [
        "-c",
        "p.toml",
        "explain",
        "--record",
        "order.json",
        "--topic",
        "orders",
    ];
    let (code, stdout, stderr) = said(folder.path(), &words);
    assert_eq!((code, stderr.as_str()), (0, ""));
    for line in [
        "type orders.created\n",
        "shop: delivered, by rule orders\n",
        "* rule orders  takes it\n",
        "POST http://hooks.example\n",
        "authorization: [secret]\n",
        "x-shop: north\n",
        "webhook-signature: [signature]\n",
        "{\"text\": \"an order of 7\"}\n",
        "crm: not for it\n",
        "leaves it: its type is \"orders.created\", and types = [\"*.deleted\"]\n",
    ] {
        assert!(stdout.contains(line), "{line}: {stdout}");
    }
    for secret in ["hunter2", "T0123456789", "secret-path", "AAECAw", "v1,"] {
        assert!(!stdout.contains(secret), "{secret}: {stdout}");
    }
    let json = [&words[..], &["--format", "json", "-d", "shop"]].concat();
    let (code, stdout, _) = said(folder.path(), &json);
    let report: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(
        (code, &report["destinations"][0]["delivered"]),
        (0, &true.into())
    );
    let south = r#"{"type":"created","shop":"south"}"#;
    fs::write(folder.path().join("order.json"), south).unwrap();
    let (_, stdout, _) = said(folder.path(), &words);
    let line = "leaves it: the field /shop is \"south\", and must be \"north\"\n";
    assert!(stdout.contains(line), "{stdout}");
    for (wrong, hint) in [
        (&["--record", "order.json"] as &[&str], "say --topic"),
        (
            &["--record", "order.json", "--topic", "orders", "-d", "shpo"],
            "did you mean shop?",
        ),
        (&["--topic", "orders"], "--partition"),
        (&["--record", "none.json", "--topic", "orders"], "none.json"),
    ] {
        let words = [&["-c", "p.toml", "explain"], wrong].concat();
        let (code, _, stderr) = said(folder.path(), &words);
        assert_eq!(code, 2, "{stderr}");
        assert!(stderr.contains(hint), "{stderr}");
    }
    let words = [
        "-c",
        "p.toml",
        "explain",
        "--topic",
        "orders",
        "--partition",
        "0",
        "--offset",
        "1",
    ];
    let (code, _, stderr) = said(folder.path(), &words);
    assert_eq!(code, 69, "{stderr}");
}

const EXPECTATIONS: &str = r#"
[[test]]
name = "north"
record = { topic = "orders", file = "../order.json" }
deliver_to = ["shop"]

[test.expect.shop]
rule = "orders"
body = '{ "text":"an order of 7" }'
headers = { x-shop = "north" }

[[test]]
name = "south"
record = { topic = "orders", json = { type = "created", shop = "south" } }
deliver_to = []
"#;

#[test]
fn expectations_hold_or_are_shown_with_what_differs() {
    let folder = rules();
    fs::create_dir(folder.path().join("tests")).unwrap();
    let file = folder.path().join("tests/orders.toml");
    fs::write(&file, EXPECTATIONS).unwrap();
    let words = ["-c", "p.toml", "test", "tests"];
    let (code, stdout, stderr) = said(folder.path(), &words);
    assert_eq!((code, stderr.as_str()), (0, ""), "{stdout}");
    assert!(stdout.ends_with("2 passed, 0 failed\n"), "{stdout}");

    let wrong = EXPECTATIONS
        .replace("order of 7", "order of 8")
        .replace("deliver_to = []", "deliver_to = [\"crm\"]");
    fs::write(&file, wrong).unwrap();
    let (code, stdout, _) = said(folder.path(), &words);
    assert_eq!(code, 1, "{stdout}");
    for line in [
        "FAILED  tests/orders.toml: north\n",
        "- expected, + got",
        "-   \"text\": \"an order of 8\"\n",
        "+   \"text\": \"an order of 7\"\n",
        "crm does not get it, and should: not for it\n",
        "0 passed, 2 failed\n",
    ] {
        assert!(stdout.contains(line), "{line}: {stdout}");
    }
    let json = [&words[..], &["--format", "json"]].concat();
    let (code, stdout, _) = said(folder.path(), &json);
    let report: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((code, &report["failed"]), (1, &2.into()));

    fs::write(&file, "[[test]]\nname = \"x\"\nrecrod = {}\n").unwrap();
    let (code, _, stderr) = said(folder.path(), &words);
    assert_eq!(code, 78);
    assert!(
        stderr.contains("orders.toml") && stderr.contains("recrod"),
        "{stderr}"
    );
    assert_eq!(said(folder.path(), &["-c", "p.toml", "test", "none"]).0, 2);
}

#[test]
fn the_example_keeps_its_expectations() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = "examples/graphspace";
    let file = format!("{folder}/postrider.toml");
    let expectations = format!("{folder}/expectations.toml");
    let (code, stdout, stderr) = said(here, &["-c", &file, "test", &expectations]);
    assert_eq!(code, 0, "{stdout}{stderr}");
    assert!(stdout.ends_with("3 passed, 0 failed\n"), "{stdout}");
}

/// What a sender of ours signs, the listener knows; nobody else's.
#[test]
fn a_listener_shows_what_comes_and_checks_its_signature() {
    use std::io::{BufRead as _, BufReader};
    let secret = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX";
    let mut listen = binary();
    listen.args([
        "listen",
        "--port",
        "0",
        "--secret",
        secret,
        "--fail-every",
        "2",
    ]);
    listen.args(["--status", "202", "--format", "json"]);
    let mut child = listen
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stderr.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let address = line
        .split_whitespace()
        .find_map(|word| word.strip_prefix("http://"));
    let address = address.unwrap().trim_end_matches(';').to_owned();
    let mut seen = BufReader::new(child.stdout.take().unwrap()).lines();
    let folder = rules();
    let file = folder.path().join("p.toml");
    let text = fs::read_to_string(&file).unwrap();
    let here = text
        .replace("http://hooks.example/", &format!("http://{address}/"))
        .replace("body = '{\"text\": \"an order of {{ value.total }}\"}'", "")
        .replace(", x-shop = \"{{ value.shop }}\"", "");
    fs::write(&file, here).unwrap();
    let test = [
        "-c",
        "p.toml",
        "check",
        "--live",
        "-d",
        "shop",
        "--send-test",
    ];
    said(folder.path(), &test);
    let mut next =
        || -> serde_json::Value { serde_json::from_str(&seen.next().unwrap().unwrap()).unwrap() };
    let first = next();
    assert_eq!(
        (&first["signature"], &first["status"]),
        (&"valid".into(), &202.into())
    );
    assert_eq!(first["path"], "/T0123456789/secret-path");
    said(folder.path(), &test);
    assert_eq!(next()["status"], 503, "every second one fails");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("AAECAw", "BBECAw")).unwrap();
    said(folder.path(), &test);
    let third = next();
    assert_eq!(
        (&third["signature"], &third["status"]),
        (&"wrong".into(), &401.into())
    );
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
