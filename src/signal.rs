//! The signals that end the process, and the one that must not.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::warn;

use crate::systemd;

/// SIGTERM, SIGINT and SIGHUP.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

/// One of the signals that end the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndSignal {
    /// SIGTERM.
    Terminate,
    /// SIGINT: Ctrl-C.
    Interrupt,
}

impl EndSignal {
    /// The exit code of a process that this signal ended at once.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Terminate => 143,
            Self::Interrupt => 130,
        }
    }
}

impl Signals {
    /// Listens from here on.
    ///
    /// # Errors
    /// When the system refuses the handlers.
    pub fn listen() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// The next one that ends the process. SIGHUP asks for a reload, which this version does not know; unhandled, it would kill the process.
    pub async fn next(&mut self) -> EndSignal {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return EndSignal::Terminate,
                _ = self.interrupt.recv() => return EndSignal::Interrupt,
                _ = self.hangup.recv() => {
                    systemd::reloading();
                    warn!("SIGHUP: this version cannot reload its file; it goes on as it is, restart it instead");
                    systemd::ready();
                }
            }
        }
    }
}
