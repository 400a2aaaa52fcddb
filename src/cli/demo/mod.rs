//! `postrider demo`: the main job, seen. GraphSpace's notifications go from an embedded broker to two webhooks, one of which has trouble.
//!
//! Everything but the broker and the receivers is what `run` runs: the same reading of the file, the same relay. The numbers at the end
//! come from the relay's metrics, and are held against what the producer, the receivers and the broker know.

mod broker;
mod configuration;
mod notifications;
mod page;
mod receiver;
mod result;
mod watch;

use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::logging::{self, LogFormat, LogOptions};
use crate::relay::Relay;

use super::exit;
use broker::{EmbeddedBroker, Graphspace};
use configuration::Addresses;
use notifications::TOPICS;
use page::{Page, Tone};
use receiver::{Kind, Receiver};
use result::LaneResult;
use watch::Watch;

/// The demo ends within this time, whatever happens.
const DEADLINE: Duration = Duration::from_secs(60);
/// How long producing takes.
const PRODUCING: Duration = Duration::from_secs(8);
/// How long all is well.
const BEFORE_TROUBLE: Duration = Duration::from_millis(2500);
/// How long mail answers 503. Its schedule allows for more, so that no record runs out of attempts.
const TROUBLE: Duration = Duration::from_secs(4);
/// The look at the middle of the trouble comes this long before its end.
const LOOK_BEFORE_END: Duration = Duration::from_millis(500);

/// See it work.
#[derive(Debug, clap::Args)]
pub(super) struct DemoArguments {
    /// Show the relay's own log between the lines.
    #[arg(short, long)]
    verbose: bool,
}

/// What is being waited for, for the message of a demo that did not end.
type Stage = Arc<Mutex<&'static str>>;

#[expect(clippy::print_stderr, reason = "this is what a person reads")]
pub(super) fn main(arguments: DemoArguments) -> u8 {
    let log = start_log(arguments.verbose);
    let stage = Stage::default();
    let (ended, end) = sync_channel(1);
    let (the_stage, the_log) = (Arc::clone(&stage), log.clone());
    // The work has a thread of its own, so that nothing in it, not even a client that hangs while it is closed, can outlive the deadline.
    std::thread::spawn(move || {
        let result = run(&the_stage, arguments.verbose, the_log.as_deref());
        // The other side waits for this, or the process is at its end.
        drop(ended.send(result));
    });
    let problem = match end.recv_timeout(DEADLINE) {
        Ok(Ok(true)) => return exit::OK,
        Ok(Ok(false)) => "the balance does not add up".to_owned(),
        Ok(Err(error)) => format!("{error:#}"),
        Err(RecvTimeoutError::Timeout) => {
            let stage = *stage.lock().unwrap_or_else(PoisonError::into_inner);
            format!(
                "not done after {} s; it waits for {stage}",
                DEADLINE.as_secs()
            )
        }
        Err(RecvTimeoutError::Disconnected) => "it panicked".to_owned(),
    };
    eprintln!("postrider demo: {problem}");
    if let Some(log) = log {
        eprintln!("the relay's log: {}", log.display());
    }
    exit::NO
}

/// Keeps the relay's log off the page: in a new file of the folder for temporary ones. Without a log file the demo goes on as well.
fn start_log(verbose: bool) -> Option<PathBuf> {
    if verbose {
        logging::start(LogOptions {
            format: LogFormat::Text,
            ..LogOptions::default()
        });
        return None;
    }
    let path = std::env::temp_dir().join(format!("postrider-demo-{}.log", std::process::id()));
    // Never a file that is there already: in a shared folder it may be a link to somewhere else.
    let file = std::fs::File::create_new(&path).ok()?;
    logging::start_in_file(LogOptions::default().level, file);
    Some(path)
}

fn run(stage: &Stage, verbose: bool, log: Option<&Path>) -> anyhow::Result<bool> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let clock = Clock::start();
    let page = Arc::new(Page::new(clock, verbose));
    let result = runtime.block_on(tell(stage, clock, &page));
    page.end_progress();
    if result.is_ok() {
        what_next(&page, log);
    }
    runtime.shutdown_background();
    result
}

/// The story from its beginning to its end; whether the balance adds up.
async fn tell(stage: &Stage, clock: Clock, page: &Arc<Page>) -> anyhow::Result<bool> {
    let at = |what: &'static str| *stage.lock().unwrap_or_else(PoisonError::into_inner) = what;
    at("the embedded broker");
    let broker = EmbeddedBroker::start()?;
    let (browser, browser_address) = Receiver::start(Kind::View, clock).await?;
    let (mail, mail_address) = Receiver::start(Kind::Mail, clock).await?;
    let addresses = Addresses {
        broker: broker.address(),
        browser: browser_address,
        mail: mail_address,
    };
    let text = configuration::text(&addresses);
    let config = configuration::parse(&text)?;
    opening(page, &text);

    let stop = CancellationToken::new();
    let relay = Relay::start(&config, clock, stop.clone())
        .await
        .context("the relay")?;
    let metrics = relay.metrics();
    let lanes = tokio::spawn(relay.wait());
    let graphspace = broker.producer(clock)?;
    let receivers = [browser, mail];
    let mut watch = Watch::new(
        Arc::clone(page),
        clock,
        metrics,
        lanes,
        receivers,
        graphspace,
    );

    at("the lanes to join their consumer groups");
    page.moment(
        Tone::Plain,
        "the relay runs; its two lanes join their consumer groups",
    );
    watch
        .until(|w| w.metrics.partitions("browser") == 3 && w.metrics.partitions("mail") == 2)
        .await?;
    at("the notifications to be produced");
    produce_and_watch(&mut watch).await?;
    at("every record to be settled");
    watch.until(|w| everything_settled(w)).await?;
    page.end_progress();
    page.moment(
        Tone::Good,
        "every record read is settled; the relay is asked to end, and drains",
    );

    at("the relay to drain");
    stop.cancel();
    let drained = (&mut watch.lanes).await.context("the relay's task")??;
    at("the broker, to read the dead letters back");
    let letters = broker.dead_letters().await?;
    let lanes = [
        lane_result(&watch, &broker, "browser", &TOPICS).await?,
        lane_result(&watch, &broker, "mail", &TOPICS[..2]).await?,
    ];
    result::show_dead_letters(page, &letters);
    Ok(result::show_balance(page, &lanes, &letters, drained))
}

fn opening(page: &Page, configuration: &str) {
    page.line(
        Tone::Title,
        "Postrider demo: notifications from Kafka topics to two webhooks",
    );
    let text = "A small broker, two webhook receivers and the relay between them run in this process, on \
                127.0.0.1 alone. This is the whole configuration:";
    page.text(Tone::Plain, 0, text);
    page.line(Tone::Plain, "");
    for line in configuration.lines() {
        let indent = if line.is_empty() { "" } else { "    " };
        page.line(Tone::Quiet, &format!("{indent}{line}"));
    }
    page.title("What happens");
}

/// Everything from the first notification to the last one, mail's trouble in between.
async fn produce_and_watch(watch: &mut Watch) -> anyhow::Result<()> {
    let page = Arc::clone(&watch.page);
    let all = notifications::all();
    let of_mail = all
        .iter()
        .filter(|n| TOPICS[..2].contains(&n.topic))
        .count();
    page.begin_progress((all.len() + of_mail) as u64);
    let text = format!(
        "GraphSpace writes {} notifications to owner, group and watching; browser gets all of them, mail \
         gets uploads and shares",
        all.len()
    );
    page.moment(Tone::Plain, &text);
    let began = watch.clock.now().tick;
    let producing = tokio::spawn(produce(watch.graphspace.clone(), all));
    watch.look_on(BEFORE_TROUBLE).await?;

    let trouble = watch.clock.now().tick;
    watch.mail.trouble(true);
    page.moment(Tone::Trouble, "mail answers 503 from now on");
    watch.look_on(TROUBLE - LOOK_BEFORE_END).await?;
    let now = watch.clock.now().tick;
    let (_, before) = watch.pace(&watch.browser, began, trouble);
    let (count, during) = watch.pace(&watch.browser, trouble, now);
    let text = format!(
        "{} records wait for mail; browser goes on: {count} delivered meanwhile, {} after they were written \
         (median; {} before the trouble)",
        watch.balance("mail").waiting,
        milliseconds(during),
        milliseconds(before),
    );
    page.moment(Tone::Plain, &text);
    watch.look_on(LOOK_BEFORE_END).await?;

    watch.mail.trouble(false);
    let waiting = watch.balance("mail").waiting;
    let text = format!("mail is back; the {waiting} that wait follow, each at its next attempt");
    page.moment(Tone::Good, &text);
    watch.until(|w| w.balance("mail").waiting == 0).await?;
    let unavailable = watch.mail.taken().unavailable;
    let text = format!("mail has caught up, after {unavailable} answers of 503");
    page.moment(Tone::Good, &text);
    watch.until(|_| producing.is_finished()).await?;
    producing.await.context("the producer's task")?
}

fn milliseconds(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}

async fn produce(
    graphspace: Graphspace,
    all: Vec<notifications::Notification>,
) -> anyhow::Result<()> {
    let pause = PRODUCING / u32::try_from(all.len()).unwrap_or(u32::MAX);
    let mut pace = tokio::time::interval(pause);
    for notification in all {
        pace.tick().await;
        graphspace.produce(&notification).await?;
    }
    Ok(())
}

fn everything_settled(watch: &Watch) -> bool {
    let settled = |name, topics: &[&str]| {
        let balance = watch.balance(name);
        balance.read >= watch.graphspace.count(topics) && balance.waiting == 0
    };
    settled("browser", &TOPICS) && settled("mail", &TOPICS[..2])
}

async fn lane_result(
    watch: &Watch,
    broker: &EmbeddedBroker,
    name: &'static str,
    topics: &[&'static str],
) -> anyhow::Result<LaneResult> {
    let receiver = if name == "mail" {
        &watch.mail
    } else {
        &watch.browser
    };
    Ok(LaneResult {
        name,
        balance: watch.balance(name),
        taken: receiver.taken(),
        produced: watch.graphspace.count(topics),
        positions: broker
            .positions(&format!("postrider.{name}"), topics)
            .await?,
    })
}

fn what_next(page: &Page, log: Option<&Path>) {
    page.title("Where to look next");
    let next = [
        ("README.md", "what it does and how to run it"),
        (
            "config.example.toml",
            "every key that works, with its default",
        ),
        (
            "postrider check FILE",
            "everything that is wrong with a configuration, at once",
        ),
        ("postrider demo -v", "this again, with the relay's log"),
        ("make test", "every test, against a real Apache Kafka"),
    ];
    for (what, why) in next {
        page.line(Tone::Plain, &format!("  {what:<22}{why}"));
    }
    if let Some(log) = log {
        page.line(
            Tone::Quiet,
            &format!("  the relay's log of this run: {}", log.display()),
        );
    }
}
