//! One consumer, on an OS thread of its own: reads what its lane has room for, commits what the lane says, hands partitions over.
//!
//! The thread waits for the broker and for the lane; nobody waits for the thread. Rebalances are taken from librdkafka as events and
//! answered here, in this thread's own loop, not inside a callback.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::topic_partition_list::TopicPartitionList;
use tokio::sync::mpsc;
use tracing::{debug, error, info, warn};

use crate::clock::{Clock, Tick};
use crate::delivery::{CommitFailure, Epoch};
use crate::lane::{AssignedPartition, Position, RecordsLostPolicy, StartAt};
use crate::record::Record;

use super::complaints::Complaints;
use super::context::{Context, Notice};
use super::mailbox::{Allowance, Mailbox, Orders};
use super::raw::{Fetched, Queues};

/// What a consumer needs to know.
#[derive(Clone)]
pub struct ConsumerPlan {
    /// librdkafka's settings, complete but for the group.
    pub client: ClientConfig,
    /// The destination, for the log.
    pub destination: Arc<str>,
    /// The consumer group.
    pub group: String,
    /// The topics to read at first; none: to be told through the mailbox.
    pub topics: Vec<String>,
    /// Names of topics that begin like this are our own.
    pub owned_prefix: String,
    /// Where to begin where nothing is committed.
    pub start_at: StartAt,
    /// What to do when records have gone unread.
    pub on_records_lost: RecordsLostPolicy,
    /// Where librdkafka's complaints go.
    pub complaints: Arc<Complaints>,
}

/// What a consumer thread tells its lane, in the order in which it happened.
#[derive(Debug)]
pub enum FromConsumer {
    /// See [`Event::Assigned`](crate::lane::Event::Assigned).
    Assigned {
        /// The cluster.
        cluster_id: Arc<str>,
        /// The partitions.
        partitions: Vec<AssignedPartition>,
        /// Records that nobody can read any more, by topic.
        lost: BTreeMap<Arc<str>, u64>,
    },
    /// The broker acknowledged these.
    Committed(Vec<Position>),
    /// A commit was refused, for this reason; asked for again by the lane.
    CommitFailed(CommitFailure),
    /// To be answered through the mailbox before the deadline.
    Revoking {
        /// Which.
        epochs: Vec<Epoch>,
        /// The deadline.
        deadline: Tick,
    },
    /// Gone without a hand-over.
    Lost(Vec<Epoch>),
    /// Records of one partition.
    Read {
        /// The assignment.
        epoch: Epoch,
        /// The records.
        records: Vec<Record>,
    },
    /// A partition was read to its end.
    EndOfPartition {
        /// The assignment.
        epoch: Epoch,
        /// The offset after the last there is.
        offset: i64,
    },
    /// The consumer has left its group; nothing follows.
    Closed,
}

/// How long the thread sleeps at most: how late it hears of a rebalance or a commit.
const NAP: Duration = Duration::from_millis(50);
/// A lane that has had no room for this long does not get any soon: its partitions are paused, so that librdkafka stops fetching for it and
/// gives up what it holds. For shorter waits a pause costs more than it saves.
const REST_AFTER: Duration = Duration::from_secs(5);
/// Records taken at once.
const CHUNK: u64 = 1024;

/// A running consumer thread, as its lane sees it.
#[derive(Debug)]
pub struct ConsumerHandle {
    /// What the thread says.
    pub inbox: mpsc::Receiver<FromConsumer>,
    /// What it is told.
    pub mailbox: Arc<Mailbox>,
    /// When its loop last turned, in milliseconds of the clock; a thread that waits on purpose puts its deadline here.
    pub beat: Arc<AtomicU64>,
}

/// Starts the thread of a consumer.
///
/// # Errors
/// When librdkafka refuses the settings or the thread cannot be started. That Kafka is away is no error.
pub fn start_consumer(plan: ConsumerPlan, clock: Clock) -> Result<ConsumerHandle, StartError> {
    let context = Context::new(Arc::clone(&plan.complaints));
    let mut client = plan.client.clone();
    client.set("group.id", &plan.group);
    let consumer: BaseConsumer<Context> =
        client
            .create_with_context(context)
            .map_err(|source| StartError::Client {
                group: plan.group.clone(),
                source,
            })?;
    let (outbox, inbox) = mpsc::channel(64);
    let mailbox = Arc::new(Mailbox::default());
    let beat = Arc::new(AtomicU64::new(millis(clock.now().tick)));
    let thread = ConsumerThread {
        queues: Queues::new(&consumer),
        consumer,
        plan,
        clock,
        outbox,
        mailbox: Arc::clone(&mailbox),
        beat: Arc::clone(&beat),
        assigned: BTreeMap::new(),
        epochs: BTreeMap::new(),
        next_epoch: 0,
        next_offsets: BTreeMap::new(),
        cluster_id: "".into(),
        outstanding: Vec::new(),
        taken: Allowance::default(),
        largest: 1024,
        rejoin_at: None,
        paused: BTreeSet::new(),
        full_since: None,
        resting: false,
        chunk: Vec::new(),
    };
    std::thread::Builder::new()
        .name(format!("c-{}", thread.plan.destination))
        .spawn(move || thread.run())
        .map_err(StartError::Thread)?;
    Ok(ConsumerHandle {
        inbox,
        mailbox,
        beat,
    })
}

/// Why a consumer could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// librdkafka refuses the settings.
    #[error("the Kafka client of group {group} cannot be made")]
    Client {
        /// The group.
        group: String,
        /// librdkafka's reason.
        source: rdkafka::error::KafkaError,
    },
    /// The system gives no thread.
    #[error("the consumer thread cannot be started")]
    Thread(#[source] std::io::Error),
}

pub(super) type TopicPartition = (Arc<str>, i32);

/// The thread's own state.
pub(super) struct ConsumerThread {
    /// Before everything else: after a panic the consumer may take long to be dropped, or for ever, and the lane must hear of it at once.
    pub(super) outbox: mpsc::Sender<FromConsumer>,
    /// Before the consumer: it must be dropped first.
    pub(super) queues: Queues,
    pub(super) consumer: BaseConsumer<Context>,
    pub(super) plan: ConsumerPlan,
    pub(super) clock: Clock,
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) beat: Arc<AtomicU64>,
    pub(super) assigned: BTreeMap<TopicPartition, Epoch>,
    pub(super) epochs: BTreeMap<Epoch, TopicPartition>,
    pub(super) next_epoch: u64,
    /// The offset after the last record read of each assignment, at first its base.
    pub(super) next_offsets: BTreeMap<Epoch, i64>,
    /// The cluster, as of the last assignment.
    pub(super) cluster_id: Arc<str>,
    /// Positions that were sent to the broker and not answered.
    pub(super) outstanding: Vec<Position>,
    /// What was read since the start.
    pub(super) taken: Allowance,
    /// The heaviest record of the last chunks: how many fit into the bytes that are left.
    pub(super) largest: u64,
    pub(super) rejoin_at: Option<Tick>,
    /// Partitions that the lane wants paused.
    pub(super) paused: BTreeSet<Epoch>,
    /// Since when the lane has had no room.
    pub(super) full_since: Option<Tick>,
    /// Whether every partition is paused because of that.
    pub(super) resting: bool,
    pub(super) chunk: Vec<Fetched>,
}

impl ConsumerThread {
    fn run(mut self) {
        self.subscribe();
        loop {
            self.beat(Duration::ZERO);
            let orders = self.mailbox.take();
            self.obey(&orders);
            if let Some(positions) = orders.close {
                return self.close(positions);
            }
            if self.outbox.is_closed() {
                return self.close(Vec::new());
            }
            self.serve_events(if self.assigned.is_empty() {
                NAP
            } else {
                Duration::ZERO
            });
            self.rejoin_when_due();
            self.read(orders.allowance);
        }
    }

    pub(super) fn subscribe(&mut self) {
        if self.plan.topics.is_empty() {
            return self.consumer.unsubscribe();
        }
        let topics: Vec<&str> = self.plan.topics.iter().map(String::as_str).collect();
        if let Err(error) = self.consumer.subscribe(&topics) {
            error!(destination = %self.plan.destination, %error, "subscription refused");
        }
    }

    fn obey(&mut self, orders: &Orders) {
        for (epoch, pause) in &orders.paused {
            if *pause && self.epochs.contains_key(epoch) {
                self.paused.insert(*epoch);
            } else {
                self.paused.remove(epoch);
            }
            if !self.resting {
                self.pause(&[*epoch], *pause);
            }
        }
        self.commit(&orders.commit);
        if let Some(topics) = &orders.topics {
            self.plan.topics.clone_from(topics);
            // With cooperative rebalances only the difference comes and goes.
            if self.rejoin_at.is_none() {
                self.subscribe();
            }
        }
    }

    /// Pauses or resumes partitions.
    fn pause(&self, epochs: &[Epoch], pause: bool) {
        let list = self.list_of(epochs);
        let done = if pause {
            self.consumer.pause(&list)
        } else {
            self.consumer.resume(&list)
        };
        if let Err(error) = done {
            warn!(destination = %self.plan.destination, %error, pause, "pause or resume refused");
        }
    }

    /// Rests when the lane has had no room for long, and ends the rest when it has.
    pub(super) fn rest(&mut self, has_room: bool) {
        let now = self.clock.now().tick;
        let since = *self.full_since.get_or_insert(now);
        if has_room {
            self.full_since = None;
        }
        let rest = !has_room && (self.resting || now.since(since) >= REST_AFTER);
        if rest != self.resting {
            self.resting = rest;
            let all = self
                .epochs
                .keys()
                .filter(|epoch| !self.paused.contains(epoch));
            let all: Vec<Epoch> = all.copied().collect();
            self.pause(&all, rest);
            debug!(destination = %self.plan.destination, rest, "no room for long: partitions paused");
        }
    }

    /// Handles rebalances, commit results and errors; waits up to `wait` for the first.
    fn serve_events(&mut self, wait: Duration) {
        self.poll(wait);
        // One poll serves one event, and a rebalance must not wait behind lines of the log.
        while self.queues.has_events() {
            self.poll(Duration::ZERO);
        }
        while let Some(notice) = self.consumer.context().next_notice() {
            match notice {
                Notice::Assign(partitions) => self.assign(&partitions),
                Notice::Revoke(partitions) => self.revoke(&partitions),
            }
        }
        while let Some(results) = self.queues.commit_results(Duration::ZERO) {
            self.committed(results);
        }
    }

    fn poll(&mut self, wait: Duration) {
        match self.consumer.poll(wait) {
            Some(Ok(message)) => {
                let fetched = self.queues.stray(&message);
                drop(message);
                self.pass_on(vec![fetched]);
            }
            Some(Err(error)) => {
                debug!(destination = %self.plan.destination, %error, "consumer error");
            }
            None => {}
        }
    }

    fn read(&mut self, allowance: Allowance) {
        if self.assigned.is_empty() {
            return;
        }
        let records = allowance.records.saturating_sub(self.taken.records);
        let bytes = allowance.bytes.saturating_sub(self.taken.bytes);
        let has_room = records > 0 && bytes > 0;
        self.rest(has_room);
        if !has_room {
            return self.mailbox.wait_for_more(allowance, NAP);
        }
        let fit = (bytes / self.largest).clamp(1, CHUNK).min(records);
        let mut chunk = std::mem::take(&mut self.chunk);
        self.queues
            .read(NAP, usize::try_from(fit).unwrap_or(1), &mut chunk);
        self.pass_on_all(&mut chunk);
        self.chunk = chunk;
    }

    fn pass_on(&mut self, mut fetched: Vec<Fetched>) {
        self.pass_on_all(&mut fetched);
    }

    /// Hands records to the lane, those of one partition that follow each other together.
    fn pass_on_all(&mut self, fetched: &mut Vec<Fetched>) {
        let mut run: Option<(Epoch, Vec<Record>)> = None;
        let mut largest = 0;
        let mut cut = Vec::new();
        for item in fetched.drain(..) {
            match item {
                Fetched::Record(record) => {
                    let weight = record.weight() as u64;
                    largest = largest.max(weight);
                    self.taken.records += 1;
                    self.taken.bytes += weight;
                    let tp = (Arc::clone(&record.topic), record.partition);
                    if self.has_gone_back(&tp, record.offset) {
                        self.tell_read(run.take());
                        self.lose(std::slice::from_ref(&tp));
                        cut.push((tp.clone(), record.offset));
                    }
                    // A partition that is not ours any more: its next owner reads the record.
                    let Some(epoch) = self.assigned.get(&tp).copied() else {
                        self.tell(FromConsumer::Read {
                            epoch: Epoch(u64::MAX),
                            records: vec![record],
                        });
                        continue;
                    };
                    match &mut run {
                        Some((current, records)) if *current == epoch => records.push(record),
                        _ => {
                            let ended = run.replace((epoch, vec![record]));
                            self.tell_read(ended);
                        }
                    }
                }
                Fetched::EndOfPartition {
                    topic,
                    partition,
                    offset,
                } => {
                    self.tell_read(run.take());
                    if let Some(epoch) = self.assigned.get(&(topic, partition)).copied() {
                        self.tell(FromConsumer::EndOfPartition { epoch, offset });
                    }
                }
                Fetched::Error(error) => {
                    debug!(destination = %self.plan.destination, error, "fetch error");
                }
            }
        }
        self.tell_read(run);
        for (tp, offset) in cut {
            self.begin_again(&tp, offset);
        }
        self.largest = largest.max(self.largest - self.largest / 8).max(1);
    }

    /// Whether the partition is ours and was read beyond this offset already. Notes the offset if not.
    fn has_gone_back(&mut self, tp: &TopicPartition, offset: i64) -> bool {
        let epoch = self.assigned.get(tp);
        let Some(next) = epoch.and_then(|epoch| self.next_offsets.get_mut(epoch)) else {
            return false;
        };
        if offset < *next {
            return true;
        }
        *next = offset + 1;
        false
    }

    fn tell_read(&self, run: Option<(Epoch, Vec<Record>)>) {
        if let Some((epoch, records)) = run {
            self.tell(FromConsumer::Read { epoch, records });
        }
    }

    /// A lane that is gone hears nothing; the loop sees the closed channel and ends.
    pub(super) fn tell(&self, event: FromConsumer) {
        if self.outbox.blocking_send(event).is_err() {
            debug!(destination = %self.plan.destination, "the lane has ended before its consumer");
        }
    }

    fn close(mut self, positions: Vec<Position>) {
        self.beat(Duration::from_secs(30));
        self.commit_and_wait(&positions);
        let held: Vec<TopicPartition> = self.assigned.keys().cloned().collect();
        self.forget(&held);
        self.consumer.context().close();
        drop(self.queues);
        drop(self.consumer);
        info!(destination = %self.plan.destination, "consumer closed");
        if self.outbox.blocking_send(FromConsumer::Closed).is_err() {
            debug!("nobody waits for the end of the consumer");
        }
    }

    /// Says that the loop turns, and that it may now be silent for `pause`.
    pub(super) fn beat(&self, pause: Duration) {
        self.beat
            .store(millis(self.clock.now().tick + pause), Ordering::Relaxed);
    }

    fn list_of(&self, epochs: &[Epoch]) -> TopicPartitionList {
        let held: Vec<TopicPartition> = epochs
            .iter()
            .filter_map(|epoch| self.epochs.get(epoch))
            .cloned()
            .collect();
        list(&held)
    }
}

fn list(partitions: &[TopicPartition]) -> TopicPartitionList {
    let mut list = TopicPartitionList::with_capacity(partitions.len());
    for (topic, partition) in partitions {
        list.add_partition(topic, *partition);
    }
    list
}

fn millis(tick: Tick) -> u64 {
    u64::try_from(tick.0.as_millis()).unwrap_or(u64::MAX)
}
