//! The oracle with planted faults: one that cannot fail would be worth nothing.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use crate::harness::ledger::{Attempt, Request};
use crate::harness::oracle::{Oracle, Report};
use crate::harness::place::{Offsets, Place, Stored};

/// Three records in each of two partitions; keys alternate.
fn produced() -> Vec<Stored> {
    let record = |n: i64| Stored {
        place: Place::new("owner", i32::try_from(n / 3).unwrap(), n % 3),
        timestamp: Some(1),
        key: Some(format!("key {}", n % 2).into_bytes()),
        value: Some(format!("value {n}").into_bytes()),
        headers: vec![],
    };
    (0..6).map(record).collect()
}

/// An attempt at a record, with the id that belongs to it at this destination.
fn attempt(destination: &str, record: &Stored, status: u16) -> Attempt {
    let Place {
        topic,
        partition,
        offset,
    } = &record.place;
    let pair = |name: &str, value: String| (name.to_owned(), value.into_bytes());
    let headers = [
        pair("webhook-id", id(destination, record)),
        pair("postrider-topic", topic.clone()),
        pair("postrider-partition", partition.to_string()),
        pair("postrider-offset", offset.to_string()),
    ];
    let request = Request {
        number: 0,
        earlier: 0,
        arrived: Instant::now(),
        method: "POST".to_owned(),
        path: "/".to_owned(),
        headers: Arc::new(headers),
        body: Bytes::from(record.value.clone().unwrap_or_default()),
    };
    Attempt {
        status: Some(status),
        ..Attempt::of(&request)
    }
}

fn id(destination: &str, record: &Stored) -> String {
    format!("msg {destination} {}", record.place)
}

/// The dead letter of a record.
fn letter(destination: &str, record: &Stored, offset: i64) -> Stored {
    let pair = |name: &str, value: String| (name.as_bytes().to_vec(), Some(value.into_bytes()));
    let mut letter = record.clone();
    letter.headers.extend([
        pair("postrider-destination", destination.to_owned()),
        pair("postrider-topic", record.place.topic.clone()),
        pair("postrider-partition", record.place.partition.to_string()),
        pair("postrider-offset", record.place.offset.to_string()),
        pair("postrider-reason", "rejected".to_owned()),
        pair("postrider-id", id(destination, record)),
    ]);
    letter.place = Place::new("postrider.dead-letters", 0, offset);
    letter
}

/// Every record accepted once, in order.
fn all(destination: &str, produced: &[Stored]) -> Vec<Attempt> {
    produced
        .iter()
        .map(|record| attempt(destination, record, 200))
        .collect()
}

fn offsets(first: i64, second: i64) -> Offsets {
    Offsets::from([
        (("owner".to_owned(), 0), first),
        (("owner".to_owned(), 1), second),
    ])
}

/// Judges one destination, `a`, with everything committed.
fn judge(produced: &[Stored], attempts: &[Attempt], letters: &[Stored]) -> Report {
    let committed = offsets(3, 3);
    let oracle = Oracle::new(produced).dead_letters(letters);
    oracle
        .destination("a", attempts)
        .committed(&committed)
        .judge()
}

#[test]
fn a_good_run_is_sound() {
    let produced = produced();
    let (a, b) = (all("a", &produced), all("b", &produced));
    let committed = offsets(3, 3);
    let oracle = Oracle::new(&produced)
        .destination("a", &a)
        .committed(&committed);
    let report = oracle.destination("b", &b).judge();
    report.assert_exactly_once();
    let found = report.of("b");
    assert_eq!((found.expected, found.accepted, found.attempts), (6, 6, 6));
    assert!(
        report.to_string().starts_with("the oracle says: sound\n"),
        "{report}"
    );
}

#[test]
fn a_dead_letter_settles_a_record_that_was_refused() {
    let produced = produced();
    let mut attempts = all("a", &produced);
    attempts[4].status = Some(422);
    let report = judge(&produced, &attempts, &[letter("a", &produced[4], 0)]);
    report.assert_exactly_once();
    assert_eq!(report.of("a").dead_lettered, 1);
}

#[test]
fn it_finds_what_was_lost() {
    let produced = produced();
    let mut attempts = all("a", &produced);
    attempts[1].status = Some(503);
    attempts[2].status = None;
    attempts.pop();
    // The letter of another destination settles nothing here.
    let letters = [letter("b", &produced[1], 0)];
    let committed = offsets(2, 0);
    let oracle = Oracle::new(&produced).dead_letters(&letters);
    let report = oracle
        .destination("a", &attempts)
        .committed(&committed)
        .judge();
    assert!(!report.is_sound());
    let places = |n: &[usize]| {
        n.iter()
            .map(|n| produced[*n].place.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(report.of("a").lost, places(&[1, 2, 5]));
    assert_eq!(report.of("a").committed_beyond, places(&[1]));
    let text = report.to_string();
    assert!(
        text.contains("NOT SOUND") && text.contains("a: LOST (3)\n    owner/0@1\n"),
        "{text}"
    );
}

#[test]
fn it_finds_loss_where_nothing_was_committed_or_seen() {
    let produced = produced();
    let report = Oracle::new(&produced).destination("a", &[]).judge();
    assert_eq!(report.of("a").lost.len(), 6);
    assert!(report.of("a").committed_beyond.is_empty());
}

#[test]
fn a_null_value_is_not_expected_and_a_test_may_say_otherwise() {
    let mut produced = produced();
    produced[0].value = None;
    let attempts = all("a", &produced);
    let report = judge(&produced, &attempts[1..], &[]);
    report.assert_exactly_once();
    assert_eq!(
        judge(&produced, &attempts, &[]).of("a").unknown,
        [produced[0].place.clone()]
    );
    let all = Oracle::new(&produced)
        .expects(|_, _| true)
        .destination("a", &attempts[1..])
        .judge();
    assert_eq!(all.of("a").lost, [produced[0].place.clone()]);
}

#[test]
fn it_counts_repeats_and_leaves_the_verdict_to_the_test() {
    let produced = produced();
    let mut attempts = all("a", &produced);
    attempts.push(attempt("a", &produced[3], 204));
    attempts.push(attempt("a", &produced[3], 200));
    attempts.push(attempt("a", &produced[0], 503));
    let letters = [letter("a", &produced[5], 0), letter("a", &produced[5], 1)];
    let report = judge(&produced, &attempts, &letters);
    report.assert_sound();
    let found = report.of("a");
    assert_eq!(found.repeats(), 2);
    assert_eq!(found.duplicated[&produced[3].place], 3);
    assert_eq!(found.both, [produced[5].place.clone()]);
    assert_eq!(found.dead_lettered_twice[&produced[5].place], 2);
    assert!(std::panic::catch_unwind(|| report.assert_exactly_once()).is_err());
}

#[test]
fn it_finds_another_order_within_a_key() {
    let produced = produced();
    // Offsets 0 and 2 of a partition have one key, 1 has the other.
    let order = |ns: [usize; 3]| -> Vec<Attempt> {
        ns.iter()
            .map(|n| attempt("a", &produced[*n], 200))
            .chain(all("a", &produced[3..]))
            .collect()
    };
    let harmless = judge(&produced, &order([1, 0, 2]), &[]);
    assert_eq!(
        (
            harmless.of("a").reordered.len(),
            harmless.of("a").reordered_in_partition
        ),
        (0, 1)
    );
    let report = judge(&produced, &order([1, 2, 0]), &[]);
    let pair = (produced[2].place.clone(), produced[0].place.clone());
    assert_eq!(report.of("a").reordered, [pair]);
    assert!(
        report
            .to_string()
            .contains("reordered (1)\n    owner/0@0 after owner/0@2\n"),
        "{report}"
    );
}

#[test]
fn the_first_acceptance_counts_for_the_order_and_not_a_repeat_or_a_failure() {
    let produced = produced();
    let mut attempts = vec![attempt("a", &produced[2], 503)];
    attempts.extend(all("a", &produced));
    attempts.push(attempt("a", &produced[0], 200));
    assert!(
        judge(&produced, &attempts, &[])
            .of("a")
            .reordered
            .is_empty()
    );
}

#[test]
fn it_finds_two_ids_for_one_delivery() {
    let produced = produced();
    let mut attempts = all("a", &produced);
    attempts.push(Attempt {
        id: Some("another".to_owned()),
        ..attempt("a", &produced[2], 503)
    });
    let report = judge(&produced, &attempts, &[]);
    assert!(!report.is_sound());
    assert_eq!(report.of("a").two_ids[&produced[2].place].len(), 2);
    // Also when the dead letter names another one.
    let mut stranger = letter("a", &produced[1], 0);
    stranger.headers.last_mut().unwrap().1 = Some(b"yet another".to_vec());
    let report = judge(&produced, &all("a", &produced), &[stranger]);
    assert_eq!(report.of("a").two_ids[&produced[1].place].len(), 2);
    assert!(!report.is_sound());
}

#[test]
fn it_finds_one_id_for_two_deliveries() {
    let produced = produced();
    let mut attempts = all("a", &produced);
    attempts[1].id = Some(id("a", &produced[0]));
    let report = judge(&produced, &attempts, &[]);
    assert!(!report.is_sound());
    assert_eq!(report.shared_ids[&id("a", &produced[0])].len(), 2);
    // Two destinations are two deliveries.
    let (a, same) = (all("a", &produced), all("a", &produced));
    let report = Oracle::new(&produced)
        .destination("a", &a)
        .destination("b", &same)
        .judge();
    assert_eq!(report.shared_ids.len(), 6);
    assert!(
        !report.is_sound() && report.to_string().contains("SHARED IDS (6)"),
        "{report}"
    );
}

#[test]
fn it_finds_what_was_altered() {
    let produced = produced();
    let mut attempts = all("a", &produced);
    attempts[2].body_sha256[0] ^= 1;
    let report = judge(&produced, &attempts, &[]);
    assert_eq!(report.of("a").altered, [produced[2].place.clone()]);
    assert!(!report.is_sound());

    attempts = all("a", &produced[2..]);
    let mut letters = [letter("a", &produced[0], 0), letter("a", &produced[1], 1)];
    letters[0].value = Some(b"other".to_vec());
    letters[1].key = None;
    let report = judge(&produced, &attempts, &letters);
    assert_eq!(
        report.of("a").altered,
        [produced[0].place.clone(), produced[1].place.clone()]
    );
    // A letter too big for its topic sheds its value.
    letters = [letter("a", &produced[0], 0), letter("a", &produced[1], 1)];
    letters[0].value = None;
    judge(&produced, &attempts, &letters).assert_exactly_once();
}

#[test]
fn it_finds_strangers() {
    let produced = produced();
    let mut attempts = all("a", &produced);
    let mut stranger = produced[0].clone();
    stranger.place.offset = 99;
    attempts.push(attempt("a", &stranger, 200));
    attempts.push(Attempt {
        id: None,
        number: 7,
        ..attempt("a", &produced[0], 200)
    });
    attempts.push(Attempt {
        place: None,
        number: 8,
        ..attempt("a", &produced[0], 200)
    });
    let mut homeless = letter("a", &produced[0], 5);
    homeless
        .headers
        .retain(|(name, _)| name != b"postrider-topic");
    let report = judge(&produced, &attempts, &[homeless.clone()]);
    let found = report.of("a");
    assert_eq!(found.unknown, [stranger.place, homeless.place]);
    assert_eq!(found.nameless, [7, 8]);
    assert!(!report.is_sound());
}

#[test]
#[should_panic(expected = "LOST (6)")]
fn an_assertion_shows_the_whole_report() {
    let produced = produced();
    Oracle::new(&produced)
        .destination("a", &[])
        .judge()
        .assert_sound();
}

#[test]
fn long_findings_are_cut() {
    let produced: Vec<Stored> = (0..100)
        .map(|offset| Stored {
            place: Place::new("t", 0, offset),
            ..produced()[0].clone()
        })
        .collect();
    let text = Oracle::new(&produced)
        .destination("a", &[])
        .judge()
        .to_string();
    assert!(
        text.contains("LOST (100)") && text.contains("and 92 more"),
        "{text}"
    );
    assert!(text.lines().all(|line| line.len() <= 80), "{text}");
}
