//! Dead letters as a person deals with them: listed, shown, replayed each once whatever happens on the way, purged.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Output;
use std::time::Duration;

use serde_json::Value;

use crate::harness::broker::Broker;
use crate::harness::config::{Config, Destination};
use crate::harness::place::{New, Stored};
use crate::harness::receiver::{Answer, Receiver};
use crate::harness::relay::{Relay, binary};
use crate::harness::wait::wait_for;

use super::main_job::wait_no_lag;

mod replay;

const SOON: Duration = Duration::from_secs(30);
/// Everything may be refused and nothing is held up.
const NO_BRAKE: &str = "dead_letters = { brake_rejected = 1000000 }";

/// `postrider -c FILE dead-letters WORDS`.
fn ask(file: &Path, words: &str) -> Output {
    let mut command = binary();
    command.arg("-c").arg(file).arg("dead-letters");
    command.args(words.split_whitespace()).output().unwrap()
}

/// The same with this exit code: what it said, and what it complained of.
#[track_caller]
fn said(file: &Path, words: &str, code: i32) -> (String, String) {
    let output = ask(file, words);
    let [out, error] =
        [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    assert_eq!(output.status.code(), Some(code), "{words}: {out}{error}");
    (out, error)
}

/// The objects of JSON that it said, one on each line.
#[track_caller]
fn objects(file: &Path, words: &str, code: i32) -> Vec<Value> {
    let (out, _) = said(file, &format!("{words} --format json"), code);
    let object = |line: &str| serde_json::from_str(line).expect("a line is an object");
    out.lines().map(object).collect()
}

#[track_caller]
fn object(file: &Path, words: &str, code: i32) -> Value {
    let mut all = objects(file, words, code);
    assert_eq!(all.len(), 1, "{words}: {all:?}");
    all.remove(0)
}

/// The ids of what is listed.
#[track_caller]
fn listed(file: &Path, words: &str) -> Vec<String> {
    let ids = objects(file, &format!("list {words}"), 0);
    ids.iter().map(|row| text(&row["id"])).collect()
}

fn text(value: &Value) -> String {
    value.as_str().expect("text").to_owned()
}

/// The records of this topic by their ids.
fn by_id(records: &[Stored]) -> BTreeMap<String, usize> {
    let mut ids = BTreeMap::new();
    for record in records {
        let id = record.header("postrider-id").expect("an id");
        *ids.entry(id.to_owned()).or_default() += 1;
    }
    ids
}

/// Waits until the relay has written so many since it started.
fn wait_dead(relay: &mut Relay, count: usize) {
    let name = "postrider_dead_letters_total";
    relay.wait_metric(name, &[], 2 * SOON, |n| n == count as f64);
}

#[test]
fn dead_letters_are_listed_shown_replayed_in_rounds_and_purged() {
    let kafka = Broker::shared();
    kafka.create_topic("deal-in", 1, &[]);
    let receiver = Receiver::start(|request| match &request.body[..] {
        br#"{"type": "bad"}"# => Answer::status(400).body("\u{1b}[2Jnot like this"),
        _ => Answer::status(503),
    });
    let config = Config::new(kafka.brokers(), "deal")
        .notification(r#"type = { field = "/type" }"#)
        .destination(
            Destination::new("hook", &receiver.url())
                .topics(&["deal-in"])
                .lane(NO_BRAKE)
                .lane(r#"retry = { schedule = ["50ms"], jitter = 0 }"#)
                .lane(r#"breaker = { probe_interval = "50ms", probe_interval_max = "50ms" }"#),
        );
    kafka.produce(&[
        New::to("deal-in")
            .key("k1")
            .header([0xff], "odd")
            .value(r#"{"type": "bad"}"#),
        New::to("deal-in").key([0xff]).value(r#"{"type": "worse"}"#),
    ]);
    let mut relay = Relay::start(&config);
    wait_dead(&mut relay, 2);
    wait_no_lag(kafka, "deal.hook", &["deal-in"]);
    let file = relay.file();

    let all = listed(&file, "");
    assert_eq!(all.len(), 2);
    let bad = listed(&file, "--type bad").remove(0);
    assert_eq!(
        listed(&file, "--key k1 -d hook --reason rejected --status 4xx"),
        [bad.as_str()]
    );
    let worse = listed(&file, "--reason exhausted --status 503 --type w*");
    assert_eq!(worse.len(), 1);
    for none in [
        "--rule other",
        "--status 401",
        "--key k2",
        "--until 1h",
        "--reason gone",
    ] {
        assert!(listed(&file, none).is_empty(), "{none}");
    }
    let (_, error) = said(&file, "list -d other", 2);
    assert!(error.contains("there are: hook"), "{error}");
    assert_eq!(listed(&file, "--since 1h --rule hook").len(), 2);
    let (table, _) = said(&file, "list", 0);
    assert!(table.contains("2 dead letters not replayed"), "{table}");
    assert!(
        !table.contains('\u{1b}'),
        "nothing a record or an answer holds moves a cursor"
    );
    let (page, _) = said(&file, &format!("show {}", &bad[..12]), 0);
    assert!(
        page.contains("answer        \\u{1b}[2Jnot like this"),
        "{page}"
    );
    let whole = object(&file, &format!("show {bad}"), 0);
    assert_eq!(whole["value"], r#"{"type": "bad"}"#);
    assert_eq!(
        whole["headers"][0][0], "base64:/w==",
        "headers as they were"
    );
    assert_eq!(
        (&whole["topic"], &whole["attempts"]),
        (&"deal-in".into(), &1.into())
    );
    assert_eq!(object(&file, "stats", 0)["open"], 2);
    let open = |relay: &mut Relay, count: f64| {
        relay.wait_metric("postrider_dead_letters_open", &[], 2 * SOON, |n| n == count);
    };
    open(&mut relay, 2.0);
    said(&file, "show msg_00000000000000", 1);

    said(&file, "replay", 2);
    let (_, error) = said(&file, "replay --all", 2);
    assert!(
        error.contains("--yes"),
        "nobody is there to be asked: {error}"
    );
    let (out, _) = said(&file, "replay --all --dry-run", 0);
    assert_eq!(out, "2 dead letters would be replayed: 2 to hook\n");
    assert_eq!(kafka.read_all("deal.replay").len(), 0);

    // It dies again, twice; then a person must want it.
    for round in 1..=2 {
        let report = object(&file, "replay --type bad --yes", 0);
        assert_eq!(report["replayed"], 1, "round {round}");
        wait_dead(&mut relay, 2 + round);
        assert_eq!(object(&file, "list --type bad", 0)["round"], round);
    }
    let report = object(&file, "replay --type bad --yes", 1);
    assert_eq!(report["replayed"], 0);
    let left = &report["left"][0];
    assert_eq!(text(&left["id"]), bad);
    assert!(text(&left["why"]).contains("--force"), "{left}");
    // The mark of a letter that Kafka has deleted goes with the next replay.
    let stale = r#"{"version":1,"who":"x","at":0,"marks":"AQEBAQEBAQEBAQEBAQEBAQE="}"#;
    let stale = New::to("deal.state").key("replayed/stale").value(stale);
    kafka.produce(&[stale]);
    receiver.script(|_| Answer::ok());
    assert_eq!(
        object(&file, "replay --type bad --yes --force", 0)["replayed"],
        1
    );
    receiver.wait_accepted(1, SOON);
    let last = receiver.attempts().pop().unwrap();
    assert_eq!(last.id.as_deref(), Some(&*bad));
    open(&mut relay, 1.0);
    let replayed = kafka.read_all("deal.replay");
    assert_eq!(by_id(&replayed)[&bad], 3);

    // What its file does not deliver any more is left by name.
    let gone = Config::new(kafka.brokers(), "deal")
        .topics(&["deal-in"])
        .destination(Destination::new("new", &receiver.url()));
    relay.rewrite(&gone);
    let report = object(&file, "replay --all --dry-run", 1);
    assert!(
        text(&report["left"][0]["why"]).contains("hook is not in this file"),
        "{report}"
    );
    relay.rewrite(&config);

    let marks = |kafka: &Broker| {
        let keys = kafka.read_all("deal.state");
        let mut there: BTreeMap<Vec<u8>, bool> = BTreeMap::new();
        for record in keys {
            let key = record.key.unwrap_or_default();
            if key.starts_with(b"replayed/") {
                there.insert(key, record.value.is_some());
            }
        }
        there.values().filter(|there| **there).count()
    };
    assert_eq!(marks(kafka), 3);
    said(&file, "purge --before 0s", 2);
    let report = object(&file, "purge --before 1h --yes", 0);
    assert_eq!(report["deleted"], 0);
    std::thread::sleep(Duration::from_millis(20));
    let report = object(&file, "purge --before 0s --yes", 0);
    assert_eq!(
        (&report["deleted"], &report["open"]["hook"]),
        (&4.into(), &1.into())
    );
    assert!(kafka.read_all("deal.dead-letters").is_empty());
    assert_eq!(marks(kafka), 0, "marks of what is gone go too");
    open(&mut relay, 0.0);
    assert_eq!(relay.stop(SOON).code(), Some(0));
}

#[test]
fn a_value_that_was_left_out_comes_from_its_origin_or_is_refused_by_name() {
    let kafka = Broker::shared();
    kafka.create_topic("shed-in", 1, &[("max.message.bytes", "4000000")]);
    kafka.create_topic("shed.dead-letters", 1, &[("max.message.bytes", "6000")]);
    // Nothing that compresses.
    let noise = |seed: u64, bytes: usize| -> String {
        let digest = |n: u64| crate::harness::place::sha256(&(seed << 32 | n).to_be_bytes());
        let hex = (0..bytes as u64 / 64).flat_map(digest);
        hex.map(|byte| format!("{byte:02x}")).collect()
    };
    let large = |seed| format!("{{\"x\": \"{}\"}}", noise(seed, 200_000));
    let produced = kafka.produce(&[
        New::to("shed-in").key("gone").value(large(1)),
        New::to("shed-in")
            .key("kept")
            .header("trace", "t1")
            .value(large(2)),
        // Too large for the dead letters even without its value.
        New::to("shed-in")
            .key(noise(3, 20_000))
            .header("big", noise(4, 20_000))
            .value("{}"),
        New::to("shed-in").key("small").value("{}"),
    ]);
    let receiver = Receiver::start(|_| Answer::status(422));
    let config = Config::new(kafka.brokers(), "shed")
        .topics(&["shed-in"])
        .destination(Destination::new("hook", &receiver.url()).lane(NO_BRAKE));
    let mut relay = Relay::start(&config);
    wait_dead(&mut relay, 4);
    wait_no_lag(kafka, "shed.hook", &["shed-in"]);
    let file = relay.file();
    let sheds: Vec<Value> = objects(&file, "list", 0)
        .iter()
        .map(|row| row["shed"].clone())
        .collect();
    assert_eq!(sheds.iter().filter(|shed| **shed == "value").count(), 2);
    assert_eq!(sheds.iter().filter(|shed| **shed == "record").count(), 1);

    kafka.delete_records("shed-in", 0, 1);
    receiver.script(|_| Answer::ok());
    let report = object(&file, "replay --all --yes", 1);
    assert_eq!(report["replayed"], 3);
    let left = report["left"].as_array().unwrap();
    assert_eq!(left.len(), 1);
    let why = text(&left[0]["why"]);
    assert!(
        why.contains("not at its origin any more (shed-in, partition 0, offset 0)"),
        "{why}"
    );
    receiver.wait_accepted(3, SOON);
    let accepted = || {
        let attempts = receiver.attempts();
        let accepted = attempts.into_iter().skip(4);
        accepted.map(|a| a.body_sha256).collect::<BTreeSet<_>>()
    };
    let expected: BTreeSet<_> = produced[1..].iter().map(Stored::sha256).collect();
    assert_eq!(
        wait_for(SOON, "three bodies", || Some(accepted())),
        expected
    );
    let replayed = kafka.read_all("shed.replay");
    let kept = replayed
        .iter()
        .find(|r| r.header("postrider-key") == Some("kept"));
    assert_eq!(kept.unwrap().header("trace"), Some("t1"));
    let bare = replayed
        .iter()
        .find(|r| r.header("postrider-offset") == Some("2"))
        .unwrap();
    assert_eq!(
        bare.header("postrider-key").map(str::as_bytes),
        produced[2].key.as_deref()
    );
    assert_eq!(bare.headers[0], produced[2].headers[0]);
}

#[test]
fn no_secret_is_in_a_dead_letter_whatever_the_receiver_says() {
    const SECRETS: [&str; 4] = [
        "s3cr3t-t0ken",
        "AAECAwQFBgcICQoLDA0ODxAREhMUFRYX",
        "T0123-path-t0ken",
        "secret-in-0001",
    ];
    let kafka = Broker::shared();
    kafka.create_topic("secret-in", 1, &[]);
    kafka.produce(&[New::to("secret-in").value("{}")]);
    let receiver = Receiver::start(|request| {
        let shown = |(name, value): &(String, Vec<u8>)| {
            let value = String::from_utf8_lossy(value);
            format!("{name}: {value}\n")
        };
        let headers: String = request.headers.iter().map(shown).collect();
        let body = format!("{} refused\n{headers}whsec_{}", request.path, SECRETS[1]);
        Answer::status(400).body(body)
    });
    let [token, key, path, rendered] = SECRETS;
    let url = format!("{}{path}", receiver.url());
    let config = Config::new(kafka.brokers(), "secret")
        .topics(&["secret-in"])
        .destination(
            Destination::new("hook", &url)
                .webhook(&format!(
                    "headers = {{ authorization = \"Bearer {token}\", x-api-key = \"{{{{ topic }}}}-0001\" }}"
                ))
                .webhook(&format!(
                    "signing = {{ scheme = \"standard-webhooks\", secrets = [\"whsec_{key}\"] }}"
                )),
        );
    let mut relay = Relay::start(&config);
    wait_dead(&mut relay, 1);
    let sent = receiver.attempts()[0].clone();
    let had = |text: &str| {
        sent.headers
            .iter()
            .any(|(_, v)| String::from_utf8_lossy(v).contains(text))
    };
    assert!(had(token) && had(rendered), "they were sent");
    let [letter] = &kafka.read_all("secret.dead-letters")[..] else {
        panic!("one dead letter")
    };
    let text = format!("{:?}", letter.header("postrider-excerpt").unwrap());
    assert!(
        text.contains("refused") && text.contains("[secret]"),
        "{text}"
    );
    let whole = object(&relay.file(), &format!("show {}", sent.id.unwrap()), 0).to_string();
    for secret in SECRETS {
        for (_, value) in &letter.headers {
            let value = String::from_utf8_lossy(value.as_deref().unwrap_or_default()).into_owned();
            assert!(!value.contains(secret), "{secret}: {value}");
        }
        assert!(!whole.contains(secret), "{secret}: {whole}");
        assert!(!relay.log().contains(secret), "{secret} is in the log");
    }
}

#[test]
fn what_fits_nowhere_stays_and_health_says_so() {
    let kafka = Broker::shared();
    kafka.create_topic("tight-in", 1, &[]);
    kafka.create_topic("tight.dead-letters", 1, &[("max.message.bytes", "200")]);
    let produced = kafka.produce(&[
        New::to("tight-in").value("{}"),
        New::to("tight-in").value("[]"),
    ]);
    let receiver = Receiver::start(|request| match &request.body[..] {
        b"{}" => Answer::status(422),
        _ => Answer::ok(),
    });
    let config = Config::new(kafka.brokers(), "tight")
        .topics(&["tight-in"])
        .destination(Destination::new("hook", &receiver.url()));
    let mut relay = Relay::start(&config);
    receiver.wait_accepted(1, SOON);
    relay.wait_log("dead letter not written", SOON);
    let (status, why) = relay.get("/readyz").unwrap();
    assert_eq!(status, 503);
    assert!(why.contains("hook: its records stay"), "{why}");
    assert!(why.contains("max.message.bytes"), "{why}");
    let blocked = [("state", "blocked")];
    assert_eq!(relay.metrics().sum("postrider_lane_state", &blocked), 1.0);
    assert_eq!(kafka.lag("tight.hook", "tight-in"), 2);

    kafka.alter_topic("tight.dead-letters", &[]);
    wait_dead(&mut relay, 1);
    wait_no_lag(kafka, "tight.hook", &["tight-in"]);
    relay.wait_ready(SOON);
    let dead = kafka.read_all("tight.dead-letters");
    assert_eq!(dead[0].header("postrider-shed"), Some("record"));
    receiver.script(|_| Answer::ok());
    let report = object(&relay.file(), "replay --all --yes", 0);
    assert_eq!(report["replayed"], 1, "{report}");
    receiver.wait_accepted(2, SOON);
    let last = receiver.attempts().pop().unwrap();
    assert_eq!(last.body.as_deref(), produced[0].value.as_deref());
}
