//! The heartbeats: of the runtime that everything but the lanes runs on, and of what turns for each lane.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::admin::Health;
use crate::clock::Clock;
use crate::heartbeat::Heartbeat;
use crate::kafka::Members;

const PAUSE: Duration = Duration::from_secs(1);

/// Beats as long as the runtime comes round to it, until `stop`.
pub(super) fn of_runtime(
    health: &Health,
    clock: Clock,
    stop: CancellationToken,
) -> impl Future<Output = ()> + Send + use<> {
    let heart = Arc::new(Heartbeat::new(clock.now().tick));
    health.watch("", "the runtime".to_owned(), Arc::clone(&heart));
    async move {
        loop {
            heart.beat(clock.now().tick, PAUSE);
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(PAUSE) => {}
            }
        }
    }
}

/// Watches who must turn for a lane; what it gives is for the lane itself.
pub(super) fn watch_lane(
    health: &Health,
    name: &str,
    members: &Members,
    clock: Clock,
) -> Arc<Heartbeat> {
    let what = format!("the consumer of {name}");
    health.watch(name, what, members.beat());
    let heart = Arc::new(Heartbeat::new(clock.now().tick));
    let what = format!("the lane of {name}");
    health.watch(name, what, Arc::clone(&heart));
    heart
}

/// Watches who reads the ladder for a lane.
pub(super) fn watch_ladder(health: &Health, name: &str, heart: Arc<Heartbeat>) {
    health.watch(
        name,
        format!("the consumer of the retries of {name}"),
        heart,
    );
}
