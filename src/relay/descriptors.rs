//! What a low limit of file descriptors means for the lanes.

use tracing::warn;

use crate::config::Config;
use crate::descriptors::{Share, allowed, share};

use super::RelayError;

/// What the limit allows to the lanes of this file.
///
/// # Errors
/// When they do not suffice for the lanes themselves.
pub(super) fn of(config: &Config) -> Result<Share, RelayError> {
    Ok(share(config.lanes())?)
}

/// Whether the open dead letters can be counted; says so when they cannot.
pub(super) fn suffice_for_letters(config: &Config) -> bool {
    let suffice = of(config).is_ok_and(|share| share.letters);
    if !suffice {
        warn!(
            allowed = allowed(),
            "too few file descriptors are allowed to count the open dead letters: postrider_dead_letters_open is not shown"
        );
    }
    suffice
}
