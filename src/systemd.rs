//! What systemd is told, where it is there to listen.

use std::env;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::OnceLock;
use std::time::Duration;

use sd_notify::NotifyState;
use tracing::debug;

const VARIABLE: &str = "NOTIFY_SOCKET";

/// Open from the first word on: the watchdog is fed where no file descriptor is left for another.
static SOCKET: OnceLock<UnixDatagram> = OnceLock::new();

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
    env::var_os(VARIABLE).is_some()
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
    let Some(place) = env::var_os(VARIABLE) else {
        return;
    };
    if let Err(error) = send(&place, state) {
        debug!(%error, "systemd could not be told");
    }
}

fn send(place: &OsStr, state: &[NotifyState<'_>]) -> io::Result<()> {
    let socket = match SOCKET.get() {
        Some(socket) => socket,
        None => {
            let opened = UnixDatagram::unbound()?;
            SOCKET.get_or_init(|| opened)
        }
    };
    let lines = state.iter().fold(String::new(), |mut lines, state| {
        // Writing to a string does not fail.
        writeln!(lines, "{state}").ok();
        lines
    });
    socket.send_to_addr(lines.as_bytes(), &address(place)?)?;
    Ok(())
}

/// A path, or behind an `@` a name that is in no file system: <https://www.freedesktop.org/software/systemd/man/sd_notify.html>.
fn address(place: &OsStr) -> io::Result<SocketAddr> {
    match place.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(place),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_reaches_whoever_listens_at_a_path_or_under_a_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let name = format!("@postrider-test-{}", std::process::id());
        for place in [path.as_os_str(), OsStr::new(&name)] {
            let listener = UnixDatagram::bind_addr(&address(place).unwrap()).unwrap();
            send(place, &[NotifyState::Ready, NotifyState::Watchdog]).unwrap();
            let mut heard = [0; 64];
            let length = listener.recv(&mut heard).unwrap();
            assert_eq!(&heard[..length], b"READY=1\nWATCHDOG=1\n", "{place:?}");
        }
    }
}
