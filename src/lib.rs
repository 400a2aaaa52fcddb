//! Postrider carries notifications from Kafka topics to webhooks and mailboxes, and loses none of them silently.
//!
//! `docs/ARCHITECTURE.md` draws the path of a record through these modules.

pub mod admin;
pub mod cli;
pub mod clock;
pub mod config;
pub mod delivery;
pub mod descriptors;
pub mod heartbeat;
pub mod journal;
pub mod kafka;
pub mod lane;
pub mod logging;
pub mod metrics;
pub mod process_exit;
pub mod record;
pub mod relay;
pub mod rules;
pub mod send;
pub mod signal;
pub mod systemd;
