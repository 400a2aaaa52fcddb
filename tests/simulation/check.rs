//! What can be found wrong with a run.

use std::fmt;

/// Which promise a run broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Check {
    /// Promise 1: a commit went past a record that is not settled.
    Commit,
    /// A commit took the position of a partition back, or past its end.
    CommitRange,
    /// Promise 1: something was never settled or never committed, long after the last fault.
    Liveness,
    /// Promise 2: a healthy destination was late.
    Healthy,
    /// Promise 3: a dead letter that nothing justifies, or one that is not what it should be.
    DeadLetter,
    /// Promise 5: two ids for one delivery, or one id for two.
    Identity,
    /// Promise 6: more in flight, in the window or read ahead than allowed.
    Bounds,
    /// The law: read = settled + released + waiting.
    Balance,
    /// Something was done for an assignment that had ended, or a late result changed something.
    Fence,
    /// A request left before the start position of its partition was committed.
    Start,
    /// A revoke or a drain was not answered, answered late or answered twice.
    Handover,
    /// A request left out of turn: wrong number, too early, twice at once, or during a hold.
    Attempt,
    /// Promise 3: a record that is taken waited for others that are not.
    Standstill,
    /// A record of the ladder was read or tried before its time, or would come up late.
    Ladder,
    /// Promise 4: attempts were forgotten, invented, or spent where none may be.
    Budget,
    /// A record was tried before another one of its key that stands before it had ended, or stands where it can be overtaken.
    Order,
    /// A receiver got something twice in a run without any fault.
    Calm,
    /// The lane asks for time to pass and does nothing with it.
    Busy,
    /// The lane panicked.
    Panic,
}

/// What was wrong with a run, in words.
#[derive(Debug, Clone)]
pub(crate) struct Violation {
    pub(crate) check: Check,
    pub(crate) words: String,
}

impl Violation {
    pub(crate) fn new(check: Check, words: impl Into<String>) -> Self {
        Self {
            check,
            words: words.into(),
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.check, self.words)
    }
}

/// Fails with this violation unless the condition holds. The words are only made when they are needed.
macro_rules! ensure {
    ($condition:expr, $check:ident, $($words:tt)+) => {
        if !$condition {
            return Err($crate::check::Violation::new($crate::check::Check::$check, format!($($words)+)));
        }
    };
}

pub(crate) use ensure;
