//! Receivers that fail at random: what that costs the records that they would take.

use std::time::Duration;

use crate::delivery::Attempt;
use crate::lane::stage::{Seen, Stage, answer};
use crate::lane::{BreakerOptions, LaneOptions};

use super::{SECOND, schedule};

/// A number below one that the request and the seed decide.
fn chance(seed: u64, seen: &Seen) -> f64 {
    let at = u64::try_from(seen.at.as_nanos()).unwrap();
    let mut x = seed ^ at.rotate_left(20) ^ (seen.offset.unsigned_abs() << 1);
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((x ^ (x >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
}

/// So often, answered so; the others are taken.
fn failing(seed: u64, part: f64, status: u16) -> impl FnMut(&Seen) -> Attempt {
    move |seen| {
        answer(if chance(seed, seen) < part {
            status
        } else {
            200
        })
    }
}

#[test]
fn a_receiver_of_which_half_the_answers_are_503_gets_two_thousand_records_in_half_a_minute() {
    for seed in 0..10 {
        let options = LaneOptions {
            breaker: BreakerOptions {
                failure_ratio: 0.9,
                probe_interval: SECOND,
                ..BreakerOptions::default()
            },
            ..schedule(&[SECOND; 24])
        };
        let mut stage = Stage::new(options, failing(seed, 0.5, 503));
        stage.latency = Duration::from_millis(5);
        stage.produce(2000);
        stage.pass(30 * SECOND);
        assert_eq!(stage.delivered.len(), 2000, "seed {seed}");
        assert!(stage.letters.is_empty());
    }
}

/// Records delivered in ten minutes, while there are always more.
fn delivered(options: LaneOptions, part: f64, latency_ms: u64, status: u16, seed: u64) -> usize {
    let mut stage = Stage::new(options, failing(seed, part, status));
    stage.latency = Duration::from_millis(latency_ms);
    stage.produce(100_000_000 / i64::try_from(latency_ms).unwrap() / 100);
    stage.pass(60 * SECOND);
    assert!(stage.letters.is_empty(), "{} letters", stage.letters.len());
    assert!(
        status != 429 || stage.seen.iter().all(|seen| seen.attempt == 1),
        "a push-back spends no attempt"
    );
    stage.delivered.len()
}

/// A breaker that nothing opens but an endpoint that has taken nothing at all.
fn without_breaker() -> BreakerOptions {
    BreakerOptions {
        failure_ratio: 1.0,
        min_attempts: 20,
        ..BreakerOptions::default()
    }
}

#[test]
fn a_receiver_that_fails_now_and_then_gets_the_rate_that_it_gets_without_a_breaker() {
    for (part, latency_ms, seed) in [(0.1, 20, 1), (0.3, 20, 2), (0.3, 100, 3), (0.1, 100, 4)] {
        let lane = |breaker| LaneOptions {
            breaker,
            ..schedule(&[SECOND; 24])
        };
        let with = delivered(lane(BreakerOptions::default()), part, latency_ms, 503, seed);
        let without = delivered(lane(without_breaker()), part, latency_ms, 503, seed);
        println!("{part} fail after {latency_ms} ms: {with} with a breaker, {without} without");
        assert!(
            with as f64 >= 0.9 * without as f64,
            "{with} with a breaker, {without} without"
        );
    }
}

#[test]
fn a_receiver_that_pushes_back_one_of_ten_at_random_gets_a_third_of_its_rate_and_more() {
    for (latency_ms, seed) in [(5, 1), (20, 2), (20, 3), (100, 4)] {
        let lane = LaneOptions::default;
        let with = delivered(lane(), 0.1, latency_ms, 429, seed);
        let without = delivered(lane(), 0.0, latency_ms, 429, seed);
        println!("pushed back after {latency_ms} ms: {with} with, {without} without");
        assert!(3 * with >= without, "{with} of {without}");
    }
}

#[test]
fn behind_a_breaker_that_closes_requests_double_from_one() {
    let options = LaneOptions {
        breaker: BreakerOptions {
            probe_interval: SECOND,
            ..BreakerOptions::default()
        },
        ..schedule(&[10 * SECOND; 24])
    };
    let mut stage = Stage::new(options, |seen| {
        answer(if seen.at < SECOND / 2 { 503 } else { 200 })
    });
    stage.latency = Duration::from_millis(100);
    stage.produce(500);
    stage.pass(3 * SECOND);
    let from = stage.seen.iter().position(|seen| seen.at > SECOND / 2);
    let mut at: Vec<(Duration, usize)> = Vec::new();
    for seen in &stage.seen[from.unwrap()..] {
        match at.last_mut() {
            Some((last, count)) if *last == seen.at => *count += 1,
            _ => at.push((seen.at, 1)),
        }
    }
    let counts: Vec<usize> = at.iter().map(|(_, count)| *count).take(4).collect();
    assert_eq!(
        counts,
        [1, 1, 2, 8],
        "a probe, and then twice as many for each that passes"
    );
}
