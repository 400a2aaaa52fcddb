//! What operators see: metrics and probes over HTTP.

mod options;

pub use options::AdminOptions;
