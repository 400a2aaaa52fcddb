use super::super::condition::{Scalar, Test};
use super::super::fixtures::{record, rule};
use super::super::options::{ReadFormat, TypePart};
use super::*;

fn read() -> ReadOptions {
    let field = |pointer: &str| TypePart::Field(pointer.to_owned());
    ReadOptions {
        type_parts: vec![TypePart::Topic, field("/type"), field("/resource")],
        ..ReadOptions::default()
    }
}

/// A file of rules, and what it says.
struct File {
    rules: Vec<RuleOptions>,
    read: ReadOptions,
    overrides: Vec<ReadOverride>,
}

impl File {
    fn of(rules: impl IntoIterator<Item = RuleOptions>) -> Self {
        Self {
            rules: rules.into_iter().collect(),
            read: read(),
            overrides: Vec::new(),
        }
    }

    fn file(&self) -> RuleFile<'_> {
        RuleFile::new(&self.rules, &self.read, &self.overrides)
    }

    /// What becomes of a record for `a`, for `b` and in the audit; a star behind it: counted as unmatched there.
    fn judge(&self, record: &Record) -> [String; 3] {
        let counting = ["a", "b"];
        let counting = (!self.file().needs_audit()).then_some(&counting[..]);
        let lane = |name| Matcher::for_destination(&self.file(), name, counting);
        [lane("a"), lane("b"), Matcher::for_audit(&self.file())]
            .map(|mut matcher| shown(matcher.judge(record)))
    }

    fn of_json(&self, topic: &str, value: &'static str) -> [String; 3] {
        self.judge(&record(topic, value.as_bytes()))
    }
}

fn shown(judgement: Judgement) -> String {
    let star = if judgement.unmatched { "*" } else { "" };
    let text = match (judgement.verdict, judgement.dropped_by) {
        (Verdict::Deliver { rule }, _) => rule.to_string(),
        (Verdict::NotMatched, _) => "-".to_owned(),
        (Verdict::Dropped, Some(rule)) => format!("dropped by {rule}"),
        (Verdict::Foreign, _) => "foreign".to_owned(),
        (Verdict::Dropped, None) => "dropped".to_owned(),
        (Verdict::DeadLetter { reason, error }, _) => format!("{}: {error}", reason.name()),
    };
    format!("{text}{star}")
}

fn default(rule: RuleOptions) -> RuleOptions {
    RuleOptions {
        default: true,
        ..rule
    }
}

fn no_match(rule: RuleOptions) -> RuleOptions {
    RuleOptions {
        on_error: OnError::NoMatch,
        ..rule
    }
}

fn with(rule: RuleOptions, key: &str, test: Test) -> RuleOptions {
    let pointer = Condition::pointer_of(key);
    RuleOptions {
        conditions: vec![Condition { pointer, test }],
        ..rule
    }
}

fn graphspace() -> File {
    File::of([
        rule("uploads", &["owner"], &["owner.upload.*"], &["a"]),
        rule(
            "shares",
            &["group", "owner"],
            &["group.share.*", "*.7.-"],
            &["a", "b"],
        ),
        rule("rest", &["watching"], &[], &["a"]),
        rule("other", &["billing"], &[], &["b"]),
    ])
}

#[test]
fn the_first_rule_that_takes_a_record_decides() {
    let file = graphspace();
    let of = |topic, value| file.of_json(topic, value)[0].clone();
    assert_eq!(
        of("owner", r#"{"type": "upload", "resource": "graph"}"#),
        "uploads"
    );
    assert_eq!(
        of("group", r#"{"type": "share", "resource": "layout"}"#),
        "shares"
    );
    assert_eq!(of("owner", r#"{"type": 7, "resource": null}"#), "shares");
    let both = File::of([
        rule("one", &["t"], &[], &["a"]),
        rule("two", &["t"], &[], &["a", "b"]),
    ]);
    assert_eq!(both.of_json("t", "{}"), ["one", "two", "-"]);
    let matcher = Matcher::for_destination(&file.file(), "a", None);
    let topics = matcher.topics().resolve(&Default::default(), "p");
    assert_eq!(
        topics.into_iter().collect::<Vec<_>>(),
        ["group", "owner", "watching"]
    );
    assert_eq!(matcher.rule_names().len(), 3);
}

#[test]
fn what_no_rule_takes_is_counted_once() {
    let mut file = graphspace();
    let unknown = r#"{"type": "delete"}"#;
    assert_eq!(
        file.of_json("owner", unknown)[..2],
        ["-*", "-"],
        "the first lane that reads the topic"
    );
    assert_eq!(
        file.of_json("owner", r#"{"type": "upload"}"#)[..2],
        ["uploads", "-"]
    );
    file.rules.remove(0);
    file.rules[0].deliver_to = vec!["b".to_owned()];
    assert_eq!(
        file.of_json("owner", unknown)[1],
        "-*",
        "the only one that reads it"
    );
    file.read.unmatched = Unmatched::DeadLetter;
    let said = "unmatched: no rule takes the record*";
    assert_eq!(file.of_json("owner", unknown), ["-", "-", said]);
    assert_eq!(file.of_json("billing", unknown), ["-", "other", "-"]);
}

#[test]
fn a_default_takes_what_no_other_rule_of_the_file_took() {
    let file = File::of([
        default(rule("rest", &["t", "u"], &[], &["a", "b"])),
        rule("shares", &["t"], &["t.share.*"], &["b"]),
    ]);
    assert_eq!(
        file.of_json("t", r#"{"type": "share"}"#),
        ["-", "shares", "-"],
        "for nobody"
    );
    assert_eq!(file.of_json("t", r#"{"type": "x"}"#), ["rest", "rest", "-"]);
    assert_eq!(
        file.of_json("u", "not json"),
        ["rest", "rest", "-"],
        "nobody asks for the value"
    );
    // Whether the other rule takes it cannot be told: it ends there as a dead letter, so it is not the default's.
    let [a, b, audit] = file.of_json("t", "not json");
    assert!(
        a == "-" && b.starts_with("undecodable") && audit == "-",
        "{a} {b} {audit}"
    );
    let two = File::of([
        default(rule("graphs", &["t"], &["t.*.graph"], &["a"])),
        default(rule("all", &["t"], &[], &["a", "b"])),
    ]);
    assert_eq!(
        two.of_json("t", r#"{"resource": "graph"}"#)[..2],
        ["graphs", "all"]
    );
    assert_eq!(two.of_json("t", "{}")[..2], ["all", "all"]);
}

#[test]
fn a_rule_that_drops_takes_the_record_from_those_behind_it() {
    let file = File::of([
        rule("before", &["t"], &["t.*.graph"], &["a"]),
        rule("noise", &["t"], &["t.unshare.*"], &[]),
        rule("behind", &["t"], &[], &["a", "b"]),
        default(rule("rest", &["t", "u"], &[], &["b"])),
    ]);
    assert_eq!(
        file.of_json("t", r#"{"type": "unshare"}"#),
        ["-", "-", "dropped by noise"]
    );
    assert_eq!(
        file.of_json("t", r#"{"type": "unshare", "resource": "graph"}"#),
        ["before", "-", "dropped by noise"]
    );
    assert_eq!(
        file.of_json("t", r#"{"type": "share"}"#),
        ["behind", "behind", "-"]
    );
    assert_eq!(file.of_json("u", "{}"), ["-", "rest", "-"]);
    let quiet = File::of([
        rule("some", &["t"], &["t.a.*"], &["a"]),
        default(rule("quiet", &["t"], &[], &[])),
    ]);
    assert_eq!(quiet.of_json("t", r#"{"type": "a"}"#), ["some", "-", "-"]);
    assert_eq!(
        quiet.of_json("t", r#"{"type": "b"}"#),
        ["-", "-", "dropped by quiet"]
    );
}

#[test]
fn what_cannot_be_read_is_dead_lettered_once() {
    let noise = rule("noise", &["t"], &["t.x.*"], &[]);
    let drop_only = File::of([noise.clone(), rule("other", &["u"], &[], &["a"])]);
    let [_, _, audit] = drop_only.of_json("t", "not json");
    assert!(
        audit.starts_with("undecodable: the value is not JSON"),
        "{audit}"
    );
    let both = File::of([noise.clone(), rule("all", &["t"], &["*.a.*"], &["a"])]);
    let [a, b, audit] = both.of_json("t", "not json");
    assert!(
        a.starts_with("undecodable") && b == "-" && audit == "-",
        "{a} {b} {audit}"
    );
    let by_topic = File::of([noise.clone(), rule("all", &["t"], &[], &["a"])]);
    assert_eq!(by_topic.of_json("t", "not json"), ["all", "-", "-"]);
    let rest = File::of([noise, default(rule("rest", &["t"], &[], &["a"]))]);
    assert_eq!(rest.of_json("t", "not json"), ["rest", "-", "-"]);
}

#[test]
fn on_error_no_match_asks_the_next_rule() {
    let file = File::of([
        no_match(rule("typed", &["t"], &["t.a.*"], &["a"])),
        rule("bytes", &["t"], &[], &["a"]),
    ]);
    assert_eq!(file.of_json("t", "not json")[0], "bytes");
    assert_eq!(file.of_json("t", r#"{"type": "a"}"#)[0], "typed");
    let alone = File::of([no_match(rule("typed", &["t"], &["t.a.*"], &["a"]))]);
    assert_eq!(alone.of_json("t", "not json")[0], "-*");
    let present = with(rule("p", &["t"], &[], &["a"]), "x", Test::Present(true));
    assert!(File::of([present.clone()]).of_json("t", "{")[0].starts_with("undecodable"));
    assert_eq!(File::of([no_match(present)]).of_json("t", "{")[0], "-*");
}

#[test]
fn a_match_must_hold_as_the_type_must() {
    let ids = |lenient| Test::Is {
        values: vec![Scalar::Integer(7), Scalar::Integer(8)],
        lenient,
    };
    let typed = |lenient| {
        File::of([with(
            rule("r", &["t"], &["t.a.*"], &["a"]),
            "id",
            ids(lenient),
        )])
    };
    let of = |lenient, value| typed(lenient).of_json("t", value)[0].clone();
    assert_eq!(of(false, r#"{"type": "a", "id": 7}"#), "r");
    assert_eq!(of(false, r#"{"type": "a", "id": "7"}"#), "-*");
    assert_eq!(of(true, r#"{"type": "a", "id": "8"}"#), "r");
    assert_eq!(of(true, r#"{"type": "b", "id": 7}"#), "-*");
    // A type that lies in the topic alone decides before the value is looked into.
    let mut by_topic = typed(false);
    by_topic.read.type_parts = vec![TypePart::Topic];
    assert_eq!(by_topic.of_json("t", "not json")[0], "-*");
}

#[test]
fn a_value_is_looked_into_only_when_a_rule_asks() {
    let file = graphspace();
    assert_eq!(file.judge(&record("watching", b"\xff\xfe"))[0], "rest");
    assert!(file.of_json("owner", "not json")[0].starts_with("undecodable: the value is not JSON"));
}

#[test]
fn null_and_empty_values_go_where_the_file_says() {
    let mut file = graphspace();
    let null = Record {
        value: None,
        ..record("watching", b"")
    };
    let empty = record("watching", b"");
    assert_eq!(file.judge(&null), ["dropped", "dropped", "-"]);
    assert_eq!(file.judge(&empty)[0], "rest");
    file.read.null = ValuePolicy::Send;
    file.read.empty = ValuePolicy::DeadLetter;
    assert_eq!(file.judge(&null)[0], "rest");
    assert_eq!(file.judge(&empty)[0], "undecodable: the value is empty");
    assert_eq!(file.judge(&empty)[2], "-", "not a second time");
    file.rules = vec![rule("noise", &["watching"], &[], &[])];
    assert_eq!(
        file.judge(&empty)[2],
        "undecodable: the value is empty",
        "nobody else reads it"
    );
}

#[test]
fn the_first_override_whose_topics_fit_says_how_a_record_is_read() {
    let selectors = |texts: &[&str]| {
        texts
            .iter()
            .map(|t| TopicSelector::new(t).unwrap())
            .collect()
    };
    let mut file = File::of([rule("all", &["^.*"], &["shop.*", "x.a.-"], &["a"])]);
    let events = ReadOptions {
        format: ReadFormat::CloudEvents,
        type_parts: vec![TypePart::CloudEvents],
        ..read()
    };
    let bytes = ReadOptions {
        format: ReadFormat::Bytes,
        ..read()
    };
    file.overrides = vec![
        ReadOverride {
            topics: selectors(&[r"^billing\..+"]),
            read: events,
        },
        ReadOverride {
            topics: selectors(&["billing.eu", "raw"]),
            read: bytes,
        },
    ];
    let event = r#"{"specversion": "1.0", "type": "shop.paid"}"#;
    assert_eq!(file.of_json("billing.eu", event)[0], "all");
    assert_eq!(file.of_json("x", event)[0], "-*");
    assert_eq!(file.of_json("x", r#"{"type": "a"}"#)[0], "all");
    assert_eq!(file.of_json("raw", "not json")[0], "-*");
}

#[test]
fn one_matcher_judges_topics_by_turns() {
    let file = graphspace();
    let mut matcher = Matcher::for_destination(&file.file(), "a", None);
    for _ in 0..2 {
        assert_eq!(shown(matcher.judge(&record("watching", b"x"))), "rest");
        assert_eq!(shown(matcher.judge(&record("group", b"{}"))), "-");
    }
}

#[test]
fn confluents_prefix_is_not_sent() {
    let mut file = graphspace();
    file.read.format = ReadFormat::ConfluentJson;
    let matcher = Matcher::for_destination(&file.file(), "a", None);
    let sent = |value| matcher.payload(&record("t", value));
    assert_eq!(&sent(b"\x00\x00\x00\x00\x07{}")[..], b"{}");
    let plain = &b"{\"a\": 1}"[..];
    assert_eq!(&sent(plain)[..], plain, "what has no prefix is left alone");
}

#[test]
fn an_audit_is_needed_only_for_what_no_destination_does() {
    let mut file = graphspace();
    assert!(!file.file().needs_audit());
    file.overrides = vec![ReadOverride {
        topics: Vec::new(),
        read: ReadOptions {
            unmatched: Unmatched::DeadLetter,
            ..read()
        },
    }];
    assert!(file.file().needs_audit());
    file.overrides.clear();
    file.rules.push(rule("noise", &["x"], &[], &[]));
    assert!(file.file().needs_audit());
    let audit = Matcher::for_audit(&file.file());
    assert_eq!(audit.rule_names().len(), 1);
    assert_eq!(
        audit.topics().resolve(&Default::default(), "p").len(),
        5,
        "every topic of the file"
    );
}

#[test]
fn a_fingerprint_tells_what_a_lane_takes_and_nothing_else() {
    let of = |rules: Vec<RuleOptions>, lane: Option<&str>| {
        let file = File::of(rules);
        match lane {
            Some(name) => Matcher::for_destination(&file.file(), name, None).fingerprint(),
            None => Matcher::for_audit(&file.file()).fingerprint(),
        }
    };
    let mine = |types: &[&str]| rule("mine", &["t"], types, &["a"]);
    let before = || vec![mine(&["x"])];
    let same = |after: Vec<RuleOptions>, lane| of(before(), lane) == of(after, lane);
    let other = rule("other", &["t"], &["y"], &["b"]);
    let drops = rule("noise", &["t"], &["x"], &[]);
    assert!(same(before(), Some("a")));
    assert!(!same(vec![mine(&["x", "y"])], Some("a")), "another type");
    assert!(
        !same(vec![drops, mine(&["x"])], Some("a")),
        "dropped before"
    );
    let with_other = vec![mine(&["x"]), other];
    assert!(same(with_other.clone(), Some("a")), "another's");
    assert!(!same(with_other.clone(), Some("b")));
    assert!(!same(with_other, None), "the audit asks every rule");
    let also_for_b = rule("mine", &["t"], &["x"], &["a", "b"]);
    assert!(same(vec![also_for_b], Some("a")));
    // What no other rule takes depends on every rule.
    let rest = default(rule("rest", &["t"], &[], &["a"]));
    let second = rule("other", &["t"], &["y"], &["b"]);
    let with_rest = of(vec![rest.clone()], Some("a"));
    assert!(with_rest != of(vec![rest, second], Some("a")));
    let mut file = File::of(before());
    file.read.type_parts.pop();
    let read = Matcher::for_destination(&file.file(), "a", None).fingerprint();
    assert!(read != of(before(), Some("a")), "read in another way");
}
