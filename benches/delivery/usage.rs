//! What a process has cost so far, as Linux counts it.

use std::fs;

/// Linux counts processor time for user space in hundredths of a second, whatever the kernel's own clock.
const TICKS_PER_SECOND: f64 = 100.0;

/// Processor time and memory of one process since its start.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usage {
    /// User and system time together.
    pub(crate) cpu_seconds: f64,
    /// The most memory that was resident at once.
    pub(crate) peak_rss_mb: f64,
}

impl Usage {
    /// What the process `pid` has cost so far.
    pub(crate) fn of(pid: u32) -> Self {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process is there");
        // Behind the name, which may hold anything, the twelfth and thirteenth field are user and system time.
        let fields: Vec<&str> = stat
            .rsplit(')')
            .next()
            .expect("fields")
            .split_whitespace()
            .collect();
        let ticks = |field: usize| -> f64 { fields[field].parse().expect("a number") };
        let status =
            fs::read_to_string(format!("/proc/{pid}/status")).expect("the process is there");
        let peak = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))
            .expect("a peak");
        let kilobytes: f64 = peak
            .trim()
            .trim_end_matches("kB")
            .trim()
            .parse()
            .expect("a number");
        Self {
            cpu_seconds: (ticks(11) + ticks(12)) / TICKS_PER_SECOND,
            peak_rss_mb: kilobytes / 1024.0,
        }
    }
}
