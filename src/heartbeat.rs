//! Whether what must turn turns: each thread and each runtime says until when it may be silent, and whoever watches sees who has not kept his word.
//!
//! The word is its own: one that is about to wait for a broker on purpose says for how long, and is not missed until then.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::Tick;

/// One of those who must turn.
#[derive(Debug)]
pub struct Heartbeat {
    /// Until when it may be silent, in milliseconds of the clock.
    until_ms: AtomicU64,
}

impl Heartbeat {
    /// It is about to begin.
    #[must_use]
    pub fn new(now: Tick) -> Self {
        Self {
            until_ms: AtomicU64::new(millis(now)),
        }
    }

    /// It turns at `now`, and may be silent for `pause` from then on.
    pub fn beat(&self, now: Tick, pause: Duration) {
        self.until_ms.store(millis(now + pause), Ordering::Relaxed);
    }

    /// Until when it may be silent; of one that promises nothing, when it last turned.
    #[must_use]
    pub fn until(&self) -> Tick {
        Tick(Duration::from_millis(self.until_ms.load(Ordering::Relaxed)))
    }

    /// Whether it has been silent for `grace` beyond its own deadline.
    #[must_use]
    pub fn is_overdue(&self, now: Tick, grace: Duration) -> bool {
        now.since(self.until()) > grace
    }
}

fn millis(tick: Tick) -> u64 {
    u64::try_from(tick.0.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(15);

    fn at(seconds: u64) -> Tick {
        Tick(Duration::from_secs(seconds))
    }

    #[test]
    fn silence_is_overdue_after_the_grace() {
        let heart = Heartbeat::new(at(100));
        assert!(!heart.is_overdue(at(115), GRACE));
        assert!(heart.is_overdue(at(116), GRACE));
        heart.beat(at(116), Duration::ZERO);
        assert!(!heart.is_overdue(at(131), GRACE));
    }

    #[test]
    fn who_waits_on_purpose_is_not_missed_before_his_own_deadline() {
        let heart = Heartbeat::new(at(0));
        heart.beat(at(10), Duration::from_secs(60));
        assert!(!heart.is_overdue(at(85), GRACE));
        assert!(heart.is_overdue(at(86), GRACE));
        heart.beat(at(20), Duration::ZERO);
        assert!(
            heart.is_overdue(at(36), GRACE),
            "the last word counts, not the longest"
        );
    }
}
