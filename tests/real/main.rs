//! Tests on a real Apache Kafka. `make test` fetches it; without it they fail and say so.

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

mod bad_input;
mod check_live;
mod churn;
mod connections;
mod content;
mod crowd;
mod damaged;
mod dead_letters;
mod evidence;
mod first_run;
mod graphspace;
mod ground;
mod idle;
mod in_order;
mod kill;
mod kill_states;
mod ladder;
mod limits;
mod made_again;
mod main_job;
mod metadata;
mod numbers;
mod operations;
mod operations_page;
mod outage;
mod poison;
mod rate;
mod reload;
mod rollout;
mod rules;
mod security;
mod seek;
mod shutdown;
mod signing;
mod skipping;
mod starts;
mod words;
