//! Postrider carries notifications from Kafka topics to webhooks and mailboxes, and loses none of them silently.
//!
//! `docs/ARCHITECTURE.md` draws the path of a record through these modules.

pub mod clock;
pub mod delivery;
pub mod lane;
pub mod record;
