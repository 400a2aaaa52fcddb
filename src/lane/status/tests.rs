use crate::clock::Now;
use crate::lane::{Event, LaneOptions, Order};

use super::*;

/// 2026-11-22T14:30:00Z.
const NOW: Timestamp = Timestamp(1_795_357_800_000);

fn ago(seconds: i64) -> Timestamp {
    Timestamp(NOW.0 - seconds * 1000)
}

fn status(doing: Doing, waiting: usize, failed: Option<u16>) -> LaneStatus {
    LaneStatus {
        doing,
        waiting: Waiting {
            breaker: waiting,
            ..Waiting::default()
        },
        positions: Vec::new(),
        lag: None,
        lag_by_topic: BTreeMap::new(),
        oldest_waiting: None,
        last_failure: Some(LastFailure {
            status: failed,
            reason: Some("blocked_address"),
            error: "unauthorized".to_owned(),
            at: ago(60),
        }),
        endpoint: None,
        endpoints: EndpointStates::default(),
        held: Vec::new(),
        held_keys: 0,
    }
}

fn words(doing: Doing, waiting: usize, failed: Option<u16>) -> String {
    status(doing, waiting, failed).words(NOW, "example.org")
}

#[test]
fn an_open_endpoint_is_told_with_its_reason_its_time_and_what_comes_next() {
    let since = ago(28 * 60);
    let open = |next_probe| Doing::Open { since, next_probe };
    assert_eq!(
        words(open(Some(ago(-40))), 1204, Some(401)),
        "waiting for example.org: 401 since 14:02 UTC, 1,204 records wait, next probe in 40 s, nothing lost"
    );
    assert_eq!(
        words(open(None), 1, None),
        "waiting for example.org: blocked address since 14:02 UTC, 1 record waits, a probe is under way, nothing lost"
    );
    let days = Doing::Open {
        since: ago(3 * 86_400),
        next_probe: Some(ago(-290)),
    };
    assert_eq!(
        words(days, 1_234_567, Some(503)),
        "waiting for example.org: 503 since 2026-11-19 14:30 UTC, 1,234,567 records wait, next probe in 5 min, nothing lost"
    );
}

#[test]
fn every_state_has_words() {
    let held = Doing::Held { until: ago(-7500) };
    assert_eq!(
        words(held, 12, Some(429)),
        "held for 2 h 5 min, as example.org asked (429); 12 records wait, nothing lost"
    );
    assert_eq!(words(Doing::Running, 0, None), "running: nothing waits");
    assert_eq!(words(Doing::Running, 7, None), "running: 7 records wait");
    assert_eq!(
        words(Doing::Paused { by: None }, 0, None),
        "paused; nothing waits, nothing lost"
    );
    let by = Some(Box::new(Asked {
        who: "anna".to_owned(),
        reason: "their database moves".to_owned(),
        at: ago(3600),
        left: false,
        until: None,
    }));
    assert_eq!(
        words(Doing::Paused { by }, 2, None),
        "paused by anna since 13:30 UTC: their database moves; 2 records wait, nothing lost"
    );
    let by = Some(Box::new(Asked {
        who: "anna".to_owned(),
        reason: "again".to_owned(),
        at: ago(60),
        left: true,
        until: Some(ago(-600)),
    }));
    assert_eq!(
        words(Doing::Paused { by }, 2, None),
        "paused by anna since 14:29 UTC: again; out of its consumer group, whose offsets may be changed; goes on by itself in 10 min"
    );
    assert_eq!(words(Doing::Draining, 0, None), "stopping");
    assert_eq!(
        words(Doing::Starting, 0, None),
        "starting: no partitions yet"
    );
    assert_eq!(
        words(Doing::Doubt, 3, Some(403)),
        "example.org refused a record (403); trying another; 3 records wait"
    );
    let braked = |stopped| Doing::Braked {
        since: ago(0),
        stopped,
    };
    assert!(words(braked(false), 3, Some(400)).contains("one record a minute goes on until"));
    assert!(words(braked(true), 3, Some(400)).contains("(last: 400); nothing goes on until"));
    let gone = words(Doing::Gone { since: ago(90) }, 3, Some(410));
    assert!(
        gone.contains("gone for good (410) since 14:28 UTC"),
        "{gone}"
    );
    assert!(words(Doing::Blocked, 3, None).starts_with("blocked: "));
}

#[test]
fn retries_and_what_is_not_read_yet_are_counted() {
    let mut status = status(Doing::Running, 0, Some(503));
    status.waiting.retry = 2;
    assert_eq!(
        status.words(NOW, "h"),
        "running: 2 records wait, 2 for the next attempt (last: 503 at 14:29 UTC)"
    );
    status.lag = Some(5000);
    assert!(
        status
            .words(NOW, "h")
            .starts_with("running: 5,000 records wait")
    );
}

#[test]
fn times_and_numbers_as_people_write_them() {
    let cases = [
        (0, "0 s"),
        (1, "1 s"),
        (119_000, "119 s"),
        (119_001, "2 min"),
        (7_200_000, "2 h"),
    ];
    for (ms, text) in cases {
        assert_eq!(span(Timestamp(NOW.0 + ms), NOW), text);
    }
    assert_eq!(span(ago(5), NOW), "0 s");
    assert_eq!(
        span(Timestamp(i64::MAX), Timestamp(i64::MIN)),
        "2562047788015 h 13 min"
    );
    for (number, text) in [
        (0, "0"),
        (999, "999"),
        (1000, "1,000"),
        (1_234_567, "1,234,567"),
    ] {
        assert_eq!(grouped(number), text);
    }
    assert_eq!(clock(Timestamp(i64::MAX), NOW), "1970-01-01 00:00 UTC");
}

#[test]
fn whoever_is_told_that_it_has_no_partitions_stands_by() {
    let mut lane = Lane::new(LaneOptions::default(), "d".into());
    let now = Now {
        tick: Tick::default(),
        wall: NOW,
    };
    lane.handle(now, Event::Ordered(Order::Begin));
    assert_eq!(lane.status().doing, Doing::Starting);
    lane.handle(
        now,
        Event::Assigned {
            cluster_id: "c".into(),
            partitions: Vec::new(),
        },
    );
    assert_eq!(lane.status().doing, Doing::Running);
}
