//! What systemd would hear: the socket that a service tells it of itself through.

use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Listens as the service manager does.
#[derive(Debug)]
pub struct Manager {
    folder: TempDir,
    socket: UnixDatagram,
}

impl Manager {
    /// A socket for one service.
    pub fn listen() -> Self {
        let folder = TempDir::with_prefix("postrider-notify-").expect("a temporary folder");
        let socket = UnixDatagram::bind(folder.path().join("notify")).expect("a socket");
        Self { folder, socket }
    }

    /// For `NOTIFY_SOCKET`.
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("notify")
    }

    /// The next message that has a line which begins like this; those before it are gone.
    #[track_caller]
    pub fn wait_for(&self, line: &str, timeout: Duration) -> String {
        let found = self.hears(line, timeout);
        found.unwrap_or_else(|| panic!("systemd did not hear {line} within {timeout:?}"))
    }

    /// The same; nothing when it does not come in time.
    pub fn hears(&self, line: &str, timeout: Duration) -> Option<String> {
        let deadline = Instant::now() + timeout;
        let mut buffer = [0; 4096];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            self.socket.set_read_timeout(Some(left)).expect("not zero");
            let Ok(length) = self.socket.recv(&mut buffer) else {
                continue;
            };
            let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
            if text.lines().any(|said| said.starts_with(line)) {
                return Some(text);
            }
        }
    }
}
