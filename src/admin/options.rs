//! What the file may say about the operators' side.

use std::net::{Ipv4Addr, SocketAddr};

/// The `[admin]` section, already checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdminOptions {
    /// Where metrics and probes are served.
    pub listen: SocketAddr,
}

impl Default for AdminOptions {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8474)),
        }
    }
}
