//! What each lane has of a limit that the process has as a whole.
//!
//! Each lane is guaranteed an even part. What it does not use of that is lent to those that ask for more, and comes back as they use less: they are
//! given nothing more as long as somebody has less than its part and asks. A quarter of its part no lane ever lends, so that the first records
//! of one that was idle wait for nobody. What is in use, and what a lane may still use because it has not heard otherwise, is never allotted
//! twice: the limit is kept at every moment.

use super::endpoints::Slot;
use super::machine::Lane;

/// What a lane may use of the process's limits at this moment, whatever more its own settings allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allotment {
    /// Requests in flight.
    pub in_flight: usize,
    /// Bytes of the window.
    pub window_bytes: usize,
}

impl Allotment {
    /// As much as the lane's own settings allow.
    pub const UNLIMITED: Self = Self {
        in_flight: usize::MAX,
        window_bytes: usize::MAX,
    };
}

/// What a lane has of the process's limits, and whether that is too little.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Requests in flight.
    pub in_flight: usize,
    /// Whether more would be in flight if they were allowed.
    pub wants_in_flight: bool,
    /// Bytes in the window.
    pub window_bytes: usize,
    /// Whether more would be read if there was room.
    pub wants_window_bytes: bool,
}

/// One lane's part in one limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Claim {
    /// What its own settings allow.
    pub most: u64,
    /// What it was last allotted; 0: it is new.
    pub allotted: u64,
    /// What it goes by: it may not have heard yet.
    pub in_force: u64,
    /// What it uses; more than it goes by for a while when that has become less.
    pub used: u64,
    /// Whether it would use more.
    pub wants_more: bool,
}

impl Claim {
    /// What must not be allotted to another.
    fn held(&self) -> u64 {
        self.allotted.max(self.in_force).max(self.used)
    }
}

/// What each of these is allotted of `total`, in their order. None gets less than `least`, or than its own settings allow: with more lanes than
/// there is to share, the total is exceeded by that.
#[must_use]
pub fn allot(total: u64, least: u64, claims: &[Claim]) -> Vec<u64> {
    let count = u64::try_from(claims.len()).unwrap_or(u64::MAX).max(1);
    let at_once = least.max(total / count / 4);
    let kept: Vec<u64> = claims.iter().map(|claim| at_once.min(claim.most)).collect();
    let mosts: Vec<u64> = claims.iter().map(|claim| claim.most).collect();
    let needs = claims.iter().zip(&kept).map(|(claim, kept)| {
        if claim.wants_more {
            claim.most
        } else {
            claim.used.clamp(*kept, claim.most)
        }
    });
    let needs: Vec<u64> = needs.collect();
    // Those that ask come first; what is left then is spread, so that whoever begins need not ask.
    let targets = fill(total, &kept, &needs);
    let targets = fill(total, &targets, &mosts);
    let held: u64 = claims.iter().map(Claim::held).sum();
    let missing = claims.iter().zip(&targets);
    let missing: Vec<u64> = missing
        .map(|(claim, target)| target.saturating_sub(claim.held()))
        .collect();
    let none = vec![0; claims.len()];
    let given = fill(total.saturating_sub(held), &none, &missing);
    let all = claims.iter().zip(targets).zip(given);
    all.map(|((claim, target), given)| {
        let now = target.min(claim.held() + given);
        now.max(least.min(claim.most))
    })
    .collect()
}

/// Parts of `total` that are as even as their bounds allow: each at least its `lower` bound and at most its `upper` one.
fn fill(total: u64, lower: &[u64], upper: &[u64]) -> Vec<u64> {
    let bounds = || lower.iter().zip(upper);
    let part = |level: u64, (lower, upper): (&u64, &u64)| level.min(*upper).max(*lower);
    let sum = |level: u64| -> u64 { bounds().map(|bounds| part(level, bounds)).sum() };
    let (mut enough, mut beyond) = (0, upper.iter().copied().max().unwrap_or(0) + 1);
    while enough + 1 < beyond {
        let level = enough + (beyond - enough) / 2;
        if sum(level) <= total {
            enough = level;
        } else {
            beyond = level;
        }
    }
    let mut left = total.saturating_sub(sum(enough));
    let one_more = |bounds: (&u64, &u64)| {
        let even = part(enough, bounds);
        let more = part(enough + 1, bounds).saturating_sub(even).min(left);
        left -= more;
        even + more
    };
    bounds().map(one_more).collect()
}

impl Lane {
    /// How many requests may be in flight.
    pub(super) fn concurrency(&self) -> usize {
        let Self {
            options, allotment, ..
        } = self;
        options.concurrency.min(allotment.in_flight).max(1)
    }

    /// How many bytes the window may hold.
    pub(super) fn window_bytes(&self) -> usize {
        let Self {
            options, allotment, ..
        } = self;
        options.window.bytes.min(allotment.window_bytes).max(1)
    }

    /// What it has of the process's limits, and whether it would use more than it was allotted. A window counts as too small when it is three
    /// quarters full: members are told of half of the room that is left, so it is hardly ever full.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let is_left_alone = self.is_stopped() || self.endpoints[Slot::SOLE].is_left_alone();
        let is_busy = self.in_flight >= self.concurrency() && self.has_ready();
        Usage {
            in_flight: self.in_flight,
            wants_in_flight: is_busy && self.in_flight < self.options.concurrency,
            window_bytes: self.unsettled_bytes,
            wants_window_bytes: self.unsettled_bytes >= self.window_bytes() / 4 * 3
                && self.window_bytes() < self.options.window.bytes
                && !is_left_alone,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::lane::stage::{Stage, answer};
    use crate::lane::{Event, LaneOptions};

    fn idle(most: u64) -> Claim {
        Claim {
            most,
            ..Claim::default()
        }
    }

    fn busy(most: u64) -> Claim {
        Claim {
            wants_more: true,
            ..idle(most)
        }
    }

    /// Allots until nothing changes; lanes use what they are given where they want more, and nothing where they do not.
    fn settle(total: u64, claims: &mut [Claim]) -> Vec<u64> {
        for _ in 0..10 {
            step(total, claims);
        }
        claims.iter().map(|claim| claim.allotted).collect()
    }

    fn step(total: u64, claims: &mut [Claim]) {
        let allotted = allot(total, 1, claims);
        for (claim, now) in claims.iter_mut().zip(allotted) {
            claim.allotted = now;
            claim.in_force = now;
            claim.used = if claim.wants_more { now } else { 0 };
        }
    }

    #[test]
    fn where_there_is_enough_each_has_what_its_settings_allow() {
        assert_eq!(settle(512, &mut [idle(16), busy(64)]), [16, 64]);
        assert_eq!(settle(80, &mut [idle(16), busy(64)]), [16, 64]);
        assert_eq!(settle(0, &mut []), Vec::<u64>::new());
    }

    #[test]
    fn what_one_does_not_use_is_lent_but_a_quarter_of_its_part() {
        assert_eq!(settle(100, &mut [idle(100), busy(100)]), [12, 88]);
        assert_eq!(
            settle(100, &mut [busy(10), busy(100), busy(100)]),
            [10, 45, 45]
        );
    }

    #[test]
    fn what_is_lent_comes_back_and_nobody_who_has_more_is_given_it() {
        let mut claims = [idle(100), busy(100)];
        settle(100, &mut claims);
        claims[0].wants_more = true;
        step(100, &mut claims);
        assert_eq!(claims[0].allotted, 12, "what it had: the rest is in use");
        assert_eq!(claims[1].allotted, 50);
        claims[1].used = 80;
        step_keeping(100, &mut claims, 80);
        assert_eq!(claims[0].allotted, 20, "what has come back");
        assert_eq!(settle(100, &mut claims), [50, 50]);
    }

    /// A step after which the second still uses so much.
    fn step_keeping(total: u64, claims: &mut [Claim; 2], used: u64) {
        step(total, claims);
        claims[1].used = used;
    }

    #[test]
    fn a_lane_that_has_not_heard_yet_keeps_what_it_goes_by() {
        let mut claims = [idle(100), busy(100)];
        settle(100, &mut claims);
        claims[0].wants_more = true;
        claims[1].used = 0;
        claims[1].wants_more = false;
        let allotted = allot(100, 1, &claims);
        assert_eq!(claims[1].in_force, 88);
        assert_eq!(allotted[0], 12, "the other may still begin 88 requests");
    }

    #[test]
    fn a_new_lane_may_begin_though_all_is_in_use() {
        let mut claims = vec![busy(100), busy(100)];
        settle(100, &mut claims);
        claims.push(busy(100));
        let allotted = allot(100, 1, &claims);
        assert_eq!(allotted[2], 1);
        assert_eq!(settle(100, &mut claims), [34, 33, 33]);
        assert_eq!(settle(3, &mut [busy(9); 5]), [1; 5], "one each at least");
    }

    #[test]
    fn a_lane_begins_no_more_than_it_was_allotted_and_says_that_it_would() {
        let mut stage = Stage::new(LaneOptions::default(), |_| answer(200));
        stage.latency = Duration::from_secs(1);
        let few = Allotment {
            in_flight: 3,
            ..Allotment::UNLIMITED
        };
        stage.tell(Event::Allotted(few));
        stage.produce(30);
        let usage = stage.lane.usage();
        assert_eq!((usage.in_flight, usage.wants_in_flight), (3, true));
        stage.pass(Duration::from_millis(3500));
        assert_eq!(stage.seen.len(), 12);
        stage.tell(Event::Allotted(Allotment::UNLIMITED));
        let usage = stage.lane.usage();
        assert_eq!((usage.in_flight, usage.wants_in_flight), (16, false));
        stage.pass(Duration::from_secs(10));
        assert_eq!(stage.delivered.len(), 30);
    }

    #[test]
    fn an_endpoint_that_is_left_alone_asks_for_nothing() {
        let mut stage = Stage::new(LaneOptions::default(), |_| answer(401));
        let few = Allotment {
            in_flight: 1,
            window_bytes: 1,
        };
        stage.tell(Event::Allotted(few));
        stage.produce(30);
        stage.pass(Duration::from_secs(5));
        let usage = stage.lane.usage();
        assert!(!usage.wants_in_flight && !usage.wants_window_bytes);
    }

    #[test]
    fn a_window_is_as_large_as_it_was_allotted_and_asks_for_more_when_it_is_nearly_full() {
        let mut stage = Stage::new(LaneOptions::default(), |_| answer(200));
        stage.latency = Duration::from_secs(60);
        stage.produce(100);
        let used = stage.lane.usage();
        assert!(used.window_bytes > 100 && !used.wants_window_bytes);
        let just = Allotment {
            window_bytes: used.window_bytes,
            ..Allotment::UNLIMITED
        };
        stage.tell(Event::Allotted(just));
        assert!(stage.lane.usage().wants_window_bytes);
        assert_eq!(stage.lane.room().bytes, 0);
        assert!((0.99..=1.01).contains(&stage.lane.window_usage()[1]));
    }

    /// Lanes that come and go at random: the limit is kept at every moment, whoever asks gets its part, and nobody falls below what is kept for it.
    #[test]
    fn whatever_lanes_do_the_limit_is_kept_and_each_gets_its_part() {
        let mut seed = 7u64;
        let mut random = move |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) % below
        };
        for _ in 0..300 {
            let count = 1 + random(12);
            let total = count + random(200);
            let mut claims: Vec<Claim> = (0..count).map(|_| idle(1 + random(64))).collect();
            for _ in 0..40 {
                let allotted = allot(total, 1, &claims);
                for (claim, allotted) in claims.iter_mut().zip(allotted) {
                    claim.allotted = allotted;
                    // Some hear late.
                    if random(3) > 0 {
                        claim.in_force = allotted;
                    }
                    claim.wants_more = random(2) == 0;
                    let may_use = claim.in_force.max(claim.used.saturating_sub(random(8)));
                    claim.used = random(may_use + 1);
                }
                let held: u64 = claims.iter().map(Claim::held).sum();
                assert!(held <= total, "{held} of {total}: {claims:?}");
            }
            for claim in &mut claims {
                claim.wants_more |= random(2) == 0;
            }
            let allotted = settle(total, &mut claims);
            let part = total / count;
            for (claim, allotted) in claims.iter().zip(allotted) {
                let least = if claim.wants_more { part } else { part / 4 };
                assert!(allotted >= least.min(claim.most), "{claim:?} of {total}");
            }
        }
    }
}
