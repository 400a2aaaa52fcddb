//! The promises of a destination with many endpoints: nobody waits for another one's outage.

use super::*;
use crate::lane::machine::Room;
use crate::lane::{WindowOptions, stage::Stage};

/// A stage whose records go to so many endpoints in turn.
fn many(
    endpoints: i64,
    options: LaneOptions,
    receiver: impl FnMut(&Seen) -> Attempt + 'static,
) -> Stage {
    let mut stage = Stage::new(options, receiver);
    stage.endpoints = endpoints;
    stage
}

fn window(records: usize) -> LaneOptions {
    LaneOptions {
        window: WindowOptions {
            records,
            ..WindowOptions::default()
        },
        ..LaneOptions::default()
    }
}

#[test]
fn one_endpoint_that_is_out_for_hours_costs_the_others_nothing_and_its_own_no_attempt() {
    let mended = 3 * HOUR;
    let mut stage = many(8, LaneOptions::default(), move |seen| {
        let out = seen.offset % 8 == 0 && seen.at < mended;
        answer(if out { 401 } else { 200 })
    });
    stage.produce(8000);
    stage.pass(10 * SECOND);
    let well = |stage: &Stage| stage.delivered.keys().filter(|o| *o % 8 != 0).count();
    assert_eq!(well(&stage), 7000, "a backlog goes by");
    while stage.elapsed() < mended {
        stage.produce(8);
        stage.pass(20 * SECOND);
    }
    let total = usize::try_from(stage.produced).unwrap();
    assert_eq!(well(&stage), total / 8 * 7);
    assert!(stage.seen.iter().all(|seen| seen.attempt == 1));
    let probes = stage
        .seen
        .iter()
        .filter(|seen| seen.offset % 8 == 0)
        .count();
    assert!(probes < 3 * 12 + 40, "{probes} tries of what is out");
    let kept = stage.lane.waiting().breaker;
    assert!((8..=256).contains(&kept), "{kept} keep their places");
    let hops = stage.ladder.values().map(Vec::len).sum::<usize>();
    assert!(hops < 1600 * 40, "{hops} writes to the ladder");
    let states = stage.lane.endpoint_states();
    assert_eq!((states.closed, states.open), (7, 1));
    stage.pass(11 * MINUTE);
    assert_eq!(stage.delivered.len(), total);
    assert!(stage.letters.is_empty());
}

#[test]
fn what_is_out_is_said_by_its_name_and_the_others_with_it() {
    let mut stage = many(4, LaneOptions::default(), |seen| {
        answer(if seen.offset % 4 == 3 { 503 } else { 200 })
    });
    stage.trickle(100, SECOND);
    let words = stage.lane.status().words(stage.now.wall, "host");
    assert!(
        words.starts_with("waiting for 3 at host: 503 since"),
        "{words}"
    );
    let end = "nothing lost; 1 of 4 endpoints is open, the others go on";
    assert!(words.ends_with(end), "{words}");
}

#[test]
fn of_many_endpoints_one_that_is_gone_has_its_records_in_the_dead_letters_until_it_is_resumed() {
    let mut stage = many(4, LaneOptions::default(), |seen| {
        let gone = seen.offset % 4 == 1 && seen.at < HOUR;
        answer(if gone { 410 } else { 200 })
    });
    stage.produce(400);
    stage.pass(MINUTE);
    assert_eq!(stage.delivered.len(), 300);
    assert_eq!(stage.letters.len(), 100);
    let of_it = |letter: &crate::lane::DeadLetter| {
        letter.reason == DeadLetterReason::Gone && letter.record.offset % 4 == 1
    };
    assert!(stage.letters.iter().all(of_it));
    assert_eq!(stage.lane.endpoint_states().gone, 1);
    assert!(stage.lane.status().doing.name() == "gone");
    stage.pass(HOUR);
    stage.tell(Event::Ordered(Order::Resume));
    stage.produce(4);
    stage.pass(SECOND);
    assert_eq!(stage.delivered.len(), 304);
}

#[test]
fn a_window_full_of_what_waits_for_others_lets_the_rest_through() {
    for records in [4, 32, 64, 4096] {
        let mut stage = many(41, window(records), |seen| {
            let out = seen.offset % 41 != 0 && seen.at < HOUR;
            answer(if out { 401 } else { 200 })
        });
        for _ in 0..30 {
            stage.produce(41);
            stage.pass(MINUTE);
        }
        let well = stage.delivered.keys().filter(|o| *o % 41 == 0).count();
        assert!(well >= 29, "{well} of 30 with a window of {records}");
        stage.pass(2 * HOUR);
        assert_eq!(stage.delivered.len(), 30 * 41, "a window of {records}");
        assert!(stage.letters.is_empty());
    }
}

#[test]
fn what_waits_does_not_keep_a_partition_from_being_read_on() {
    let mut options = window(4096);
    options.window.distance = 500;
    let mut stage = many(10, options, |seen| {
        answer(if seen.offset % 10 == 0 { 401 } else { 200 })
    });
    stage.produce(10_000);
    stage.pass(MINUTE);
    assert_eq!(stage.delivered.len(), 9000);
}

#[test]
fn a_pause_concerns_all_endpoints_and_reads_no_more_than_it_needs() {
    let mut stage = many(3, LaneOptions::default(), always(200));
    stage.tell(Event::Ordered(Order::Pause));
    stage.produce(100);
    stage.pass(MINUTE);
    assert!(stage.seen.is_empty());
    assert_eq!(stage.lane.endpoint_states().paused, 3);
    let none = Room {
        records: 0,
        bytes: 0,
    };
    assert_eq!(stage.lane.room(), none);
    stage.tell(Event::Ordered(Order::Resume));
    stage.pass(SECOND);
    assert_eq!(stage.delivered.len(), 100);
}
