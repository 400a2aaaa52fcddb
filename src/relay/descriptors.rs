//! What a low limit of file descriptors means for the lanes.

use tracing::warn;

use crate::config::Config;
use crate::descriptors::{Share, allowed, share};

use super::RelayError;

/// What the limit allows to the lanes of this file; says so when they cannot all read the ladder.
///
/// # Errors
/// When they do not suffice for the lanes themselves.
pub(super) fn of(config: &Config) -> Result<Share, RelayError> {
    let share = share(config.lanes())?;
    if let Some(needed) = share.for_all_ladders {
        warn!(
            allowed = allowed(),
            needed,
            "too few file descriptors are allowed for all destinations to have retries at once: some of these would wait; more are allowed by LimitNOFILE= of the unit, or ulimit -n"
        );
    }
    Ok(share)
}

/// Whether the open dead letters can be counted; says so when they cannot.
pub(super) fn suffice_for_letters(config: &Config) -> bool {
    let suffice = share(config.lanes()).is_ok_and(|share| share.letters);
    if !suffice {
        warn!(
            allowed = allowed(),
            "too few file descriptors are allowed to count the open dead letters: postrider_dead_letters_open is not shown"
        );
    }
    suffice
}
