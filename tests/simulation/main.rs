//! The simulation: many instances of the real state machine against a model of everything around it, under virtual time.
//!
//! A run is drawn from its seed alone. [`world`] is the time and the script of a run, [`plan`] what the seed says beforehand. The real
//! [`postrider::lane::Lane`] sits in a model [`instance`] with a model [`consumer`] thread; [`service`] is what the model broker does,
//! [`receiver`] what receivers and the dead-letter topic do. The [`oracle`] judges from outside, [`watch`] judges each step of a lane,
//! and [`mutant`] plants bugs to see whether they are found.
//!
//! `make simulate SEEDS=N` runs the seeds 0 to N - 1, `make simulate SEED=N` replays one and prints what happens in it.

#![expect(clippy::print_stdout, clippy::wildcard_enum_match_arm, reason = "a test speaks to people, and looks at few cases")]
#![expect(clippy::disallowed_methods, reason = "a test may look at the clock")]

mod broker;
mod check;
mod consumer;
mod coverage;
mod hand;
mod instance;
mod mutant;
mod oracle;
mod plan;
mod receiver;
mod rng;
mod run;
mod service;
mod watch;
mod world;

use mutant::Mutant;
use world::Watching;

const SEEDS: u64 = 1000;
/// A planted bug must be found within so many runs.
const SEEDS_FOR_A_BUG: u64 = 5000;

fn number_in(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok().filter(|text| !text.is_empty())?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is not a number: {text}")))
}

/// The bug named in the environment, to look at a run of it.
fn chosen_mutant() -> Option<Mutant> {
    let name = std::env::var("POSTRIDER_SIM_MUTANT").ok()?;
    Mutant::ALL.into_iter().find(|mutant| format!("{mutant:?}") == name)
}

#[test]
fn seeds() {
    let watching = Watching { mutant: chosen_mutant(), steps: true, panics: true, trace: false };
    if let Some(seed) = number_in("POSTRIDER_SIM_SEED") {
        let (result, _) = run::one(seed, Watching { trace: true, ..watching });
        return result.unwrap_or_else(|violation| panic!("seed {seed}: {violation}"));
    }
    let seeds = number_in("POSTRIDER_SIM_SEEDS").unwrap_or(SEEDS);
    let outcome = run::many(seeds, watching);
    println!("{} runs in {:.1?}, {:.0} a minute", outcome.runs, outcome.took, outcome.runs_per_minute());
    print!("{}", outcome.coverage.table());
    if let Some((seed, violation)) = outcome.found {
        panic!("seed {seed}: {violation}\n\nreplay it alone with\n\n    make simulate SEED={seed}\n");
    }
    // Few runs need not show everything.
    if seeds >= 500 {
        let rare = outcome.coverage.too_rare(outcome.runs);
        assert!(rare.is_empty(), "the runs hardly ever show\n  {}", rare.join("\n  "));
    }
}

/// Plants one bug. It must be found by looking from outside alone, and the lane without it must be clean on the same seeds.
fn plant(mutant: Mutant) {
    let steps = run::many(SEEDS_FOR_A_BUG, Watching { mutant: Some(mutant), steps: true, panics: true, trace: false });
    let outside = run::many(SEEDS_FOR_A_BUG, Watching { mutant: Some(mutant), steps: false, panics: false, trace: false });
    let (seed, violation) = steps.found.unwrap_or_else(|| panic!("{mutant:?} was not found in {SEEDS_FOR_A_BUG} runs"));
    println!("{mutant:?}: found step by step by seed {seed}: {violation}");
    let (seed_outside, violation) =
        outside.found.unwrap_or_else(|| panic!("{mutant:?} was not found from outside in {SEEDS_FOR_A_BUG} runs"));
    println!("{mutant:?}: found from outside by seed {seed_outside}: {violation}");
    let clean = run::many(seed.max(seed_outside) + 1, Watching { mutant: None, steps: true, panics: true, trace: false });
    assert!(clean.found.is_none(), "the lane without {mutant:?} fails as well: {:?}", clean.found);
}

#[test]
fn a_commit_before_settlement_is_found() {
    plant(Mutant::CommitBeforeSettlement);
}

#[test]
fn a_start_from_the_first_record_seen_is_found() {
    plant(Mutant::StartFromFirstRecord);
}

#[test]
fn a_settlement_from_an_old_epoch_is_found() {
    plant(Mutant::StaleSettlementCounted);
}

#[test]
fn a_dead_letter_that_is_not_awaited_is_found() {
    plant(Mutant::DeadLetterNotAwaited);
}

#[test]
fn a_new_id_on_retry_is_found() {
    plant(Mutant::NewIdOnRetry);
}

#[test]
fn a_partition_started_at_latest_after_a_restart_is_found() {
    plant(Mutant::LatestAfterRestart);
}
