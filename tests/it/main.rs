//! Tests that need no real broker: the harness itself, the house rules, the binary, and what can be shown on a mock cluster.

#![allow(
    clippy::unwrap_used,
    clippy::unwrap_in_result,
    reason = "a test that cannot go on stops"
)]
#![allow(
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "shown with the test that fails"
)]
#![allow(
    clippy::disallowed_methods,
    reason = "tests wait for real processes in real time"
)]
#![allow(clippy::wildcard_enum_match_arm, reason = "the unexpected is a panic")]

#[path = "../harness/mod.rs"]
mod harness;

mod admin;
mod cli;
mod exits;
mod harness_tests;
mod image;
mod oracle;
mod process;
mod receiver;
mod send;
mod tidy;
mod trials;
mod unit;
mod verbs;
mod words;
