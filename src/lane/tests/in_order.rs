//! Order by key: what fails holds back its key and nothing else.

use bytes::Bytes;

use super::*;
use crate::lane::stage::Stage;
use crate::lane::{AfterDeadLetter, OrderOptions};

fn ordered(
    keys: i64,
    options: LaneOptions,
    receiver: impl FnMut(&Seen) -> Attempt + 'static,
) -> Stage {
    let order = match options.order {
        OrderOptions::None => OrderOptions::Key(AfterDeadLetter::Continue),
        order @ OrderOptions::Key(_) => order,
    };
    let mut stage = Stage::new(LaneOptions { order, ..options }, receiver);
    stage.keys = keys;
    stage
}

/// No record is tried before the one of its key that stands before it has ended.
fn assert_in_order(stage: &Stage) {
    for seen in &stage.seen {
        let before = seen.offset - stage.keys;
        let taken = stage.delivered.get(&before).is_some_and(|at| *at < seen.at);
        let buried = stage.letters.iter().any(|l| l.record.offset == before);
        assert!(
            before < 0 || taken || buried,
            "{} is tried before {before}",
            seen.offset
        );
    }
}

#[test]
fn records_with_one_key_go_one_after_the_other_and_other_keys_at_the_same_time() {
    let mut stage = ordered(20, LaneOptions::default(), always(200));
    stage.produce(1000);
    stage.pass(Duration::from_millis(70));
    assert_eq!(stage.delivered.len(), 1000, "16 at a time");
    assert_in_order(&stage);
}

#[test]
fn a_record_that_fails_for_hours_holds_back_its_key_alone_and_nothing_goes_to_the_ladder() {
    let mut stage = ordered(10, LaneOptions::default(), |seen| {
        let fails = seen.offset == 3 && seen.at < 3 * HOUR;
        answer(if fails { 503 } else { 200 })
    });
    stage.trickle(200, SECOND);
    stage.pass(MINUTE);
    assert_eq!(stage.delivered.len(), 180);
    assert_eq!(stage.lane.waiting().order, 19);
    assert!(stage.ladder.is_empty());
    let words = stage.lane.status().words(stage.now.wall, "h");
    assert!(
        words.ends_with(
            "19 records wait behind others of their keys: 3 (the first at orders/0 offset 3)"
        ),
        "{words}"
    );
    stage.pass(12 * HOUR);
    assert_eq!(stage.delivered.len(), 200);
    assert!(stage.ladder.is_empty());
    assert_in_order(&stage);
}

#[test]
fn the_order_holds_through_restarts_and_so_do_the_budgets() {
    let options = schedule(&[10 * SECOND, 100 * SECOND, 400 * SECOND]);
    let mut stage = ordered(101, options, |seen| {
        answer(if seen.offset % 50 == 3 { 500 } else { 200 })
    });
    for _ in 0..40 {
        stage.produce(40);
        stage.crash(None);
        stage.pass(3 * SECOND);
    }
    // Bad records alone look like an endpoint that is out, until others arrive.
    let bad = stage.produced.unsigned_abs().div_ceil(50);
    stage.trickle(3000, MINUTE / 2);
    let total = usize::try_from(stage.produced).unwrap();
    assert!(
        stage.letters.len() as u64 >= bad,
        "{} letters",
        stage.letters.len()
    );
    let left = total - stage.delivered.len() - stage.letters.len();
    assert!(left < 120, "{left} wait behind those that failed lately");
    assert_in_order(&stage);
    assert!(stage.ladder.is_empty());
}

#[test]
fn after_a_dead_letter_the_key_goes_on_or_waits_for_a_person() {
    let receiver = |seen: &Seen| answer(if seen.offset == 2 { 400 } else { 200 });
    let mut stage = ordered(4, LaneOptions::default(), receiver);
    stage.produce(40);
    stage.pass(MINUTE);
    assert_eq!((stage.delivered.len(), stage.letters.len()), (39, 1));
    let hold = LaneOptions {
        order: OrderOptions::Key(AfterDeadLetter::Hold),
        ..LaneOptions::default()
    };
    let mut stage = ordered(4, hold, receiver);
    stage.produce(40);
    stage.pass(HOUR);
    assert_eq!((stage.delivered.len(), stage.letters.len()), (30, 1));
    let key = Bytes::from_static(b"2");
    assert!(
        stage
            .notices
            .contains(&Notice::KeyHeld { key: key.clone() })
    );
    let status = stage.lane.status();
    assert!(status.held[0].by_a_person);
    assert_eq!((status.held[0].behind, status.held_keys), (9, 1));
    // The next instance is told of it at its start.
    stage.crash(None);
    stage.tell(Event::Ordered(Order::HoldKey { key: key.clone() }));
    stage.produce(4);
    stage.pass(HOUR);
    let one_under_way = 1;
    assert_eq!(stage.delivered.len(), 33 + one_under_way);
    stage.tell(Event::Ordered(Order::ReleaseKey { key }));
    stage.pass(SECOND);
    assert_eq!(stage.delivered.len(), 43);
    assert_in_order(&stage);
}

#[test]
fn a_key_is_held_though_the_process_ends_before_its_dead_letter_is_committed() {
    let receiver = |seen: &Seen| answer(if seen.offset == 2 { 400 } else { 200 });
    let hold = LaneOptions {
        order: OrderOptions::Key(AfterDeadLetter::Hold),
        ..LaneOptions::default()
    };
    let mut stage = ordered(4, hold, receiver);
    stage.produce(40);
    stage.pass(SECOND / 10);
    let key = Bytes::from_static(b"2");
    let held = Notice::KeyHeld { key: key.clone() };
    assert!(stage.notices.contains(&held) && stage.letters.len() == 1);
    // What is known of held keys is read before the first record.
    stage.produced = 0;
    stage.crash(None);
    stage.tell(Event::Ordered(Order::HoldKey { key: key.clone() }));
    stage.produce(40);
    stage.pass(HOUR);
    assert_eq!(
        stage.letters.len(),
        1,
        "the record waits like those behind it"
    );
    assert_eq!(stage.lane.status().held[0].behind, 10);
    stage.tell(Event::Ordered(Order::ReleaseKey { key }));
    stage.pass(SECOND);
    assert_eq!(
        stage.letters.len(),
        2,
        "it is tried again, and holds them again"
    );
    assert_eq!(stage.lane.status().held[0].behind, 9);
}

#[test]
fn a_window_full_of_what_waits_is_said_once_with_the_keys() {
    let mut options = LaneOptions::default();
    options.window.records = 50;
    let mut stage = ordered(2, options, |seen| {
        let fails = seen.offset == 1 && seen.at < HOUR;
        answer(if fails { 503 } else { 200 })
    });
    stage.produce(400);
    stage.pass(10 * MINUTE);
    let mut said = Vec::new();
    for notice in &stage.notices {
        if let Notice::HeldUp { keys, count } = notice {
            said.push((keys[0].name(), *count));
        }
    }
    assert_eq!(said, [("1".to_owned(), 1)]);
    stage.pass(3 * HOUR);
    assert_eq!(stage.delivered.len(), 400);
}

#[test]
fn what_is_under_way_is_left_off_when_others_get_the_partition() {
    let mut stage = ordered(4, LaneOptions::default(), always(200));
    stage.latency = HOUR;
    stage.produce(8);
    let under_way = stage.lane.waiting().in_flight;
    assert_eq!(under_way, 4);
    let epochs = vec![crate::delivery::Epoch(0)];
    let mut lane = stage.lane;
    lane.handle(stage.now, Event::Lost { epochs });
    let Some(crate::lane::Action::Abort { keys }) = lane.poll_action() else {
        panic!("nothing is left off");
    };
    assert_eq!(keys.len(), 4);
    for key in keys {
        lane.handle(stage.now, Event::Aborted { key });
    }
    let attempts = &lane.counts().attempts;
    assert!(
        attempts.is_empty(),
        "nobody knows how they would have ended: {attempts:?}"
    );
}

#[test]
fn records_without_a_key_are_in_no_order() {
    let order = OrderOptions::Key(AfterDeadLetter::Continue);
    let options = LaneOptions {
        order,
        ..LaneOptions::default()
    };
    let mut stage = Stage::new(options, |seen| {
        answer(if seen.offset == 0 { 503 } else { 200 })
    });
    stage.produce(100);
    stage.pass(2 * MINUTE);
    assert_eq!(stage.delivered.len(), 99);
    assert!(
        !stage.ladder.is_empty(),
        "and wait where they hinder nobody"
    );
}

#[test]
fn an_endpoint_that_is_out_is_probed_by_the_heads_of_keys() {
    let mut stage = ordered(5, LaneOptions::default(), |seen| {
        answer(if seen.at < 2 * HOUR { 401 } else { 200 })
    });
    stage.produce(500);
    stage.pass(2 * HOUR);
    assert!(
        stage
            .seen
            .iter()
            .all(|seen| seen.offset < 5 && seen.attempt == 1)
    );
    stage.pass(10 * MINUTE);
    assert_eq!(stage.delivered.len(), 500);
    assert!(stage.letters.is_empty());
    assert_in_order(&stage);
}

#[test]
fn a_partition_of_which_no_more_can_be_committed_is_read_no_further_and_that_is_said_once() {
    let mut stage = ordered(20_000, schedule(&[HOUR; 5]), |seen| {
        let fails = seen.offset % 3 == 0 && seen.at < 3 * HOUR;
        answer(if fails { 503 } else { 200 })
    });
    stage.produce(20_000);
    stage.pass(2 * HOUR);
    let said = |notice: &&Notice| matches!(notice, Notice::ReadsNoFurther { .. });
    assert_eq!(stage.notices.iter().filter(said).count(), 1);
    assert!(stage.delivered.len() < 10_000);
    assert!(stage.ladder.is_empty());
    stage.pass(24 * HOUR);
    assert_eq!(stage.delivered.len(), 20_000);
}
