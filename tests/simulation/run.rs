//! Runs seeds, on two threads, and says what came of them.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, Once};
use std::time::{Duration, Instant};

use crate::check::{Check, Violation};
use crate::coverage::Coverage;
use crate::world::{Watching, World};

const THREADS: usize = 2;

thread_local! {
    /// A lane with a planted bug may panic as it likes.
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

fn silence_planted_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let speak = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !QUIET.get() {
                speak(panic);
            }
        }));
    });
}

/// What came of many runs.
pub(crate) struct Outcome {
    pub(crate) runs: u64,
    pub(crate) took: Duration,
    pub(crate) coverage: Coverage,
    /// The lowest seed that found something.
    pub(crate) found: Option<(u64, Violation)>,
}

impl Outcome {
    pub(crate) fn runs_per_minute(&self) -> f64 {
        self.runs as f64 / self.took.as_secs_f64().max(1e-9) * 60.0
    }
}

/// One run. A panic of the lane is a violation like any other.
pub(crate) fn one(seed: u64, watching: Watching) -> (Result<(), Violation>, Coverage) {
    let mut world = World::new(seed, watching);
    let result = catch_unwind(AssertUnwindSafe(|| world.run())).unwrap_or_else(|panic| {
        let words = panic.downcast_ref::<String>().cloned();
        let words = words.or_else(|| panic.downcast_ref::<&str>().map(|&words| words.to_owned()));
        Err(Violation::new(Check::Panic, words.unwrap_or_default()))
    });
    (result, world.coverage)
}

/// Runs the seeds from 0 on, up to the first that finds something.
pub(crate) fn many(seeds: u64, watching: Watching) -> Outcome {
    silence_planted_panics();
    let started = Instant::now();
    let next = AtomicU64::new(0);
    let end = AtomicU64::new(seeds);
    let found = Mutex::new(None::<(u64, Violation)>);
    let (mut runs, mut coverage) = (0, Coverage::default());
    let work = || {
        QUIET.set(watching.mutant.is_some());
        let (mut runs, mut coverage) = (0, Coverage::default());
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= end.load(Ordering::Relaxed) {
                return (runs, coverage);
            }
            let (result, seen) = one(seed, watching);
            runs += 1;
            coverage.merge(&seen);
            if let Err(violation) = result
                && watching.looks_for.counts(violation.check)
            {
                end.fetch_min(seed, Ordering::Relaxed);
                let mut found = found.lock().expect("no worker panics while it holds this");
                if found.as_ref().is_none_or(|(lowest, _)| seed < *lowest) {
                    *found = Some((seed, violation));
                }
            }
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            let (ran, seen) = worker.join().expect("a run's panics are caught");
            runs += ran;
            coverage.merge(&seen);
        }
    });
    Outcome {
        runs,
        took: started.elapsed(),
        coverage,
        found: found
            .into_inner()
            .expect("no worker panics while it holds this"),
    }
}
