//! The rate of a destination: GCRA (the generic cell rate algorithm) by governor, driven by the lane's own time.

use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock, FakeRelativeClock, Reference};
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};

use crate::clock::Tick;

use super::options::{RateOptions, RateUnit};

/// The limits of one destination. A record is admitted when all of them let it.
#[derive(Debug)]
pub(super) struct Rate {
    /// A clock that is told the time; governor holds its clock itself.
    time: FakeRelativeClock,
    told: Tick,
    limits: Vec<Limit>,
}

#[derive(Debug)]
struct Limit {
    limiter: RateLimiter<NotKeyed, InMemoryState, FakeRelativeClock, NoOpMiddleware<Nanos>>,
    unit: RateUnit,
    /// Cells of one unit.
    parts: u32,
    /// Cells that may go at once.
    burst: NonZeroU32,
    /// What the next record has already paid: its cells are taken as they become free, so that a record larger than the burst still gets
    /// through, and one that another limit holds back does not pay twice.
    paid: u64,
}

/// A lane is woken a little late, by the timer's millisecond and by what else there is to do. Without some slack each wait would make the
/// rate lower than the file says: with a burst of 1, a late record makes all that follow late.
const SLACK: Duration = Duration::from_millis(2);

/// Into how many cells a unit is cut: cells of about a millisecond, so that the slack is less than a unit.
fn parts(period: Duration) -> u32 {
    u32::try_from(period.as_millis())
        .unwrap_or(u32::MAX)
        .clamp(1, 1000)
}

impl Rate {
    pub(super) fn new(options: &[RateOptions]) -> Self {
        let time = FakeRelativeClock::default();
        let limit = |option: &RateOptions| {
            let parts = parts(option.period);
            let cell = (option.period / parts).max(Duration::from_nanos(1));
            let slack = u32::try_from(SLACK.as_nanos().div_ceil(cell.as_nanos())).ok()?;
            let burst = option
                .burst
                .saturating_mul(parts.try_into().ok()?)
                .saturating_add(slack);
            let quota = Quota::with_period(cell)?.allow_burst(burst);
            Some(Limit {
                limiter: RateLimiter::direct_with_clock(quota, time.clone()),
                unit: option.unit,
                parts,
                burst,
                paid: 0,
            })
        };
        Self {
            limits: options.iter().filter_map(limit).collect(),
            time,
            told: Tick::default(),
        }
    }

    /// From now on these limits hold. They begin empty: a change of the file must not be worth a burst.
    pub(super) fn replace(&mut self, options: &[RateOptions], now: Tick) {
        let mut rate = Self::new(options);
        rate.time.advance(now.since(rate.told));
        rate.told = now;
        for limit in &mut rate.limits {
            // That much there always is in a new one.
            drop(limit.limiter.check_n(limit.burst));
        }
        *self = rate;
    }

    /// Admits the next record, of that many body bytes, or says when to ask again. Asking again costs nothing.
    pub(super) fn admit(&mut self, now: Tick, bytes: usize) -> Result<(), Tick> {
        self.time.advance(now.since(self.told));
        self.told = self.told.max(now);
        for limit in &mut self.limits {
            limit.pay(limit.cost(bytes)).map_err(|wait| now + wait)?;
        }
        for limit in &mut self.limits {
            limit.paid = limit.paid.saturating_sub(limit.cost(bytes));
        }
        Ok(())
    }
}

impl Limit {
    /// The cells of a record. A body without bytes still is a request.
    fn cost(&self, bytes: usize) -> u64 {
        let units = match self.unit {
            RateUnit::Requests => 1,
            RateUnit::Bytes => (bytes as u64).max(1),
        };
        units * u64::from(self.parts)
    }

    /// Takes cells until `cost` is paid, or says how long to wait for the next ones.
    fn pay(&mut self, cost: u64) -> Result<(), Duration> {
        while self.paid < cost {
            let missing = u32::try_from(cost - self.paid).unwrap_or(u32::MAX);
            let Some(part) = NonZeroU32::new(missing.min(self.burst.get())) else {
                break;
            };
            match self.limiter.check_n(part) {
                Ok(Ok(())) => self.paid += u64::from(part.get()),
                Ok(Err(not_until)) => {
                    let now = self.limiter.clock().now();
                    let wait = not_until.earliest_possible().duration_since(now);
                    // Never zero, or the lane would be woken for nothing.
                    return Err(Duration::from(wait).max(Duration::from_nanos(1)));
                }
                // Cannot be: a part is never larger than the burst.
                Err(_) => break,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(period: Duration, burst: u32, unit: RateUnit) -> RateOptions {
        RateOptions {
            period,
            burst: NonZeroU32::new(burst).expect("a burst"),
            unit,
        }
    }

    /// Admits as fast as it may for `time`, and returns when each record went.
    fn run(rate: &mut Rate, bytes: usize, time: Duration) -> Vec<Duration> {
        let (mut now, mut went) = (Tick::default(), Vec::new());
        while now.0 < time {
            match rate.admit(now, bytes) {
                Ok(()) => went.push(now.0),
                Err(until) => now = until,
            }
        }
        went
    }

    #[test]
    fn a_rate_without_burst_is_even_from_the_first_record_on() {
        let mut rate = Rate::new(&[rate(Duration::from_millis(100), 1, RateUnit::Requests)]);
        let went = run(&mut rate, 1, Duration::from_secs(10));
        assert!(
            (100..=101).contains(&went.len()),
            "not the double in the first minute: {}",
            went.len()
        );
        assert!(
            went.windows(2)
                .all(|pair| pair[1] - pair[0] >= Duration::from_millis(98))
        );
    }

    #[test]
    fn a_burst_goes_at_once_and_the_rest_by_the_rate() {
        let mut rate = Rate::new(&[rate(Duration::from_millis(100), 20, RateUnit::Requests)]);
        let went = run(&mut rate, 1, Duration::from_secs(10));
        assert_eq!(went.iter().filter(|at| at.is_zero()).count(), 20);
        assert!((119..=120).contains(&went.len()), "{}", went.len());
    }

    #[test]
    fn waking_late_does_not_lower_the_rate() {
        for period in [Duration::from_micros(200), Duration::from_millis(10)] {
            let mut rate = Rate::new(&[rate(period, 1, RateUnit::Requests)]);
            let (mut now, mut went) = (Tick::default(), 0_u32);
            while now.0 < Duration::from_secs(10) {
                match rate.admit(now, 1) {
                    Ok(()) => went += 1,
                    // A timer of whole milliseconds.
                    Err(until) => now = Tick(Duration::from_millis(until.0.as_millis() as u64 + 1)),
                }
            }
            let wanted = 10.0 / period.as_secs_f64();
            assert!(
                (f64::from(went) / wanted - 1.0).abs() < 0.01,
                "{went} instead of {wanted}"
            );
        }
    }

    #[test]
    fn bytes_are_counted_and_a_record_larger_than_the_burst_still_goes() {
        let byte = Duration::from_millis(1);
        let mut small = Rate::new(&[rate(byte, 500, RateUnit::Bytes)]);
        let went = run(&mut small, 100, Duration::from_secs(10)).len();
        assert!((104..=105).contains(&went), "{went}");
        let mut large = Rate::new(&[rate(byte, 500, RateUnit::Bytes)]);
        let went = run(&mut large, 2000, Duration::from_millis(10_000));
        assert_eq!(went.len(), 5, "{went:?}");
    }

    #[test]
    fn of_several_limits_the_tighter_one_counts_and_nothing_is_paid_twice() {
        let requests = |millis| rate(Duration::from_millis(millis), 1, RateUnit::Requests);
        let bytes = rate(Duration::from_millis(1), 100, RateUnit::Bytes);
        let by_bytes = run(
            &mut Rate::new(&[requests(10), bytes]),
            50,
            Duration::from_secs(10),
        );
        assert!((200..=202).contains(&by_bytes.len()), "{}", by_bytes.len());
        let by_requests = run(
            &mut Rate::new(&[requests(100), bytes]),
            50,
            Duration::from_secs(10),
        );
        assert!(
            (100..=101).contains(&by_requests.len()),
            "{}",
            by_requests.len()
        );
    }
}
