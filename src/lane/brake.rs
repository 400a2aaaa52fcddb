//! The brake on the dead letters: when suddenly most records are rejected it is more likely that something changed than that all of them are
//! bad, so the lane slows down, or stops, and asks for a person instead of emptying the topic into the dead letters.

use std::collections::VecDeque;
use std::time::Duration;

use crate::clock::Tick;

use super::options::{BrakeMode, BrakeOptions};

/// A braked lane tries one record in this time.
const SLOW: Duration = Duration::from_secs(60);

/// Deliveries in a row, each tried alone, that end the brake by themselves.
const DELIVERED_IN_A_ROW: u32 = 3;

/// The window is cut into so many parts; what is counted leaves it a part at a time.
const PARTS: u32 = 10;

/// What was settled lately, and whether that was too bad.
#[derive(Debug, Default)]
pub(super) struct Brake {
    /// Each part's number, deliveries and rejections.
    parts: VecDeque<(u128, u32, u32)>,
    braked: Option<Braked>,
}

#[derive(Debug, Clone, Copy)]
struct Braked {
    since: Tick,
    /// When the next record may be tried; `None`: when a person says so.
    next: Option<Tick>,
    delivered: u32,
}

impl Brake {
    /// Since when the lane is braked.
    pub(super) fn since(&self) -> Option<Tick> {
        self.braked.map(|braked| braked.since)
    }

    /// Whether a record may be tried, or when; `Err(None)`: when a person says so.
    pub(super) fn may_try(&self, now: Tick) -> Result<(), Option<Tick>> {
        match self.braked {
            Some(Braked {
                next: Some(next), ..
            }) if next <= now => Ok(()),
            Some(braked) => Err(braked.next),
            None => Ok(()),
        }
    }

    /// A record is tried: the next one a minute later.
    pub(super) fn tried(&mut self, now: Tick) {
        if let Some(braked) = &mut self.braked {
            braked.next = braked.next.map(|_| now + SLOW);
        }
    }

    /// A record was delivered. True when that ends the brake.
    pub(super) fn delivered(&mut self, options: &BrakeOptions, now: Tick) -> bool {
        self.part(options, now).1 += 1;
        let Some(braked) = &mut self.braked else {
            return false;
        };
        braked.delivered += 1;
        braked.delivered >= DELIVERED_IN_A_ROW && self.release()
    }

    /// A record was rejected. True when that is one too many and the brake goes on.
    pub(super) fn rejected(&mut self, options: &BrakeOptions, now: Tick) -> bool {
        self.part(options, now).2 += 1;
        if let Some(braked) = &mut self.braked {
            braked.delivered = 0;
            return false;
        }
        let (delivered, rejected) = self
            .parts
            .iter()
            .fold((0_u32, 0_u32), |(d, r), part| (d + part.1, r + part.2));
        let total = f64::from(delivered) + f64::from(rejected);
        if rejected < options.rejected || f64::from(rejected) < options.ratio * total {
            return false;
        }
        self.braked = Some(Braked {
            since: now,
            next: match options.mode {
                BrakeMode::Slow => Some(now + SLOW),
                BrakeMode::Stop => None,
            },
            delivered: 0,
        });
        true
    }

    /// Ends the brake and forgets what led to it. True when there was one.
    pub(super) fn release(&mut self) -> bool {
        self.parts.clear();
        self.braked.take().is_some()
    }

    fn part(&mut self, options: &BrakeOptions, now: Tick) -> &mut (u128, u32, u32) {
        let length = (options.window / PARTS).max(Duration::from_millis(1));
        let number = now.0.as_nanos() / length.as_nanos();
        while self
            .parts
            .front()
            .is_some_and(|part| part.0 + u128::from(PARTS) <= number)
        {
            self.parts.pop_front();
        }
        if self.parts.back().is_none_or(|part| part.0 != number) {
            self.parts.push_back((number, 0, 0));
        }
        let last = self.parts.len() - 1;
        &mut self.parts[last]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Tick {
        Tick(Duration::from_secs(seconds))
    }

    #[test]
    fn a_few_bad_records_among_good_ones_go_straight_through() {
        let (mut brake, options) = (Brake::default(), BrakeOptions::default());
        for n in 0..10_000 {
            assert!(!brake.rejected(&options, at(n / 100)));
            brake.delivered(&options, at(n / 100));
            brake.delivered(&options, at(n / 100));
        }
        assert_eq!(brake.may_try(at(100)), Ok(()));
    }

    #[test]
    fn when_most_are_rejected_one_a_minute_is_tried_until_three_in_a_row_are_delivered() {
        let (mut brake, options) = (Brake::default(), BrakeOptions::default());
        let braked = (0..100).position(|_| brake.rejected(&options, at(1)));
        assert_eq!(braked, Some(19));
        assert_eq!(brake.since(), Some(at(1)));
        assert_eq!(brake.may_try(at(60)), Err(Some(at(61))));
        assert_eq!(brake.may_try(at(61)), Ok(()));
        brake.tried(at(61));
        assert_eq!(brake.may_try(at(62)), Err(Some(at(121))));
        assert!(!brake.delivered(&options, at(62)));
        assert!(!brake.delivered(&options, at(122)));
        assert!(!brake.rejected(&options, at(182)), "it is braked already");
        assert!(!brake.delivered(&options, at(242)));
        assert!(!brake.delivered(&options, at(302)));
        assert!(brake.delivered(&options, at(362)));
        assert_eq!(brake.may_try(at(363)), Ok(()));
    }

    #[test]
    fn stop_waits_for_a_person() {
        let options = BrakeOptions {
            mode: BrakeMode::Stop,
            ..BrakeOptions::default()
        };
        let mut brake = Brake::default();
        for _ in 0..20 {
            brake.rejected(&options, at(1));
        }
        assert_eq!(brake.may_try(at(1_000_000)), Err(None));
        assert!(brake.release());
        assert_eq!(brake.may_try(at(1_000_000)), Ok(()));
    }
}
