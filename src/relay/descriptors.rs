//! What a low limit of file descriptors means for the lanes.

use tracing::warn;

use crate::config::Config;
use crate::descriptors::{Share, allowed, share};
use crate::kafka::AUDIT;
use crate::lane::LaneOptions;

use super::RelayError;

/// What the limit allows to the lanes of this file.
///
/// # Errors
/// When they do not suffice for the lanes themselves.
pub(super) fn of(config: &Config) -> Result<Share, RelayError> {
    let audit = usize::from(config.rule_file().needs_audit());
    Ok(share(config.destinations.len() + audit)?)
}

/// The options of a lane, with no more requests in flight than there are descriptors for.
///
/// # Errors
/// As [`of`].
pub(super) fn bounded(
    mut options: LaneOptions,
    lane: &str,
    config: &Config,
) -> Result<LaneOptions, RelayError> {
    if lane == AUDIT {
        // It makes no requests.
        return Ok(options);
    }
    let Share { requests, .. } = of(config)?;
    if options.concurrency > requests {
        warn!(
            destination = lane,
            concurrency = options.concurrency,
            allowed = allowed(),
            "few file descriptors are allowed, so no more than {requests} requests are in flight; more are allowed by LimitNOFILE= of the unit, or ulimit -n"
        );
        options.concurrency = requests;
    }
    Ok(options)
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
