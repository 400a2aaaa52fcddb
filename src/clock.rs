//! Time as the rest of the program sees it: a monotonic tick for waiting, a wall clock for headers.
//!
//! The pure rooms take a [`Now`] as an argument and never ask for one. [`Clock`] is the only place that reads the machine's clocks.

use std::ops::Add;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A point on the monotonic clock: time since the process (or the simulation) began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Tick(pub Duration);

impl Tick {
    /// The time from `earlier` to `self`; zero when `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Tick) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Tick {
    type Output = Tick;

    fn add(self, wait: Duration) -> Tick {
        Tick(self.0.saturating_add(wait))
    }
}

/// A point on the wall clock: milliseconds since 1970-01-01T00:00:00Z, as Kafka counts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// Whole seconds since the epoch, rounded down: what `webhook-timestamp` carries.
    #[must_use]
    pub fn as_seconds(self) -> i64 {
        self.0.div_euclid(1000)
    }
}

/// Both clocks, read at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    /// For waiting: never goes back.
    pub tick: Tick,
    /// For people and for other systems: may jump.
    pub wall: Timestamp,
}

/// The machine's clocks.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    start: Instant,
}

#[expect(
    clippy::disallowed_methods,
    reason = "this is the one place that reads the clocks"
)]
impl Clock {
    /// A clock whose ticks count from here.
    #[must_use]
    pub fn start() -> Self {
        Self {
            start: Instant::now(),
        }
    }

    /// Both clocks, read one after the other.
    #[must_use]
    pub fn now(&self) -> Now {
        Now {
            tick: Tick(self.start.elapsed()),
            wall: Self::wall(),
        }
    }

    /// The wall clock alone. A clock set before 1970 reads as 1970.
    #[must_use]
    pub fn wall() -> Timestamp {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }

    /// The moment of `tick` on the standard library's monotonic clock, for timers.
    #[must_use]
    pub fn instant(&self, tick: Tick) -> Instant {
        self.start + tick.0
    }
}
