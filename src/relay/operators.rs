//! Between operators, the state topic and the lanes: what a person asks is written to the topic, what is read there is told the lanes, so
//! every instance does the same; and what the lanes do is told the person.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::admin::Health;
use crate::admin::api::{Ask, HealthReport, OrderReport, OrderRequest, OrderResult, Verb};
use crate::clock::{Clock, Tick};
use crate::kafka::{Ends, FromState, LadderView, Producer, StateRecord};
use crate::lane::{LaneStatus, Order};
use crate::metrics::Metrics;

use super::book::{Book, CHECK, Entry, REASON, VERSION, WHO, What, held_key, key};

/// How long after a broker has answered the lanes wait for the state to be read before they begin.
const STATE_WAIT: Duration = Duration::from_secs(5);
/// How soon it is seen that this time has passed.
const LOOK: Duration = Duration::from_millis(100);
/// How long the broker may take for a write before the person is told that it is not known.
const WRITE_WAIT: Duration = Duration::from_secs(10);
/// A lane that takes longer to listen is stuck.
const LANE_WAIT: Duration = Duration::from_secs(5);
/// When the proof that the topic can be written has failed.
const CHECK_AGAIN: Duration = Duration::from_secs(30);
/// How often it is tried to write that an endpoint is gone. The lane knows it without that.
const GONE_TRIES: u32 = 20;
/// Questions that are answered at the same time.
const ASKS_MAX: usize = 32;

/// What a lane is asked from outside.
pub(super) enum LaneAsk {
    /// Do this.
    Order(Order),
    /// What do you do?
    Status(oneshot::Sender<LaneStatus>),
}

/// The way to one lane.
pub(super) struct Door {
    pub(super) name: Arc<str>,
    pub(super) id: Arc<str>,
    /// What its endpoint is called: its host.
    pub(super) endpoint: String,
    pub(super) asks: mpsc::Sender<LaneAsk>,
    /// How long before Kafka deletes its oldest record this is said.
    pub(super) retention_warning: Duration,
    /// Tells its endpoint from another one, and does not say which it is.
    pub(super) fingerprint: String,
}

/// A lane's endpoint has said that it is gone for good.
#[derive(Debug)]
pub(super) struct LaneWord {
    /// The destination's id.
    pub(super) id: Arc<str>,
    /// What there is to say.
    pub(super) said: Said,
}

/// What every instance is to know of a lane.
#[derive(Debug)]
pub(super) enum Said {
    /// Its endpoint is gone, and answered with this.
    Gone(Option<u16>),
    /// The records of this key wait for a person.
    Held(Bytes),
}

/// The state topic, as it is written.
pub(super) struct StateTopic {
    pub(super) name: String,
    pub(super) producer: Arc<Producer>,
    pub(super) metrics: Arc<Metrics>,
}

/// What all answers share.
pub(super) struct FrontDesk {
    pub(super) doors: Vec<Door>,
    pub(super) disabled: Vec<Arc<str>>,
    pub(super) topic: StateTopic,
    pub(super) health: Arc<Health>,
    pub(super) clock: Clock,
    pub(super) known: Mutex<Known>,
    pub(super) ends: Arc<Ends>,
    pub(super) ladder: Arc<LadderView>,
}

/// What is known of the state.
#[derive(Default)]
pub(super) struct Known {
    pub(super) book: Book,
    /// Whether everything that was there at the start has been read.
    pub(super) read: bool,
    /// Whether the lanes were told to begin.
    pub(super) begun: bool,
}

/// Answers, listens and tells.
pub(super) struct Operators {
    pub(super) desk: Arc<FrontDesk>,
    /// Tells this process's proof from others'.
    nonce: String,
    proven: bool,
    next_check: Tick,
    broker_since: Option<Tick>,
    last_problem: Option<String>,
}

impl Operators {
    pub(super) fn new(desk: FrontDesk) -> Self {
        let nonce = format!("{}-{}", std::process::id(), Clock::wall().0);
        Self {
            desk: Arc::new(desk),
            nonce,
            proven: false,
            next_check: Tick::default(),
            broker_since: None,
            last_problem: None,
        }
    }

    /// Runs until `stop`.
    pub(super) async fn run(
        mut self,
        mut asks: mpsc::Receiver<Ask>,
        mut state: mpsc::Receiver<FromState>,
        mut gone: mpsc::Receiver<LaneWord>,
        stop: CancellationToken,
    ) {
        let mut answers = JoinSet::new();
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                Some(ask) = asks.recv(), if answers.len() < ASKS_MAX => {
                    let desk = Arc::clone(&self.desk);
                    answers.spawn(async move { desk.answer(ask).await });
                }
                Some(_) = answers.join_next() => {}
                Some(word) = state.recv() => self.heard(word).await,
                Some(word) = gone.recv(), if answers.len() < ASKS_MAX => {
                    let desk = Arc::clone(&self.desk);
                    answers.spawn(async move { desk.note(word).await });
                }
                _ = look.tick(), if !self.proven || !self.desk.known().begun => {
                    self.look(&mut answers).await;
                }
            }
        }
    }

    async fn heard(&mut self, word: FromState) {
        match word {
            FromState::Record(record) if record.key == CHECK => self.checked(&record),
            FromState::Record(record) => self.desk.obey(&record).await,
            FromState::CaughtUp => {
                self.desk.known().read = true;
                self.problem(None);
                self.desk.begin().await;
            }
            FromState::Unreadable(reason) => {
                let topic = &self.desk.topic.name;
                self.problem(Some(format!("topic {topic} cannot be read: {reason}")));
            }
        }
    }

    /// Says a problem of the topic once.
    fn problem(&mut self, problem: Option<String>) {
        // Also what a write that failed has left there.
        self.desk.health.state_topic(problem.clone());
        if self.last_problem == problem {
            return;
        }
        if let Some(problem) = &problem {
            warn!("{problem}; what operators ask for is not known here until it can be");
        }
        self.last_problem = problem;
    }

    /// Our own proof, read back.
    fn checked(&mut self, record: &StateRecord) {
        let value = record.value.as_deref().unwrap_or_default();
        if self.proven || value != self.nonce.as_bytes() {
            return;
        }
        self.proven = true;
        if record.headers.contains_key(VERSION) {
            return self.problem(None);
        }
        let topic = &self.desk.topic.name;
        self.problem(Some(format!(
            "topic {topic} keeps no headers: its message format is older than 0.11"
        )));
    }

    async fn look(&mut self, answers: &mut JoinSet<()>) {
        let now = self.desk.clock.now().tick;
        let (begun, read) = {
            let known = self.desk.known();
            (known.begun, known.read)
        };
        if self.broker_since.is_none() && self.desk.health.broker_answers() {
            self.broker_since = Some(now);
        }
        let waited = self.broker_since.map(|since| now.since(since));
        if !begun && waited.is_some_and(|waited| waited >= STATE_WAIT) {
            warn!(
                topic = self.desk.topic.name,
                "it is not known which destinations are paused: they are delivered to, and a pause is obeyed as soon as it is known"
            );
            self.desk.begin().await;
        }
        if read && !self.proven && now >= self.next_check {
            self.next_check = now + CHECK_AGAIN;
            let (desk, nonce) = (Arc::clone(&self.desk), self.nonce.clone());
            answers.spawn(async move { desk.prove(&nonce).await });
        }
    }
}

impl FrontDesk {
    pub(super) fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn answer(&self, ask: Ask) {
        // Whoever asked may have gone.
        match ask {
            Ask::Status(reply) => drop(reply.send(self.status().await)),
            Ask::Health(reply) => drop(reply.send(self.health())),
            Ask::Retries(name, reply) => drop(reply.send(self.retries(&name).await)),
            Ask::Order(verb, request, reply) => drop(reply.send(self.order(verb, request).await)),
        }
    }

    fn health(&self) -> HealthReport {
        let stuck = self.health.stuck_loops();
        let not_ready = self.health.not_ready();
        let stuck_words = stuck
            .iter()
            .map(|name| format!("the consumer of {name} is stuck"));
        HealthReport {
            alive: stuck.is_empty(),
            ready: not_ready.is_empty(),
            problems: stuck_words.chain(not_ready.iter().cloned()).collect(),
        }
    }

    /// Lets the lanes begin, each as the state says.
    async fn begin(&self) {
        let orders: Vec<_> = {
            let mut known = self.known();
            if std::mem::replace(&mut known.begun, true) {
                return;
            }
            let first = |door: &Door| known.book.first_orders(&door.id, &door.fingerprint);
            self.doors.iter().map(first).collect()
        };
        for (door, orders) in self.doors.iter().zip(orders) {
            let asked = self.known().book.pause(&door.id).cloned();
            if let Some(asked) = asked {
                let (destination, who, reason) = (&*door.name, asked.who, asked.reason);
                warn!(
                    destination,
                    who, reason, "paused before this start, and still"
                );
            }
            for order in orders {
                door.tell(order).await;
            }
        }
    }

    /// Does what a record of the state topic says, where it concerns a lane of ours.
    async fn obey(&self, record: &StateRecord) {
        let (heard, read, begun) = {
            let mut known = self.known();
            (known.book.hear(record), known.read, known.begun)
        };
        let Some(heard) = heard else { return };
        let Some(door) = self.doors.iter().find(|door| *door.id == *heard.id) else {
            return;
        };
        let order = match &heard.what {
            What::Kept(order) if begun => order,
            What::Said(order) if read => order,
            What::Gone(endpoint) if begun && endpoint.as_ref() == Some(&door.fingerprint) => {
                return door.tell(Order::Gone).await;
            }
            What::Kept(_) | What::Said(_) | What::Gone(_) | What::Noted => return,
        };
        let (who, reason) = (&*heard.asked.who, &*heard.asked.reason);
        warn!(
            destination = &*door.name,
            who,
            reason,
            ?order,
            "asked by an operator"
        );
        door.tell(order.clone()).await;
    }

    async fn order(&self, verb: Verb, request: OrderRequest) -> OrderReport {
        let refused = |text: String| OrderReport {
            result: OrderResult::Refused,
            text,
        };
        let name = &request.destination;
        let Some(door) = self.doors.iter().find(|door| *door.name == **name) else {
            let names: Vec<&str> = self.doors.iter().map(|door| &*door.name).collect();
            let text = format!(
                "no destination {name} runs here; there are: {}",
                names.join(", ")
            );
            return refused(text);
        };
        if verb == Verb::Skip && request.record.is_none() {
            return refused("which record? topic, partition and offset say so".to_owned());
        }
        let held = request.key.as_ref().map(|key| STANDARD.decode(key));
        if verb == Verb::Release && !matches!(held, Some(Ok(_))) {
            return refused("which key? `--key` says so".to_owned());
        }
        let entry = Entry {
            who: request.who.clone(),
            reason: request.reason.clone(),
            at: Clock::wall().0,
            record: request.record,
            endpoint: None,
            status: None,
        };
        let (mut key, valued) = key(verb, &door.id);
        if let (Verb::Release, Some(Ok(held))) = (verb, &held) {
            key = held_key(&door.id, held);
        }
        let value = serde_json::to_vec(&entry).ok().filter(|_| valued);
        let (who, reason) = (&*request.who, &*request.reason);
        let mut result = Ok(());
        // First, so that whoever hears of the resumption and is started again does not find it gone.
        if verb == Verb::Resume {
            result = self
                .write(&format!("gone/{}", door.id), None, who, reason)
                .await;
        }
        if result.is_ok() {
            result = self.write(&key, value.as_deref(), who, reason).await;
        }
        match result {
            Ok(()) => OrderReport {
                result: OrderResult::Done,
                text: format!("{name}: {}", done(verb)),
            },
            Err(text) => OrderReport {
                result: OrderResult::Unavailable,
                text: format!("{name}: {text}"),
            },
        }
    }

    async fn write(
        &self,
        key: &str,
        value: Option<&[u8]>,
        who: &str,
        reason: &str,
    ) -> Result<(), String> {
        let StateTopic {
            name,
            producer,
            metrics,
        } = &self.topic;
        let headers = [(VERSION, "1"), (WHO, who), (REASON, reason)];
        let write = producer.write_state(name, key, value, &headers);
        let written = match tokio::time::timeout(WRITE_WAIT, write).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(format!("topic {name} cannot be written: {error:?}")),
            Err(_) => Err(format!(
                "Kafka has not taken it into topic {name} within {} s; it may still: look at the status before asking again",
                WRITE_WAIT.as_secs()
            )),
        };
        metrics.state_written(written.is_ok());
        written
    }

    /// Lets every instance know, and those that are started later, that an endpoint is gone, or that a key is held.
    async fn note(&self, word: LaneWord) {
        let LaneWord { id, said } = word;
        let Some(door) = self.doors.iter().find(|door| door.id == id) else {
            return;
        };
        let mut entry = Entry {
            who: "postrider".to_owned(),
            reason: String::new(),
            at: Clock::wall().0,
            record: None,
            endpoint: None,
            status: None,
        };
        let key = match said {
            Said::Gone(status) => {
                entry.reason = format!("{} said that it is gone", door.endpoint);
                entry.endpoint = Some(door.fingerprint.clone());
                entry.status = status;
                format!("gone/{id}")
            }
            Said::Held(key) => {
                "a record of this key is a dead letter".clone_into(&mut entry.reason);
                held_key(&id, &key)
            }
        };
        let value = serde_json::to_vec(&entry).unwrap_or_default();
        for _ in 0..GONE_TRIES {
            let written = self.write(&key, Some(&value), &entry.who, &entry.reason);
            let Err(problem) = written.await else { return };
            warn!(destination = &*door.name, "{problem}; it is tried again");
            tokio::time::sleep(CHECK_AGAIN).await;
        }
    }

    async fn prove(&self, nonce: &str) {
        if let Err(problem) = self.write(CHECK, Some(nonce.as_bytes()), nonce, "").await {
            warn!("{problem}; operators cannot pause anything until it can be");
            self.health.state_topic(Some(problem));
        }
    }
}

impl Door {
    async fn tell(&self, order: Order) {
        let told = tokio::time::timeout(LANE_WAIT, self.asks.send(LaneAsk::Order(order)));
        // One that has ended needs no orders.
        if told.await.is_err() {
            error!(
                destination = &*self.name,
                "the lane is stuck: an order does not reach it"
            );
        }
    }

    /// Asks what the lane does; `None` when it has ended, or does not listen.
    pub(super) fn ask_status(&self) -> Option<oneshot::Receiver<LaneStatus>> {
        let (reply, answer) = oneshot::channel();
        self.asks.try_send(LaneAsk::Status(reply)).ok()?;
        Some(answer)
    }
}

fn done(verb: Verb) -> &'static str {
    match verb {
        Verb::Pause => "paused on every instance; it stays so over restarts, until it is resumed",
        Verb::Resume => "resumed on every instance",
        Verb::RetryNow => "every instance tries now what waits",
        Verb::Skip => {
            "the instance that holds the record writes it to the dead letters, unless its end came first"
        }
        Verb::Release => "the records of this key go on, on the instance that has them",
        Verb::ReleaseRetries => "what waits in the ladder is due now",
        Verb::CancelRetries => "what waits in the ladder goes to the dead letters",
    }
}

/// Announces once that there are no operators, where that is no reason not to run.
pub(super) fn without_socket(error: &dyn std::error::Error) {
    let mut text = error.to_string();
    if let Some(source) = error.source() {
        text.push_str(&format!(": {source}"));
    }
    info!(
        "{text}; the daemon runs without it, and `postrider status` does not find it: set [admin] socket to a path that can be made"
    );
}
