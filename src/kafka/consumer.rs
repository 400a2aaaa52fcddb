//! One consumer, on an OS thread of its own: reads what its lane has room for, commits what the lane says, hands partitions over.
//!
//! The thread waits for the broker and for the lane; nobody waits for the thread. Rebalances are taken from librdkafka as events and
//! answered here, in this thread's own loop, not inside a callback.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tokio::sync::mpsc;
use tracing::{debug, error, info, warn};

use crate::clock::{Clock, Tick};
use crate::delivery::Epoch;
use crate::lane::{AssignedPartition, Position, RecordsLostPolicy, StartAt};
use crate::record::Record;

use super::context::{Context, Notice};
use super::mailbox::{Allowance, Mailbox, Orders};
use super::raw::{CommitResult, Fetched, Queues};
use super::start::{self, Question};

/// What a consumer needs to know.
#[derive(Clone)]
pub struct ConsumerPlan {
    /// librdkafka's settings, complete but for the group.
    pub client: ClientConfig,
    /// The destination, for the log.
    pub destination: Arc<str>,
    /// The consumer group.
    pub group: String,
    /// The topics to read.
    pub topics: Vec<String>,
    /// Names of topics that begin like this are our own.
    pub owned_prefix: String,
    /// Where to begin where nothing is committed.
    pub start_at: StartAt,
    /// What to do when records have gone unread.
    pub on_records_lost: RecordsLostPolicy,
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
    CommitFailed(String),
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

/// How long a revoke may wait for what is in flight; a third of the shortest `max.poll.interval.ms` that makes sense.
const REVOKE_DRAIN: Duration = Duration::from_secs(10);
/// How long the broker may take for a last commit.
const LAST_COMMIT: Duration = Duration::from_secs(5);
/// How long the questions at an assignment may take before the group is left and joined again.
const START_ANSWERS: Duration = Duration::from_secs(10);
/// How long the thread sleeps at most: how late it hears of a rebalance or a commit.
const NAP: Duration = Duration::from_millis(50);
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
    let context = Context::default();
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
        outstanding: Vec::new(),
        taken: Allowance::default(),
        largest: 1024,
        rejoin_at: None,
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

type TopicPartition = (Arc<str>, i32);

struct ConsumerThread {
    /// Before the consumer: it must be dropped first.
    queues: Queues,
    consumer: BaseConsumer<Context>,
    plan: ConsumerPlan,
    clock: Clock,
    outbox: mpsc::Sender<FromConsumer>,
    mailbox: Arc<Mailbox>,
    beat: Arc<AtomicU64>,
    assigned: BTreeMap<TopicPartition, Epoch>,
    epochs: BTreeMap<Epoch, TopicPartition>,
    next_epoch: u64,
    /// Positions that were sent to the broker and not answered.
    outstanding: Vec<Position>,
    /// What was read since the start.
    taken: Allowance,
    /// The heaviest record of the last chunks: how many fit into the bytes that are left.
    largest: u64,
    rejoin_at: Option<Tick>,
    chunk: Vec<Fetched>,
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

    fn subscribe(&mut self) {
        let topics: Vec<&str> = self.plan.topics.iter().map(String::as_str).collect();
        if let Err(error) = self.consumer.subscribe(&topics) {
            error!(destination = %self.plan.destination, %error, "subscription refused");
        }
    }

    fn obey(&mut self, orders: &Orders) {
        for (epoch, pause) in &orders.paused {
            let list = self.list_of(std::slice::from_ref(epoch));
            let done = if *pause {
                self.consumer.pause(&list)
            } else {
                self.consumer.resume(&list)
            };
            if let Err(error) = done {
                warn!(destination = %self.plan.destination, %error, pause, "pause or resume refused");
            }
        }
        self.commit(&orders.commit);
    }

    /// Sends a commit for the partitions owned at this moment; the answer comes as an event.
    fn commit(&mut self, positions: &[Position]) {
        let mut list = TopicPartitionList::new();
        for position in positions {
            let Some((topic, partition)) = self.epochs.get(&position.epoch) else {
                continue;
            };
            let offset = Offset::Offset(position.offset);
            if list.add_partition_offset(topic, *partition, offset).is_ok() {
                self.outstanding.push(*position);
            }
        }
        if list.count() == 0 {
            return;
        }
        if let Err(error) = self.queues.commit(&list) {
            self.outstanding.clear();
            self.tell(FromConsumer::CommitFailed(error));
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

    fn assign(&mut self, partitions: &[TopicPartition]) {
        self.beat(START_ANSWERS);
        let question = Question {
            client: &self.plan.client,
            owned_prefix: &self.plan.owned_prefix,
            start_at: self.plan.start_at,
            on_records_lost: self.plan.on_records_lost,
            deadline: START_ANSWERS,
        };
        let answer = start::resolve(&self.consumer, partitions, &question);
        let (cluster_id, starts) = match answer {
            Ok(answer) => answer,
            Err(error) => return self.leave_and_join_again(&error),
        };
        let mut list = TopicPartitionList::new();
        let mut assigned = Vec::new();
        let mut lost: BTreeMap<Arc<str>, u64> = BTreeMap::new();
        for ((topic, partition), resolved) in partitions.iter().zip(starts) {
            let offset = resolved.start.offset;
            if let Err(error) = list.add_partition_offset(topic, *partition, Offset::Offset(offset))
            {
                return self.leave_and_join_again(&error.to_string());
            }
            self.queues.take_over(topic, *partition);
            start::say(&self.plan.destination, topic, *partition, &resolved);
            if resolved.start.lost > 0 {
                *lost.entry(Arc::clone(topic)).or_default() += resolved.start.lost.unsigned_abs();
            }
            let epoch = Epoch(self.next_epoch);
            self.next_epoch += 1;
            self.assigned.insert((Arc::clone(topic), *partition), epoch);
            self.epochs.insert(epoch, (Arc::clone(topic), *partition));
            assigned.push(AssignedPartition {
                epoch,
                topic: Arc::clone(topic),
                partition: *partition,
                base: offset,
                committed: resolved.committed == Some(offset),
            });
        }
        // The lane hears of the partitions before the first record of them can be read.
        self.tell(FromConsumer::Assigned {
            cluster_id,
            partitions: assigned,
            lost,
        });
        let done = self
            .consumer
            .incremental_assign(&list)
            .and_then(|()| self.consumer.resume(&list));
        if let Err(error) = done {
            self.leave_and_join_again(&error.to_string());
        }
    }

    /// Without an answer the right start is unknown, and a wrong one loses records: out, and in again.
    fn leave_and_join_again(&mut self, error: &str) {
        warn!(destination = %self.plan.destination, error, "start positions unknown: leaving the group to join again");
        if let Err(error) = self.consumer.incremental_assign(&TopicPartitionList::new()) {
            debug!(%error, "empty assignment refused");
        }
        self.consumer.unsubscribe();
        self.rejoin_at = Some(self.clock.now().tick + Duration::from_secs(1));
    }

    fn rejoin_when_due(&mut self) {
        if self
            .rejoin_at
            .is_some_and(|due| due <= self.clock.now().tick)
        {
            self.rejoin_at = None;
            self.subscribe();
        }
    }

    fn revoke(&mut self, partitions: &[TopicPartition]) {
        let epochs: Vec<Epoch> = partitions
            .iter()
            .filter_map(|tp| self.assigned.get(tp))
            .copied()
            .collect();
        if self.consumer.assignment_lost() {
            warn!(destination = %self.plan.destination, partitions = epochs.len(), "partitions lost: another member may have them");
            self.forget(partitions);
            self.tell(FromConsumer::Lost(epochs));
        } else if !epochs.is_empty() {
            let deadline = self.clock.now().tick + REVOKE_DRAIN;
            self.beat(REVOKE_DRAIN + LAST_COMMIT);
            self.tell(FromConsumer::Revoking { epochs, deadline });
            // The lane answers at its deadline at the latest. Without an answer the lane is gone, and nothing of it may be committed.
            let answer = self
                .mailbox
                .wait_for_revoked(REVOKE_DRAIN + Duration::from_secs(2));
            self.commit_and_wait(&answer.unwrap_or_default());
            self.forget(partitions);
        }
        let list = list(partitions);
        if let Err(error) = self.consumer.incremental_unassign(&list) {
            debug!(destination = %self.plan.destination, %error, "unassign refused");
        }
    }

    fn forget(&mut self, partitions: &[TopicPartition]) {
        for partition in partitions {
            if let Some(epoch) = self.assigned.remove(partition) {
                self.epochs.remove(&epoch);
                self.outstanding.retain(|position| position.epoch != epoch);
            }
        }
    }

    /// Commits and waits for the broker's word, but not for ever: a broker that does not answer costs repeats, never records.
    fn commit_and_wait(&mut self, positions: &[Position]) {
        let deadline = self.clock.now().tick + LAST_COMMIT;
        self.commit(positions);
        let asked = |position: &Position| positions.contains(position);
        while self.outstanding.iter().any(asked) {
            let left = deadline.since(self.clock.now().tick);
            match self.queues.commit_results(left) {
                Some(results) => self.committed(results),
                None if left.is_zero() => {
                    warn!(destination = %self.plan.destination, "last commit not acknowledged in time: some deliveries will be repeated");
                    return;
                }
                None => {}
            }
        }
    }

    fn committed(&mut self, results: Vec<CommitResult>) {
        let mut acknowledged = Vec::new();
        let mut refused = None;
        if results.is_empty() {
            // A request that failed as a whole, without saying for what: the lane asks again for whatever is open.
            self.outstanding.clear();
        }
        for (tp, offset, error) in results {
            let asked = |position: &Position| {
                position.offset == offset && self.epochs.get(&position.epoch) == Some(&tp)
            };
            let Some(place) = self.outstanding.iter().position(asked) else {
                continue;
            };
            let position = self.outstanding.swap_remove(place);
            match error {
                None => acknowledged.push(position),
                Some(error) => refused = Some(error),
            }
        }
        if !acknowledged.is_empty() {
            self.tell(FromConsumer::Committed(acknowledged));
        }
        if let Some(error) = refused {
            debug!(destination = %self.plan.destination, error, "commit refused");
            self.tell(FromConsumer::CommitFailed(error));
        }
    }

    fn read(&mut self, allowance: Allowance) {
        if self.assigned.is_empty() {
            return;
        }
        let records = allowance.records.saturating_sub(self.taken.records);
        let bytes = allowance.bytes.saturating_sub(self.taken.bytes);
        if records == 0 || bytes == 0 {
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
        for item in fetched.drain(..) {
            match item {
                Fetched::Record(record) => {
                    let weight = record.weight() as u64;
                    largest = largest.max(weight);
                    self.taken.records += 1;
                    self.taken.bytes += weight;
                    let tp = (Arc::clone(&record.topic), record.partition);
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
        self.largest = largest.max(self.largest - self.largest / 8).max(1);
    }

    fn tell_read(&self, run: Option<(Epoch, Vec<Record>)>) {
        if let Some((epoch, records)) = run {
            self.tell(FromConsumer::Read { epoch, records });
        }
    }

    /// A lane that is gone hears nothing; the loop sees the closed channel and ends.
    fn tell(&self, event: FromConsumer) {
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
    fn beat(&self, pause: Duration) {
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
