//! A hook for the tests of the watchdog, and for nothing else: a consumer thread that stands still, as if librdkafka never came back.
//!
//! `POSTRIDER_TEST_STALL` names the thread: `c-NAME` reads the topics of the destination NAME, `r-NAME` the ladder.

use std::time::Duration;

use tracing::error;

use crate::clock::{Clock, Tick};

const VARIABLE: &str = "POSTRIDER_TEST_STALL";
/// It turns for a while before, as one that gets stuck does.
const AFTER: Duration = Duration::from_secs(3);

/// When a thread stands still; never, unless it was named.
pub(super) struct Stall(Option<Tick>);

impl Stall {
    pub(super) fn of(thread: &str, clock: Clock) -> Self {
        let named = std::env::var(VARIABLE).is_ok_and(|name| name == thread);
        Self(named.then(|| clock.now().tick + AFTER))
    }

    /// Does not come back once it is time.
    pub(super) fn here(&self, now: Tick) {
        if self.0.is_some_and(|at| at <= now) {
            error!(variable = VARIABLE, "this thread stands still, as asked");
            loop {
                std::thread::park();
            }
        }
    }
}
