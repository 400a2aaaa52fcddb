//! The operators' side: metrics and probes on loopback. Nothing here can change anything.

mod health;
mod options;
mod server;

pub use health::Health;
pub use options::AdminOptions;
pub use server::{AdminError, serve};
