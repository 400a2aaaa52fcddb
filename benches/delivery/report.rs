//! The table and the file of results.

use std::fmt;
use std::fs;
use std::path::Path;

use super::contest::{RECORD_BYTES, Size};
use super::usage::Usage;

/// One run of one contestant.
#[derive(Debug, Clone, Copy)]
pub(super) struct Measured {
    records_per_second: f64,
    cpu_us_per_record: f64,
    peak_rss_mb: f64,
}

impl Measured {
    pub(super) fn new(records: usize, seconds: f64, usage: Usage) -> Self {
        Self {
            records_per_second: records as f64 / seconds,
            cpu_us_per_record: usage.cpu_seconds * 1e6 / records as f64,
            peak_rss_mb: usage.peak_rss_mb,
        }
    }
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:>9.0}/s {:>6.1} us {:>6.1} MB",
            self.records_per_second, self.cpu_us_per_record, self.peak_rss_mb
        )
    }
}

/// Prints the table, and writes `target/bench/results.json`.
pub(super) fn report(measured: &[(&str, Vec<Measured>)], size: &Size, kafka: &str) {
    println!(
        "\n{} records of {RECORD_BYTES} bytes in 4 partitions, one POST each; medians of {} alternating rounds (least to most)",
        size.records, size.rounds
    );
    println!("Apache Kafka {kafka}; {}; November 2026\n", machine());
    println!("| contestant | records/s | CPU µs/record | peak MB |\n| --- | --- | --- | --- |");
    for (name, runs) in measured {
        let rate = spread(runs, |run| run.records_per_second);
        let cpu = spread(runs, |run| run.cpu_us_per_record);
        let peak = spread(runs, |run| run.peak_rss_mb);
        println!("| {name} | {rate:.0} | {cpu:.1} | {peak:.0} |");
    }
    println!(
        "\nreceiver-limit is our own load generator against our own receiver, which is one thread and answers 200 to everything."
    );
    for (ours, theirs) in [("postrider", "bare-loop"), ("postrider-16", "bare-loop-16")] {
        compare(measured, ours, theirs, &AGAINST_BARE_LOOP);
    }
    for (ours, theirs) in [("postrider", "base"), ("postrider-16", "base-16")] {
        if !find(measured, theirs).is_empty() {
            compare(measured, ours, theirs, &AGAINST_BASE);
        }
    }
    write(measured);
}

fn find<'a>(measured: &'a [(&str, Vec<Measured>)], name: &str) -> &'a [Measured] {
    let found = measured.iter().find(|(known, _)| *known == name);
    found.map_or(&[], |(_, runs)| runs)
}

/// What is wanted of the medians of the ratios, round by round.
struct Goal {
    rate_min: f64,
    cpu_max: f64,
}

/// Nine tenths of the bare loop's rate for a quarter more of its processor time.
const AGAINST_BARE_LOOP: Goal = Goal {
    rate_min: 0.9,
    cpu_max: 1.25,
};

/// What the binary before had, but for what a noisy machine makes of it.
const AGAINST_BASE: Goal = Goal {
    rate_min: 0.95,
    cpu_max: 1.05,
};

/// The peak is to stay below this, in MB.
const PEAK_MAX_MB: f64 = 64.0;

fn compare(measured: &[(&str, Vec<Measured>)], ours: &str, theirs: &str, goal: &Goal) {
    let (runs, bare) = (find(measured, ours), find(measured, theirs));
    let Goal { rate_min, cpu_max } = goal;
    let ratio = |value: fn(&Measured) -> f64| {
        let pairs = runs.iter().zip(bare);
        let ratios: Vec<f64> = pairs
            .map(|(ours, bare)| value(ours) / value(bare))
            .collect();
        Spread::of(ratios)
    };
    let rate = ratio(|run| run.records_per_second);
    let cpu = ratio(|run| run.cpu_us_per_record);
    let peak = spread(runs, |run| run.peak_rss_mb);
    let met = rate.median >= *rate_min && cpu.median <= *cpu_max && peak.median < PEAK_MAX_MB;
    println!(
        "{ours} to {theirs}, round by round: rate {rate:.2} (goal {rate_min} or more), CPU {cpu:.2} ({cpu_max} or less), peak {peak:.0} MB (under {PEAK_MAX_MB}): {}",
        if met { "met" } else { "MISSED" }
    );
}

/// A median, and how far the rounds lie apart.
#[derive(Debug, Clone, Copy)]
struct Spread {
    least: f64,
    median: f64,
    most: f64,
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 {
            values[middle]
        } else {
            f64::midpoint(values[middle - 1], values[middle])
        };
        Self {
            least: values[0],
            median,
            most: values[values.len() - 1],
        }
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = f.precision().unwrap_or(0);
        write!(
            f,
            "{:.digits$} ({:.digits$} to {:.digits$})",
            self.median, self.least, self.most
        )
    }
}

fn spread(runs: &[Measured], value: impl Fn(&Measured) -> f64) -> Spread {
    Spread::of(runs.iter().map(value).collect())
}

fn write(measured: &[(&str, Vec<Measured>)]) {
    let results: Vec<serde_json::Value> = measured
        .iter()
        .map(|(name, runs)| {
            serde_json::json!({
                "name": name,
                "records_per_second": spread(runs, |run| run.records_per_second).median.round(),
                "cpu_us_per_record": round(spread(runs, |run| run.cpu_us_per_record).median),
                "peak_rss_mb": round(spread(runs, |run| run.peak_rss_mb).median),
            })
        })
        .collect();
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .parent()
        .expect("a target folder");
    let folder = target.join("bench");
    fs::create_dir_all(&folder).expect("the target folder is writable");
    let text = serde_json::to_string_pretty(&results).expect("plain values");
    let file = folder.join("results.json");
    fs::write(&file, text + "\n").expect("the target folder is writable");
    println!("written: {}", file.display());
}

fn round(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

/// What this ran on, in a few words.
fn machine() -> String {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map_or("a processor without a name", |rest| {
            rest.trim_start_matches([' ', '\t', ':'])
        });
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let load = read("/proc/loadavg");
    let load = load.split(' ').next().unwrap_or("?");
    format!("{cores} cores of {model}, load {load} at the end")
}
