//! The thread of a lane.

use tokio::sync::oneshot;
use tracing::debug;

use super::RelayError;
use super::lane_task::{LaneEnd, LaneTask};

/// Runs a lane and its requests on a thread of its own, and says how it ended; or nothing when it panicked.
///
/// Threads that shared the requests of all lanes would have to wake each other for nearly every one, which costs as much again as
/// making it. And so a lane that is short of processor time takes none from another.
pub(super) fn start_thread(
    destination: &str,
    lane: LaneTask,
) -> Result<oneshot::Receiver<LaneEnd>, RelayError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(RelayError::Thread)?;
    let (say_end, ended) = oneshot::channel();
    std::thread::Builder::new()
        .name(format!("l-{destination}"))
        .spawn(move || {
            let end = runtime.block_on(lane.run());
            runtime.shutdown_background();
            if say_end.send(end).is_err() {
                debug!("nobody waits for the end of the lane");
            }
        })
        .map_err(RelayError::Thread)?;
    Ok(ended)
}
