//! Runs of hours and days: what their settings are and what happens in them.

use std::time::Duration;

use postrider::lane::{
    BrakeOptions, BreakerOptions, LaneOptions, OrderOptions, RenderErrorPolicy, RetryOptions,
    WindowOptions,
};

use crate::plan::{Outage, OutageKind, Plan, Step};
use crate::rng::Rng;
use crate::settings::{AGE_MAX, rate};
use crate::world::{HOUR, MILLISECOND, SECOND, Time};

/// Outages of one destination that are told apart by the oracle: few, so that nobody can lose a budget to them.
const OUTAGES_MAX: u64 = 2;

pub(crate) fn outages(rng: &mut Rng, faults_end: Time) -> Vec<Outage> {
    let mut outages = Vec::new();
    let mut from = rng.below(faults_end / 2);
    for _ in 0..rng.below(OUTAGES_MAX + 1) {
        let to = from + rng.between(faults_end / 200, faults_end / 2);
        let kind = rng.pick(&[
            OutageKind::Refused,
            OutageKind::Errors,
            OutageKind::ErrorsWithRetryAfter,
            OutageKind::PushBack,
            OutageKind::PushBackWithRetryAfter,
            OutageKind::Hangs,
            OutageKind::Unauthorized,
            OutageKind::Unauthorized,
        ]);
        let to = to.min(faults_end);
        outages.push(Outage {
            from,
            to,
            kind,
            endpoint: None,
        });
        from = to + rng.between(faults_end / 200, faults_end / 4);
        if from >= faults_end {
            break;
        }
    }
    outages
}

pub(crate) fn options(rng: &mut Rng, broken: bool) -> LaneOptions {
    let first = rng.between(1000, 60_000);
    LaneOptions {
        concurrency: rng.pick(&[1, 2, 4, 16]),
        rate: if rng.chance(10) {
            vec![rate(rng)]
        } else {
            Vec::new()
        },
        // Evidence needs more than one record in the window.
        window: WindowOptions {
            records: rng.pick(&[16, 30, 300]),
            bytes: 1 << 20,
            distance: rng.pick(&[3000, 100_000]),
        },
        retry: RetryOptions {
            schedule: schedule(rng),
            jitter: 0.2,
            retry_after_max: Duration::from_secs(rng.pick(&[60, 3600])),
        },
        breaker: BreakerOptions {
            window: Duration::from_secs(rng.between(10, 300)),
            failure_ratio: rng.pick(&[0.5, 0.9]),
            min_attempts: rng.pick(&[10, 30]),
            probe_interval: Duration::from_millis(first),
            probe_interval_max: Duration::from_millis(first * rng.pick(&[1, 4, 30])),
        },
        brake: BrakeOptions::default(),
        max_age: if !broken && rng.chance(15) {
            Duration::from_secs(rng.pick(&[20, 600, 8000]))
        } else {
            AGE_MAX
        },
        on_render_error: RenderErrorPolicy::DeadLetter,
        expire_after: None,
        commit_interval: Duration::from_millis(rng.pick(&[10, 50, 500])),
        order: OrderOptions::None,
    }
}

/// Long enough that an outage cannot use it up.
fn schedule(rng: &mut Rng) -> Vec<Duration> {
    if rng.chance(40) {
        return RetryOptions::default().schedule;
    }
    let entry = |rng: &mut Rng| {
        let around = rng.pick(&[5, 30, 59, 61, 90, 400, 2000, 7300, 20_000, 40_000]);
        Duration::from_millis(rng.between(around * 900, around * 1100))
    };
    (0..rng.between(6, 9)).map(|_| entry(rng)).collect()
}

pub(crate) fn changes(rng: &mut Rng) -> Vec<Vec<Duration>> {
    (0..3)
        .map(|_| {
            let mut schedule = schedule(rng);
            // A schedule may also become much shorter, or end.
            if rng.chance(30) {
                schedule.truncate(rng.index(4));
            }
            schedule
        })
        .collect()
}

impl Plan {
    /// What happens in days: less at once, and more that people do.
    pub(crate) fn days(&self, rng: &mut Rng, script: &mut Vec<(Time, Step)>) {
        let end = self.faults_end;
        if rng.chance(60) {
            for _ in 0..rng.between(1, 8) {
                let instance = rng.index(self.instances);
                let at = rng.below(end);
                let away = rng.pick(&[10 * MILLISECOND, 3 * SECOND, 60 * SECOND, HOUR]);
                script.push((at, Step::Leave(instance)));
                script.push((at + rng.between(1, away), Step::Start(instance)));
            }
        }
        if rng.chance(40) {
            for _ in 0..rng.between(1, 6) {
                script.push((rng.below(end), Step::Crash(rng.index(self.instances))));
            }
        }
        if rng.chance(20) {
            let instance = rng.index(self.instances);
            let time = rng.between(50, 60_000) * MILLISECOND;
            script.push((rng.below(end), Step::Freeze { instance, time }));
        }
        if rng.chance(25) {
            for _ in 0..rng.between(1, 3) {
                let by = rng.between(1, 7_200_000) as i64;
                let by = if rng.chance(50) { by } else { -by };
                let instance = rng.chance(70).then(|| rng.index(self.instances));
                script.push((rng.below(end), Step::WallJump { instance, by }));
            }
        }
        self.changes_of_the_file(rng, script);
    }

    fn changes_of_the_file(&self, rng: &mut Rng, script: &mut Vec<(Time, Step)>) {
        let end = self.faults_end;
        for (destination, plan) in self.destinations.iter().enumerate() {
            if rng.chance(40) {
                for which in 0..plan.schedules.len() {
                    script.push((rng.below(end), Step::ChangeSchedule { destination, which }));
                }
            }
            if rng.chance(25) {
                let back_after = rng.between(1, end / SECOND / 3) * SECOND;
                let at = rng.below(end);
                script.push((
                    at,
                    Step::Remove {
                        destination,
                        back_after,
                    },
                ));
            }
            if rng.chance(15) {
                script.push((rng.below(end), Step::RemoveRule { destination }));
            }
        }
    }
}
