//! The signals that end the process, and the one that asks for a reload.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// SIGTERM, SIGINT and SIGHUP.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// The end.
    End(EndSignal),
    /// The file is to be read again: SIGHUP, which would kill the process if nobody listened.
    Reload,
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

    /// The next one.
    pub async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.terminate.recv() => Asked::End(EndSignal::Terminate),
            _ = self.interrupt.recv() => Asked::End(EndSignal::Interrupt),
            _ = self.hangup.recv() => Asked::Reload,
        }
    }

    /// The next one that ends the process, for who has nothing to reload.
    pub async fn next_end(&mut self) -> EndSignal {
        loop {
            if let Asked::End(signal) = self.next().await {
                return signal;
            }
        }
    }
}
