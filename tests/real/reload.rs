//! Another file while the daemon runs: taken over whole or not at all, and who is not meant notices nothing.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::producer::{BaseRecord, Producer, ThreadedProducer};

use crate::harness::broker::Broker;
use crate::harness::config::{Config, Destination};
use crate::harness::place::New;
use crate::harness::receiver::{Answer, Receiver};
use crate::harness::relay::{Relay, Signal};
use crate::harness::wait::wait_until;

use super::main_job::wait_no_lag;
use super::operations::{ask, done, status, wait_state};

const SOON: Duration = Duration::from_secs(30);

/// Records with numbers for values, so many a second.
struct Stream {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<u64>>,
}

impl Stream {
    fn start(kafka: &Broker, topic: &'static str, per_second: u64) -> Self {
        let producer: ThreadedProducer<_> = ClientConfig::new()
            .set("bootstrap.servers", kafka.brokers())
            .set("acks", "all")
            .create()
            .unwrap();
        let stop = Arc::<AtomicBool>::default();
        let ends = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let began = Instant::now();
            let mut sent = 0;
            while !ends.load(Ordering::Relaxed) {
                let due = u64::try_from(began.elapsed().as_millis()).unwrap() * per_second / 1000;
                while sent < due {
                    let value = sent.to_string();
                    let record = BaseRecord::<(), _>::to(topic).payload(&value);
                    producer.send(record).map_err(|(error, _)| error).unwrap();
                    sent += 1;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            producer.flush(SOON).unwrap();
            sent
        });
        Self {
            stop,
            thread: Some(thread),
        }
    }

    /// How many there are.
    fn end(&mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Every number came once, and none twice; gives the longest time in which nothing came.
#[track_caller]
fn assert_each_once(receiver: &Receiver, count: u64, who: &str) -> Duration {
    let attempts = receiver.attempts();
    let mut seen: BTreeMap<u64, u32> = BTreeMap::new();
    for attempt in &attempts {
        let body = attempt.body.as_ref().unwrap();
        let number = std::str::from_utf8(body).unwrap().parse().unwrap();
        *seen.entry(number).or_default() += 1;
    }
    let twice = seen.values().filter(|times| **times > 1).count();
    assert_eq!(twice, 0, "{who}: came more than once");
    assert_eq!(seen.len() as u64, count, "{who}: came at all");
    let gaps = attempts.windows(2);
    let gaps = gaps.map(|pair| pair[1].arrived.saturating_duration_since(pair[0].arrived));
    gaps.max().unwrap_or_default()
}

fn wait_count(receiver: &Receiver, count: u64) {
    let count = usize::try_from(count).unwrap();
    receiver.wait_accepted(count, Duration::from_secs(60));
}

/// Must show c of the reload.
#[test]
fn a_hundred_reloads_a_minute_are_not_noticed() {
    const RELOADS: u32 = 100;
    const EVERY: Duration = Duration::from_millis(600);
    let kafka = Broker::shared();
    kafka.create_topic("reloaded", 4, &[]);
    let (steady, changing) = (Receiver::ok(), Receiver::ok());
    let config = |round: u32| {
        let other = Destination::new("changing", &changing.url())
            .lane(&format!("concurrency = {}", 16 + round % 7))
            .lane(&format!(
                "rate = {{ limit = \"{}/s\", burst = 1000 }}",
                20_000 + round
            ))
            .webhook(&format!("headers = {{ x-round = \"{round}\" }}"));
        Config::new(kafka.brokers(), "reloads")
            .topics(&["reloaded"])
            .destination(Destination::new("steady", &steady.url()))
            .destination(other)
    };
    let mut relay = Relay::start(&config(0));
    relay.wait_ready(SOON);
    for name in ["steady", "changing"] {
        wait_state(&mut relay, name, "running");
    }
    let mut stream = Stream::start(kafka, "reloaded", 1000);
    steady.wait_accepted(1000, SOON);
    let pid = relay.pid();
    let (mut due, mut good) = (Instant::now(), 0);
    for round in 1..=RELOADS {
        if round % 3 == 0 {
            let text = fs::read_to_string(relay.file()).unwrap();
            fs::write(relay.file(), text + "\n[destinations.changing.nonsense]\n").unwrap();
            let refused = ask(&relay.file(), &["reload"]);
            assert_eq!(refused.status.code(), Some(78), "round {round}");
        } else {
            relay.rewrite(&config(round));
            done(&relay, &["reload"]);
            good += 1;
        }
        due += EVERY;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    let late = Instant::now().saturating_duration_since(due);
    let count = stream.end();
    for receiver in [&steady, &changing] {
        wait_count(receiver, count);
    }
    let gap = assert_each_once(&steady, count, "steady");
    let other = assert_each_once(&changing, count, "changing");
    println!(
        "{count} records, {good} good files of {RELOADS}, late by {late:?}; gaps {gap:?} and {other:?}"
    );
    assert!(
        late < EVERY,
        "a reload takes no longer than its share: {late:?}"
    );
    assert!(gap < Duration::from_secs(1), "steady stood still: {gap:?}");
    assert!(
        other < Duration::from_secs(1),
        "changing stood still: {other:?}"
    );
    let last = changing.attempts().last().unwrap().clone();
    assert_eq!(last.header("x-round"), Some("100"), "the last good file");
    assert_eq!(relay.pid(), pid);
    assert!(relay.log().contains("reload: changing: concurrency"));
    let metrics = relay.metrics();
    for name in ["steady", "changing"] {
        let one = [("destination", name), ("kind", "assigned")];
        assert!(metrics.sum("postrider_rebalances_total", &one) <= 4.0);
    }
    assert_eq!(relay.stop(SOON).code(), Some(0));
    for name in ["steady", "changing"] {
        wait_no_lag(kafka, &config(0).group(name), &["reloaded"]);
    }
}

#[test]
fn a_file_that_is_wrong_changes_nothing_and_says_so_everywhere() {
    let kafka = Broker::shared();
    kafka.create_topic("refused", 1, &[]);
    let receiver = Receiver::ok();
    let config = Config::new(kafka.brokers(), "refusing")
        .topics(&["refused"])
        .destination(Destination::new("hook", &receiver.url()));
    let mut relay = Relay::start(&config);
    relay.wait_ready(SOON);
    let taken = "postrider_config_last_reload_successful";
    relay.wait_metric(taken, &[], SOON, |value| value == 1.0);
    let hash = relay.metrics().get("postrider_config_hash", &[]);
    let good = fs::read_to_string(relay.file()).unwrap();
    fs::write(
        relay.file(),
        good.clone() + "\n[destinations.hook]\nrat = 1\n",
    )
    .unwrap();
    let refused = ask(&relay.file(), &["reload"]);
    assert_eq!(refused.status.code(), Some(78));
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(words.contains("nothing has changed"), "{words}");
    relay.wait_metric(taken, &[], SOON, |value| value == 0.0);
    relay.wait_log(
        "the file is refused, and the one before stays in force",
        SOON,
    );
    let shown = done(&relay, &["status"]);
    assert!(shown.starts_with("file refused at "), "{shown}");
    // Not even that it is a text that can be read as a file.
    fs::write(relay.file(), "[[[").unwrap();
    assert_eq!(ask(&relay.file(), &["reload"]).status.code(), Some(78));
    relay.signal(Signal::SIGHUP);
    kafka.produce(&[New::to("refused").value("1")]);
    receiver.wait_accepted(1, SOON);
    fs::write(relay.file(), good + "\n# as it was\n").unwrap();
    let same = done(&relay, &["reload"]);
    assert_eq!(same, "taken over; nothing is different\n");
    relay.wait_metric(taken, &[], SOON, |value| value == 1.0);
    assert_ne!(relay.metrics().get("postrider_config_hash", &[]), hash);
    assert!(!done(&relay, &["status"]).contains("refused"));
    assert_eq!(relay.stop(SOON).code(), Some(0));
}

#[test]
fn lanes_come_and_go_and_topics_too() {
    let kafka = Broker::shared();
    for topic in ["coming-a", "coming-b", "coming-c"] {
        kafka.create_topic(topic, 2, &[]);
    }
    let receivers = [(); 3].map(|()| Receiver::ok());
    let [steady, moving, new] = &receivers;
    let produce = |topic: &str, numbers: std::ops::Range<u64>| {
        let records = numbers.map(|n| New::to(topic).value(n.to_string()));
        kafka.produce(&records.collect::<Vec<_>>());
    };
    produce("coming-a", 0..100);
    produce("coming-b", 100..150);
    let config = |moving_topics: &[&str]| {
        Config::new(kafka.brokers(), "coming")
            .topics(&["coming-a"])
            .destination(Destination::new("steady", &steady.url()))
            .destination(Destination::new("moving", &moving.url()).topics(moving_topics))
    };
    let old = config(&["coming-a"]);
    let mut relay = Relay::start(&old);
    relay.wait_ready(SOON);
    wait_count(steady, 100);
    wait_count(moving, 100);
    let more = config(&["coming-a", "coming-b"])
        .destination(Destination::new("new", &new.url()).topics(&["^coming-[bc]"]));
    let next = relay.file().with_file_name("next.toml");
    fs::write(
        &next,
        more.text(1)
            .replace("127.0.0.1:1\"", &format!("{}\"", relay.admin())),
    )
    .unwrap();
    let next = next.to_str().unwrap();
    let plan = done(&relay, &["diff", next]);
    for line in [
        "moving: restarted (topics +coming-b)\n",
        "new: added, reads ^coming-[bc]\n",
        "moving: 50 records of coming-b are there for it, from the oldest on (start_at)\n",
        "new: 50 records of coming-b are there for it",
        "new: 0 records of coming-c",
        "1 destination goes on as it is",
    ] {
        assert!(plan.contains(line), "{line:?} in {plan}");
    }
    assert_eq!(moving.attempt_count(), 100, "a question changes nothing");
    relay.rewrite(&more);
    let said = done(&relay, &["reload"]);
    assert!(said.contains("new: added"), "{said}");
    wait_count(moving, 150);
    wait_count(new, 50);
    produce("coming-c", 150..160);
    wait_count(new, 60);
    relay.wait_ready(SOON);
    wait_state(&mut relay, "new", "running");
    assert!(relay.metrics().balance("new").holds());
    // And away again.
    relay.rewrite(&old);
    let said = done(&relay, &["reload"]);
    assert!(said.contains("new: removed"), "{said}");
    // Much sooner than its session would end.
    wait_until(Duration::from_secs(3), "it has left its group", || {
        kafka.members(&old.group("new")) == 0
    });
    let gone = [("destination", "new")];
    assert_eq!(relay.metrics().get("postrider_lane_state", &gone), None);
    produce("coming-a", 160..170);
    wait_count(steady, 110);
    wait_count(moving, 160);
    for (receiver, count) in [(steady, 110), (moving, 160), (new, 60)] {
        assert_eq!(receiver.attempt_count(), count, "none twice");
    }
    assert_eq!(relay.stop(SOON).code(), Some(0));
}

#[test]
fn a_lane_that_cannot_drain_holds_up_no_lane_that_begins() {
    let kafka = Broker::shared();
    for topic in ["hangs", "begins"] {
        kafka.create_topic(topic, 1, &[]);
    }
    let hangs = Receiver::start(|_| Answer::hang());
    let begins = Receiver::ok();
    let config = || Config::new(kafka.brokers(), "held-up").limits("drain = \"20s\"");
    let before = config()
        .topics(&["hangs"])
        .destination(Destination::new("old", &hangs.url()));
    let after = config()
        .topics(&["begins"])
        .destination(Destination::new("new", &begins.url()));
    let mut relay = Relay::start(&before);
    kafka.produce(&[New::to("hangs").value("1")]);
    hangs.wait_attempts(1, SOON);
    kafka.produce(&[New::to("begins").value("1")]);
    let hash = |relay: &Relay| relay.metrics().get("postrider_config_hash", &[]);
    let old_hash = hash(&relay);
    relay.rewrite(&after);
    relay.signal(Signal::SIGHUP);
    let began = Instant::now();
    begins.wait_accepted(1, SOON);
    let took = began.elapsed();
    assert!(took < Duration::from_secs(12), "{took:?}");
    // Nor is the rest of the file held up.
    assert_ne!(hash(&relay), old_hash);
    assert_eq!(hangs.waiting_count(), 1, "the old one still drains");
    // Whoever ends now waits for both, and for no new one.
    assert_eq!(relay.stop(SOON).code(), Some(0));
    assert!(relay.log().contains("drained"), "{}", relay.log());
}

#[test]
fn a_destination_that_takes_the_name_of_another_is_shown() {
    // Found by review: what was shown of the one that had the name was taken away when the other had long begun.
    let kafka = Broker::shared();
    kafka.create_topic("renamed", 1, &[]);
    let receivers = [Receiver::ok(), Receiver::ok()];
    let [one, two] = &receivers;
    let config = || Config::new(kafka.brokers(), "renaming").topics(&["renamed"]);
    let destination = |name: &str, id: &str, receiver: &Receiver| {
        Destination::new(name, &receiver.url()).lane(&format!("id = \"{id}\""))
    };
    let before = config().destination(destination("shop", "one", one));
    let after = config()
        .destination(destination("old-shop", "one", one))
        .destination(destination("shop", "two", two));
    let mut relay = Relay::start(&before);
    kafka.produce(&[New::to("renamed").value("1")]);
    one.wait_accepted(1, SOON);
    relay.rewrite(&after);
    done(&relay, &["reload"]);
    kafka.produce(&[New::to("renamed").value("2")]);
    two.wait_accepted(2, SOON);
    one.wait_accepted(2, SOON);
    wait_state(&mut relay, "shop", "running");
    wait_state(&mut relay, "old-shop", "running");
    let metrics = relay.metrics();
    assert!(metrics.balance("shop").holds() && metrics.balance("old-shop").holds());
    for receiver in &receivers {
        assert_eq!(receiver.attempt_count(), 2);
    }
    assert_eq!(relay.stop(SOON).code(), Some(0));
}

#[test]
fn lanes_that_end_one_after_the_other_are_all_begun_again() {
    // Found by review: a lane that left while the others were told of the one before was waited for once more, for ever.
    const LANES: usize = 12;
    let kafka = Broker::shared();
    for topic in ["twelve-a", "twelve-b"] {
        kafka.create_topic(topic, 1, &[]);
    }
    let receiver = Receiver::ok();
    let config = |topics: &[&str]| {
        let hook = |number| Destination::new(&format!("hook-{number}"), &receiver.url());
        let hooks = (0..LANES).map(|number| hook(number).topics(topics));
        Config::new(kafka.brokers(), "twelve").destinations(hooks)
    };
    let files = [&["twelve-a"][..], &["twelve-a", "twelve-b"]].map(config);
    let mut relay = Relay::start(&files[0]);
    for round in 1..=5 {
        kafka.produce(&[New::to("twelve-a").value(round.to_string())]);
        receiver.wait_attempts(round * LANES, SOON);
        relay.rewrite(&files[round % 2]);
        relay.signal(Signal::SIGHUP);
        let taken = format!("{round} files are taken over");
        wait_until(SOON, &taken, || {
            relay.log().matches("the file is taken over").count() == round
        });
    }
    kafka.produce(&[New::to("twelve-a").value("last")]);
    receiver.wait_attempts(6 * LANES, SOON);
    assert_eq!(relay.stop(SOON).code(), Some(0));
    assert_eq!(receiver.attempt_count(), 6 * LANES);
}

#[test]
fn secrets_in_files_are_read_again() {
    let kafka = Broker::shared();
    kafka.create_topic("rotated", 1, &[]);
    let receiver = Receiver::ok();
    let config = Config::new(kafka.brokers(), "rotating")
        .topics(&["rotated"])
        .destination(Destination::new("hook", "URL"));
    let folder = tempfile::tempdir().unwrap();
    let url = folder.path().join("url");
    let write = |secret: &str| fs::write(&url, format!("{}{secret}\n", receiver.url())).unwrap();
    write("first-secret");
    let named = format!("{{ file = \"{}\" }}", url.display());
    let port = crate::harness::port::free_port();
    let text = config.text(port).replace("\"URL\"", &named);
    let mut relay = Relay::start_text(&text, port);
    relay.wait_ready(SOON);
    kafka.produce(&[New::to("rotated").value("1")]);
    receiver.wait_accepted(1, SOON);
    write("second-secret");
    relay.signal(Signal::SIGHUP);
    relay.wait_log("hook: url, behind its host, has changed", SOON);
    relay.wait_log("the file is taken over", SOON);
    let sent = |number: usize| receiver.attempts()[number].path.clone();
    kafka.produce(&[New::to("rotated").value("2")]);
    receiver.wait_accepted(2, SOON);
    assert!(sent(0).ends_with("first-secret") && sent(1).ends_with("second-secret"));
    // One that is not there any more is a file that is wrong.
    fs::remove_file(&url).unwrap();
    assert_eq!(ask(&relay.file(), &["reload"]).status.code(), Some(78));
    kafka.produce(&[New::to("rotated").value("3")]);
    receiver.wait_accepted(3, SOON);
    assert!(sent(2).ends_with("second-secret"));
    // Without a word it is read again too, when it has changed.
    write("third-secret");
    let taken = |relay: &Relay| relay.log().matches("the file is taken over").count() == 2;
    relay.wait_for(SOON, "it is read again", |relay| taken(relay).then_some(()));
    kafka.produce(&[New::to("rotated").value("4")]);
    receiver.wait_accepted(4, SOON);
    assert!(sent(3).ends_with("third-secret"));
    let shown = done(&relay, &["status"]);
    assert!(
        shown.contains("/url") && !shown.contains("-secret"),
        "{shown}"
    );
    assert!(!relay.log().contains("-secret"));
    assert_eq!(relay.stop(SOON).code(), Some(0));
}

#[test]
fn another_connection_to_kafka_has_everything_begin_anew_in_one_process() {
    let kafka = Broker::shared();
    kafka.create_topic("anew", 2, &[]);
    let receiver = Receiver::ok();
    let config = Config::new(kafka.brokers(), "anew-of")
        .topics(&["anew"])
        .destination(Destination::new("hook", &receiver.url()));
    let mut relay = Relay::start(&config);
    relay.wait_ready(SOON);
    let mut stream = Stream::start(kafka, "anew", 200);
    receiver.wait_accepted(200, SOON);
    relay.rewrite(&config.property("session.timeout.ms", "7000"));
    let said = done(&relay, &["reload"]);
    assert!(
        said.contains("everything: starts anew (session.timeout.ms has changed)"),
        "{said}"
    );
    let runs = |relay: &Relay| relay.log().matches("postrider runs").count() == 2;
    relay.wait_for(SOON, "it has begun anew", |relay| runs(relay).then_some(()));
    relay.wait_ready(SOON);
    assert_eq!(status(&relay, "hook")["name"], "hook");
    let count = stream.end();
    wait_count(&receiver, count);
    assert_each_once(&receiver, count, "hook");
    assert_eq!(relay.stop(SOON).code(), Some(0));
}
