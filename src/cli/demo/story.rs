//! The story, from the first line of the page to the balance.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::relay::Relay;

use super::Stage;
use super::broker::{EmbeddedBroker, Graphspace};
use super::configuration::{self, Addresses};
use super::notifications::{self, Notification, TOPICS};
use super::page::{Page, Tone};
use super::receiver::{Kind, Receiver};
use super::result::{self, LaneResult};
use super::watch::Watch;

/// How long producing takes.
const PRODUCING: Duration = Duration::from_secs(8);
/// How long all is well.
const BEFORE_TROUBLE: Duration = Duration::from_millis(2500);
/// How long mail answers 503. Its schedule allows for more, so that no record runs out of attempts.
const TROUBLE: Duration = Duration::from_secs(4);
/// The look back at the trouble comes this long before its end.
const LOOK_BEFORE_END: Duration = Duration::from_millis(500);
/// What mail's rule reads; browser's reads all.
const OF_MAIL: &[&str] = &[TOPICS[0], TOPICS[1]];

/// Everything that runs.
struct Running {
    broker: EmbeddedBroker,
    watch: Watch,
    /// Asks the relay to end.
    stop: CancellationToken,
}

/// Tells it all; whether the balance adds up.
pub(super) async fn tell(stage: &Stage, clock: Clock, page: &Arc<Page>) -> anyhow::Result<bool> {
    let at = |what: &'static str| *stage.lock().unwrap_or_else(PoisonError::into_inner) = what;
    at("the embedded broker");
    let Running {
        broker,
        mut watch,
        stop,
    } = start(clock, page).await?;
    at("the lanes to join their consumer groups");
    page.moment(
        Tone::Plain,
        "the relay runs; its two lanes join their consumer groups",
    );
    let (browser, mail) = (TOPICS.len() as u64, OF_MAIL.len() as u64);
    watch
        .until(|w| {
            w.metrics.partitions("browser") == browser && w.metrics.partitions("mail") == mail
        })
        .await?;
    at("the notifications to be produced");
    produce_and_watch(&mut watch).await?;
    at("every record to be settled");
    watch.until(everything_settled).await?;
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
        lane_result(&watch, &broker, "mail", OF_MAIL).await?,
    ];
    result::show_dead_letters(page, &letters);
    Ok(result::show_balance(page, &lanes, &letters, drained))
}

/// Starts everything, and shows the configuration before the relay runs it.
async fn start(clock: Clock, page: &Arc<Page>) -> anyhow::Result<Running> {
    page.line(
        Tone::Title,
        "Postrider demo: notifications from Kafka topics to two webhooks",
    );
    let text = "A small broker, two webhook receivers and the relay between them run in this process, on \
                127.0.0.1 alone. This is the whole configuration:";
    page.text(Tone::Plain, 0, text);
    page.line(Tone::Plain, "");
    let broker = EmbeddedBroker::start()?;
    let (browser, browser_address) = Receiver::start(Kind::View, clock).await?;
    let (mail, mail_address) = Receiver::start(Kind::Mail, clock).await?;
    let text = configuration::text(&Addresses {
        broker: broker.address(),
        browser: browser_address,
        mail: mail_address,
    });
    for line in text.lines() {
        let indent = if line.is_empty() { "" } else { "    " };
        page.line(Tone::Quiet, &format!("{indent}{line}"));
    }
    page.title("What happens");
    let config = configuration::parse(&text)?;
    let stop = CancellationToken::new();
    let relay = Relay::start(&config, clock, stop.clone())
        .await
        .context("the relay")?;
    let metrics = relay.metrics();
    let lanes = tokio::spawn(relay.wait());
    let graphspace = broker.producer(clock)?;
    let watch = Watch::new(
        Arc::clone(page),
        clock,
        metrics,
        lanes,
        [browser, mail],
        graphspace,
    );
    Ok(Running {
        broker,
        watch,
        stop,
    })
}

/// Everything from the first notification to the last one, mail's trouble in between.
async fn produce_and_watch(watch: &mut Watch) -> anyhow::Result<()> {
    let page = Arc::clone(&watch.page);
    let all = notifications::all();
    let of_mail = all.iter().filter(|n| OF_MAIL.contains(&n.topic)).count();
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

async fn produce(graphspace: Graphspace, all: Vec<Notification>) -> anyhow::Result<()> {
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
    settled("browser", &TOPICS) && settled("mail", OF_MAIL)
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
