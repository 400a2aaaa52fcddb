//! What systemd is told, where it is there to listen.

use std::time::Duration;

use sd_notify::NotifyState;
use tracing::debug;

/// The file is valid and the threads run; also the end of a reload, whatever has become of it.
pub fn ready() {
    notify(&[NotifyState::Ready]);
}

/// A reload begins. [`ready`] must follow, also when it is refused.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(error) => debug!(%error, "systemd is not told of a reload"),
    }
}

/// The drain has begun.
pub fn stopping() {
    notify(&[NotifyState::Stopping]);
}

/// Whether anybody listens.
#[must_use]
pub fn listens() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some()
}

/// What a person reads in `systemctl status`.
pub fn status(sentence: &str) {
    // A line end would begin another message.
    notify(&[NotifyState::Status(&sentence.replace('\n', "; "))]);
}

/// Alive.
pub fn watchdog() {
    notify(&[NotifyState::Watchdog]);
}

/// What is under way needs this much longer from now on, if the time that systemd gives ends before.
pub fn extend(time: Duration) {
    let micros = u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
    notify(&[NotifyState::ExtendTimeoutUsec(micros)]);
}

/// How long systemd waits for [`watchdog`]. `None` when it does not wait.
#[must_use]
pub fn watchdog_time() -> Option<Duration> {
    sd_notify::watchdog_enabled()
}

fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        debug!(%error, "systemd could not be told");
    }
}
