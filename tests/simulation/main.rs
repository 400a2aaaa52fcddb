//! The simulation: many instances of the real state machine against a model of everything around it, under virtual time.
//!
//! A run is drawn from its seed alone. [`world`] is the time and the script of a run, [`plan`] what the seed says beforehand. The real
//! [`postrider::lane::Lane`] sits in a model [`instance`] with a model [`consumer`] thread; [`service`] is what the model broker does,
//! [`receiver`] what receivers do, [`writes`] and [`ladder`] what the topics of our own do. The [`oracle`] judges from outside ([`reach`]:
//! whether everything is settled or can still be come across; [`budget`]: what was spent), [`watch`] judges each step of a lane, and
//! [`mutant`] plants bugs to see whether they are found. Some runs last for [`days`] of virtual time, with [`reload`]s of the file.
//!
//! `make simulate SEEDS=N` runs the seeds 0 to N - 1, `make simulate SEED=N` replays one and prints what happens in it.

#![expect(
    clippy::print_stdout,
    clippy::wildcard_enum_match_arm,
    reason = "a test speaks to people, and looks at few cases"
)]
#![expect(clippy::disallowed_methods, reason = "a test may look at the clock")]

mod book;
mod broker;
mod budget;
mod bugs;
mod check;
mod consumer;
mod coverage;
mod crowd;
mod days;
mod foreign;
mod hand;
mod instance;
mod ladder;
mod mutant;
mod oracle;
mod outage;
mod pace;
mod plan;
mod reach;
mod reader;
mod receiver;
mod reload;
mod rng;
mod run;
mod rungs;
mod script;
mod sequence;
mod service;
mod settings;
mod shares;
mod watch;
mod world;
mod writes;

use check::Check;
use mutant::Mutant;
use world::{LooksFor, Watching};

const SEEDS: u64 = 1000;
/// A planted bug must be found within so many runs.
const SEEDS_FOR_A_BUG: u64 = 5000;

const HONEST: Watching = Watching {
    mutant: None,
    steps: true,
    looks_for: LooksFor::Anything,
    trace: false,
};

fn number_in(variable: &str) -> Option<u64> {
    let text = std::env::var(variable)
        .ok()
        .filter(|text| !text.is_empty())?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{variable} is not a number: {text}")),
    )
}

/// Somebody wants to see one run and nothing else.
fn chosen_seed() -> Option<u64> {
    number_in("POSTRIDER_SIM_SEED")
}

#[test]
fn seeds() {
    let mutant = std::env::var("POSTRIDER_SIM_MUTANT")
        .ok()
        .and_then(|name| Mutant::named(&name));
    let watching = Watching { mutant, ..HONEST };
    if let Some(seed) = chosen_seed() {
        let (result, _) = run::one(
            seed,
            Watching {
                trace: true,
                ..watching
            },
        );
        return result.unwrap_or_else(|violation| panic!("seed {seed}: {violation}"));
    }
    let seeds = number_in("POSTRIDER_SIM_SEEDS").unwrap_or(SEEDS);
    let outcome = run::many(seeds, watching);
    println!(
        "{} runs in {:.1?}, {:.0} a minute",
        outcome.runs,
        outcome.took,
        outcome.runs_per_minute()
    );
    print!("{}", outcome.coverage.table());
    if let Some((seed, violation)) = outcome.found {
        panic!(
            "seed {seed}: {violation}\n\nreplay it alone with\n\n    make simulate SEED={seed}\n"
        );
    }
    // Few runs need not show everything.
    if seeds >= 500 {
        let rare = outcome.coverage.too_rare(outcome.runs);
        assert!(
            rare.is_empty(),
            "the runs hardly ever show\n  {}",
            rare.join("\n  ")
        );
    }
}

#[test]
fn a_seed_says_everything() {
    for seed in 0..20 {
        let (first, second) = (run::one(seed, HONEST), run::one(seed, HONEST));
        assert_eq!(
            first.1.table(),
            second.1.table(),
            "seed {seed} does not run the same way twice"
        );
    }
}

/// Plants one bug. It must be found step by step and by looking from outside alone, and the lane without it must be clean on the same
/// seeds.
fn plant(mutant: Mutant) {
    if chosen_seed().is_some() {
        return;
    }
    let planted = Watching {
        mutant: Some(mutant),
        ..HONEST
    };
    let outside = Watching {
        steps: false,
        looks_for: LooksFor::AnythingButPanics,
        ..planted
    };
    let mut last = 0;
    for (how, watching) in [("step by step", planted), ("from outside", outside)] {
        let found = run::many(SEEDS_FOR_A_BUG, watching).found;
        let Some((seed, violation)) = found else {
            panic!("{mutant:?} was not found {how} in {SEEDS_FOR_A_BUG} runs");
        };
        println!("{mutant:?} is found {how} by seed {seed}: {violation}");
        last = seed.max(last);
    }
    let clean = run::many(last + 1, HONEST).found;
    assert!(
        clean.is_none(),
        "the lane without {mutant:?} fails as well: {clean:?}"
    );
}

#[test]
fn no_check_is_blind() {
    if chosen_seed().is_some() {
        return;
    }
    for (mutant, check) in Mutant::FOR_EACH_CHECK {
        let watching = Watching {
            mutant: Some(*mutant),
            looks_for: LooksFor::This(*check),
            ..HONEST
        };
        let found = run::many(SEEDS_FOR_A_BUG, watching).found;
        let Some((seed, violation)) = found else {
            panic!("{check:?} did not find {mutant:?} in {SEEDS_FOR_A_BUG} runs");
        };
        println!("{mutant:?} is found by seed {seed}: {violation}");
        assert_ne!(violation.check, Check::Panic);
    }
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

#[test]
fn three_days_of_401_cost_nothing() {
    if chosen_seed().is_some() {
        return;
    }
    let bill = outage::run(plan::OutageKind::Unauthorized, 3, 100_000, HONEST);
    println!("{bill:?}");
    assert_eq!(bill.letters, 0, "{bill:?}");
    assert_eq!(bill.delivered, 100_000, "{bill:?}");
    assert_eq!(bill.highest_attempt, 1, "only probes were sent: {bill:?}");
    // One in half a minute, and those that were under way when it began.
    assert!(bill.requests <= 3 * 24 * 120 + 100, "{bill:?}");
    assert!(bill.mended_after.as_secs() <= 60, "{bill:?}");
}

#[test]
fn three_days_of_503_cost_no_dead_letter() {
    if chosen_seed().is_some() {
        return;
    }
    let bill = outage::run(plan::OutageKind::Errors, 3, 10_000, HONEST);
    println!("{bill:?}");
    assert_eq!(bill.letters, 0, "{bill:?}");
    assert_eq!(bill.delivered, 10_000, "{bill:?}");
    assert!(bill.highest_attempt <= 2, "{bill:?}");
    assert!(bill.requests <= 3 * 24 * 120 + 100, "{bill:?}");
}

#[test]
fn an_order_that_is_inverted_after_a_restart_is_found() {
    plant(Mutant::OrderForgottenAtRestart);
}

/// Runs of one destination with many endpoints.
const CROWDS: u64 = 16;

#[test]
fn nobody_waits_for_another_endpoint_of_the_destination() {
    if let Some(seed) = chosen_seed() {
        return crowd::run(
            seed,
            Watching {
                trace: true,
                ..HONEST
            },
        )
        .unwrap_or_else(|violation| panic!("{violation}"));
    }
    for seed in 0..CROWDS {
        crowd::run(seed, HONEST).unwrap_or_else(|violation| panic!("crowd {seed}: {violation}"));
    }
}

#[test]
fn many_endpoints_taken_for_one_are_found() {
    if chosen_seed().is_some() {
        return;
    }
    let planted = Watching {
        mutant: Some(Mutant::OneEndpointForAll),
        steps: false,
        ..HONEST
    };
    let found: Vec<_> = (0..CROWDS)
        .filter_map(|seed| Some((seed, crowd::run(seed, planted).err()?)))
        .collect();
    for check in [Check::Healthy, Check::DeadLetter] {
        let by = found.iter().find(|(_, violation)| violation.check == check);
        let Some((seed, violation)) = by else {
            panic!("{check:?} finds nothing: {found:?}");
        };
        println!("found by crowd {seed}: {violation}");
    }
}

#[test]
fn a_hand_over_that_is_not_awaited_is_found() {
    plant(Mutant::RevokesAtOnce);
}

#[test]
fn an_attempt_spent_while_open_is_found() {
    plant(Mutant::SpendsWhileOpen);
}

#[test]
fn a_budget_that_starts_again_after_a_rebalance_is_found() {
    plant(Mutant::ForgetsBudgets);
}

#[test]
fn one_record_s_403_that_stops_its_lane_is_found() {
    plant(Mutant::FaultStopsTheLane);
}

#[test]
fn a_ladder_record_read_early_is_found() {
    plant(Mutant::LadderReadEarly);
}

#[test]
fn a_ladder_record_read_never_is_found() {
    plant(Mutant::LadderReadNever);
}

#[test]
fn metadata_of_another_place_that_is_believed_is_found() {
    plant(Mutant::BelievesAnyMetadata);
}

#[test]
fn a_changed_schedule_that_strands_a_record_is_found() {
    plant(Mutant::StrandedByNewSchedule);
}
