//! The operators' side: metrics and probes on an address, where nothing can be changed without the token; status and orders on a socket.
//!
//! [`api`] is what crosses the socket. What is asked there goes as an [`Ask`] to whoever knows the lanes.

mod access;
pub mod api;
mod connections;
#[cfg(test)]
mod connections_tests;
mod descriptors;
mod health;
mod hosts;
mod operators;
mod options;
mod patience;
mod places;
mod server;
mod socket;

pub use access::{Access, AdminToken, AdminTokenError};
pub use api::Ask;
pub use health::Health;
pub use options::{AdminOptions, DEFAULT_SOCKET};
pub use server::{AdminError, serve};
pub use socket::{SocketError, SocketFile, serve_socket};
