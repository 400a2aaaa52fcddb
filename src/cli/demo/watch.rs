//! Looks on while the relay works, and says what happens when it happens.

use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use tokio::task::JoinHandle;

use crate::clock::{Clock, Tick};
use crate::metrics::{Balance, Metrics};
use crate::relay::{Drained, RelayError};

use super::broker::Graphspace;
use super::page::{Page, Tone};
use super::receiver::Receiver;

/// How often it looks.
const LOOK: Duration = Duration::from_millis(100);
/// How often the progress is said where no bar can show it.
const SAY: Duration = Duration::from_secs(2);

/// The demo while it runs.
pub(super) struct Watch {
    pub(super) page: Arc<Page>,
    pub(super) clock: Clock,
    pub(super) metrics: Arc<Metrics>,
    pub(super) lanes: JoinHandle<Result<Drained, RelayError>>,
    pub(super) browser: Arc<Receiver>,
    pub(super) mail: Arc<Receiver>,
    pub(super) graphspace: Graphspace,
    refused: u64,
    undecodable: u64,
    said: Tick,
}

impl Watch {
    pub(super) fn new(
        page: Arc<Page>,
        clock: Clock,
        metrics: Arc<Metrics>,
        lanes: JoinHandle<Result<Drained, RelayError>>,
        [browser, mail]: [Arc<Receiver>; 2],
        graphspace: Graphspace,
    ) -> Self {
        let said = clock.now().tick;
        Self {
            page,
            clock,
            metrics,
            lanes,
            browser,
            mail,
            graphspace,
            refused: 0,
            undecodable: 0,
            said,
        }
    }

    /// Looks on for `time`.
    pub(super) async fn look_on(&mut self, time: Duration) -> anyhow::Result<()> {
        let end = self.clock.now().tick + time;
        let clock = self.clock;
        self.until(|_| clock.now().tick >= end).await
    }

    /// Looks on until `reached`; the demo's own deadline is what ends it otherwise.
    pub(super) async fn until(&mut self, reached: impl Fn(&Self) -> bool) -> anyhow::Result<()> {
        while !reached(self) {
            if self.lanes.is_finished() {
                bail!("the relay ended although nobody asked it to");
            }
            tokio::time::sleep(LOOK).await;
            self.look();
        }
        Ok(())
    }

    pub(super) fn balance(&self, destination: &str) -> Balance {
        self.metrics.balance(destination)
    }

    /// The time from producer to acknowledgement of what `receiver` took between two moments: how many, and the median.
    pub(super) fn pace(&self, receiver: &Receiver, from: Tick, to: Tick) -> (usize, Duration) {
        let mut times: Vec<Duration> = receiver
            .acknowledged(from)
            .iter()
            .filter(|arrival| arrival.at < to)
            .filter_map(|arrival| {
                Some(
                    arrival
                        .at
                        .since(self.graphspace.produced_at(&arrival.origin)?),
                )
            })
            .collect();
        times.sort_unstable();
        (
            times.len(),
            times.get(times.len() / 2).copied().unwrap_or_default(),
        )
    }

    fn look(&mut self) {
        let (browser, mail) = (self.balance("browser"), self.balance("mail"));
        let refused = self.mail.taken().refused;
        if refused > self.refused {
            self.refused = refused;
            let text =
                "mail refuses one notification for good (422): a dead letter, and the others go on";
            self.page.moment(Tone::Trouble, text);
        }
        let undecodable = mail.dead_lettered.saturating_sub(refused);
        if undecodable > self.undecodable {
            self.undecodable = undecodable;
            let text = "one notification is not JSON: mail's rule asks for its type, so there it is a dead \
                        letter; browser's rule does not ask and sends it as it is";
            self.page.moment(Tone::Trouble, text);
        }
        let dead = browser.dead_lettered + mail.dead_lettered;
        let (b, m) = (browser.delivered, mail.delivered);
        let message = format!(
            "browser {b}, mail {m} ({} wait), dead letters {dead}",
            mail.waiting
        );
        self.page
            .progress(browser.settled() + mail.settled(), message);
        self.say(browser, mail);
    }

    fn say(&mut self, browser: Balance, mail: Balance) {
        let now = self.clock.now().tick;
        if browser.read == 0 {
            self.said = now;
        }
        if self.page.has_bar() || now.since(self.said) < SAY {
            return;
        }
        self.said = now;
        let text = format!(
            "delivered: browser {} ({} wait), mail {} ({} wait); dead letters {}",
            browser.delivered,
            browser.waiting,
            mail.delivered,
            mail.waiting,
            browser.dead_lettered + mail.dead_lettered
        );
        self.page.moment(Tone::Quiet, &text);
    }
}
