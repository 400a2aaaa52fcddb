//! The gate before a lane's ladder: a record goes in when its step has passed, and everything behind it waits with it.
//!
//! The reader of a partition keeps the first record that may not go in yet, and reads no further. Every step is in the order in which its
//! records come up, so nobody waits for somebody slower.

use crate::clock::{Now, Tick, Timestamp};

use super::ladder::Step;

/// Says which records of the ladder may go in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Gate {
    /// Records that were written by then are let in whatever their step says.
    released: Option<Timestamp>,
}

/// A record that wants to go in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// The step it is on.
    pub step: Step,
    /// When it was written: by the broker's clock or by its writer's, whichever says later. `None`: nobody says.
    pub written: Option<Timestamp>,
    /// When it came to the gate.
    pub arrived: Tick,
}

impl Gate {
    /// Lets in what was written until `until`, now and from here on. Never takes back what was released.
    pub fn release(&mut self, until: Timestamp) {
        self.released = self.released.max(Some(until));
    }

    /// Whether this record may go in at `now`.
    ///
    /// By the wall clock, because others wrote the time; but a record that has stood here for its whole step goes in whatever the clocks
    /// say: it was written before it was read. So a clock that is wrong, here or at the broker, delays nobody by more than it is wrong,
    /// and the first in line by one step at most.
    #[must_use]
    pub fn lets_in(&self, caller: Caller, now: Now) -> bool {
        let Caller {
            step,
            written,
            arrived,
        } = caller;
        let Some(written) = written else { return true };
        self.released.is_some_and(|until| written <= until)
            || step.comes_up(written) <= now.wall
            || now.tick.since(arrived) >= step.delay()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const CALLER: Caller = Caller {
        step: Step::OneMinute,
        written: Some(Timestamp(1_000_000)),
        arrived: Tick(Duration::from_secs(5)),
    };

    fn now(tick: u64, wall: i64) -> Now {
        Now {
            tick: Tick(Duration::from_secs(tick)),
            wall: Timestamp(wall),
        }
    }

    #[test]
    fn a_record_goes_in_when_its_step_has_passed() {
        let gate = Gate::default();
        assert!(!gate.lets_in(CALLER, now(5, 1_000_000)));
        assert!(!gate.lets_in(CALLER, now(64, 1_059_999)));
        assert!(gate.lets_in(CALLER, now(6, 1_060_000)));
    }

    #[test]
    fn no_clock_keeps_the_first_in_line_longer_than_its_step() {
        let gate = Gate::default();
        assert!(!gate.lets_in(CALLER, now(64, 0)));
        assert!(gate.lets_in(CALLER, now(65, 0)));
        let ahead = Caller {
            written: Some(Timestamp(i64::MAX)),
            ..CALLER
        };
        assert!(!gate.lets_in(ahead, now(64, 1_059_999)));
        assert!(gate.lets_in(ahead, now(65, 1_060_000)));
    }

    #[test]
    fn a_record_without_a_time_waits_for_nothing() {
        let timeless = Caller {
            written: None,
            ..CALLER
        };
        assert!(Gate::default().lets_in(timeless, now(5, 0)));
    }

    #[test]
    fn a_release_opens_for_what_was_written_until_then() {
        let mut gate = Gate::default();
        gate.release(Timestamp(999_999));
        assert!(!gate.lets_in(CALLER, now(5, 1_000_000)));
        gate.release(Timestamp(1_000_000));
        gate.release(Timestamp(0));
        assert!(gate.lets_in(CALLER, now(5, 1_000_000)));
    }
}
