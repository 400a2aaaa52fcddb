//! A record that ends the process, and what looks like one.

use std::time::Duration;

use crate::clock::Tick;
use crate::delivery::{Attempt, DeadLetterReason};
use crate::lane::stage::{Seen, Stage, answer};
use crate::lane::{Doing, Event, LaneOptions, Notice, WindowOptions};

const SECOND: Duration = Duration::from_secs(1);

fn takes_all() -> Stage {
    Stage::new(LaneOptions::default(), |_| answer(200))
}

/// Lets the process run for so long; begins it again when it ends meanwhile. Gives how often that was, at most `most`.
fn run(stage: &mut Stage, time: Duration, most: u32) -> u32 {
    for crashes in 0..=most {
        stage.pass(time);
        if !stage.dead {
            return crashes;
        }
        stage.crash(None);
    }
    panic!("it ends again and again: {:?}", stage.committed);
}

/// Lets the process run for so long, and kills it.
fn kill_after(stage: &mut Stage, time: Duration) {
    stage.pass(time);
    stage.crash(None);
}

fn drain(stage: &mut Stage) {
    stage.tell(Event::Drain {
        deadline: stage.now.tick + SECOND,
    });
    stage.pass(2 * SECOND);
}

fn letters(stage: &Stage) -> Vec<(i64, DeadLetterReason)> {
    let letters = stage.letters.iter();
    letters.map(|l| (l.record.offset, l.reason)).collect()
}

fn is_cautious(stage: &Stage) -> bool {
    matches!(stage.lane.status().doing, Doing::OneAtATime { .. })
}

#[test]
fn the_record_that_ends_the_process_becomes_a_dead_letter_and_the_others_are_delivered() {
    for deadly in [0, 1, 500, 999] {
        let mut stage = takes_all();
        stage.deadly.insert(deadly);
        stage.produce(1000);
        let crashes = run(&mut stage, 10 * SECOND, 9);
        assert!((5..=8).contains(&crashes), "{deadly}: {crashes}");
        assert_eq!(letters(&stage), [(deadly, DeadLetterReason::Panic)]);
        assert_eq!(stage.letters[0].rule.as_deref(), Some("r"));
        let delivered = stage.delivered.keys().filter(|o| **o != deadly).count();
        assert_eq!(delivered, 999);
        assert!(!is_cautious(&stage), "with its end the caution ends");
    }
}

#[test]
fn alone_without_others_it_takes_a_little_more() {
    let mut stage = takes_all();
    stage.deadly.insert(0);
    stage.produce(1);
    let crashes = run(&mut stage, 10 * SECOND, 20);
    assert_eq!(crashes, 8);
    assert_eq!(letters(&stage), [(0, DeadLetterReason::Panic)]);
}

#[test]
fn two_of_them_are_found_one_after_the_other() {
    let mut stage = takes_all();
    stage.deadly.extend([10, 11]);
    stage.produce(100);
    let crashes = run(&mut stage, 10 * SECOND, 20);
    assert!(crashes <= 14, "{crashes}");
    let mut letters = letters(&stage);
    letters.sort_unstable_by_key(|(offset, _)| *offset);
    let panic = DeadLetterReason::Panic;
    assert_eq!(letters, [(10, panic), (11, panic)]);
}

#[test]
fn one_that_is_far_behind_a_slow_beginning_is_found_as_well() {
    let mut stage = takes_all();
    stage.latency = Duration::from_millis(300);
    stage.deadly.insert(700);
    stage.produce(1000);
    let crashes = run(&mut stage, 1000 * SECOND, 20);
    assert!(crashes <= 12, "{crashes}");
    assert_eq!(letters(&stage), [(700, DeadLetterReason::Panic)]);
}

#[test]
fn after_three_unclean_ends_at_one_position_records_go_one_at_a_time() {
    let mut stage = takes_all();
    stage.latency = 20 * SECOND;
    stage.produce(100);
    for _ in 0..3 {
        assert!(!is_cautious(&stage));
        kill_after(&mut stage, SECOND);
    }
    assert!(is_cautious(&stage));
    assert_eq!(stage.lane.waiting().in_flight, 1);
    stage.latency = Duration::from_millis(10);
    let already = stage.seen.len();
    stage.pass(45 * SECOND);
    assert_eq!(stage.delivered.len(), 100, "and all go through");
    let seen = &stage.seen[already..];
    for (one, next) in seen.iter().zip(&seen[1..]) {
        assert!(next.at >= one.at + stage.latency, "{one:?} {next:?}");
    }
    // What was not there when the caution began is not under suspicion.
    stage.lane.handle(
        stage.now,
        Event::EndOfPartition {
            epoch: *stage.lane.partitions.keys().next().unwrap(),
            offset: 100,
        },
    );
    stage.produce(100);
    assert!(!is_cautious(&stage));
    assert_eq!(stage.lane.waiting().in_flight, 16);
}

#[test]
fn a_graceful_end_or_a_position_that_moves_begins_the_count_anew() {
    let mut stage = takes_all();
    stage.latency = 30 * SECOND;
    stage.produce(100);
    for _ in 0..2 {
        kill_after(&mut stage, SECOND);
    }
    drain(&mut stage);
    stage.crash(None);
    for _ in 0..3 {
        assert!(!is_cautious(&stage));
        kill_after(&mut stage, SECOND);
    }
    assert!(is_cautious(&stage), "the third without a graceful end");

    let mut stage = takes_all();
    for _ in 0..20 {
        stage.produce(100);
        kill_after(&mut stage, 2 * SECOND);
        assert!(!is_cautious(&stage), "a partition with nothing in it");
    }
    stage.latency = 700 * Duration::from_millis(1);
    stage.produce(1000);
    for _ in 0..12 {
        kill_after(&mut stage, 2 * SECOND);
        assert!(!is_cautious(&stage), "the position moves");
    }
    assert!(stage.letters.is_empty());
}

#[test]
fn kills_while_nothing_works_make_no_dead_letter() {
    // Down, or slower than the process lives; with many records, and with one alone.
    for (records, latency, status) in [
        (1000, SECOND / 100, 401),
        (1000, SECOND / 100, 503),
        (1000, 20 * SECOND, 200),
        (1, 20 * SECOND, 200),
    ] {
        let mut stage = Stage::new(LaneOptions::default(), move |_| answer(status));
        stage.latency = latency;
        stage.produce(records);
        for _ in 0..7 {
            kill_after(&mut stage, 2 * SECOND);
        }
        assert!(stage.letters.is_empty(), "{records} {latency:?} {status}");
    }
}

#[test]
fn kills_from_outside_hit_another_record_each_time() {
    let mut stage = takes_all();
    stage.latency = 20 * SECOND;
    stage.produce(1000);
    for _ in 0..60 {
        kill_after(&mut stage, 2 * SECOND);
    }
    assert!(stage.letters.is_empty());
    stage.latency = Duration::from_millis(1);
    stage.pass(60 * SECOND);
    assert_eq!(stage.delivered.len(), 1000);
    assert!(stage.letters.is_empty());
}

#[test]
fn an_outage_of_three_days_with_kills_in_it_makes_no_dead_letter() {
    let mended = Duration::from_secs(3 * 24 * 3600);
    let mut stage = Stage::new(LaneOptions::default(), move |seen: &Seen| -> Attempt {
        answer(if seen.at < mended { 401 } else { 200 })
    });
    stage.produce(5000);
    for _ in 0..9 {
        kill_after(&mut stage, Duration::from_secs(8 * 3600 - 7));
    }
    stage.pass(10 * Duration::from_secs(3600));
    assert!(stage.letters.is_empty());
    assert_eq!(stage.delivered.len(), 5000);
}

/// A record that has ended the process four times, and is not tried before every other lane is still.
fn accused() -> Stage {
    let mut stage = takes_all();
    stage.deadly.insert(0);
    stage.produce(1);
    for _ in 0..4 {
        stage.pass(SECOND);
        assert!(stage.dead);
        stage.crash(None);
    }
    stage.grants = false;
    stage.crash(None);
    stage.pass(60 * SECOND);
    assert!(!stage.dead && stage.stillness_asked == 1);
    stage
}

#[test]
fn an_accused_record_waits_until_every_other_lane_is_still() {
    let mut stage = accused();
    // The mark is not there while it waits: kills meanwhile say nothing.
    for _ in 0..9 {
        kill_after(&mut stage, SECOND);
    }
    assert!(stage.letters.is_empty());
    stage.deadly.clear();
    stage.tell(Event::Still);
    stage.pass(SECOND);
    assert_eq!(stage.delivered.len(), 1, "and is acquitted");
}

#[test]
fn others_do_not_stand_still_for_long_for_a_lane_whose_commits_are_not_acknowledged() {
    // Found by review: a coordinator that was away hushed every lane of the process until it came back.
    let mut stage = accused();
    stage.deadly.clear();
    stage.acknowledges = false;
    stage.grants = true;
    stage.is_alone = true;
    stage.tell(Event::Still);
    let already = stage.seen.len();
    let mut alone = 0;
    for _ in 0..100 {
        stage.pass(SECOND);
        alone += u32::from(stage.is_alone);
    }
    assert!((1..=35).contains(&alone), "{alone} of 100 seconds");
    assert_eq!(stage.seen.len(), already, "and nothing is tried unmarked");
    stage.acknowledges = true;
    let positions = std::mem::take(&mut stage.unacknowledged);
    stage.tell(Event::Committed { positions });
    stage.pass(30 * SECOND);
    assert_eq!(stage.seen.len(), already + 1, "and then it is tried");
    assert!(!stage.is_alone);
}

#[test]
fn an_accused_record_far_back_does_not_keep_the_lane_slow() {
    // Found with kills from outside: what was accused waited behind a window of others that went one at a time.
    let mut stage = takes_all();
    stage.latency = 100 * SECOND / 1000;
    stage.deadly.insert(4000);
    stage.produce(4001);
    for _ in 0..3 {
        kill_after(&mut stage, SECOND / 20);
    }
    assert!(is_cautious(&stage));
    stage.pass(32 * SECOND);
    assert!(!is_cautious(&stage) && !stage.dead);
    let crashes = run(&mut stage, 40 * SECOND, 9);
    assert_eq!(letters(&stage), [(4000, DeadLetterReason::Panic)]);
    assert_eq!(stage.delivered.keys().filter(|o| **o != 4000).count(), 4000);
    assert!(crashes >= 3);
}

#[test]
fn an_accused_record_is_tried_as_soon_as_another_has_passed() {
    let mut stage = takes_all();
    stage.latency = 100 * SECOND / 1000;
    stage.produce(4000);
    for _ in 0..3 {
        kill_after(&mut stage, SECOND / 20);
    }
    // The next one is accused, and then the one after it.
    for _ in 0..2 {
        kill_after(&mut stage, SECOND / 20);
    }
    assert!(is_cautious(&stage));
    let already = stage.seen.len();
    stage.pass(SECOND);
    let seen = stage.seen[already - 1..].iter().map(|seen| seen.offset);
    assert_eq!(seen.take(4).collect::<Vec<_>>(), [2, 0, 1, 3]);
    stage.pass(60 * SECOND);
    assert_eq!(
        stage.delivered.len(),
        4000,
        "and then all of them go, and not one at a time"
    );
    assert!(letters(&stage).is_empty());
}

#[test]
fn a_hushed_lane_begins_nothing() {
    let mut stage = takes_all();
    stage.tell(Event::Hush(true));
    stage.produce(10);
    stage.pass(SECOND);
    assert!(stage.seen.is_empty() && stage.lane.is_still());
    stage.tell(Event::Hush(false));
    stage.pass(SECOND);
    assert_eq!(stage.delivered.len(), 10);
}

#[test]
fn who_is_suspected_is_told() {
    let mut stage = takes_all();
    stage.deadly.insert(3);
    stage.produce(10);
    run(&mut stage, 10 * SECOND, 10);
    let cautious = |n: &&Notice| matches!(n, Notice::Cautious { offset: 0, .. });
    assert!(stage.notices.iter().any(|n| cautious(&n)));
    let found = |n: &Notice| matches!(n, Notice::EndsTheProcess { key, .. } if key.offset == 3);
    assert!(stage.notices.iter().any(found));
    assert_eq!(stage.notices.last(), Some(&Notice::CautionOver));
}

#[test]
fn caution_ends_behind_the_window_that_it_began_with() {
    let window = WindowOptions {
        records: 50,
        ..WindowOptions::default()
    };
    let options = LaneOptions {
        window,
        ..LaneOptions::default()
    };
    let mut stage = Stage::new(options, |_| answer(200));
    stage.latency = 30 * SECOND;
    stage.produce(1000);
    for _ in 0..3 {
        kill_after(&mut stage, SECOND);
    }
    stage.latency = Duration::from_millis(10);
    assert!(is_cautious(&stage));
    stage.pass(33 * SECOND);
    assert!(!is_cautious(&stage));
    assert_eq!(stage.delivered.len(), 1000);
    assert!(stage.now.tick > Tick::default());
}
