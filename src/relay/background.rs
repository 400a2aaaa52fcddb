//! The tasks that serve the lanes: each must run for as long as the process does, and one that ends by itself ends the process.

use std::collections::HashMap;

use tokio::task::{Id, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::error;

/// Tasks that nobody waits for, and yet must not be missing.
pub(super) struct Background {
    tasks: JoinSet<()>,
    names: HashMap<Id, &'static str>,
    /// From then on they may end.
    stop: CancellationToken,
}

impl Background {
    pub(super) fn new(stop: CancellationToken) -> Self {
        Self {
            tasks: JoinSet::new(),
            names: HashMap::new(),
            stop,
        }
    }

    /// Starts a task; `name` is what it is called when it ends too early.
    pub(super) fn spawn(
        &mut self,
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        let id = self.tasks.spawn(task).id();
        self.names.insert(id, name);
    }

    /// Waits for the end of all, once they may.
    pub(super) async fn ended(&mut self) {
        while self.tasks.join_next().await.is_some() {}
    }

    /// Waits for a task that ends although nobody asked it to, and gives its name.
    pub(super) async fn ended_unasked(&mut self) -> &'static str {
        loop {
            let Some(ended) = self.tasks.join_next_with_id().await else {
                return std::future::pending().await;
            };
            let (id, panicked) = match ended {
                Ok((id, ())) => (id, false),
                Err(error) => (error.id(), error.is_panic()),
            };
            let name = self.names.remove(&id).unwrap_or("a task");
            // A panic is never what was asked for, and says more than the end of the process that it may be part of.
            if panicked {
                error!(task = name, "a task panicked");
            }
            if panicked || !self.stop.is_cancelled() {
                return name;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_that_ends_or_panics_before_its_time_is_named() {
        let stop = CancellationToken::new();
        let mut background = Background::new(stop.clone());
        background.spawn("steady", stop.clone().cancelled_owned());
        background.spawn("short", async {});
        assert_eq!(background.ended_unasked().await, "short");
        background.spawn("shaky", async { panic!("on purpose") });
        assert_eq!(background.ended_unasked().await, "shaky");
        stop.cancel();
        let time = std::time::Duration::from_millis(50);
        let ended = tokio::time::timeout(time, background.ended_unasked()).await;
        assert!(ended.is_err(), "what was asked to end may");
    }
}
