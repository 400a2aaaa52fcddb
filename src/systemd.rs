//! What systemd is told, where it is there to listen.

use std::time::Duration;

use sd_notify::NotifyState;
use tracing::debug;

/// The file is valid and the threads run.
pub fn ready() {
    notify(&[NotifyState::Ready]);
}

/// The drain has begun.
pub fn stopping() {
    notify(&[NotifyState::Stopping]);
}

/// Alive.
pub fn watchdog() {
    notify(&[NotifyState::Watchdog]);
}

/// How often [`watchdog`] must be called: half the time that systemd waits. `None` when it does not wait.
#[must_use]
pub fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|time| time / 2)
}

fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        debug!(%error, "systemd could not be told");
    }
}
