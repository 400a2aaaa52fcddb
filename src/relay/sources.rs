//! Looks whether the files have changed that secrets and texts were read from, and has them read again: with the text of the file that is in
//! force, for one that lies there half-written is nobody's wish yet.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::config::Source;

use super::in_force::InForce;
use super::reload::{Reading, ReloadAsk};

/// How often it is looked. What has changed must be the same at two looks: it may be on its way.
const INTERVAL: Duration = Duration::from_secs(5);

/// Runs until `stop`.
pub(super) async fn watch(
    in_force: Arc<InForce>,
    reloads: mpsc::Sender<ReloadAsk>,
    stop: CancellationToken,
) {
    let mut before: Vec<Source> = Vec::new();
    // What was read already, and refused perhaps.
    let mut done: Vec<Source> = Vec::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(INTERVAL) => {}
        }
        let config = in_force.config();
        let known = config.sources.clone();
        let look = move || known.iter().map(Source::look).collect::<Vec<_>>();
        let Ok(now) = tokio::task::spawn_blocking(look).await else {
            continue;
        };
        if now != config.sources && now == before && now != done {
            done.clone_from(&now);
            let (reply, answer) = oneshot::channel();
            let ask = ReloadAsk {
                who: "a file of a secret or a text, which has changed".to_owned(),
                what: Reading::Sources(config),
                reply,
            };
            if reloads.send(ask).await.is_err() || answer.await.is_err() {
                debug!("the relay is ending");
            }
        }
        before = now;
    }
}
