//! The promises of retry, evidence, breaker and ladder, one lane at a time.

mod in_order;
mod many;
mod random;

use std::time::Duration;

use crate::clock::Timestamp;
use crate::delivery::{Attempt, DeadLetterReason};

use super::stage::{MORNING, Seen, Stage, answer};
use super::{Doing, Event, LaneOptions, Notice, Order, RetryOptions, Step};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

fn always(status: u16) -> impl FnMut(&Seen) -> Attempt {
    move |_| answer(status)
}

fn schedule(delays: &[Duration]) -> LaneOptions {
    LaneOptions {
        retry: RetryOptions {
            schedule: delays.to_vec(),
            jitter: 0.0,
            ..RetryOptions::default()
        },
        ..LaneOptions::default()
    }
}

#[test]
fn one_record_that_always_gets_403_is_rejected_at_its_third_fault_and_nobody_waits_for_it() {
    let mut stage = Stage::new(LaneOptions::default(), |seen| {
        answer(if seen.offset == 500 { 403 } else { 200 })
    });
    stage.produce(1000);
    stage.pass(SECOND);
    assert_eq!(stage.delivered.len(), 999);
    let last = stage.delivered.values().max().unwrap();
    assert!(*last < Duration::from_millis(80), "{last:?}");
    stage.produce(1);
    stage.pass(10 * MINUTE);
    // Alone, it is its own probe until another arrives.
    while stage.letters.is_empty() && stage.elapsed() < HOUR {
        stage.produce(1);
        stage.pass(SECOND);
    }
    let [letter] = &stage.letters[..] else {
        panic!("{:?}", stage.letters)
    };
    assert_eq!(letter.record.offset, 500);
    assert_eq!(letter.reason, DeadLetterReason::Rejected);
    assert_eq!(letter.status, Some(403));
    assert_eq!(
        stage.delivered.len(),
        usize::try_from(stage.produced).unwrap() - 1
    );
}

#[test]
fn an_expired_password_empties_no_topic_and_costs_probes_only() {
    let mended = 3 * 24 * HOUR;
    let mut stage = Stage::new(LaneOptions::default(), move |seen| {
        answer(if seen.at < mended { 401 } else { 200 })
    });
    stage.produce(100_000);
    stage.pass(mended);
    let tries = stage.seen.len();
    assert!(tries < 16 + 900, "{tries} requests in three days");
    assert!(
        stage.seen.iter().all(|seen| seen.attempt == 1),
        "none is spent"
    );
    assert!(stage.letters.is_empty());
    stage.pass(6 * MINUTE);
    assert_eq!(stage.delivered.len(), 100_000);
    assert!(stage.letters.is_empty());
}

#[test]
fn a_broken_endpoint_is_left_alone_and_taken_up_within_one_probe_interval() {
    let mut stage = Stage::new(LaneOptions::default(), |seen| {
        answer(if seen.at < 60 * SECOND {
            401
        } else if seen.at < 72 * SECOND {
            429
        } else {
            200
        })
    });
    stage.produce(20_000);
    stage.pass(10 * MINUTE);
    assert_eq!(stage.delivered.len(), 20_000);
    let last = *stage.delivered.values().max().unwrap();
    assert!(last < 72 * SECOND + 12 * SECOND, "{last:?}");
    assert!(matches!(stage.notices[0], Notice::Opened { .. }));
    assert!(matches!(stage.notices.last(), Some(Notice::Closed { .. })));
}

#[test]
fn five_hundreds_open_the_endpoint_before_the_schedule_is_spent() {
    let mut stage = Stage::new(LaneOptions::default(), |seen| {
        answer(if seen.at < 48 * HOUR { 500 } else { 200 })
    });
    stage.produce(5000);
    stage.pass(50 * HOUR);
    assert_eq!(stage.delivered.len(), 5000);
    assert!(stage.letters.is_empty());
}

#[test]
fn one_record_that_always_gets_500_is_exhausted_and_opens_nothing() {
    let options = schedule(&[SECOND, SECOND, SECOND, SECOND, SECOND, SECOND, SECOND]);
    let mut stage = Stage::new(options, always(500));
    stage.produce(1);
    stage.pass(MINUTE);
    assert_eq!(stage.letters.len(), 1);
    assert_eq!(stage.letters[0].reason, DeadLetterReason::Exhausted);
    assert_eq!(stage.letters[0].attempts, 8);
    assert!(stage.notices.is_empty());
}

#[test]
fn a_record_that_alone_is_always_pushed_back_is_rejected_and_costs_the_others_next_to_nothing() {
    let mut stage = Stage::new(LaneOptions::default(), |seen| {
        answer(if seen.offset % 1000 == 500 { 429 } else { 200 })
    });
    stage.produce(20_000);
    stage.pass(2 * SECOND);
    assert_eq!(stage.delivered.len(), 19_980);
    let last = *stage.delivered.values().max().unwrap();
    assert!(
        last < Duration::from_millis(20_000 / 16 + 60 + 63),
        "{last:?}"
    );
    for _ in 0..200 {
        stage.produce(100);
        stage.pass(SECOND);
    }
    stage.trickle(200, SECOND);
    assert_eq!(stage.letters.len(), 20 + 20);
    assert!(
        stage
            .letters
            .iter()
            .all(|letter| letter.status == Some(429))
    );
}

#[test]
fn a_receiver_that_limits_its_rate_gets_everything_and_rejects_nothing() {
    // So many a second, so many at once, and for so long that each record is pushed back again and again.
    for (rate, burst) in [(100.0, 50.0), (10.0, 10.0), (1000.0, 300.0), (1.0, 1.0)] {
        let mut tokens = (burst, Duration::ZERO);
        let mut stage = Stage::new(LaneOptions::default(), move |seen| {
            let (left, at) = tokens;
            let left = f64::min(left + rate * (seen.at - at).as_secs_f64(), burst);
            let takes = left >= 1.0;
            tokens = (if takes { left - 1.0 } else { left }, seen.at);
            answer(if takes { 200 } else { 429 })
        });
        stage.produce(5000);
        for _ in 0..60 * 4 {
            stage.pass(MINUTE);
            stage.produce(1);
        }
        assert!(stage.letters.is_empty(), "{rate} a second");
        let spent = stage.seen.iter().filter(|seen| seen.attempt > 1).count();
        assert_eq!(spent, 0, "no attempt is spent at {rate} a second");
        let wanted = if rate > 1.0 { 5000 } else { 60 * 4 };
        assert!(
            stage.delivered.len() >= wanted,
            "{} at {rate} a second",
            stage.delivered.len()
        );
    }
}

#[test]
fn when_nearly_everything_is_rejected_the_lane_slows_down() {
    let mut stage = Stage::new(LaneOptions::default(), |seen| {
        answer(if seen.at < HOUR { 400 } else { 200 })
    });
    stage.produce(5000);
    stage.pass(HOUR);
    let letters = stage.letters.len();
    assert!(
        (75..=20 + 16 + 61).contains(&letters),
        "{letters} dead letters in an hour"
    );
    stage.pass(HOUR);
    assert_eq!(
        stage.delivered.len() + stage.letters.len(),
        5000,
        "three in a row end it"
    );
}

#[test]
fn long_waits_go_to_the_ladder_and_the_id_and_the_budget_with_them() {
    let options = schedule(&[SECOND, 70 * SECOND, 26 * HOUR]);
    let mut stage = Stage::new(options, |seen| {
        answer(if seen.offset == 0 { 500 } else { 200 })
    });
    stage.produce(1);
    stage.pass(30 * HOUR);
    let at: Vec<u64> = stage.seen.iter().map(|seen| seen.at.as_secs()).collect();
    assert_eq!(at.len(), 4, "{at:?}");
    assert_eq!(at[..2], [0, 1]);
    assert!((71..=72).contains(&at[2]), "{at:?}");
    let day = at[2] + 26 * 3600;
    assert!((day..day + 2).contains(&at[3]), "{at:?}");
    let attempts: Vec<u32> = stage.seen.iter().map(|seen| seen.attempt).collect();
    assert_eq!(attempts, [1, 2, 3, 4]);
    assert!(stage.seen.iter().all(|seen| seen.id == stage.seen[0].id));
    assert_eq!(
        stage.ladder[&Step::EightHours].len(),
        3,
        "a day is three times the longest step"
    );
    assert_eq!(stage.letters.len(), 1);
    assert_eq!(stage.letters[0].attempts, 4);
    assert_eq!(stage.letters[0].first_attempt, Some(Timestamp(MORNING)));
}

#[test]
fn a_crash_costs_one_attempt_at_most_and_keeps_what_was_settled() {
    let options = schedule(&[10 * SECOND, 10 * SECOND, 10 * SECOND, 10 * SECOND]);
    let mut stage = Stage::new(options, |seen| {
        answer(if seen.offset % 10 == 3 { 500 } else { 200 })
    });
    stage.trickle(100, SECOND / 4);
    stage.pass(SECOND);
    let before = stage.seen.len();
    stage.crash(None);
    stage.pass(SECOND / 10);
    assert!(
        stage.seen.len() <= before + 1,
        "what was delivered beyond the position is not sent again"
    );
    stage.trickle(5, SECOND);
    stage.crash(None);
    stage.trickle(300, SECOND);
    let letters = stage.letters.iter();
    assert_eq!(letters.filter(|l| l.record.offset < 100).count(), 10);
    for letter in &stage.letters {
        let offset = letter.record.offset;
        let tries = stage
            .seen
            .iter()
            .filter(|seen| seen.offset == offset)
            .count();
        assert!(
            (5..=9).contains(&tries),
            "{tries} tries of {offset}: two crashes, and a probe now and then"
        );
    }
}

#[test]
fn a_changed_schedule_strands_nothing_on_the_ladder() {
    let mut stage = Stage::new(schedule(&[HOUR; 5]), |seen| {
        answer(if seen.offset < 40 { 500 } else { 200 })
    });
    stage.produce(40);
    stage.trickle(2 * 60, MINUTE);
    stage.crash(Some(schedule(&[])));
    stage.trickle(40 * 60, MINUTE);
    assert_eq!(stage.letters.len(), 40, "one last attempt each");
}

#[test]
fn a_receiver_that_says_gone_is_left_alone_until_a_person_says_otherwise() {
    let mut stage = Stage::new(LaneOptions::default(), |seen| {
        answer(if seen.at < HOUR { 410 } else { 200 })
    });
    stage.produce(500);
    stage.pass(10 * HOUR);
    assert!(stage.seen.len() <= 16 && stage.letters.is_empty());
    stage.tell(Event::Ordered(Order::Resume));
    stage.pass(SECOND);
    assert_eq!(stage.delivered.len(), 500);
}

#[test]
fn a_record_in_doubt_is_not_forgotten_when_another_instance_finds_the_endpoint_gone() {
    let mut stage = Stage::new(LaneOptions::default(), |seen| {
        answer(if seen.at < SECOND { 403 } else { 200 })
    });
    stage.produce(1);
    stage.pass(Duration::from_micros(500));
    stage.produce(1);
    // The first answer is a doubt; the second request is still under way when the order comes.
    stage.pass(Duration::from_micros(600));
    assert_eq!(stage.lane.status().doing, Doing::Doubt);
    stage.tell(Event::Ordered(Order::Gone));
    stage.pass(SECOND);
    assert_eq!(stage.delivered.len(), 0);
    stage.tell(Event::Ordered(Order::Resume));
    stage.pass(SECOND);
    assert_eq!(stage.delivered.len(), 2);
}

#[test]
fn of_what_waits_on_the_ladder_a_person_may_release_or_cancel() {
    let mut stage = Stage::new(schedule(&[26 * HOUR, HOUR]), |seen| {
        answer(if seen.attempt == 1 { 500 } else { 200 })
    });
    stage.produce(4);
    stage.pass(MINUTE);
    let until = stage.now.wall;
    stage.tell(Event::Ordered(Order::ReleaseRetries { until }));
    stage.pass(9 * HOUR);
    assert_eq!(
        stage.delivered.len(),
        4,
        "at the end of the first step, not of all"
    );
}

#[test]
fn endless_failures_keep_the_metadata_within_its_bound_and_lose_nothing() {
    let options = schedule(&[50 * SECOND, 50 * SECOND]);
    let mut stage = Stage::new(options, |seen| {
        answer(if seen.offset % 20 == 0 && seen.attempt < 2 {
            500
        } else {
            200
        })
    });
    stage.produce(60_000);
    stage.pass(20 * MINUTE);
    let longest = stage.committed.values().map(|p| p.metadata.len()).max();
    assert!(longest <= Some(super::METADATA_MAX));
    assert_eq!(stage.delivered.len(), 60_000);
    assert!(stage.letters.is_empty());
}

#[test]
fn bad_records_among_a_thousand_cost_the_others_next_to_nothing() {
    for (concurrency, latency_ms) in [(1, 1), (16, 1), (16, 4), (64, 4)] {
        let time = |bad: bool| {
            let options = LaneOptions {
                concurrency,
                ..schedule(&[SECOND; 4])
            };
            let mut stage = Stage::new(options, move |seen| match seen.offset % 1000 {
                250 if bad => answer(400),
                500 if bad => answer(403),
                750 if bad => answer(429),
                _ => answer(200),
            });
            stage.latency = Duration::from_millis(latency_ms);
            stage.produce(20_000);
            stage.pass(MINUTE);
            stage.trickle(300, SECOND);
            let letters = stage.letters.iter().filter(|l| l.record.offset < 20_000);
            let wanted = if bad { 60 } else { 0 };
            assert_eq!(letters.count(), wanted, "with {concurrency} in flight");
            let good = stage.delivered.iter().filter(|(n, _)| **n < 20_000);
            good.map(|(_, at)| at.as_secs_f64()).fold(0.0, f64::max)
        };
        let (without, with) = (time(false), time(true));
        assert!(
            without / with >= 0.95,
            "{without} s and {with} s with {concurrency} in flight"
        );
    }
}
