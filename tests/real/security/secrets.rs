//! Secrets planted wherever a file may have them, receivers that repeat all they are sent, and a look at everything that Postrider shows.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

use postrider::config::Config as Loaded;

use crate::harness::config::{Config, Destination};
use crate::harness::place::{New, Stored};
use crate::harness::port::free_port;
use crate::harness::receiver::{Answer, Receiver, Request};
use crate::harness::relay::{Relay, binary};
use crate::harness::wait::wait_until;

use super::SOON;
use super::guarded::{Guarded, PASSWORD, USER};

/// Where each is planted.
const FILE: &str = "file-Kestrel-51c07e";
const ENVIRONMENT: &str = "env-Osprey-8d23b4";
const CREDENTIAL: &str = "credential-Merlin-2f9a66";
const PATH: &str = "path-Harrier-c4e810";
const HEADER: &str = "header-Goshawk-77b1d5";
const PROXY: &str = "proxy-Sparrowhawk-e03f92";
/// Bytes in base64, as Standard Webhooks writes a key.
const SIGNING: &str = "c2lnbmluZy1rZXktQnV6emFyZC00YTYxZQ==";
/// A private key, whose request is signed beside the other's.
const SIGNING_PRIVATE: &str = "xaqN9D+fg3vtt0QvMdy3sWbThTUHbwlLhc46LgtEWPc=";
/// Of the admin server.
const TOKEN: &str = "admin-Caracara-3d6e15";
const SECRETS: [&str; 10] = [
    FILE,
    ENVIRONMENT,
    CREDENTIAL,
    PATH,
    HEADER,
    PROXY,
    SIGNING,
    SIGNING_PRIVATE,
    TOKEN,
    PASSWORD,
];

/// A secret as it stands, and the middle of its base64 wherever in a text it begins.
fn forms(secret: &str) -> Vec<String> {
    let mut forms = vec![secret.to_owned()];
    for before in ["", "x", "xx"] {
        let text = format!("{before}{secret}");
        for encoded in [STANDARD_NO_PAD.encode(&text), URL_SAFE_NO_PAD.encode(&text)] {
            forms.push(encoded[4..encoded.len() - 4].to_owned());
        }
    }
    forms.push(secret.bytes().map(|b| format!("{b:02x}")).collect());
    forms
}

/// Complains of every secret in this text.
fn search(place: &str, text: &str) {
    for secret in SECRETS {
        for form in forms(secret) {
            if let Some(at) = text.find(&form) {
                let from = text[..at].rfind('\n').map_or(0, |at| at + 1);
                let line = text[from..].lines().next().unwrap_or_default();
                panic!("{secret} (as {form}) is shown by {place}: {line}");
            }
        }
    }
}

#[test]
fn the_search_finds_what_is_planted() {
    let basic = STANDARD_NO_PAD.encode(format!("shop:{PROXY}"));
    for text in [format!("a {FILE} b"), format!("Basic {basic}")] {
        let found = std::panic::catch_unwind(|| search("a text", &text));
        assert!(found.is_err(), "{text}");
    }
    search("a text", "nothing is here");
}

/// Repeats everything, and `more` that this receiver knows.
fn echo(request: &Request, status: u16, more: &str) -> Answer {
    let shown =
        |(name, value): &(String, Vec<u8>)| format!("{name}: {}\n", String::from_utf8_lossy(value));
    let headers: String = request.headers.iter().map(shown).collect();
    let body = format!("{} with\n{headers}{more}", request.path);
    Answer::status(status).body(body)
}

fn destinations(receiver: &Receiver, folder: &Path) -> Vec<Destination> {
    let (here, port) = (receiver.url(), receiver.port());
    let key = folder.join("signing.key").display().to_string();
    let private = folder.join("signing.private").display().to_string();
    let signing = format!(
        "signing = {{ scheme = \"standard-webhooks-ed25519\", secrets = [{{ file = {private:?} }}, {{ file = {key:?}, not_after = 2100-01-01T00:00:00Z }}] }}"
    );
    vec![
        Destination::new("refused", &format!("{here}{PATH}?v=1"))
            .lane("dead_letters = { brake_rejected = 1000000 }")
            .webhook(&signing)
            .webhook(&format!(
                "headers = {{ authorization = \"Bearer ${{TOKEN}}\", x-api-key = \"{HEADER}\", x-both = \"{{{{ topic }}}} {HEADER}\" }}"
            )),
        Destination::new("proxied", "http://hooks.invalid/busy").webhook(&format!(
            "proxy = {{ url = \"http://127.0.0.1:{port}\", username = \"shop\", password = {{ env = \"PROXY_PASSWORD\" }} }}"
        )),
        Destination::new("nobody", &format!("https://127.0.0.1:1/{PATH}")),
    ]
}

/// Sections that the harness does not write: an address that systemd passes, and a token in a file.
fn more(receiver: &Receiver, folder: &Path) -> String {
    let token = folder.join("mail.token").display().to_string();
    let here = receiver.url();
    format!(
        "[destinations.let-in-never.webhook]\nurl = {{ credential = \"hook.url\" }}\n\
         [destinations.mail.email]\nfrom = \"a@example.org\"\nto = [\"b@example.org\"]\nsubject = \"s\"\ntext = \"t\"\n\
         bridge = {{ recipe = \"generic\", with = {{ url = \"{here}mail\", token = {{ file = {token:?} }} }} }}\n\
         [[rules]]\nname = \"all\"\ntopics = [\"planted-in\"]\ndeliver_to = [\"let-in-never\", \"mail\"]\n"
    )
}

/// Runs a command of the program: what it says and complains of.
fn ask(folder: &Path, file: &Path, words: &str) -> String {
    let output = binary()
        .arg("-c")
        .arg(file)
        .args(words.split_whitespace())
        .env("TOKEN", ENVIRONMENT)
        .env("PROXY_PASSWORD", PROXY)
        .env("CREDENTIALS_DIRECTORY", folder.join("credentials"))
        .output()
        .unwrap();
    let [out, error] =
        [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    out + &error
}

fn reload_over_http(address: &str, token: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    let request = format!(
        "POST /-/reload HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {token}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn plant(folder: &Path, receiver: &Receiver) {
    fs::write(folder.join("signing.key"), format!("whsec_{SIGNING}\n")).unwrap();
    let private = format!("whsk_{SIGNING_PRIVATE}\n");
    fs::write(folder.join("signing.private"), private).unwrap();
    fs::write(folder.join("admin.token"), format!("{TOKEN}\n")).unwrap();
    fs::write(folder.join("mail.token"), format!("{FILE}\n")).unwrap();
    fs::create_dir(folder.join("credentials")).unwrap();
    let url = format!("{}{CREDENTIAL}/never", receiver.url());
    fs::write(folder.join("credentials/hook.url"), url).unwrap();
}

fn shown(record: &Stored) -> String {
    let text =
        |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
    let mut all = text(record.key.as_deref()) + " " + &text(record.value.as_deref());
    for (name, value) in &record.headers {
        all += &format!(" {}: {}", text(Some(name)), text(value.as_deref()));
    }
    all
}

#[test]
fn no_secret_is_shown_anywhere() {
    let guarded = Guarded::shared();
    let kafka = &guarded.broker;
    kafka.create_topic("planted-in", 1, &[]);
    let both = format!("{SIGNING} and {SIGNING_PRIVATE}");
    let receiver = Receiver::start(move |request| match request.path.as_str() {
        path if path.contains("never") => echo(request, 401, ""),
        path if path.contains("busy") => echo(request, 503, PROXY),
        path if path.contains(PATH) => echo(request, 422, &both),
        _ => echo(request, 422, ""),
    });
    let folder = tempfile::TempDir::with_prefix("postrider-secrets-").unwrap();
    plant(folder.path(), &receiver);
    let mut config = Config::new(&guarded.sasl, "planted")
        .topics(&["planted-in"])
        .property("security.protocol", "SASL_PLAINTEXT")
        .property("sasl.mechanism", "PLAIN")
        .property("sasl.username", USER)
        .property("sasl.password", PASSWORD)
        .more(&more(&receiver, folder.path()));
    for destination in destinations(&receiver, folder.path()) {
        config = config.destination(destination);
    }
    let admin_port = free_port();
    let file = folder.path().join("postrider.toml");
    let token = folder.path().join("admin.token").display().to_string();
    let admin = format!("[admin]\ntoken = {{ file = {token:?} }}\n");
    let text = config.text(admin_port).replace("[admin]\n", &admin);
    fs::write(&file, text).unwrap();

    // Before anything runs: the file itself, as it is and with mistakes in the very lines.
    let checked = ask(folder.path(), &file, "check");
    search("check", &checked);
    assert!(!checked.contains("error"), "{checked}");
    let text = fs::read_to_string(&file).unwrap();
    let broken = folder.path().join("broken.toml");
    let mistakes = text
        .replace("authorization =", "webhook-id =")
        .replace("sasl.password =", "sasl.passwort =")
        .replace("username =", "user =")
        .replace("token =", "tokn =")
        .replace(&format!("/{PATH}"), &format!("/{PATH}#x"));
    fs::write(&broken, mistakes).unwrap();
    let complaints = ask(folder.path(), &broken, "check");
    assert!(complaints.matches("error:").count() >= 4, "{complaints}");
    search("check of a file with mistakes", &complaints);
    let environment = |name: &str| match name {
        "TOKEN" => Some(ENVIRONMENT.to_owned()),
        "PROXY_PASSWORD" => Some(PROXY.to_owned()),
        "CREDENTIALS_DIRECTORY" => Some(folder.path().join("credentials").display().to_string()),
        _ => None,
    };
    let loaded = Loaded::load(&file, &environment).unwrap();
    search("Debug", &format!("{loaded:?} {loaded:#?}"));

    // While it runs, everywhere in trouble.
    kafka.produce(&[New::to("planted-in").key("k").value("{\"n\": 1}")]);
    let mut relay = Relay::start_with(&text, admin_port, |command| {
        command
            .args(["--log-level", "trace"])
            .env("TOKEN", ENVIRONMENT)
            .env("PROXY_PASSWORD", PROXY)
            .env("RUST_LOG", "trace")
            .env("CREDENTIALS_DIRECTORY", folder.path().join("credentials"));
    });
    let sent = |what: &str| {
        receiver.attempts().iter().any(|attempt| {
            let has =
                |(_, value): &(String, Vec<u8>)| String::from_utf8_lossy(value).contains(what);
            attempt.path.contains(what) || attempt.headers.iter().any(has)
        })
    };
    let basic = STANDARD_NO_PAD.encode(format!("shop:{PROXY}"));
    for secret in [FILE, ENVIRONMENT, CREDENTIAL, PATH, HEADER, &basic] {
        wait_until(SOON, "every secret was sent to who must know it", || {
            sent(secret)
        });
    }
    relay.wait_metric("postrider_dead_letters_total", &[], SOON, |n| n >= 2.0);
    let id = receiver
        .attempts()
        .iter()
        .find_map(|a| a.id.clone())
        .unwrap();
    let file = relay.file();
    let say = |words: &str| {
        let said = ask(folder.path(), &file, words);
        search(words, &said);
        said
    };
    let words = [
        "check --live",
        "check --live --format json",
        "check --live --send-test -d refused",
        "status",
        "status --format json",
        "status -d let-in-never",
        "health",
        "retries list -d proxied",
        "dead-letters list",
        "dead-letters list --format json",
        "dead-letters stats",
        "pause -d proxied --reason because",
        "resume -d proxied --reason because",
    ];
    for words in words {
        assert!(!say(words).is_empty(), "{words} says nothing");
    }
    say(&format!("dead-letters show {id}"));
    for path in [
        "/metrics",
        "/livez",
        "/readyz",
        "/",
        "/destinations/refused",
        "/api/v1/status",
    ] {
        let (_, body) = relay.get(path).expect("the admin server answers");
        search(path, &body);
    }
    for (token, status) in [("x", 401), (HEADER, 401), (TOKEN, 200)] {
        let answer = reload_over_http(&relay.admin(), token);
        search("/-/reload", &answer);
        let begins = format!("HTTP/1.1 {status}");
        assert!(answer.starts_with(&begins), "{answer}");
    }
    assert_eq!(relay.stop(SOON).code(), Some(0));
    let said = relay.log();
    assert!(
        said.contains("TRACE") || said.contains("DEBUG"),
        "it says much"
    );
    search("the log", &said);
    let owned = kafka
        .topics()
        .into_iter()
        .filter(|topic| topic.starts_with("planted."));
    for topic in owned {
        for record in kafka.read_all(&topic) {
            search(&topic, &shown(&record));
        }
    }
}
