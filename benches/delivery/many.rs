//! Many destinations on one topic: what each costs while there is nothing to do, and how long it takes until all have one record.

use std::fs;
use std::time::{Duration, Instant};

use super::harness::broker::Broker;
use super::harness::metrics::Metrics;
use super::harness::place::New;
use super::harness::port::free_port;
use super::harness::relay::Relay;
use super::receiver::Receiver;
use super::usage::Usage;

const TOPIC: &str = "news";
const PARTITIONS: usize = 4;
/// What one destination more is for, whose record waits on the ladder so that all lanes read it.
const LATER: &str = "later";
/// Four partitions of each of the five steps and of the replay.
const LADDER: usize = 24;
/// What is left of the start has settled by then.
const SETTLE: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_secs(20);

/// How many lanes, and whether they read the ladder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Crowd {
    pub(super) lanes: usize,
    pub(super) ladder: bool,
}

/// What so many lanes cost.
#[derive(Debug, Clone, Copy)]
struct Idle {
    crowd: Crowd,
    ready_seconds: f64,
    rss_mb: f64,
    cpu_percent: f64,
    threads: usize,
    one_record_ms: f64,
    peak_mb: f64,
}

pub(super) fn run(broker: &Broker, crowds: &[Crowd]) {
    broker.create_topic(TOPIC, i32::try_from(PARTITIONS).expect("few"), &[]);
    broker.create_topic(LATER, 1, &[]);
    println!("\nDestinations on one topic of {PARTITIONS} partitions, with nothing to do\n");
    println!(
        "| destinations | read the ladder | all have partitions after s | resident MB | % of a core | threads | one record, from the first of them to the last, ms | peak MB |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
    let mut measured: Vec<Idle> = Vec::new();
    for crowd in crowds {
        let idle = one(broker, *crowd);
        println!(
            "| {} | {} | {:.1} | {:.1} | {:.1} | {} | {:.0} | {:.1} |",
            crowd.lanes,
            if crowd.ladder { "yes" } else { "no" },
            idle.ready_seconds,
            idle.rss_mb,
            idle.cpu_percent,
            idle.threads,
            idle.one_record_ms,
            idle.peak_mb
        );
        let before = measured.iter().rfind(|before| {
            before.crowd.ladder == crowd.ladder && before.crowd.lanes < crowd.lanes
        });
        if let Some(before) = before {
            let more = (crowd.lanes - before.crowd.lanes) as f64;
            println!(
                "|  | each more than {}: | | {:.2} | {:.3} | {:.1} | | |",
                before.crowd.lanes,
                (idle.rss_mb - before.rss_mb) / more,
                (idle.cpu_percent - before.cpu_percent) / more,
                (idle.threads - before.threads) as f64 / more,
            );
        }
        measured.push(idle);
    }
    println!(
        "\nThe goals: with the ladder under 1 MB and 0.06 % for each; a thousand under 600 MB"
    );
}

fn one(broker: &Broker, crowd: Crowd) -> Idle {
    let lanes = crowd.lanes;
    let receiver = Receiver::start();
    let admin_port = free_port();
    let url = format!("http://{}/hooks", receiver.address);
    let text = configuration(broker.brokers(), &url, crowd, admin_port);
    let begin = Instant::now();
    let mut relay = Relay::start_text(&text, admin_port);
    let mut all = lanes * PARTITIONS + usize::from(crowd.ladder);
    wait_assigned(&relay, all);
    let ready_seconds = begin.elapsed().as_secs_f64();
    if crowd.ladder {
        broker.produce(&[New::to(LATER).value("{}")]);
        all += (lanes + 1) * LADDER;
        wait_assigned(&relay, all);
    }
    std::thread::sleep(SETTLE);
    let before = Usage::of(relay.pid());
    std::thread::sleep(LOOK);
    let cpu = Usage::of(relay.pid()).cpu_seconds - before.cpu_seconds;
    let rss_mb = memory(relay.pid(), "VmRSS:");
    let threads = field(relay.pid(), "Threads:") as usize;
    broker.produce(&[New::to(TOPIC).partition(0).value("{}")]);
    wait_for(&receiver, 1);
    let first = Instant::now();
    wait_for(&receiver, lanes);
    let one_record_ms = first.elapsed().as_secs_f64() * 1000.0;
    let peak_mb = memory(relay.pid(), "VmHWM:");
    relay.stop(Duration::from_secs(120));
    Idle {
        crowd,
        ready_seconds,
        rss_mb,
        cpu_percent: cpu / LOOK.as_secs_f64() * 100.0,
        threads,
        one_record_ms,
        peak_mb,
    }
}

fn wait_assigned(relay: &Relay, partitions: usize) {
    let begin = Instant::now();
    let assigned = |m: Metrics| m.sum("postrider_partitions_assigned", &[]);
    while relay.try_metrics().map_or(0.0, assigned) < partitions as f64 {
        assert!(
            begin.elapsed() < Duration::from_secs(240),
            "not all have their partitions"
        );
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn wait_for(receiver: &Receiver, requests: usize) {
    let begin = Instant::now();
    while receiver.requests() < requests as u64 {
        assert!(
            begin.elapsed() < Duration::from_secs(60),
            "one record for all"
        );
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn configuration(brokers: &str, url: &str, crowd: Crowd, admin_port: u16) -> String {
    let Crowd { lanes, ladder } = crowd;
    let mut text = format!(
        "[kafka]\nbrokers = [\"{brokers}\"]\nprefix = \"many-{lanes}-{ladder}\"\nstart_at = \"latest\"\n\
         [admin]\nlisten = \"127.0.0.1:{admin_port}\"\n[[rules]]\nname = \"all\"\ntopics = [\"{TOPIC}\"]\ndeliver_to = ["
    );
    for lane in 0..lanes {
        text.push_str(&format!("\"d{lane}\", "));
    }
    text.push_str("]\n");
    for lane in 0..lanes {
        text.push_str(&format!(
            "[destinations.d{lane}.webhook]\nurl = \"{url}\"\n"
        ));
    }
    if ladder {
        // Nobody listens there.
        text.push_str(&format!(
            "[[rules]]\nname = \"later\"\ntopics = [\"{LATER}\"]\ndeliver_to = [\"later\"]\n\
             [destinations.later]\nretry = {{ schedule = [\"2h\"] }}\n\
             [destinations.later.webhook]\nurl = \"http://127.0.0.1:9/\"\n"
        ));
    }
    text
}

/// Of what the kernel counts in kB, in MB.
fn memory(pid: u32, name: &str) -> f64 {
    field(pid, name) / 1024.0
}

/// A number of the process, as the kernel tells it.
fn field(pid: u32, name: &str) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process is there");
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.split_whitespace().next());
    number
        .and_then(|number| number.parse().ok())
        .expect("a number")
}
