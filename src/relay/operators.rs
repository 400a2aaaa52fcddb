//! Between operators, the state topic and the lanes: what a person asks is written to the topic, what is read there is told the lanes, so
//! every instance does the same; and what the lanes do is told the person.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::admin::Health;
use crate::admin::api::{Ask, HealthReport};
use crate::clock::{Clock, Tick};
use crate::kafka::{Ends, FromState, LadderView, Producer, StateRecord};
use crate::lane::{Found, LaneStatus, Order};
use crate::metrics::Metrics;

use super::book::{Book, CHECK, REASON, VERSION, WHO, What};
use super::doors::{Door, Doors};
use super::in_force::InForce;
use super::instances::{InstanceWord, Instances, Myself, ORDER};
use super::log_level;
use super::membership::Membership;
use super::news::{LaneWord, WE};
use super::reload::{Reading, ReloadAsk};
use super::rollout::Rollout;
use super::swap::LaneSwap;

/// How long after a broker has answered the lanes wait for the state to be read before they begin.
const STATE_WAIT: Duration = Duration::from_secs(5);
/// How soon it is seen that this time has passed.
const LOOK: Duration = Duration::from_millis(100);
/// How long the broker may take for a write before the person is told that it is not known.
const WRITE_WAIT: Duration = Duration::from_secs(10);
/// How often the clock is looked at before the end of a pause.
const CLOCK_LOOK: Duration = Duration::from_secs(10);
/// When the proof that the topic can be written has failed.
const CHECK_AGAIN: Duration = Duration::from_secs(30);
/// How often it is tried to write what a lane has to say. The lane knows it without that.
const NOTE_TRIES: u32 = 20;
/// Questions that are answered at the same time.
const ASKS_MAX: usize = 32;

/// What a lane is asked from outside.
pub(super) enum LaneAsk {
    /// Do this, and say that it is done; and where the record was found, when it is about one.
    Order(Order, oneshot::Sender<Option<Found>>),
    /// What do you do?
    Status(oneshot::Sender<LaneStatus>),
    /// Be a member of your group, or not.
    Membership(Membership),
    /// Have you no partitions?
    IsOut(oneshot::Sender<bool>),
    /// Go on with these settings, and say when they hold.
    Swap(Box<LaneSwap>, oneshot::Sender<()>),
}

/// The lanes that run after a reload, or in the middle of it.
pub(super) struct Roster {
    pub(super) doors: Vec<Arc<Door>>,
    pub(super) disabled: Vec<Arc<str>>,
    /// To be said when those that are new have heard all there is to know before they begin.
    pub(super) done: oneshot::Sender<()>,
}

/// The state topic, as it is written.
pub(super) struct StateTopic {
    pub(super) name: String,
    pub(super) producer: Arc<Producer>,
    pub(super) metrics: Arc<Metrics>,
}

/// What all answers share.
pub(super) struct FrontDesk {
    pub(super) doors: Doors,
    /// Somebody else is in them.
    pub(super) lanes_changed: Notify,
    pub(super) in_force: Arc<InForce>,
    /// Where it is said who is in them.
    pub(super) rosters: mpsc::Sender<Roster>,
    /// Where it is asked for another file.
    pub(super) reloads: mpsc::Sender<ReloadAsk>,
    pub(super) topic: StateTopic,
    pub(super) health: Arc<Health>,
    pub(super) clock: Clock,
    pub(super) known: Mutex<Known>,
    pub(super) ends: Arc<Ends>,
    pub(super) ladder: Arc<LadderView>,
    pub(super) me: Myself,
    pub(super) rollout: Rollout,
}

/// What is known of the state.
#[derive(Default)]
pub(super) struct Known {
    pub(super) book: Book,
    /// Whether everything that was there at the start has been read.
    pub(super) read: bool,
    /// Whether the lanes were told to begin.
    pub(super) begun: bool,
    pub(super) instances: Instances,
}

/// Answers, listens and tells.
pub(super) struct Operators {
    pub(super) desk: Arc<FrontDesk>,
    proven: bool,
    next_check: Tick,
    broker_since: Option<Tick>,
    last_problem: Option<String>,
}

impl Operators {
    pub(super) fn new(desk: FrontDesk) -> Self {
        Self {
            desk: Arc::new(desk),
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
        mut rosters: mpsc::Receiver<Roster>,
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
                Some(roster) = rosters.recv() => self.desk.take(roster).await,
                Some(word) = state.recv() => self.heard(word, &mut answers).await,
                Some(word) = gone.recv(), if answers.len() < ASKS_MAX => {
                    let desk = Arc::clone(&self.desk);
                    answers.spawn(async move { desk.note(word).await });
                }
                () = self.desk.next_pause_end() => self.desk.end_pauses().await,
                _ = look.tick(), if !self.proven || !self.desk.known().begun => {
                    self.look(&mut answers).await;
                }
            }
        }
    }

    async fn heard(&mut self, word: FromState, answers: &mut JoinSet<()>) {
        match word {
            FromState::Record(record) if record.key == CHECK => {
                if self.checked(&record) {
                    let desk = Arc::clone(&self.desk);
                    answers.spawn(async move { desk.announce(None, None).await });
                }
            }
            FromState::Record(record) => {
                if self.desk.rollout.hear(&record, self.desk.clock.now().tick) {
                    return;
                }
                let word = match self.desk.hear_instance(&record) {
                    InstanceWord::Heard => return,
                    InstanceWord::OursTaken => (None, None),
                    InstanceWord::None => match self.desk.obey(&record).await {
                        Some((order, found)) => (Some(order), found),
                        None => return,
                    },
                };
                let desk = Arc::clone(&self.desk);
                answers.spawn(async move { desk.announce(word.0, word.1).await });
            }
            FromState::CaughtUp => {
                self.desk.known().read = true;
                self.problem(None);
                self.desk.begin().await;
                self.look(answers).await;
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

    /// Our own proof, read back. True: for the first time.
    fn checked(&mut self, record: &StateRecord) -> bool {
        let value = record.value.as_deref().unwrap_or_default();
        if self.proven || value != self.desk.me.name.as_bytes() {
            return false;
        }
        self.desk.rollout.learn_time(record, self.desk.clock.now());
        self.proven = true;
        if record.headers.contains_key(VERSION) {
            self.problem(None);
            return true;
        }
        let topic = &self.desk.topic.name;
        self.problem(Some(format!(
            "topic {topic} keeps no headers: its message format is older than 0.11"
        )));
        false
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
            let desk = Arc::clone(&self.desk);
            answers.spawn(async move { desk.prove().await });
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
            Ask::LogLevel(request, reply) => drop(reply.send(log_level::set(&request))),
            // It is answered there.
            Ask::Reload(who, reply) => {
                let what = Reading::File;
                ReloadAsk { who, what, reply }.hand_in(&self.reloads);
            }
            Ask::Diff(request, reply) => drop(reply.send(self.diff(request).await)),
        }
    }

    fn health(&self) -> HealthReport {
        let stuck = self.health.overdue();
        let not_ready = self.health.not_ready();
        let stuck_words = stuck.iter().map(|name| format!("{name} is stuck"));
        let problems = stuck_words.chain(not_ready.iter().cloned());
        HealthReport {
            alive: stuck.is_empty(),
            ready: not_ready.is_empty(),
            problems: problems.chain(self.health.warnings()).collect(),
        }
    }

    /// Lets the lanes begin, each as the state says.
    async fn begin(&self) {
        {
            let mut known = self.known();
            if std::mem::replace(&mut known.begun, true) {
                return;
            }
            drop(known.book.end_pauses(Clock::wall()));
        }
        for door in self.doors.all() {
            self.begin_lane(&door).await;
        }
    }

    /// Tells a lane what there is to know before it begins.
    async fn begin_lane(&self, door: &Door) {
        let (orders, asked) = {
            let known = self.known();
            let orders = known.book.first_orders(&door.id, &door.address.fingerprint);
            (orders, known.book.pause(&door.id).cloned())
        };
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

    /// From now on these lanes run. Nobody else tells lanes what the state topic says, so nothing is told before it, or twice.
    async fn take(&self, roster: Roster) {
        let before = self.doors.all();
        let begun = self.known().begun;
        self.doors.replace(roster.doors, roster.disabled);
        for door in self.doors.all() {
            let old = before.iter().find(|old| old.number == door.number);
            match old {
                None if begun => self.begin_lane(&door).await,
                Some(old) if old.address.fingerprint != door.address.fingerprint => {
                    let is_gone = self
                        .known()
                        .book
                        .gone(&door.id, &door.address.fingerprint)
                        .is_some();
                    if is_gone {
                        door.tell(Order::Gone).await;
                    }
                }
                None | Some(_) => {}
            }
        }
        self.lanes_changed.notify_one();
        self.rollout.look_again();
        if roster.done.send(()).is_err() {
            debug!("nobody waits for the lanes to be known");
        }
    }

    /// Waits for the time at which a pause may have ended by itself; for ever when there is none.
    async fn next_pause_end(&self) {
        let end = {
            let known = self.known();
            known.book.next_end().filter(|_| known.begun)
        };
        let Some(end) = end else {
            return std::future::pending().await;
        };
        let left_ms = u64::try_from(end.0.saturating_sub(Clock::wall().0)).unwrap_or(0);
        // Somebody may set the clock meanwhile.
        tokio::time::sleep(Duration::from_millis(left_ms).min(CLOCK_LOOK)).await;
    }

    /// Ends pauses that have come to their time. What else holds a lane goes on holding it.
    async fn end_pauses(&self) {
        let ids = self.known().book.end_pauses(Clock::wall());
        for id in ids {
            let Some(door) = self.doors.of_id(&id) else {
                continue;
            };
            warn!(destination = &*door.name, "the pause has come to its end");
            door.tell(Order::Begin).await;
        }
    }

    /// Does what a record of the state topic says, where it concerns a lane of ours. Gives the order that is obeyed, when somebody waits to hear
    /// of it, and where the record was found that it is about.
    async fn obey(&self, record: &StateRecord) -> Option<(String, Option<Found>)> {
        let (heard, read, begun) = {
            let mut known = self.known();
            let mut heard = known.book.hear(record);
            let ended = known.book.end_pauses(Clock::wall());
            // It has ended before it was heard of.
            if let Some(heard) = heard.as_mut().filter(|heard| ended.contains(&heard.id)) {
                heard.what = What::Kept(Order::Begin);
            }
            (heard, known.read, known.begun)
        };
        let heard = heard?;
        let order = record.headers.get(ORDER).filter(|_| read).cloned();
        let Some(door) = self.doors.of_id(&heard.id) else {
            return order.map(|order| (order, None));
        };
        let what = match heard.what {
            What::Kept(what) if begun => what,
            What::Said(what) if read => what,
            What::Gone(endpoint)
                if begun && endpoint.as_ref() == Some(&door.address.fingerprint) =>
            {
                door.tell(Order::Gone).await;
                return None;
            }
            What::Kept(_) | What::Said(_) | What::Gone(_) | What::Noted => return None,
        };
        let (who, reason) = (&*heard.asked.who, &*heard.asked.reason);
        // Nobody asks for the end of what was asked for.
        if !matches!(what, Order::SkipEnded { .. }) {
            let destination = &*door.name;
            warn!(destination, who, reason, order = ?what, "asked by an operator");
        }
        let found = door.tell(what).await?;
        Some((order?, found))
    }

    /// Writes to the state topic; `order` names what instances say that they have obeyed.
    pub(super) async fn write(
        &self,
        key: &str,
        value: Option<&[u8]>,
        who: &str,
        reason: &str,
        order: Option<&str>,
    ) -> Result<(), String> {
        let StateTopic {
            name,
            producer,
            metrics,
        } = &self.topic;
        let mut headers = vec![(VERSION, "1"), (WHO, who), (REASON, reason)];
        headers.extend(order.map(|order| (ORDER, order)));
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

    /// Lets every instance know what a lane has to say, and those that are started later.
    async fn note(&self, word: LaneWord) {
        let (id, entry) = (Arc::clone(&word.id), word.entry());
        for _ in 0..NOTE_TRIES {
            let value = entry.value.as_deref();
            let written = self.write(&entry.key, value, WE, &entry.reason, None);
            let Err(problem) = written.await else { return };
            warn!(destination_id = &*id, "{problem}; it is tried again");
            tokio::time::sleep(CHECK_AGAIN).await;
        }
    }

    async fn prove(&self) {
        let name = &self.me.name;
        let written = self.write(CHECK, Some(name.as_bytes()), name, "", None);
        if let Err(problem) = written.await {
            warn!("{problem}; operators cannot pause anything until it can be");
            self.health.state_topic(Some(problem));
        }
    }
}

/// Announces once that there are no operators, where that is no reason not to run.
pub(super) fn without_socket(error: &dyn std::error::Error) {
    let mut text = error.to_string();
    if let Some(source) = error.source() {
        text.push_str(&format!(": {source}"));
    }
    warn!(
        "{text}; the daemon runs without it, and `postrider status`, `pause` and the like cannot reach it: write socket = \"postrider.sock\" into [admin], or another path that can be made"
    );
}
