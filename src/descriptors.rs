//! File descriptors: as many as the system lets us have, and how it looks when there are none left.

use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::{debug, warn};

/// What the process holds beside its lanes, with one broker: the clients that all lanes share above all.
const SHARED: u64 = 39;
/// What a lane holds: for each of its two clients a connection and a wake-up pipe for each broker, and the runtime of its thread.
const PER_LANE: u64 = 20;
/// After so many shortages it is said again.
const SHORTAGES_PER_WORD: u64 = 1000;

/// How many shortages there were since the start.
static SHORTAGES: AtomicU64 = AtomicU64::new(0);

/// Raises the soft limit to the hard one. The soft one is low for the sake of programs that use `select`, and we are none.
pub fn raise() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return;
    }
    let wanted = Rlimit {
        current: maximum,
        maximum,
    };
    match setrlimit(Resource::Nofile, wanted) {
        Ok(()) => debug!(?current, ?maximum, "more file descriptors are allowed"),
        Err(error) => debug!(%error, "the limit of file descriptors stays as it is"),
    }
}

/// How many there may be; `None` when there is no limit.
#[must_use]
pub fn allowed() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

/// There are not enough to begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "{lanes} lanes need {needed} file descriptors at least and {allowed} are allowed: raise LimitNOFILE= of the unit, or ulimit -n, or take destinations out of the file"
)]
pub struct TooFew {
    /// For so many destinations, the audit included.
    lanes: u64,
    needed: u64,
    allowed: u64,
}

/// How many requests each of so many lanes may have in flight at most, so that there is a descriptor for the connection of each.
///
/// # Errors
/// When there are too few for the lanes themselves. They would fail one by one, some of them only when a connection breaks.
pub fn requests_of_a_lane(lanes: usize) -> Result<usize, TooFew> {
    let lanes = u64::try_from(lanes).unwrap_or(u64::MAX);
    share(allowed().unwrap_or(u64::MAX), lanes)
}

/// A quarter of what the lanes leave is for brokers beyond the first, and for whoever asks how we are.
fn share(allowed: u64, lanes: u64) -> Result<usize, TooFew> {
    let held = PER_LANE.saturating_mul(lanes).saturating_add(SHARED);
    let left = allowed.saturating_sub(held);
    let needed = held.saturating_add(lanes).saturating_add(2);
    if allowed < needed {
        return Err(TooFew {
            lanes,
            needed,
            allowed,
        });
    }
    let spare = (left / 4).max(2);
    let requests = ((left - spare) / lanes.max(1)).max(1);
    Ok(usize::try_from(requests).unwrap_or(usize::MAX))
}

/// Whether the system has refused for want of them.
#[must_use]
pub fn are_missing(error: &io::Error) -> bool {
    let missing = [Errno::MFILE, Errno::NFILE].map(Errno::raw_os_error);
    error
        .raw_os_error()
        .is_some_and(|code| missing.contains(&code))
}

/// Whether there is none left at this moment. Some libraries do not say why they failed.
#[must_use]
pub fn are_used_up() -> bool {
    File::open("/dev/null").is_err_and(|error| are_missing(&error))
}

/// Says in the log that there was none for `what`: at the first time, and once in a thousand.
pub fn say_shortage(what: &str) {
    let before = SHORTAGES.fetch_add(1, Ordering::Relaxed);
    if before.is_multiple_of(SHORTAGES_PER_WORD) {
        let allowed = allowed();
        warn!(
            allowed,
            "no file descriptor is left for {what}: it waits for one, nothing is lost. More are allowed by LimitNOFILE= of the unit, or ulimit -n"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_told_from_other_refusals() {
        for code in [23, 24] {
            assert!(are_missing(&io::Error::from_raw_os_error(code)), "{code}");
        }
        assert!(!are_missing(&io::Error::from_raw_os_error(111)));
        assert!(!are_missing(&io::Error::other("24")));
        assert!(!are_used_up());
    }

    #[test]
    fn few_are_shared_and_too_few_are_refused() {
        assert_eq!(share(64, 1), Ok(3));
        assert_eq!(share(62, 1), Ok(1));
        assert!(share(61, 1).is_err());
        let refused = share(64, 2).unwrap_err().to_string();
        assert!(
            refused.starts_with("2 lanes need 83 file descriptors"),
            "{refused}"
        );
        assert_eq!(share(128, 3), Ok(7));
        assert_eq!(share(1024, 10), Ok(58));
        assert_eq!(share(65_536, 1000), Ok(34));
        assert_eq!(share(64, 0), Ok(18));
        assert!(share(u64::MAX, 1).is_ok_and(|requests| requests > 1_000_000));
        assert!(share(1024, u64::MAX).is_err());
    }

    #[test]
    fn the_limit_is_raised_to_what_the_system_allows() {
        raise();
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
        assert_eq!(allowed(), limit.maximum);
    }
}
