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
/// Four partitions of each of the five steps and of the replay.
const LADDER: usize = 24;
/// What is left of the start has settled by then.
const SETTLE: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_secs(20);

/// What so many lanes cost.
#[derive(Debug, Clone, Copy)]
struct Idle {
    lanes: usize,
    ready_seconds: f64,
    rss_mb: f64,
    cpu_percent: f64,
    threads: usize,
    one_record_ms: f64,
}

pub(super) fn run(broker: &Broker, counts: &[usize]) {
    broker.create_topic(TOPIC, i32::try_from(PARTITIONS).expect("few"), &[]);
    let measured: Vec<Idle> = counts.iter().map(|lanes| one(broker, *lanes)).collect();
    println!(
        "\nDestinations on one topic of {PARTITIONS} partitions, each with its ladder, with nothing to do\n"
    );
    println!(
        "| destinations | all have partitions after s | resident MB | % of a core | threads | one record, from the first of them to the last, ms |"
    );
    println!("| --- | --- | --- | --- | --- | --- |");
    for idle in &measured {
        println!(
            "| {} | {:.1} | {:.1} | {:.1} | {} | {:.0} |",
            idle.lanes,
            idle.ready_seconds,
            idle.rss_mb,
            idle.cpu_percent,
            idle.threads,
            idle.one_record_ms
        );
    }
    if let [first, .., last] = &measured[..] {
        let more = (last.lanes - first.lanes) as f64;
        println!(
            "\neach destination more costs {:.2} MB and {:.3} % of a core (goal: under 1 MB and 0.06 %)",
            (last.rss_mb - first.rss_mb) / more,
            (last.cpu_percent - first.cpu_percent) / more
        );
    }
}

fn one(broker: &Broker, lanes: usize) -> Idle {
    let receiver = Receiver::start();
    let admin_port = free_port();
    let url = format!("http://{}/hooks", receiver.address);
    let text = configuration(broker.brokers(), &url, lanes, admin_port);
    let begin = Instant::now();
    let mut relay = Relay::start_text(&text, admin_port);
    let all = (lanes * (PARTITIONS + LADDER)) as f64;
    let assigned = |m: Metrics| m.sum("postrider_partitions_assigned", &[]);
    while relay.try_metrics().map_or(0.0, assigned) < all {
        assert!(
            begin.elapsed() < Duration::from_secs(240),
            "{lanes} lanes have no partitions"
        );
        std::thread::sleep(Duration::from_millis(100));
    }
    let ready_seconds = begin.elapsed().as_secs_f64();
    std::thread::sleep(SETTLE);
    let before = Usage::of(relay.pid());
    std::thread::sleep(LOOK);
    let cpu = Usage::of(relay.pid()).cpu_seconds - before.cpu_seconds;
    let (rss_mb, threads) = resident(relay.pid());
    broker.produce(&[New::to(TOPIC).partition(0).value("{}")]);
    wait_for(&receiver, 1);
    let first = Instant::now();
    wait_for(&receiver, lanes);
    let one_record_ms = first.elapsed().as_secs_f64() * 1000.0;
    relay.stop(Duration::from_secs(120));
    Idle {
        lanes,
        ready_seconds,
        rss_mb,
        cpu_percent: cpu / LOOK.as_secs_f64() * 100.0,
        threads,
        one_record_ms,
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

fn configuration(brokers: &str, url: &str, lanes: usize, admin_port: u16) -> String {
    let mut text = format!(
        "[kafka]\nbrokers = [\"{brokers}\"]\nprefix = \"many-{lanes}\"\nstart_at = \"latest\"\n\
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
    text
}

/// Resident memory in MB, and the number of threads.
fn resident(pid: u32) -> (f64, usize) {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process is there");
    let field = |name: &str| -> f64 {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let number = line.and_then(|line| line.split_whitespace().next());
        number
            .and_then(|number| number.parse().ok())
            .expect("a number")
    };
    (field("VmRSS:") / 1024.0, field("Threads:") as usize)
}
