//! What a low limit of file descriptors means for the lanes.

use tracing::warn;

use crate::config::Config;
use crate::descriptors::requests_of_a_lane;
use crate::kafka::AUDIT;
use crate::lane::LaneOptions;

use super::RelayError;

/// How many requests a lane of this file may have in flight, as far as descriptors go.
///
/// # Errors
/// When they do not suffice for the lanes themselves.
pub(super) fn requests(config: &Config) -> Result<usize, RelayError> {
    let audit = usize::from(config.rule_file().needs_audit());
    Ok(requests_of_a_lane(config.destinations.len() + audit)?)
}

/// The options of a lane, with no more requests in flight than there are descriptors for.
///
/// # Errors
/// As [`requests`].
pub(super) fn bounded(
    mut options: LaneOptions,
    lane: &str,
    config: &Config,
) -> Result<LaneOptions, RelayError> {
    if lane == AUDIT {
        // It makes no requests.
        return Ok(options);
    }
    let requests = requests(config)?;
    if options.concurrency > requests {
        warn!(
            destination = lane,
            concurrency = options.concurrency,
            allowed = crate::descriptors::allowed(),
            "few file descriptors are allowed, so no more than {requests} requests are in flight; more are allowed by LimitNOFILE= of the unit, or ulimit -n"
        );
        options.concurrency = requests;
    }
    Ok(options)
}
