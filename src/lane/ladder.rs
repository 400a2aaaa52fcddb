//! The ladder: retry topics with fixed delays, shared by all lanes, for waits that are too long for the window.
//!
//! A record that is due at D is written to the longest step that is not longer than what is left until D. When the step ends, it comes up:
//! into the window if it is due within a minute, else onto the next step. So every step is in due order whatever the schedules
//! are, any due time is possible, and a changed schedule strands nothing.

use std::time::Duration;

use crate::clock::Timestamp;

/// Waits below this are spent in the window; longer ones on the ladder.
pub const IN_WINDOW: Duration = Duration::from_secs(60);

/// One topic of the ladder, or the one where replayed dead letters come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// A minute.
    OneMinute,
    /// Five minutes.
    FiveMinutes,
    /// Half an hour.
    HalfHour,
    /// Two hours.
    TwoHours,
    /// Eight hours.
    EightHours,
    /// No time at all: a dead letter that somebody has replayed. Nothing waits there, so no wait leads there.
    Replay,
}

impl Step {
    /// Every step on which a record waits, the shortest first.
    pub const ALL: [Self; 5] = [
        Self::OneMinute,
        Self::FiveMinutes,
        Self::HalfHour,
        Self::TwoHours,
        Self::EightHours,
    ];

    /// How long a record stays on it.
    #[must_use]
    pub fn delay(self) -> Duration {
        Duration::from_secs(match self {
            Self::OneMinute => 60,
            Self::FiveMinutes => 5 * 60,
            Self::HalfHour => 30 * 60,
            Self::TwoHours => 2 * 3600,
            Self::EightHours => 8 * 3600,
            Self::Replay => 0,
        })
    }

    /// The end of its topic's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::OneMinute => "1m",
            Self::FiveMinutes => "5m",
            Self::HalfHour => "30m",
            Self::TwoHours => "2h",
            Self::EightHours => "8h",
            Self::Replay => "replay",
        }
    }

    /// The step for a record that is due in `left`: the longest that is not longer. Less than a minute has none: it is waited for in the
    /// window.
    #[must_use]
    pub fn for_wait(left: Duration) -> Option<Self> {
        Self::ALL
            .into_iter()
            .rev()
            .find(|step| step.delay() <= left)
    }

    /// When a record that was appended at this time comes up.
    #[must_use]
    pub fn comes_up(self, appended: Timestamp) -> Timestamp {
        let delay_ms = i64::try_from(self.delay().as_millis()).unwrap_or(i64::MAX);
        Timestamp(appended.0.saturating_add(delay_ms))
    }
}

/// Where a lane's partition comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// A topic that the rules name.
    Topic,
    /// A step of the ladder, or the replay.
    Ladder(Step),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_goes_to_the_longest_step_that_is_not_longer() {
        let step = |seconds| Step::for_wait(Duration::from_secs(seconds)).map(Step::name);
        assert_eq!(step(59), None);
        assert_eq!(step(60), Some("1m"));
        assert_eq!(step(299), Some("1m"));
        assert_eq!(step(300), Some("5m"));
        assert_eq!(step(7199), Some("30m"));
        assert_eq!(step(7200), Some("2h"));
        assert_eq!(step(10 * 3600), Some("8h"));
        assert_eq!(step(1_000_000), Some("8h"));
    }

    #[test]
    fn a_record_comes_up_when_its_step_has_passed() {
        assert_eq!(
            Step::OneMinute.comes_up(Timestamp(1_000)),
            Timestamp(61_000)
        );
        assert_eq!(
            Step::EightHours.comes_up(Timestamp(i64::MAX)),
            Timestamp(i64::MAX)
        );
    }
}
