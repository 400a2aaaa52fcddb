//! The contest: prepares Kafka, lets every contestant run in every round, and measures each.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use postrider::descriptors;

use super::harness::broker::Broker;
use super::harness::leash::Leash;
use super::harness::place::New;
use super::harness::port::free_port;
use super::harness::relay::{Relay, binary, binary_at};
use super::many::Crowd;
use super::receiver::Receiver;
use super::report::{Measured, report};
use super::usage::Usage;

const KAFKA_VERSION: &str = "3.9.1";
const TOPIC: &str = "orders";
const PARTITIONS: i32 = 4;
/// The length of a record's value.
pub(super) const RECORD_BYTES: usize = 267;
/// No contestant takes longer unless something is wrong.
const TIMEOUT: Duration = Duration::from_secs(120);
/// What runs before the clock starts, so that nobody is the first to read the topic from disk.
const WARM_UP: &str = "consumer";
/// Names an older binary, which then runs in each round too.
const BASE: &str = "BENCH_BASE";

/// Who runs, in this order; the number is how many requests are in flight. The binary before runs
/// where `BENCH_BASE` names it.
const CONTESTANTS: [Contestant; 8] = [
    Contestant("receiver-limit", Kind::Load, 64),
    Contestant("consumer", Kind::Consumer, 0),
    Contestant("bare-loop", Kind::BareLoop, 64),
    Contestant("postrider", Kind::Postrider, 64),
    Contestant("base", Kind::Base, 64),
    Contestant("bare-loop-16", Kind::BareLoop, 16),
    Contestant("postrider-16", Kind::Postrider, 16),
    Contestant("base-16", Kind::Base, 16),
];

#[derive(Debug, Clone, Copy)]
struct Contestant(&'static str, Kind, usize);

#[derive(Debug, Clone, Copy)]
enum Kind {
    Load,
    Consumer,
    BareLoop,
    Postrider,
    Base,
}

/// How much is measured.
pub(super) struct Size {
    pub(super) records: usize,
    pub(super) rounds: usize,
}

pub(super) fn run() {
    let size = Size {
        records: setting("BENCH_RECORDS", 200_000),
        rounds: setting("BENCH_ROUNDS", 3),
    };
    let broker = Broker::builder().version(KAFKA_VERSION).start();
    let mut lanes = setting("BENCH_DESTINATIONS", 1000);
    descriptors::raise();
    if let Err(error) = descriptors::share(lanes) {
        println!("{error}");
        lanes = lanes.min(100);
    }
    if lanes > 1 {
        let crowd = |lanes, ladder| Crowd { lanes, ladder };
        let few = lanes.min(100);
        let mut crowds = vec![crowd(1, true), crowd(few, true), crowd(1, false)];
        crowds.extend([few, lanes].map(|lanes| crowd(lanes, false)));
        crowds.dedup();
        super::many::run(&broker, &crowds);
    }
    if size.rounds == 0 {
        return;
    }
    fill(&broker, size.records);
    let has_base = std::env::var_os(BASE).is_some();
    let runs = |contestant: &&Contestant| has_base || !matches!(contestant.1, Kind::Base);
    let contestants: Vec<&Contestant> = CONTESTANTS.iter().filter(runs).collect();
    let mut measured: Vec<(&str, Vec<Measured>)> = contestants
        .iter()
        .map(|contestant| (contestant.0, Vec::new()))
        .collect();
    for round in 0..=size.rounds {
        for (contestant, (name, results)) in contestants.iter().zip(&mut measured) {
            if round == 0 && *name != WARM_UP {
                continue;
            }
            let result = one(**contestant, &broker, size.records, round);
            if round > 0 {
                eprintln!("round {round} of {}: {name:<14} {result}", size.rounds);
                results.push(result);
            }
        }
    }
    report(&measured, &size, KAFKA_VERSION);
}

fn setting(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |text| {
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is a number"))
    })
}

/// The value of one record: JSON, always of the same length.
pub(super) fn record(number: usize) -> String {
    let head = format!(
        r#"{{"type":"order.created","resource":"order","id":{number:08},"customer":"c-{:05}","text":""#,
        number % 99_991
    );
    let text = "lorem ipsum dolor sit amet ".repeat(10);
    let record = format!("{head}{}\"}}", &text[..RECORD_BYTES - head.len() - 2]);
    assert_eq!(record.len(), RECORD_BYTES);
    record
}

fn fill(broker: &Broker, records: usize) {
    broker.create_topic(TOPIC, PARTITIONS, &[]);
    let partition = |number: usize| i32::try_from(number % 4).expect("a small number");
    let all: Vec<New> = (0..records)
        .map(|n| New::to(TOPIC).partition(partition(n)).value(record(n)))
        .collect();
    for chunk in all.chunks(50_000) {
        broker.produce(chunk);
    }
}

/// One run of one contestant.
fn one(
    Contestant(name, kind, in_flight): Contestant,
    broker: &Broker,
    records: usize,
    round: usize,
) -> Measured {
    let receiver = Receiver::start();
    let address = receiver.address.to_string();
    let url = format!("http://{address}/hooks");
    let (count, places) = (records.to_string(), in_flight.to_string());
    match kind {
        Kind::Load => delivered(
            &Process::start(&["load", &address, &count, &places]),
            &receiver,
            records,
        ),
        Kind::BareLoop => delivered(
            &Process::start(&["bare-loop", broker.brokers(), TOPIC, &count, &url, &places]),
            &receiver,
            records,
        ),
        Kind::Consumer => {
            let mut consumer = Process::start(&["consumer", broker.brokers(), TOPIC, &count]);
            let seconds = consumer.seconds();
            Measured::new(records, seconds, Usage::of(consumer.child.id()))
        }
        Kind::Postrider | Kind::Base => {
            let program = match (kind, std::env::var_os(BASE)) {
                (Kind::Base, Some(path)) => binary_at(path),
                _ => binary(),
            };
            let admin_port = free_port();
            let id = format!("{name}-{round}");
            let text = configuration(broker.brokers(), &id, &url, in_flight, admin_port);
            let mut relay = Relay::start_program(program, &text, admin_port, |_| {});
            let measured = wait(relay.pid(), &receiver, records);
            relay.stop(TIMEOUT);
            assert_all(&receiver, records);
            measured
        }
    }
}

/// Everything but what must be set is as in the example file.
fn configuration(brokers: &str, id: &str, url: &str, in_flight: usize, admin_port: u16) -> String {
    format!(
        "[kafka]\nbrokers = [\"{brokers}\"]\nprefix = \"bench\"\nstart_at = \"earliest\"\n\
         [destinations.shop]\nid = \"{id}\"\nconcurrency = {in_flight}\n\
         [destinations.shop.webhook]\nurl = \"{url}\"\n\
         [[rules]]\nname = \"orders\"\ntopics = [\"{TOPIC}\"]\ndeliver_to = [\"shop\"]\n\
         [admin]\nlisten = \"127.0.0.1:{admin_port}\"\n"
    )
}

fn delivered(process: &Process, receiver: &Receiver, records: usize) -> Measured {
    let measured = wait(process.child.id(), receiver, records);
    assert_all(receiver, records);
    measured
}

fn assert_all(receiver: &Receiver, records: usize) {
    assert_eq!(receiver.requests(), records as u64, "each record once");
    let bytes = (records * RECORD_BYTES) as u64;
    assert_eq!(receiver.bytes(), bytes, "each record whole");
}

/// Waits until the receiver has everything, then reads what that has cost.
fn wait(pid: u32, receiver: &Receiver, records: usize) -> Measured {
    let begin = Instant::now();
    while receiver.requests() < records as u64 {
        let came = receiver.requests();
        assert!(
            begin.elapsed() < TIMEOUT,
            "{came} of {records} records came within {TIMEOUT:?}"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    Measured::new(records, receiver.time().as_secs_f64(), Usage::of(pid))
}

/// A contestant that is this same program. Dropping it kills it.
struct Process {
    child: Child,
    _leash: Leash,
}

impl Process {
    fn start(arguments: &[&str]) -> Self {
        let program = std::env::current_exe().expect("this program");
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program starts again");
        let nothing = std::env::temp_dir().join("postrider-bench-has-no-folder");
        let leash = Leash::on(child.id(), &nothing);
        Self {
            child,
            _leash: leash,
        }
    }

    /// What it says when it is done.
    fn seconds(&mut self) -> f64 {
        let output = self.child.stdout.take().expect("its output is piped");
        let mut line = String::new();
        BufReader::new(output)
            .read_line(&mut line)
            .expect("it says when it is done");
        line.trim().parse().expect("a number of seconds")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
