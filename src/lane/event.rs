//! What a lane is told and what it asks for.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::clock::{Tick, Timestamp};
use crate::delivery::{
    Attempt, Carried, DeadLetterReason, DeliveryId, DeliveryKey, Epoch, Verdict,
};
use crate::record::Record;

use super::allotment::Allotment;
use super::counts::Settlement;
use super::endpoint::Why;
use super::ladder::{Source, Step};
use super::options::LaneOptions;
use super::order::Order;
use super::skip::Place;
use super::start::TopicId;
use super::status::HeldKey;

/// What another file means for the endpoint of a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndpointChange {
    /// What is known of it stays.
    Same,
    /// It is asked in another way, with another password: the same, but if it is left alone it is tried now.
    AskedOtherwise,
    /// It is another one, of which nothing is known.
    Another,
}

/// Something that happened outside the lane.
#[derive(Debug, Clone)]
pub enum Event {
    /// Partitions were assigned, their start positions resolved. Nothing of a partition is sent before its position is committed.
    Assigned {
        /// The cluster the partitions belong to: part of every delivery's id.
        cluster_id: Arc<str>,
        /// The partitions, each under an epoch of its own.
        partitions: Vec<AssignedPartition>,
    },
    /// The broker acknowledged a commit.
    Committed {
        /// What it acknowledged.
        positions: Vec<Position>,
    },
    /// Partitions are about to be taken away. Answered by [`Action::Revoked`] at the deadline at the latest.
    Revoking {
        /// Which.
        epochs: Vec<Epoch>,
        /// When the answer must be there.
        deadline: Tick,
    },
    /// Partitions have been taken away already: another member may be reading them. Nothing of them is committed.
    Lost {
        /// Which.
        epochs: Vec<Epoch>,
    },
    /// Records of one partition were read. Any offset not below the base is taken, in any order.
    Read {
        /// The assignment they were read in.
        epoch: Epoch,
        /// The records and what the rules say of each.
        records: Vec<Incoming>,
    },
    /// The partition was read to its end.
    EndOfPartition {
        /// The assignment.
        epoch: Epoch,
        /// The offset after the last one there is, transaction markers and compacted records included.
        offset: i64,
    },
    /// These offsets of the partition cannot be read by anybody, and a person had them stepped
    /// over.
    SteppedOver {
        /// The assignment.
        epoch: Epoch,
        /// The offsets.
        offsets: Range<i64>,
    },
    /// A request ended.
    AttemptEnded {
        /// Which delivery.
        key: DeliveryKey,
        /// How.
        attempt: Attempt,
    },
    /// A request that was to be aborted is not under way any more, and nobody knows how it would have ended.
    Aborted {
        /// Which delivery.
        key: DeliveryKey,
    },
    /// A write to an owned topic ended.
    WriteEnded {
        /// Which delivery.
        key: DeliveryKey,
        /// `Ok` only after every in-sync replica has it.
        result: Result<(), WriteError>,
    },
    /// Stop for good: what is in flight may end until the deadline. Answered by [`Action::Drained`].
    Drain {
        /// When the answer must be there.
        deadline: Tick,
    },
    /// Another lane's record must be the only one under way in the process: no request begins until it is said that this is over.
    Hush(bool),
    /// The answer to [`Action::AskForStillness`]: every other lane of the process is still.
    Still,
    /// Another lane has found the record that ended the process before it began this time.
    Explained,
    /// A person asks for something.
    Ordered(Order),
    /// The file says something else, but for the order.
    Changed {
        /// All settings, as they are from here on.
        options: Box<LaneOptions>,
        /// What that means for its endpoint.
        endpoint: EndpointChange,
    },
    /// So much of the process's limits is the lane's from here on.
    Allotted(Allotment),
    /// Nothing happened but time.
    TimePassed,
}

/// A partition that was assigned, and where it begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssignedPartition {
    /// The name of this assignment from here on.
    pub epoch: Epoch,
    /// Its topic.
    pub topic: Arc<str>,
    /// Its number in the topic.
    pub partition: i32,
    /// What kind of topic that is.
    pub source: Source,
    /// The first offset that will be read: what [`start_position`](super::start_position) decided.
    pub base: i64,
    /// Whether the group has exactly this position committed already.
    pub committed: bool,
    /// The metadata of the group's committed offset, as it was found: anybody may have written it.
    pub metadata: Option<Bytes>,
    /// What tells its topic from others of the same name; `None` where the broker does not say.
    pub topic_id: Option<TopicId>,
}

/// A record that was read, and what the rules say of it.
#[derive(Debug, Clone)]
pub struct Incoming {
    /// Its offset in the partition it was read from.
    pub offset: i64,
    /// The record; one from the ladder as it was on its first topic, place and timestamp included.
    pub record: Arc<Record>,
    /// What becomes of it.
    pub verdict: Verdict,
    /// What its endpoint is known by, where the destination has many; `None`: it has one.
    pub endpoint: Option<Arc<str>>,
    /// The records of the partition that have this key go one after the other; `None`: it is in no order.
    pub order_key: Option<Bytes>,
    /// What it brings along from the ladder.
    pub carried: Option<Box<Carried>>,
}

/// A position in a partition: every record below it is settled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// The assignment.
    pub epoch: Epoch,
    /// The first offset that is not settled.
    pub offset: i64,
    /// What is known beyond that offset, to be committed with it; empty: nothing.
    pub metadata: Arc<str>,
}

/// Why a write to an owned topic did not succeed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WriteError {
    /// The topic does not take a record of this size.
    TooLarge,
    /// Anything else; tried again until it succeeds.
    Failed(String),
}

/// Something the shell is asked to do.
#[derive(Debug, Clone)]
pub enum Action {
    /// Make a request; answer with [`Event::AttemptEnded`].
    Send(Send),
    /// Leave off these requests: others have their partitions, and may send later records of the same keys. Answer each with [`Event::Aborted`], or with
    /// [`Event::AttemptEnded`] when it has ended.
    Abort {
        /// Which deliveries.
        keys: Vec<DeliveryKey>,
    },
    /// Write a dead letter; answer with [`Event::WriteEnded`].
    WriteDeadLetter(Box<DeadLetter>),
    /// Write a record to the ladder; answer with [`Event::WriteEnded`].
    WriteLadder(Box<LadderRecord>),
    /// Commit these positions, for partitions owned at that moment only; answer with [`Event::Committed`] when the broker says
    /// yes. A commit that fails needs no answer: the positions are asked for again.
    Commit {
        /// What to commit.
        positions: Vec<Position>,
    },
    /// The answer to [`Event::Revoking`]: commit these positions synchronously, then let the partitions go.
    Revoked {
        /// The epochs that were asked for; they are fenced.
        epochs: Vec<Epoch>,
        /// Their last positions; an epoch with nothing to commit is absent.
        positions: Vec<Position>,
    },
    /// The answer to [`Event::Drain`]: commit these positions synchronously, then close the consumer.
    Drained {
        /// The last positions of every partition held.
        positions: Vec<Position>,
    },
    /// Something a person wants to know of.
    Tell(Notice),
    /// Stop reading this partition: it is read too far ahead of its oldest unsettled record.
    Pause(Epoch),
    /// Read this partition again.
    Resume(Epoch),
    /// Have every other lane of the process end its requests and begin none; answer with [`Event::Still`].
    AskForStillness,
    /// The stillness, asked for or there, is needed no more.
    EndStillness,
}

/// A change that a person wants to know of.
#[derive(Debug, Clone, PartialEq)]
pub enum Notice {
    /// The endpoint is left alone but for probes.
    Opened {
        /// Which, if the destination has many.
        endpoint: Option<Arc<str>>,
        /// The answer that made the difference.
        why: Why,
        /// The time until the first probe.
        next_probe: Duration,
    },
    /// The endpoint does its work again.
    Closed {
        /// Which, if the destination has many.
        endpoint: Option<Arc<str>>,
        /// How long it was left alone.
        open_for: Duration,
    },
    /// The endpoint says that it has gone.
    Gone {
        /// Which, if the destination has many.
        endpoint: Option<Arc<str>>,
    },
    /// A record met a fault while others passed.
    Suspect {
        /// The delivery.
        key: DeliveryKey,
        /// How often that happened to it.
        faults: u32,
    },
    /// A record ended as a dead letter, and the others of its key wait for a person.
    KeyHeld {
        /// The key.
        key: Bytes,
    },
    /// Nothing more can be read because of records that wait for others of their keys.
    HeldUp {
        /// Those with most records behind them.
        keys: Vec<HeldKey>,
        /// How many keys there are.
        count: usize,
    },
    /// A partition is read no further: what would have to be known of it after a restart is more than can be committed, and nothing of it may go to the
    /// ladder.
    ReadsNoFurther {
        /// Its topic.
        topic: Arc<str>,
        /// Its number there.
        partition: i32,
    },
    /// So many records were rejected lately that the lane slows down, or stops.
    Braked,
    /// The brake has ended.
    Released,
    /// A record that was to be skipped has come to its end.
    SkipEnded {
        /// Where it was read first.
        place: Place,
        /// Its end.
        settlement: Settlement,
    },
    /// A record that was to be skipped is in a batch that does not read, which was stepped over.
    SteppedOver {
        /// Where it would have been read.
        place: Place,
    },
    /// The process ended at one place again and again: the lane goes one record at a time to find out why.
    Cautious {
        /// The topic.
        topic: Arc<str>,
        /// Its partition.
        partition: i32,
        /// The position.
        offset: i64,
    },
    /// The record that ended the process is a dead letter, and that is committed.
    CauseRemoved,
    /// The lane goes on as usual.
    CautionOver,
    /// The process ended again and again while this record alone was under way: it becomes a dead letter.
    EndsTheProcess {
        /// The delivery.
        key: DeliveryKey,
        /// The record.
        record: Arc<Record>,
    },
}

/// A request to make.
#[derive(Debug, Clone)]
pub struct Send {
    /// The delivery.
    pub key: DeliveryKey,
    /// What the receiver sees as its id.
    pub id: DeliveryId,
    /// The record.
    pub record: Arc<Record>,
    /// The rule that wants it delivered.
    pub rule: Arc<str>,
    /// The number of this attempt, from 1. An attempt that was pushed back keeps its number.
    pub attempt: u32,
}

/// A dead letter to write: the record untouched, and what is known of its end.
#[derive(Debug, Clone)]
pub struct DeadLetter {
    /// The delivery.
    pub key: DeliveryKey,
    /// Its id, the same that the receiver saw.
    pub id: DeliveryId,
    /// The record.
    pub record: Arc<Record>,
    /// The rule that wanted it delivered; absent when none got that far.
    pub rule: Option<Arc<str>>,
    /// Why it ends here.
    pub reason: DeadLetterReason,
    /// The last status.
    pub status: Option<u16>,
    /// The last error, in words.
    pub error: String,
    /// The first bytes of the last answer.
    pub excerpt: Bytes,
    /// Attempts spent.
    pub attempts: u32,
    /// When the first attempt began; absent when there was none.
    pub first_attempt: Option<Timestamp>,
    /// When the last attempt ended.
    pub last_attempt: Option<Timestamp>,
    /// The cluster it came from.
    pub cluster_id: Arc<str>,
    /// What had to be left out to make it fit.
    pub shed: Shed,
    /// How often it was replayed before this end.
    pub round: u32,
}

/// A record to write to the ladder: untouched, and what it must bring along when it comes up.
#[derive(Debug, Clone)]
pub struct LadderRecord {
    /// The delivery.
    pub key: DeliveryKey,
    /// The record, as it was on its first topic.
    pub record: Arc<Record>,
    /// The step to write it to.
    pub step: Step,
    /// What it brings along.
    pub carried: Carried,
    /// Whether it only makes room for others: then it comes up later than it is due.
    pub makes_room: bool,
}

/// What is left out of a dead letter that the topic would not take whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Shed {
    /// Nothing.
    #[default]
    Nothing,
    /// The excerpt of the answer.
    Excerpt,
    /// The excerpt and the value; the origin's topic, partition and offset say where the value is.
    Value,
    /// The record's key and headers too: what is left is what is known of its end, and where it is.
    Record,
}

impl Shed {
    /// The next step: one thing more. Nothing more can be left out of the last.
    pub(super) fn more(self) -> Self {
        match self {
            Self::Nothing => Self::Excerpt,
            Self::Excerpt => Self::Value,
            Self::Value | Self::Record => Self::Record,
        }
    }
}
