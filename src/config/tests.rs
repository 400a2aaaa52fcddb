//! The example file against what the reader asks for, and files nobody would write.

use std::collections::BTreeSet;
use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::*;
use crate::admin::AdminOptions;
use crate::delivery::Outcome;
use crate::kafka::OwnedTopicsOptions;
use crate::kafka::StartAtOption;
use crate::lane::WindowOptions;
use crate::rules::{
    Condition, OnError, ReadFormat, Scalar, Test, TypePart, Unmatched, ValuePolicy,
};

const EXAMPLE: &str = include_str!("../../config.example.toml");

fn nothing_set(_: &str) -> Option<String> {
    None
}

fn parse(text: &str) -> Result<Config, Problems> {
    Config::parse(text, Path::new("test.toml"), &nothing_set)
}

/// A file that is right, with `more` behind it.
fn with(more: &str) -> String {
    format!(
        "[kafka]\nbrokers = [\"k:9092\"]\nprefix = \"p\"\nstart_at = \"latest\"\n\
         [destinations.a.webhook]\nurl = \"http://h/x\"\n\
         [[rules]]\nname = \"r\"\ntopics = [\"t\"]\ndeliver_to = [\"a\"]\n{more}"
    )
}

#[test]
fn the_example_says_what_it_claims_to_be_the_default() {
    let config = parse(EXAMPLE).unwrap_or_else(|problems| panic!("{problems}"));
    assert!(config.warnings.is_empty(), "{}", config.warnings);
    let plain = parse(&with("")).unwrap();
    assert_eq!(config.limits.drain, plain.limits.drain);
    assert_eq!(config.limits.in_flight, Some(plain.in_flight()));
    assert_eq!(config.limits.window_bytes, Some(plain.window_bytes()));
    let admin = AdminOptions {
        allowed_hosts: config.admin.allowed_hosts.clone(),
        ..plain.admin.clone()
    };
    assert_eq!(config.admin, admin);
    assert!(plain.admin.allowed_hosts.is_empty());
    assert_eq!(config.log, plain.log);
    assert_eq!(config.kafka.on_records_lost, plain.kafka.on_records_lost);
    assert_eq!(config.kafka.group_protocol, plain.kafka.group_protocol);
    assert_eq!(config.kafka.commit_interval, plain.kafka.commit_interval);
    let owned = OwnedTopicsOptions {
        replication: Some(1),
        min_insync_replicas: Some(1),
        ..plain.kafka.owned_topics
    };
    assert_eq!(config.kafka.owned_topics, owned);
    assert_eq!(
        (config.read.format, config.read.null, config.read.empty),
        (plain.read.format, plain.read.null, plain.read.empty)
    );
    let (shop, other) = (&config.destinations[0], &plain.destinations[0]);
    assert_eq!(
        shop.lane,
        LaneOptions {
            concurrency: 4,
            rate: shop.lane.rate.clone(),
            expire_after: shop.lane.expire_after,
            ..other.lane.clone()
        }
    );
    assert_eq!(other.lane, LaneOptions::default());
    assert_eq!(shop.excerpt_bytes, other.excerpt_bytes);
    assert_eq!(shop.webhook.method, other.webhook.method);
    assert_eq!(shop.webhook.connect_timeout, other.webhook.connect_timeout);
    assert_eq!(shop.webhook.total_timeout, other.webhook.total_timeout);
    assert_eq!(
        shop.webhook.response_max_bytes,
        other.webhook.response_max_bytes
    );
}

/// The keys of a table as the contract writes them.
fn keys_of(table: &DeTable<'_>, base: &str, keys: &mut BTreeSet<String>) {
    for (name, value) in table {
        let name = if matches!(base, "destinations" | "rules[].match") {
            "*"
        } else {
            name.get_ref()
        };
        let place = if base.is_empty() {
            name.to_owned()
        } else {
            format!("{base}.{name}")
        };
        keys_of_value(value.get_ref(), &place, keys);
        keys.insert(place);
    }
}

fn keys_of_value(value: &DeValue<'_>, place: &str, keys: &mut BTreeSet<String>) {
    match value {
        DeValue::Table(table) => keys_of(table, place, keys),
        DeValue::Array(entries) => {
            for entry in entries {
                keys_of_value(entry.get_ref(), &format!("{place}[]"), keys);
            }
        }
        DeValue::String(_)
        | DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_) => {}
    }
}

#[test]
fn the_example_has_every_key_that_is_asked_for() {
    let (_, known) =
        Config::parse_and_list(EXAMPLE, Path::new("config.example.toml"), &nothing_set);
    let mut written = BTreeSet::new();
    keys_of(DeTable::parse(EXAMPLE).unwrap().get_ref(), "", &mut written);
    let one_place = |key: &String| {
        if let Some(rest) = key.strip_prefix("defaults.") {
            return format!("destinations.*.{rest}");
        }
        match key.strip_prefix("notification.override[].") {
            Some("topics") | None => key.clone(),
            Some(rest) => format!("notification.{rest}"),
        }
    };
    let written: BTreeSet<String> = written.iter().map(one_place).collect();
    let mut known: BTreeSet<String> = known.iter().map(one_place).collect();
    // A package installs this file: a token that everybody can read in it would let everybody in, so it stands in a comment.
    assert!(known.remove("admin.token") && EXAMPLE.contains("\n# token = {"));
    // Certificates and keys stand in files, and this one needs no other.
    assert!(known.remove("destinations.*.webhook.tls") && EXAMPLE.contains("\n# tls = {"));
    assert!(known.len() > 45, "only {} keys were asked for", known.len());
    let missing: Vec<_> = known.difference(&written).collect();
    assert!(
        missing.is_empty(),
        "not in config.example.toml: {missing:?}"
    );
}

#[test]
fn every_key_that_is_asked_for_stands_in_the_contract() {
    let (_, known) =
        Config::parse_and_list(EXAMPLE, Path::new("config.example.toml"), &nothing_set);
    for key in known {
        let (section, name) = key.rsplit_once('.').unwrap_or(("", &key));
        assert!(contract::keys(section).any(|known| known == name), "{key}");
    }
}

#[test]
fn a_destination_overrides_the_defaults_key_by_key() {
    let text = with(
        "[defaults]\nwindow = { records = 10, bytes = \"1MiB\" }\nconcurrency = 2\nretry.schedule = [\"1s\", \"2s\"]\n\
         [destinations.a]\nwindow.records = 20\nretry.schedule = []\nid = \"old\"\n",
    );
    let config = parse(&text).unwrap_or_else(|problems| panic!("{problems}"));
    let destination = &config.destinations[0];
    assert_eq!((&*destination.name, &*destination.id), ("a", "old"));
    let window = WindowOptions {
        records: 20,
        bytes: 1 << 20,
        ..WindowOptions::default()
    };
    assert_eq!(destination.lane.window, window);
    assert_eq!(destination.lane.concurrency, 2);
    assert!(destination.lane.retry.schedule.is_empty());
    assert!((destination.lane.retry.jitter - 0.2).abs() < f64::EPSILON);
}

#[test]
fn the_least_file_of_the_design_is_read() {
    let text = include_str!("../../tests/config/valid/least.toml");
    let config = parse(text).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(config.kafka.start_at, StartAtOption::Earliest);
    let part = |field: &str| TypePart::Field(field.to_owned());
    assert_eq!(
        config.read.type_parts,
        [TypePart::Topic, part("/type"), part("/resource")]
    );
    assert_eq!(config.read.null, ValuePolicy::Skip);
    assert_eq!(
        config.destinations[0].webhook.outcomes.outcome(409, false),
        Outcome::Retry
    );
    assert_eq!(config.rules[0].deliver_to, ["graphspace"]);
}

#[test]
fn what_is_secret_is_in_no_debug_output() {
    let text = with(
        "[destinations.a]\nwebhook.headers = { authorization = \"Bearer hunter2\" }\n\
         [kafka.properties]\nsasl.password = \"hunter2\"\n",
    );
    // A section that dotted keys opened cannot be opened again: the file is written in one piece.
    let text = text.replace(
        "[destinations.a]\nwebhook.headers",
        "[destinations.b]\nwebhook.url = \"http://h/hunter2?hunter2\"\nwebhook.headers",
    );
    let text = text.replace("deliver_to = [\"a\"]", "deliver_to = [\"a\", \"b\"]");
    let config = parse(&text).unwrap_or_else(|problems| panic!("{problems}"));
    assert!(!format!("{config:?}").contains("hunter2"));
    let problems = parse(
        &text
            .replace("http://", "htp://")
            .replace("= \"h", "= 3 # \"h"),
    )
    .unwrap_err();
    let shown = format!(
        "{problems} {problems:?} {}",
        serde_json::to_string(problems.list()).unwrap()
    );
    assert!(!shown.contains("hunter2"), "{shown}");
}

#[test]
fn a_credential_without_systemd_says_who_passes_it() {
    let text = with("").replace("\"http://h/x\"", "{ credential = \"shop\" }");
    let problems = parse(&text).unwrap_err();
    assert!(
        problems.list()[0]
            .message
            .contains("$CREDENTIALS_DIRECTORY is not set"),
        "{problems}"
    );
    assert!(
        problems.list()[0].hint.contains("LoadCredential=shop:"),
        "{problems}"
    );
}

/// Deterministic, so that a failure comes back: a step of SplitMix64.
fn next(state: &mut u64) -> usize {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    usize::try_from((mixed ^ (mixed >> 31)) >> 1).unwrap()
}

#[test]
fn no_text_makes_it_panic() {
    const PIECES: &[&str] = &[
        "\"",
        "'",
        "\"\"\"",
        "[",
        "]",
        "[[",
        "]]",
        "{",
        "}",
        "=",
        ".",
        ",",
        "\n",
        "\r\n",
        "#",
        "${",
        "$",
        "\\",
        "\\x",
        "\u{1b}",
        "\0",
        "é",
        "日本",
        "\u{feff}",
        "-",
        "9999999999999999999999",
        "1e999",
        "nan",
        "true",
        "1979-05-27T07:32",
        "://",
        "@",
        "[kafka]\n",
        "[[rules]]\n",
        "a.b.c = 1\n",
        "[destinations.x.webhook]\n",
        "password = \"",
        "url = \"",
        "9223372036854775807d",
        "18446744073709551615GiB",
    ];
    let mut state = 7;
    // Each text with a setting of librdkafka that is right would cost a client.
    let plain = EXAMPLE.replace("security.protocol = \"plaintext\"", "");
    assert_ne!(plain, EXAMPLE);
    for round in 0..4000 {
        let mut text = plain.clone();
        for _ in 0..=next(&mut state) % 4 {
            let at = text.floor_char_boundary(next(&mut state) % (text.len() + 1));
            let to = text.ceil_char_boundary((at + next(&mut state) % 40).min(text.len()));
            match next(&mut state) % 4 {
                0 => text.truncate(at),
                1 => text.replace_range(at..to, ""),
                2 => text.insert_str(at, PIECES[next(&mut state) % PIECES.len()]),
                _ => text.replace_range(at..to, PIECES[next(&mut state) % PIECES.len()]),
            }
        }
        let tried = std::panic::catch_unwind(|| match parse(&text) {
            Ok(config) => config.warnings.render(true),
            Err(problems) => {
                assert!(problems.errors() > 0);
                problems.render(round % 2 == 0)
            }
        });
        assert!(tried.is_ok(), "round {round} panicked on:\n{text}");
    }
}

#[test]
fn what_rules_and_overrides_say_is_read() {
    let text = include_str!("../../tests/config/valid/rules.toml");
    let config = parse(text).unwrap_or_else(|problems| panic!("{problems}"));
    let [owner, noise, rest] = &config.rules[..] else {
        panic!("{:?}", config.rules)
    };
    let condition = |pointer: &str, test| Condition {
        pointer: pointer.to_owned(),
        test,
    };
    let is = |values: Vec<Scalar>, lenient| Test::Is { values, lenient };
    let text = |text: &str| Scalar::Text(text.to_owned());
    let mut conditions = owner.conditions.clone();
    conditions.sort_by_key(|condition| condition.pointer.clone());
    assert_eq!(
        conditions,
        [
            condition("/a/b", is(vec![Scalar::Integer(1)], false)),
            condition("/owner_email", Test::Present(true)),
            condition("/resource", is(vec![text("graph")], false)),
            condition(
                "/resource_id",
                is(
                    vec![Scalar::Integer(7), text("8"), Scalar::Boolean(true)],
                    true
                )
            ),
        ]
    );
    assert!(owner.topics[0].selects("anything") && owner.on_error == OnError::NoMatch);
    assert!(noise.drops() && !noise.default && rest.default && !rest.drops());
    assert_eq!(config.kafka.topic_refresh, Duration::from_secs(1));
    assert_eq!(config.read.unmatched, Unmatched::DeadLetter);
    let [over] = &config.overrides[..] else {
        panic!("{:?}", config.overrides)
    };
    assert_eq!(over.read.type_parts, [TypePart::CloudEvents]);
    assert_eq!(over.read.format, ReadFormat::CloudEvents);
    assert_eq!(over.read.unmatched, Unmatched::Ignore);
    // What it does not say is as the section says it.
    assert_eq!(
        (over.read.null, over.read.empty),
        (ValuePolicy::Send, config.read.empty)
    );
    assert!(config.rule_file().needs_audit());
}
