//! File descriptors: as many as the system lets us have, and how it looks when there are none left.

use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::{debug, warn};

/// What the process holds beside its lanes, with one broker: the clients that all lanes share above all.
const SHARED: u64 = 36;
/// What the two clients hold that count the open dead letters.
const LETTERS: u64 = 16;
/// What a lane holds: the connections of a client and their wake-up pipes, and the runtime of its thread.
const PER_LANE: u64 = 11;
/// What it holds beyond that once it reads the ladder, with a second client.
const PER_LADDER: u64 = 9;
/// How many lanes must be able to read the ladder. Few do so, where there are more.
const LADDERS: u64 = 500;
/// Left free at least, for whoever asks how we are and for what is opened for a moment.
const SPARE_MIN: u64 = 4;
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

/// What the limit allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// How many requests there may be in flight, so that there is a descriptor for the connection of each; one for each lane at least.
    pub requests: usize,
    /// How many connections a lane may keep while nothing goes out on them.
    pub kept: usize,
    /// Whether there are enough to count the open dead letters.
    pub letters: bool,
    /// How many there would have to be for all lanes to read the ladder at once, if there are fewer.
    pub for_all_ladders: Option<u64>,
}

/// What the limit allows to so many lanes.
///
/// # Errors
/// When there are too few for the lanes themselves. They would fail one by one, some of them only when a connection breaks.
pub fn share(lanes: usize) -> Result<Share, TooFew> {
    let lanes = u64::try_from(lanes).unwrap_or(u64::MAX);
    share_of(allowed().unwrap_or(u64::MAX), lanes)
}

/// A quarter of what the lanes leave is for brokers beyond the first, and for whoever asks how we are; the rest is for connections to receivers.
/// A lane that has what the others do not use just now finds some of these connections kept by them.
fn share_of(allowed: u64, lanes: u64) -> Result<Share, TooFew> {
    let ladders = PER_LADDER.saturating_mul(lanes.min(LADDERS));
    let held = PER_LANE.saturating_mul(lanes).saturating_add(SHARED);
    let held = held.saturating_add(ladders);
    let least = lanes.saturating_add(SPARE_MIN);
    let needed = held.saturating_add(least);
    if allowed < needed {
        return Err(TooFew {
            lanes,
            needed,
            allowed,
        });
    }
    let number = |number| usize::try_from(number).unwrap_or(usize::MAX);
    let more = PER_LADDER.saturating_mul(lanes.saturating_sub(LADDERS));
    let (held, needed) = (held.saturating_add(more), needed.saturating_add(more));
    if allowed < needed {
        // What is there beyond the least is for as many ladders as it suffices for.
        return Ok(Share {
            requests: number(lanes.max(1)),
            kept: 1,
            letters: false,
            for_all_ladders: Some(needed),
        });
    }
    let letters = allowed - needed >= LETTERS;
    let left = allowed - held - if letters { LETTERS } else { 0 };
    let spare = (left / 4).max(SPARE_MIN);
    let connections = left - spare;
    let kept = (connections / lanes.max(1) / 2).max(1);
    let kept_by_others = kept.saturating_mul(lanes.saturating_sub(1));
    let requests = connections.saturating_sub(kept_by_others);
    Ok(Share {
        requests: number(requests.max(lanes).max(1)),
        kept: number(kept),
        letters,
        for_all_ladders: None,
    })
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
        let share = |allowed, lanes| {
            let share = share_of(allowed, lanes).ok()?;
            Some((share.requests, share.kept, share.letters))
        };
        let for_all_ladders = |allowed, lanes| share_of(allowed, lanes).unwrap().for_all_ladders;
        assert_eq!(share(64, 1), Some((4, 2, false)));
        assert_eq!(share(61, 1), Some((1, 1, false)));
        assert_eq!(for_all_ladders(61, 1), None);
        assert_eq!(share(60, 1), None);
        assert_eq!(share(10_539, 500), None);
        assert_eq!(for_all_ladders(10_540, 500), None);
        assert_eq!(share(16_539, 1000), None);
        assert_eq!(for_all_ladders(16_540, 1000), Some(21_040));
        assert_eq!(share(20_000, 1000), Some((1000, 1, false)));
        assert_eq!(for_all_ladders(20_000, 1000), Some(21_040));
        assert_eq!(share(77, 1), Some((1, 1, true)));
        assert_eq!(share(128, 3), Some((8, 2, true)));
        assert_eq!(share(1024, 10), Some((327, 28, true)));
        assert_eq!(share(65_536, 1000), Some((17_130, 17, true)));
        assert_eq!(share(64, 0), Some((8, 4, true)));
        assert!(
            share(u64::MAX, 1).is_some_and(|(requests, kept, _)| requests.min(kept) > 1_000_000)
        );
        assert_eq!(share(1024, u64::MAX), None);
        let refused = share_of(64, 2).unwrap_err().to_string();
        assert!(
            refused.starts_with("2 lanes need 82 file descriptors"),
            "{refused}"
        );
    }

    #[test]
    fn the_limit_is_raised_to_what_the_system_allows() {
        raise();
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
        assert_eq!(allowed(), limit.maximum);
    }
}
