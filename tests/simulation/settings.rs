//! The settings of a run, drawn from its seed: of the lanes, of the receivers, of the broker.

use std::num::NonZeroU32;
use std::time::Duration;

use postrider::clock::Timestamp;
use postrider::lane::{
    BrakeOptions, BreakerOptions, LaneOptions, OrderOptions, RateOptions, RateUnit,
    RenderErrorPolicy, RetryOptions, StartAt, WindowOptions,
};

use crate::days;
use crate::plan::{BrokerMood, Class, DestinationPlan, Kinds, Mix, Outage, OutageKind};
use crate::rng::Rng;
use crate::world::{MILLISECOND, SECOND, Time, WALL_AT_START};

/// Old enough for nothing to expire in a run.
pub(crate) const AGE_MAX: Duration = Duration::from_secs(60 * 24 * 3600);

pub(crate) fn start_at(rng: &mut Rng) -> StartAt {
    match rng.below(10) {
        0..5 => StartAt::Earliest,
        5..9 => StartAt::Latest,
        _ => StartAt::Time(Timestamp(WALL_AT_START + rng.below(10_000) as i64)),
    }
}

pub(crate) fn destination(
    rng: &mut Rng,
    class: Class,
    number: u64,
    faults_end: Time,
) -> DestinationPlan {
    let healthy = match class {
        Class::Isolation => number == 0,
        Class::Calm => false,
        Class::Rough => rng.chance(20),
        Class::Long => rng.chance(10),
    };
    let outages = match class {
        Class::Calm => Vec::new(),
        _ if healthy => Vec::new(),
        Class::Isolation => vec![Outage {
            from: 0,
            to: faults_end,
            kind: outage_kind(rng),
            endpoint: None,
        }],
        Class::Rough => outages(rng, faults_end),
        Class::Long => days::outages(rng, faults_end),
    };
    let rough = class == Class::Rough;
    let options = if class == Class::Long {
        days::options(rng, !outages.is_empty())
    } else {
        options(rng, class)
    };
    let window = options.window;
    let narrow = window.records < 16 || window.bytes < 30_000 || window.distance < 1000;
    let mix = Mix {
        special: if healthy {
            0
        } else {
            rng.pick(if class == Class::Long {
                &[5, 10, 20, 30]
            } else {
                &[0, 5, 20, 60]
            })
        },
        kinds: match class {
            Class::Calm => Kinds::DecidedAtOnce,
            Class::Long => Kinds::Long,
            Class::Isolation | Class::Rough if narrow => Kinds::Passing,
            Class::Isolation | Class::Rough => Kinds::Quick,
        },
        unsent: rng.pick(&[0, 10, 40]),
        too_large: if rough { 10 } else { 0 },
        late: if rough && !healthy {
            rng.pick(&[0, 2])
        } else {
            0
        },
    };
    let slowest = match class {
        Class::Calm => rng.pick(&[5, 60]),
        _ if healthy => 40,
        _ => rng.pick(&[5, 60, 250]),
    };
    DestinationPlan {
        id: format!("destination-{number}").into(),
        options,
        schedules: if class == Class::Long {
            days::changes(rng)
        } else {
            Vec::new()
        },
        healthy,
        outages,
        mix,
        latency: (rng.between(1, 4) * MILLISECOND, slowest * MILLISECOND),
        endpoints: 1,
        keys: 0,
    }
}

fn outages(rng: &mut Rng, faults_end: Time) -> Vec<Outage> {
    match rng.below(4) {
        0 => vec![Outage {
            from: 0,
            to: faults_end,
            kind: outage_kind(rng),
            endpoint: None,
        }],
        1 => Vec::new(),
        _ => {
            let mut outages = Vec::new();
            let mut from = rng.below(2 * SECOND);
            while from < faults_end {
                let to = (from + rng.between(100, 3000) * MILLISECOND).min(faults_end);
                outages.push(Outage {
                    from,
                    to,
                    kind: outage_kind(rng),
                    endpoint: None,
                });
                from = to + rng.between(100, 3000) * MILLISECOND;
            }
            outages
        }
    }
}

pub(crate) fn outage_kind(rng: &mut Rng) -> OutageKind {
    rng.pick(&[
        OutageKind::Refused,
        OutageKind::Refused,
        OutageKind::Errors,
        OutageKind::ErrorsWithRetryAfter,
        OutageKind::PushBack,
        OutageKind::PushBackWithRetryAfter,
        OutageKind::Hangs,
        OutageKind::Unauthorized,
        OutageKind::Gone,
    ])
}

fn options(rng: &mut Rng, class: Class) -> LaneOptions {
    let millis = |rng: &mut Rng, low, high| Duration::from_millis(rng.between(low, high));
    let schedule = (0..rng.between(0, 3))
        .map(|_| millis(rng, 5, 2000))
        .collect();
    // A window or a pool this narrow would make slowness a question of the settings.
    let narrow = class != Class::Isolation;
    LaneOptions {
        on_render_error: RenderErrorPolicy::DeadLetter,
        breaker: breaker(rng),
        brake: BrakeOptions::default(),
        concurrency: if narrow { rng.pick(&[1, 2, 4, 16]) } else { 8 },
        window: WindowOptions {
            records: if narrow {
                rng.pick(&[1, 5, 30, 300])
            } else {
                300
            },
            bytes: if narrow {
                rng.pick(&[1, 3000, 30_000, 1 << 20, 1 << 20])
            } else {
                1 << 20
            },
            distance: rng.pick(&[1, 6, 30, 1000, 1000]),
        },
        retry: RetryOptions {
            schedule,
            jitter: rng.pick(&[0.0, 0.2, 1.0]),
            retry_after_max: millis(rng, 50, 2000),
        },
        max_age: if rng.chance(10) {
            millis(rng, 1, 3000)
        } else {
            AGE_MAX
        },
        commit_interval: Duration::from_millis(rng.pick(&[10, 50, 500])),
        order: OrderOptions::None,
        rate: if narrow && rng.chance(20) {
            vec![rate(rng)]
        } else {
            Vec::new()
        },
        expire_after: None,
    }
}

fn breaker(rng: &mut Rng) -> BreakerOptions {
    let first = rng.between(50, 10_000);
    BreakerOptions {
        window: Duration::from_secs(rng.between(1, 60)),
        failure_ratio: rng.pick(&[0.3, 0.5, 1.0]),
        min_attempts: rng.pick(&[2, 10, 30]),
        probe_interval: Duration::from_millis(first),
        probe_interval_max: Duration::from_millis(first * rng.pick(&[1, 4, 30])),
    }
}

pub(crate) fn rate(rng: &mut Rng) -> RateOptions {
    RateOptions {
        period: Duration::from_micros(rng.between(100, 20_000)),
        burst: NonZeroU32::MIN.saturating_add(rng.between(0, 8) as u32),
        unit: RateUnit::Requests,
    }
}

/// In no more than `most` of a hundred cases anything goes wrong: nothing could be done for days otherwise.
pub(crate) fn broker_mood(rng: &mut Rng, most: u64) -> BrokerMood {
    let mut percent = |choices: &[u64]| rng.pick(choices).min(most);
    BrokerMood {
        commit_fails: percent(&[0, 0, 10, 60]),
        commit_answer_lost: percent(&[0, 0, 10, 50]),
        commit_slow: percent(&[0, 10, 50]),
        question_fails: percent(&[0, 0, 10, 40]),
        write_fails: percent(&[0, 0, 20, 70]),
        write_ack_lost: percent(&[0, 0, 20]),
        write_slow: percent(&[0, 10, 50]),
    }
}
