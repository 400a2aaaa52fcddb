//! Several instances of one file: each has its share of the topics and of the ladder, as they come and go.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::harness::broker::Broker;
use crate::harness::config::{Config, Destination};
use crate::harness::place::New;
use crate::harness::receiver::{Answer, Receiver};
use crate::harness::relay::Relay;
use crate::harness::wait::wait_until;

use super::main_job::wait_no_lag;

const SOON: Duration = Duration::from_secs(30);
/// From an instance that comes or goes to shares that are fair.
const FAIR: Duration = Duration::from_secs(20);
const PARTITIONS: i32 = 8;
/// Five steps and the replay, of four partitions each.
const LADDER: usize = 24;

/// Instances, and what each was seen to have.
struct Instances<'a> {
    kafka: &'a Broker,
    topic: &'static str,
    receiver: &'a Receiver,
    relays: Vec<Relay>,
}

impl Instances<'_> {
    fn assigned(&self) -> Vec<usize> {
        let of = |relay: &Relay| {
            relay
                .try_metrics()?
                .get("postrider_partitions_assigned", &[])
        };
        let all = self.relays.iter().map(|relay| of(relay).unwrap_or(0.0));
        all.map(|count| count as usize).collect()
    }

    /// How many partitions of the topic each reads: one record is written to every partition.
    fn of_topic(&self) -> Vec<usize> {
        let read = |relay: &Relay| {
            let metrics = relay.try_metrics();
            metrics.map_or(0.0, |m| m.sum("postrider_records_read_total", &[]))
        };
        let before: Vec<f64> = self.relays.iter().map(read).collect();
        let accepted = self.receiver.accepted_count();
        let record = |partition| New::to(self.topic).partition(partition).value("{}");
        let records: Vec<New> = (0..PARTITIONS).map(record).collect();
        self.kafka.produce(&records);
        self.receiver.wait_accepted(accepted + records.len(), SOON);
        // What an instance shows may be some milliseconds old.
        let mut shares = Vec::new();
        wait_until(SOON, "the records are counted", || {
            let after = self.relays.iter().map(read);
            shares = after.zip(&before).map(|(a, b)| (a - b) as usize).collect();
            shares.iter().sum::<usize>() >= records.len()
        });
        shares
    }

    /// Waits until nobody has more than one partition more than another, of the topic and of the ladder each.
    #[track_caller]
    fn wait_fair(&self, what: &str) {
        let began = Instant::now();
        let topic = usize::try_from(PARTITIONS).unwrap();
        let fair = |shares: &[usize], total: usize| {
            let most = total.div_ceil(shares.len());
            let least = total / shares.len();
            shares.iter().sum::<usize>() == total
                && shares.iter().all(|n| (least..=most).contains(n))
        };
        loop {
            let assigned = self.assigned();
            let mut topics = Vec::new();
            // Before the sum is right a rebalance is under way.
            if assigned.iter().sum::<usize>() == topic + LADDER {
                topics = self.of_topic();
                let ladder: Vec<usize> = assigned
                    .iter()
                    .zip(&topics)
                    .map(|(all, t)| all.saturating_sub(*t))
                    .collect();
                if fair(&topics, topic) && fair(&ladder, LADDER) && self.assigned() == assigned {
                    println!(
                        "{what}: {topics:?} of the topic, {ladder:?} of the ladder after {:?}",
                        began.elapsed()
                    );
                    return;
                }
            }
            assert!(
                began.elapsed() < FAIR,
                "{what}: the instances have {assigned:?} partitions, {topics:?} of the topic"
            );
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

#[test]
fn an_instance_that_gets_nothing_new_in_a_rebalance_stays_in_its_group() {
    let kafka = Broker::shared();
    kafka.create_topic("crowd-in", 1, &[]);
    kafka.produce(&[New::to("crowd-in").value("{}")]);
    let receiver = Receiver::ok();
    let config = Config::new(kafka.brokers(), "crowd")
        .topics(&["crowd-in"])
        .destination(Destination::new("hook", &receiver.url()));
    let mut first = Relay::start(&config);
    receiver.wait_accepted(1, SOON);
    let mut second = Relay::start(&config);
    let running = [("state", "running")];
    second.wait_metric("postrider_lane_state", &running, SOON, |is| is == 1.0);
    let assigned = [("kind", "assigned")];
    first.wait_metric("postrider_rebalances_total", &assigned, SOON, |n| n >= 2.0);
    kafka.produce(&[New::to("crowd-in").value("{}")]);
    receiver.wait_accepted(2, SOON);
    wait_no_lag(kafka, "crowd.hook", &["crowd-in"]);
    for relay in [&first, &second] {
        assert!(!relay.log().contains("leaving the group"));
    }
    assert_eq!(receiver.attempt_count(), 2);
}

/// They come one by one; one leaves in good order, and one is killed.
fn come_and_go(kafka: &'static Broker, topic: &'static str, config: Config) {
    kafka.create_topic(topic, PARTITIONS, &[]);
    // The ladder is read where there is something on it: one record, for as long as this takes.
    kafka.produce(&[New::to(topic).partition(0).value("later")]);
    let receiver = Receiver::start(|request| match &request.body[..] {
        b"later" => Answer::status(500),
        _ => Answer::ok(),
    });
    let hook = Destination::new("hook", &receiver.url())
        .lane(r#"retry = { schedule = ["2h"], jitter = 0 }"#);
    let config = config.topics(&[topic]).destination(hook);
    let no_lag = || wait_no_lag(kafka, &config.group("hook"), &[topic]);
    let mut instances = Instances {
        kafka,
        topic,
        receiver: &receiver,
        relays: vec![Relay::start(&config)],
    };
    instances.wait_fair("one");
    instances.relays.push(Relay::start(&config));
    instances.wait_fair("two");
    instances.relays.push(Relay::start(&config));
    instances.wait_fair("three");
    let mut leaving = instances.relays.remove(1);
    assert_eq!(leaving.stop(SOON).code(), Some(0));
    instances.wait_fair("one has left");
    // What was delivered since the last commit would be repeated.
    no_lag();
    let mut killed = instances.relays.remove(0);
    killed.kill9();
    instances.wait_fair("one was killed");
    no_lag();
    let (attempts, accepted) = (receiver.attempts(), receiver.accepted_count());
    assert_eq!(attempts.len(), accepted + 1, "once the one that waits");
    let ids: BTreeSet<_> = attempts.iter().map(|attempt| &attempt.id).collect();
    assert_eq!(ids.len(), attempts.len(), "nothing is repeated");
}

#[test]
fn every_instance_has_its_share_of_the_topics_and_of_the_ladder() {
    let kafka = Broker::shared();
    come_and_go(kafka, "share-in", Config::new(kafka.brokers(), "share"));
}

#[test]
fn so_it_is_where_the_brokers_decide() {
    let kafka = Broker::shared_that_decides();
    let config = Config::new(kafka.brokers(), "decide").consumer_protocol();
    come_and_go(kafka, "decide-in", config);
}

#[test]
fn a_broker_that_cannot_decide_is_told_of() {
    let kafka = Broker::builder().version("3.9.1").start();
    kafka.create_topic("old-in", 1, &[]);
    let receiver = Receiver::ok();
    let config = Config::new(kafka.brokers(), "old")
        .consumer_protocol()
        .topics(&["old-in"])
        .destination(Destination::new("hook", &receiver.url()));
    let mut relay = Relay::start(&config);
    relay.wait_log("write \\\"classic", 2 * SOON);
}

#[test]
fn a_group_that_hands_out_partitions_stops_no_lane_for_a_second() {
    // Found by the bench: librdkafka stops fetching meanwhile, forgets what it has fetched, and its threads looked only once in a second whether that was
    // over. The ladder's member joins at the first heartbeat of the other, three seconds after the start, so each of these lanes goes through it.
    const LANES: [&str; 5] = ["a", "b", "c", "d", "e"];
    const RECORDS: usize = 6000;
    let kafka = Broker::shared();
    kafka.create_topic("flow-in", 4, &[]);
    // More than librdkafka keeps: it must fetch all the time.
    let value = "x".repeat(4096);
    let record = |n: usize| {
        let partition = i32::try_from(n % 4).unwrap();
        New::to("flow-in").partition(partition).value(&value)
    };
    kafka.produce(&(0..RECORDS).map(record).collect::<Vec<_>>());
    let receivers =
        LANES.map(|_| Receiver::start(|_| Answer::ok().after(Duration::from_millis(5))));
    let mut config = Config::new(kafka.brokers(), "flow").topics(&["flow-in"]);
    for (name, receiver) in LANES.iter().zip(&receivers) {
        let lane = "concurrency = 4\nwindow = { records = 64 }";
        config = config.destination(Destination::new(name, &receiver.url()).lane(lane));
    }
    let mut relay = Relay::start(&config);
    let mut silences: Vec<Duration> = Vec::new();
    for receiver in &receivers {
        receiver.wait_accepted(RECORDS, SOON);
        let mut arrived: Vec<Instant> = receiver.attempts().iter().map(|a| a.arrived).collect();
        arrived.sort_unstable();
        let between = arrived.windows(2).map(|two| two[1] - two[0]);
        silences.push(between.max().unwrap_or_default());
    }
    silences.sort_unstable();
    println!("the longest silences: {silences:?}");
    let half = silences[LANES.len() / 2];
    assert!(half < Duration::from_millis(400), "{silences:?}");
    assert_eq!(relay.stop(SOON).code(), Some(0));
}
