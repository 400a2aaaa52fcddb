//! What the file may say about the operators' side.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use super::access::AdminToken;

/// Where the socket is unless the file says otherwise. Whoever starts the daemon by hand may not make it, so it alone may be missing.
pub const DEFAULT_SOCKET: &str = "/run/postrider/postrider.sock";

/// The `[admin]` section, already checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminOptions {
    /// Where metrics and probes are served.
    pub listen: SocketAddr,
    /// Where operators are served, who may change things; `None`: nowhere.
    pub socket: Option<PathBuf>,
    /// What must be said to change something over HTTP; `None`: nobody can.
    pub token: Option<AdminToken>,
    /// By which names it may be asked for what a person looks at, besides addresses and localhost.
    pub allowed_hosts: Vec<String>,
}

impl Default for AdminOptions {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8474)),
            socket: Some(PathBuf::from(DEFAULT_SOCKET)),
            token: None,
            allowed_hosts: Vec::new(),
        }
    }
}
