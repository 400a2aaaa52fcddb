//! One consumer, on an OS thread of its own: reads what its lane has room for, commits what the lane says, hands partitions over.
//!
//! The thread waits for the broker and for the lane; nobody waits for the thread. Rebalances are taken from librdkafka as events and
//! answered here, in this thread's own loop, not inside a callback.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::TopicPartitionList;
use tokio::sync::mpsc;
use tracing::{debug, error, info, warn};

use crate::clock::{Clock, Tick};
use crate::delivery::{CommitFailure, Epoch};
use crate::heartbeat::Heartbeat;
use crate::lane::{AssignedPartition, Position, RecordsLostPolicy, StartAt};
use crate::record::Record;

use super::commits::Commits;
use super::complaints::Complaints;
use super::context::{Context, Notice};
use super::damaged::{Damages, FromDamage};
use super::gatehouse::{FromLadder, Gatehouse};
use super::kept_positions::KeptPositions;
use super::leaders::Leaders;
use super::losses::Losses;
use super::made_again::KnownTopics;
use super::mailbox::{Allowance, Mailbox, Orders};
use super::members::Part;
use super::pauses::Pauses;
use super::raw::{Fetched, Queues};
use super::reading::Left;
use super::stall::Stall;

/// What a consumer needs to know.
#[derive(Clone)]
pub struct ConsumerPlan {
    /// librdkafka's settings, complete but for the group.
    pub client: ClientConfig,
    /// The destination, for the log.
    pub destination: Arc<str>,
    /// The consumer group.
    pub group: String,
    /// The destination's id.
    pub destination_id: Arc<str>,
    /// The topics to read at first; `None`: to be told through the mailbox.
    pub topics: Option<Vec<String>>,
    /// Names of topics that begin like this are our own.
    pub owned_prefix: String,
    /// How often it is looked whether the topics are still the same.
    pub topic_refresh: Duration,
    /// Where to begin where nothing is committed.
    pub start_at: StartAt,
    /// What to do when records have gone unread.
    pub on_records_lost: RecordsLostPolicy,
    /// Where librdkafka's complaints go.
    pub complaints: Arc<Complaints>,
    /// What is known of positions that Kafka may have forgotten.
    pub kept: Arc<KeptPositions>,
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
    /// All partitions that are ours and not read, because records in them expired and a person is to decide: topic, partition and how many records.
    Stopped(Vec<(Arc<str>, i32, u64)>),
    /// So many records of this topic expired while it was read, before they were.
    Expired(Arc<str>, u64),
    /// See [`FromDamage`].
    Damage(FromDamage),
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
    /// Records of one partition of the ladder.
    ReadLadder {
        /// The assignment.
        epoch: Epoch,
        /// The records.
        records: Vec<FromLadder>,
    },
    /// A partition was read to its end.
    EndOfPartition {
        /// The assignment.
        epoch: Epoch,
        /// The offset after the last there is.
        offset: i64,
    },
    /// The ladder has to be read.
    LadderWaits,
    /// The thread has ended, and has left its group unless it panicked; nothing follows from it.
    Closed,
}

/// How long the thread sleeps at most: whatever comes for it wakes it, and a destination that has nothing to do should cost next to nothing.
const NAP: Duration = Duration::from_secs(5);
/// The same while records stand before the gate: how late they go in.
const NAP_AT_GATE: Duration = Duration::from_millis(250);
/// A batch does not read.
const DAMAGE: [RDKafkaErrorCode; 4] = [
    RDKafkaErrorCode::BadMessage,
    RDKafkaErrorCode::BadCompression,
    RDKafkaErrorCode::NotImplemented,
    RDKafkaErrorCode::InvalidMessage,
];
/// How long brokers may take to decide who reads what before it is said that they may not know how.
const DOUBT_AFTER: Duration = Duration::from_secs(30);
/// When a topic that has just been made is looked for. librdkafka believes for a tenth of a second that what was missing is missing; and in a
/// cluster of several brokers one may hear of it later than another.
const LOOKS: [Duration; 4] = [
    Duration::from_millis(200),
    Duration::from_secs(1),
    Duration::from_secs(3),
    Duration::from_secs(10),
];

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

/// The way to the lane. At its end it says that nothing follows, however the thread has ended.
struct Outbox {
    lane: mpsc::Sender<FromConsumer>,
    /// Whether the thread runs; whoever could not start it knows.
    running: bool,
}

impl Drop for Outbox {
    fn drop(&mut self) {
        if self.running && self.lane.blocking_send(FromConsumer::Closed).is_err() {
            debug!("nobody waits for the end of the consumer");
        }
    }
}

/// The thread's own state.
pub(super) struct ConsumerThread {
    /// Before everything else: after a panic the consumer may take long to be dropped, or for ever, and the lane must hear of it at once.
    outbox: Outbox,
    /// Before the consumer: it must be dropped first.
    pub(super) queues: Queues,
    pub(super) consumer: BaseConsumer<Context>,
    pub(super) part: Part,
    pub(super) plan: ConsumerPlan,
    pub(super) clock: Clock,
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) beat: Arc<Heartbeat>,
    pub(super) assigned: BTreeMap<TopicPartition, Epoch>,
    pub(super) epochs: BTreeMap<Epoch, TopicPartition>,
    pub(super) next_epoch: Epoch,
    /// The offset after the last record read of each assignment, at first its base.
    pub(super) next_offsets: BTreeMap<Epoch, i64>,
    /// The cluster, as of the last assignment.
    pub(super) cluster_id: Arc<str>,
    pub(super) commits: Commits,
    /// What was read since the start.
    pub(super) taken: Allowance,
    /// The heaviest record of the last chunks: how many fit into the bytes that are left.
    pub(super) largest: u64,
    /// The heaviest record since that was last reckoned.
    pub(super) heaviest: u64,
    pub(super) rejoin_at: Option<Tick>,
    /// When topics that were missing are looked for.
    looks: BTreeSet<Tick>,
    /// Whether librdkafka has said since it was told what to read that a topic is missing.
    misses_a_topic: bool,
    /// Whether it is to stay out of its group; as at first, until it is told.
    pub(super) away: bool,
    /// Whether librdkafka was ever told what to read.
    has_subscribed: bool,
    /// Whether what is gone from the ladder had been read.
    pub(super) knows_ladder: bool,
    pub(super) pauses: Pauses,
    /// Where the records of the ladder wait.
    pub(super) gate: Gatehouse,
    pub(super) chunk: Vec<Fetched>,
    /// Whether librdkafka has ended for good: nothing is ever read again.
    given_up: bool,
    /// When it is said that the brokers, which were to decide who reads what, have decided nothing.
    doubt_at: Option<Tick>,
    /// The partitions that stand still until a person decides, and how many records of each expired.
    pub(super) stopped: BTreeMap<TopicPartition, u64>,
    /// The partitions that stand still before a batch that does not read.
    pub(super) damages: Damages,
    /// Who wrote what was read.
    pub(super) leaders: Leaders,
    /// What of each partition has been counted as lost.
    pub(super) losses: Losses,
    /// What is known of the topics.
    pub(super) known: KnownTopics,
}

impl ConsumerThread {
    /// A thread that is not started yet.
    pub(super) fn new(
        plan: ConsumerPlan,
        part: Part,
        outbox: mpsc::Sender<FromConsumer>,
        clock: Clock,
    ) -> Result<Self, StartError> {
        let context = Context::new(Arc::clone(&plan.complaints));
        let mut client = plan.client.clone();
        client.set("group.id", &plan.group);
        // Whoever cannot read on is asked, see `astray.rs`: of what librdkafka does by itself nobody hears.
        client.set("auto.offset.reset", "error");
        let consumer: BaseConsumer<Context> =
            client
                .create_with_context(context)
                .map_err(|source| StartError::Client {
                    group: plan.group.clone(),
                    source,
                })?;
        let mailbox: Arc<Mailbox> = Arc::default();
        Ok(Self {
            queues: Queues::new(&consumer, Arc::clone(&mailbox)),
            consumer,
            part,
            plan,
            clock,
            outbox: Outbox {
                lane: outbox,
                running: false,
            },
            mailbox,
            beat: Arc::new(Heartbeat::new(clock.now().tick)),
            assigned: BTreeMap::new(),
            epochs: BTreeMap::new(),
            next_epoch: part.first_epoch(),
            next_offsets: BTreeMap::new(),
            cluster_id: "".into(),
            commits: Commits::default(),
            taken: Allowance::default(),
            largest: 1024,
            heaviest: 0,
            rejoin_at: None,
            looks: BTreeSet::new(),
            misses_a_topic: false,
            away: true,
            has_subscribed: false,
            knows_ladder: false,
            pauses: Pauses::default(),
            gate: Gatehouse::default(),
            chunk: Vec::new(),
            given_up: false,
            doubt_at: None,
            stopped: BTreeMap::new(),
            damages: Damages::default(),
            leaders: Leaders::default(),
            losses: Losses::default(),
            known: KnownTopics::default(),
        })
    }

    /// Starts it.
    pub(super) fn start(self) -> Result<(), StartError> {
        std::thread::Builder::new()
            .name(self.thread_name())
            .spawn(move || self.run())
            .map_err(StartError::Thread)?;
        Ok(())
    }

    fn thread_name(&self) -> String {
        let kind = match self.part {
            Part::Topics => 'c',
            Part::Ladder => 'r',
        };
        format!("{kind}-{}", self.plan.destination)
    }

    fn run(mut self) {
        self.outbox.running = true;
        let stall = Stall::of(&self.thread_name(), self.clock);
        loop {
            self.beat(Duration::ZERO);
            stall.here(self.clock.now().tick);
            let orders = self.mailbox.take();
            self.obey(&orders);
            if let Some((positions, patience)) = orders.close {
                return self.close(positions, patience);
            }
            if self.outbox.lane.is_closed() {
                return self.close(Vec::new(), Tick::default());
            }
            self.serve_events();
            if self.given_up {
                return;
            }
            self.doubt_the_brokers();
            self.rejoin_when_due();
            self.look_at_topics();
            self.look_at_damage();
            let left = self.read(orders.allowance);
            let full = match left {
                Left::More => continue,
                Left::Nothing => None,
                Left::NoRoom => Some(orders.allowance),
            };
            let nap = self.nap(left);
            self.beat(nap);
            self.mailbox.wait(full, nap);
        }
    }

    pub(super) fn subscribe(&mut self) {
        self.misses_a_topic = false;
        if self.away {
            return self.consumer.unsubscribe();
        }
        self.has_subscribed = true;
        let topics = self.plan.topics.iter().flatten();
        let topics: Vec<&str> = topics.map(String::as_str).collect();
        if topics.is_empty() {
            return self.consumer.unsubscribe();
        }
        if self.plan.client.get("group.protocol") == Some("consumer") && self.part == Part::Topics {
            let doubt = self.clock.now().tick + DOUBT_AFTER;
            self.doubt_at.get_or_insert(doubt);
        }
        if let Err(error) = self.consumer.subscribe(&topics) {
            error!(destination = %self.plan.destination, %error, "subscription refused");
        }
    }

    fn obey(&mut self, orders: &Orders) {
        for (epoch, pause) in &orders.paused {
            let pause = *pause && self.epochs.contains_key(epoch);
            self.pauses.by_lane(*epoch, pause);
        }
        if !orders.paused.is_empty() {
            self.apply_pauses();
        }
        if let Some(until) = orders.release {
            self.gate.release(until);
        }
        self.commit(&orders.commit);
        for place in &orders.step_over {
            self.step_over(place.clone());
        }
        if orders.topics.is_some() {
            self.plan.topics.clone_from(&orders.topics);
        }
        if let Some(away) = orders.away
            && std::mem::replace(&mut self.away, away) != away
        {
            if self.has_subscribed {
                info!(destination = %self.plan.destination, away, "asked to leave the consumer group, or to join it again");
            }
            self.subscribe();
        }
        let now = self.clock.now().tick;
        if orders.look_again {
            self.looks = LOOKS.map(|after| now + after).into();
        }
        let look = self.looks.first().is_some_and(|due| *due <= now);
        if look {
            self.looks.pop_first();
        }
        // With cooperative rebalances only the difference comes and goes. But whoever is told something while it joins for the first time
        // joins anew, and the group waits for the member that it began to be until its session ends: so nobody is told without need.
        let told = orders.topics.is_some() || (look && self.misses_a_topic);
        if told && self.rejoin_at.is_none() {
            self.subscribe();
        }
        if let Some(extent) = &orders.ladder {
            self.look_at_ladder(extent);
        }
    }

    /// Handles rebalances, commit results and errors.
    fn serve_events(&mut self) {
        self.poll();
        // One poll serves one event, and a rebalance must not wait behind lines of the log.
        while self.queues.has_events() {
            self.poll();
        }
        while let Some(notice) = self.consumer.context().next_notice() {
            self.doubt_at = None;
            match notice {
                Notice::Assign(partitions) => self.assign(&partitions),
                Notice::Revoke(partitions) => self.revoke(&partitions),
            }
        }
        while let Some(results) = self.queues.commit_results(Duration::ZERO) {
            self.committed(results);
        }
    }

    /// librdkafka asks brokers that do not know the protocol again and again, and says nothing.
    fn doubt_the_brokers(&mut self) {
        let due = |at: &mut Tick| *at <= self.clock.now().tick;
        if self.doubt_at.take_if(due).is_some() && !self.misses_a_topic {
            warn!(
                destination = %self.plan.destination, group = self.plan.group,
                "the brokers have assigned no partition for 30 s; those before Apache Kafka 4.0 do not know group_protocol = \"consumer\": write \"classic\""
            );
        }
    }

    fn poll(&mut self) {
        match self.consumer.poll(Duration::ZERO) {
            Some(Ok(message)) => {
                let fetched = self.queues.stray(&message);
                drop(message);
                self.pass_on(&mut vec![fetched]);
            }
            Some(Err(error @ KafkaError::MessageConsumptionFatal(_))) => {
                error!(
                    destination = %self.plan.destination, group = self.plan.group, %error,
                    "the Kafka client has given up for good"
                );
                self.given_up = true;
            }
            Some(Err(error)) => {
                let unknown = [
                    RDKafkaErrorCode::UnknownTopic,
                    RDKafkaErrorCode::UnknownTopicOrPartition,
                ];
                let code = error.rdkafka_error_code();
                // It has come the wrong way, and does not say of which partition it is.
                if code.is_some_and(|code| DAMAGE.contains(&code)) {
                    let all: Vec<TopicPartition> = self.assigned.keys().cloned().collect();
                    self.lose(&all);
                    return self.leave_and_join_again(&error.to_string());
                }
                self.misses_a_topic |= code.is_some_and(|code| unknown.contains(&code));
                debug!(destination = %self.plan.destination, %error, "consumer error");
            }
            None => {}
        }
    }

    /// A lane that is gone hears nothing; the loop sees the closed channel and ends.
    pub(super) fn tell(&self, event: FromConsumer) {
        if self.outbox.lane.blocking_send(event).is_err() {
            debug!(destination = %self.plan.destination, "the lane has ended before its consumer");
        }
    }

    fn close(mut self, positions: Vec<Position>, patience: Tick) {
        let left = patience.since(self.clock.now().tick);
        self.beat(left + Duration::from_secs(30));
        self.commit_and_wait(&positions, patience);
        let held: Vec<TopicPartition> = self.assigned.keys().cloned().collect();
        self.forget(&held);
        self.consumer.context().close();
        drop(self.queues);
        drop(self.consumer);
        info!(destination = %self.plan.destination, part = ?self.part, "consumer closed");
    }

    /// How long the thread may sleep: until something is due.
    fn nap(&self, left: Left) -> Duration {
        let now = self.clock.now().tick;
        let due = [
            self.rejoin_at,
            self.looks.first().copied(),
            self.doubt_at,
            self.next_look_at_topics(),
            self.damages.due(),
            self.pauses.due().filter(|_| left == Left::NoRoom),
        ];
        let longest = if self.gate.is_empty() {
            NAP
        } else {
            NAP_AT_GATE
        };
        let next = due.iter().flatten().map(|due| due.since(now)).min();
        // A little more: whoever wakes a moment too early finds nothing due, and sleeps for no time at all.
        next.map_or(longest, |next| longest.min(next + Duration::from_millis(1)))
    }

    /// Says that the loop turns, and that it may now be silent for `pause`.
    pub(super) fn beat(&self, pause: Duration) {
        self.beat.beat(self.clock.now().tick, pause);
    }
}

pub(super) fn list(partitions: &[TopicPartition]) -> TopicPartitionList {
    let mut list = TopicPartitionList::with_capacity(partitions.len());
    for (topic, partition) in partitions {
        list.add_partition(topic, *partition);
    }
    list
}
