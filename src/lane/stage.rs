//! A small stage for the machine's own tests: one lane, one topic partition, one ladder partition for each step, a receiver that is a function.
//! Everything the lane asks for happens; time passes from one event to the next.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::clock::{Now, Tick, Timestamp};
use crate::delivery::{Attempt, Carried, DeliveryKey, Epoch, FailureReason, Outcome, Verdict};
use crate::record::Record;

use super::start::TopicId;
use super::{
    Action, AssignedPartition, DeadLetter, Event, Incoming, Lane, LaneOptions, Notice, Position,
    Source, Step,
};

/// The wall clock when the stage is set.
pub(super) const MORNING: i64 = 1_800_000_000_000;

/// How long a request takes, unless said otherwise.
const LATENCY: Duration = Duration::from_millis(1);

type Receiver = Box<dyn FnMut(&Seen) -> Attempt>;

/// A request as the receiver sees it.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) offset: i64,
    pub(super) attempt: u32,
    pub(super) at: Duration,
    pub(super) id: String,
}

/// What stands on one step: when it was appended, and what.
type Standing = (Timestamp, Arc<Record>, Carried);

pub(super) struct Stage {
    pub(super) lane: Lane,
    pub(super) now: Now,
    receiver: Receiver,
    /// The topic's end, and how far it was read.
    pub(super) produced: i64,
    pub(super) read: i64,
    pub(super) ladder: BTreeMap<Step, Vec<Standing>>,
    ladder_read: BTreeMap<Step, usize>,
    answers: BTreeMap<(Tick, u64), (DeliveryKey, Attempt)>,
    next_answer: u64,
    pub(super) latency: Duration,
    pub(super) seen: Vec<Seen>,
    pub(super) delivered: BTreeMap<i64, Duration>,
    pub(super) letters: Vec<DeadLetter>,
    pub(super) notices: Vec<Notice>,
    pub(super) committed: BTreeMap<Epoch, Position>,
    paused: BTreeSet<Epoch>,
    life: u64,
    /// Whether every other lane is still at once when that is asked for.
    pub(super) grants: bool,
    pub(super) stillness_asked: usize,
    /// Whether the lane has it.
    pub(super) is_alone: bool,
    /// Whether brokers acknowledge what is committed; what they do not is kept.
    pub(super) acknowledges: bool,
    pub(super) unacknowledged: Vec<Position>,
    /// What ends the process as soon as it is sent.
    pub(super) deadly: BTreeSet<i64>,
    pub(super) dead: bool,
    /// The records go to so many endpoints in turn; 0: the destination has one.
    pub(super) endpoints: i64,
    /// The records have so many keys in turn; 0: they have none.
    pub(super) keys: i64,
}

impl Stage {
    pub(super) fn new(
        options: LaneOptions,
        receiver: impl FnMut(&Seen) -> Attempt + 'static,
    ) -> Self {
        let mut stage = Self {
            lane: Lane::new(options, "shop".into()),
            now: Now {
                tick: Tick(Duration::from_secs(1)),
                wall: Timestamp(MORNING),
            },
            receiver: Box::new(receiver),
            produced: 0,
            read: 0,
            ladder: BTreeMap::new(),
            ladder_read: BTreeMap::new(),
            answers: BTreeMap::new(),
            next_answer: 0,
            latency: LATENCY,
            seen: Vec::new(),
            delivered: BTreeMap::new(),
            letters: Vec::new(),
            notices: Vec::new(),
            committed: BTreeMap::new(),
            paused: BTreeSet::new(),
            life: 0,
            grants: true,
            stillness_asked: 0,
            is_alone: false,
            acknowledges: true,
            unacknowledged: Vec::new(),
            deadly: BTreeSet::new(),
            dead: false,
            endpoints: 0,
            keys: 0,
        };
        stage.assign();
        stage
    }

    /// The epoch of a partition in this life: 0 is the topic's, the others are the steps'.
    fn epoch(&self, number: u64) -> Epoch {
        Epoch(self.life * 10 + number)
    }

    /// What the endpoint of a record is known by.
    fn endpoint_of(&self, offset: i64) -> Option<Arc<str>> {
        (self.endpoints > 0).then(|| (offset % self.endpoints).to_string().into())
    }

    fn order_key_of(&self, offset: i64) -> Option<Bytes> {
        (self.keys > 0).then(|| (offset % self.keys).to_string().into())
    }

    fn assign(&mut self) {
        let topic = (0, "orders".to_owned(), Source::Topic);
        let steps = Step::ALL.iter().zip(1..).map(|(step, number)| {
            let name = format!("p.retry.{}", step.name());
            (number, name, Source::Ladder(*step))
        });
        let partitions = std::iter::once(topic).chain(steps);
        let partitions = partitions.map(|(number, name, source)| {
            let known = self.committed.get(&Epoch(number));
            AssignedPartition {
                epoch: self.epoch(number),
                topic: name.into(),
                partition: 0,
                source,
                base: known.map_or(0, |position| position.offset),
                committed: known.is_some(),
                metadata: known
                    .map(|position| Bytes::copy_from_slice(position.metadata.as_bytes())),
                topic_id: TopicId::new(7),
            }
        });
        let partitions: Vec<AssignedPartition> = partitions.collect();
        self.read = partitions[0].base;
        for (step, assigned) in Step::ALL.iter().zip(&partitions[1..]) {
            let base = usize::try_from(assigned.base).unwrap();
            self.ladder_read.insert(*step, base);
        }
        self.tell(Event::Assigned {
            cluster_id: "c".into(),
            partitions,
        });
    }

    /// The process ends without a word and begins again, with other settings if there are any; what was not committed is read again.
    pub(super) fn crash(&mut self, options: Option<LaneOptions>) {
        let options = options.unwrap_or_else(|| self.lane.options.clone());
        self.lane = Lane::new(options, "shop".into());
        self.answers.clear();
        self.paused.clear();
        self.life += 1;
        self.dead = false;
        self.assign();
    }

    pub(super) fn produce(&mut self, records: i64) {
        self.produced += records;
        self.tell(Event::TimePassed);
    }

    /// Produces a record every `interval`, so many times.
    pub(super) fn trickle(&mut self, records: u32, interval: Duration) {
        for _ in 0..records {
            self.produce(1);
            self.pass(interval);
        }
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.now.tick.since(Tick(Duration::from_secs(1)))
    }

    pub(super) fn tell(&mut self, event: Event) {
        if self.dead {
            return;
        }
        self.lane.handle(self.now, event);
        loop {
            while let Some(action) = self.lane.poll_action() {
                self.obey(action);
                if self.dead {
                    return;
                }
            }
            if !self.read_on() {
                return;
            }
        }
    }

    /// Hands over what there is room for. False when nothing was.
    fn read_on(&mut self) -> bool {
        let room = i64::try_from(self.lane.room().records).unwrap();
        let epoch = self.epoch(0);
        if room > 0 && self.read < self.produced && !self.paused.contains(&epoch) {
            let end = self.produced.min(self.read + room.min(1000));
            let records = (self.read..end)
                .map(|offset| Incoming {
                    order_key: self.order_key_of(offset),
                    ..incoming(offset, offset, self.endpoint_of(offset))
                })
                .collect();
            self.read = end;
            self.lane.handle(self.now, Event::Read { epoch, records });
            return true;
        }
        for (step, number) in Step::ALL.into_iter().zip(1..) {
            let epoch = self.epoch(number);
            let place = self.ladder_read[&step];
            let standing = self.ladder.get(&step).and_then(|all| all.get(place));
            let Some((appended, record, carried)) = standing else {
                continue;
            };
            if self.lane.room().records == 0 || step.comes_up(*appended) > self.now.wall {
                continue;
            }
            let carried = Carried {
                appended: Some(*appended),
                ..carried.clone()
            };
            let incoming = Incoming {
                offset: i64::try_from(place).unwrap(),
                record: Arc::clone(record),
                verdict: Verdict::Deliver { rule: "r".into() },
                endpoint: self.endpoint_of(record.offset),
                order_key: self.order_key_of(record.offset),
                carried: Some(Box::new(carried)),
            };
            self.ladder_read.insert(step, place + 1);
            let records = vec![incoming];
            self.lane.handle(self.now, Event::Read { epoch, records });
            return true;
        }
        false
    }

    fn obey(&mut self, action: Action) {
        match action {
            Action::Send(send) => {
                let seen = Seen {
                    offset: send.record.offset,
                    attempt: send.attempt,
                    at: self.elapsed(),
                    id: send.id.to_string(),
                };
                self.dead |= self.deadly.contains(&seen.offset);
                let attempt = (self.receiver)(&seen);
                if attempt.outcome == Outcome::Delivered {
                    self.delivered.entry(seen.offset).or_insert(seen.at);
                }
                self.seen.push(seen);
                self.next_answer += 1;
                let place = (self.now.tick + self.latency, self.next_answer);
                self.answers.insert(place, (send.key, attempt));
            }
            Action::WriteDeadLetter(letter) => {
                let key = letter.key;
                self.letters.push(*letter);
                let result = Ok(());
                self.lane
                    .handle(self.now, Event::WriteEnded { key, result });
            }
            Action::WriteLadder(record) => {
                let standing = (self.now.wall, record.record, record.carried);
                self.ladder.entry(record.step).or_default().push(standing);
                let (key, result) = (record.key, Ok(()));
                self.lane
                    .handle(self.now, Event::WriteEnded { key, result });
            }
            Action::Commit { positions } if !self.acknowledges => {
                self.unacknowledged = positions;
            }
            Action::Commit { positions } => {
                for position in &positions {
                    let number = Epoch(position.epoch.0 - self.life * 10);
                    self.committed.insert(number, position.clone());
                }
                self.lane.handle(self.now, Event::Committed { positions });
            }
            Action::Tell(notice) => self.notices.push(notice),
            Action::Pause(epoch) => {
                self.paused.insert(epoch);
            }
            Action::Resume(epoch) => {
                self.paused.remove(&epoch);
            }
            Action::Abort { keys } => {
                for key in keys {
                    self.answers.retain(|_, (other, _)| *other != key);
                    self.lane.handle(self.now, Event::Aborted { key });
                }
            }
            Action::AskForStillness if self.grants => {
                self.is_alone = true;
                self.lane.handle(self.now, Event::Still);
            }
            Action::AskForStillness => self.stillness_asked += 1,
            Action::EndStillness => self.is_alone = false,
            Action::Revoked { positions, .. } | Action::Drained { positions } => {
                for position in positions {
                    let number = Epoch(position.epoch.0 - self.life * 10);
                    self.committed.insert(number, position);
                }
            }
        }
    }

    /// Lets so much time pass.
    pub(super) fn pass(&mut self, time: Duration) {
        let end = self.now.tick + time;
        while !self.dead {
            let answer = self.answers.keys().next().map(|(tick, _)| *tick);
            let ladder = self.ladder_read.iter().filter_map(|(step, place)| {
                let (appended, ..) = self.ladder.get(step)?.get(*place)?;
                let left = step.comes_up(*appended).0 - self.now.wall.0;
                let left = Duration::from_millis(u64::try_from(left).ok().filter(|ms| *ms > 0)?);
                Some(self.now.tick + left)
            });
            let next = [answer, self.lane.poll_timeout()].into_iter().flatten();
            let next = next.chain(ladder).min().filter(|next| *next <= end);
            self.go_to(next.unwrap_or(end).max(self.now.tick));
            let due = self.answers.keys().next().copied();
            match due.filter(|(tick, _)| *tick <= self.now.tick) {
                Some(place) => {
                    let (key, attempt) = self.answers.remove(&place).unwrap();
                    self.tell(Event::AttemptEnded { key, attempt });
                }
                None => self.tell(Event::TimePassed),
            }
            if next.is_none() {
                return;
            }
        }
    }

    fn go_to(&mut self, tick: Tick) {
        let span = tick.since(self.now.tick);
        self.now.tick = tick;
        self.now.wall.0 += i64::try_from(span.as_millis()).unwrap();
    }
}

fn incoming(offset: i64, value: i64, endpoint: Option<Arc<str>>) -> Incoming {
    let record = Record {
        topic: "orders".into(),
        partition: 0,
        offset,
        timestamp: Some(Timestamp(MORNING)),
        key: None,
        value: Some(value.to_string().into()),
        headers: Vec::new(),
    };
    Incoming {
        offset,
        record: Arc::new(record),
        verdict: Verdict::Deliver { rule: "r".into() },
        endpoint,
        order_key: None,
        carried: None,
    }
}

/// An answer with this status, judged as the table says.
pub(super) fn answer(status: u16) -> Attempt {
    let (outcome, reason) = match status {
        200 => return Attempt::delivered(200),
        400 => (Outcome::Reject, FailureReason::Http4xx),
        401 | 403 => (Outcome::EndpointFault, FailureReason::Http403),
        410 => (Outcome::Gone, FailureReason::Http410),
        429 => (Outcome::PushBack, FailureReason::Http429),
        _ => (Outcome::Retry, FailureReason::Http5xx),
    };
    Attempt {
        outcome,
        reason: Some(reason),
        status: Some(status),
        ..Attempt::failed_before_sending(format!("status {status}"))
    }
}
