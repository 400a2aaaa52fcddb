//! The thread of a lane.

use tokio::sync::oneshot;
use tracing::debug;

use super::RelayError;
use super::lane_task::{LaneEnd, LaneTask};

/// How many of a lane's connections are looked at before its other work is.
const IO_EVENTS: usize = 128;

/// A thread that waits for its lane; it ends when this is dropped.
pub(super) struct Berth {
    lane: oneshot::Sender<LaneTask>,
    ended: oneshot::Receiver<LaneEnd>,
}

impl Berth {
    /// Starts the thread.
    ///
    /// Threads that shared the requests of all lanes would have to wake each other for nearly every one, which costs as much again as
    /// making it. And so a lane that is short of processor time takes none from another.
    ///
    /// # Errors
    /// When the system gives no thread, or no runtime.
    pub(super) fn new(destination: &str) -> Result<Self, RelayError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            // By default there is room for a thousand events that come at once, in each of a thousand lanes.
            .max_io_events_per_tick(IO_EVENTS)
            .build()
            .map_err(RelayError::Thread)?;
        let (lane, arrives) = oneshot::channel::<LaneTask>();
        let (say_end, ended) = oneshot::channel();
        std::thread::Builder::new()
            .name(format!("l-{destination}"))
            .spawn(move || {
                let Ok(lane) = runtime.block_on(arrives) else {
                    return;
                };
                let end = runtime.block_on(lane.run());
                runtime.shutdown_background();
                if say_end.send(end).is_err() {
                    debug!("nobody waits for the end of the lane");
                }
            })
            .map_err(RelayError::Thread)?;
        Ok(Self { lane, ended })
    }

    /// Runs a lane and its requests on the thread. Says how it ended; or nothing when it panicked.
    pub(super) fn run(self, lane: LaneTask) -> oneshot::Receiver<LaneEnd> {
        let Self { lane: berth, ended } = self;
        // The thread waits for nothing else.
        drop(berth.send(lane));
        ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_thread_whose_lane_never_comes_ends() {
        let Berth { lane, ended } = Berth::new("none").unwrap();
        drop(lane);
        assert!(ended.await.is_err());
    }
}
