//! The rate, counted from outside: however the lane spreads its requests, no stretch of time may hold more than the limit says.

use std::collections::VecDeque;

use postrider::lane::RateOptions;

use crate::check::{Violation, ensure};
use crate::world::{MILLISECOND, Time};

/// What the limiter may be ahead of an exact one: two milliseconds, rounded up to whole cells of at most two.
const SLACK: Time = 4 * MILLISECOND;
/// The longest stretch that is looked at, in requests beyond the burst.
const STRETCH: usize = 50;

/// The last requests of one lane.
#[derive(Debug)]
pub(crate) struct Pace {
    limit: Option<RateOptions>,
    sent: VecDeque<Time>,
}

impl Pace {
    /// The simulation gives a lane one limit on requests, or none.
    pub(crate) fn new(limits: &[RateOptions]) -> Self {
        Self {
            limit: limits.first().copied(),
            sent: VecDeque::new(),
        }
    }

    pub(crate) fn sends(&mut self, now: Time) -> Result<(), Violation> {
        let Some(limit) = self.limit else {
            return Ok(());
        };
        let burst = limit.burst.get() as usize;
        self.sent.push_back(now);
        if self.sent.len() > burst + STRETCH {
            self.sent.pop_front();
        }
        for beyond in 1..self.sent.len().saturating_sub(burst) + 1 {
            let Some(first) = self.sent.len().checked_sub(burst + beyond) else {
                break;
            };
            let took = now - self.sent[first];
            let least = limit.period.as_nanos() as Time * beyond as Time;
            ensure!(
                took + SLACK >= least,
                Bounds,
                "{} requests within {took} ns; {burst} at once and then one every {:?} are allowed",
                burst + beyond,
                limit.period
            );
        }
        Ok(())
    }
}
