//! The library of the test suite: a real broker, a scripted receiver, the real binary, and an oracle that judges them from outside.
//!
//! Nothing here looks into Postrider's own code: what the oracle knows it has from Kafka, from the wire and from `/metrics`. Both test
//! targets include it by path, `tests/it` for what needs no broker and `tests/real` for what does.

#![allow(dead_code, reason = "each test target uses a part of it")]
#![allow(unreachable_pub, reason = "the doors of this library are its modules")]

pub mod broker;
pub mod config;
pub mod http;
pub mod kafka;
pub mod leash;
pub mod ledger;
pub mod lz4;
pub mod metrics;
pub mod oracle;
pub mod place;
pub mod port;
pub mod receiver;
pub mod relay;
pub mod systemd;
pub mod wait;
pub mod wire;
