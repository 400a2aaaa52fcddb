//! The oracle: what was produced, what the receivers and the dead-letter topic got, what was committed, and whether that is right.
//!
//! It looks at a run from outside. Nothing that a lane says of itself is believed here.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use postrider::clock::Timestamp;
use postrider::delivery::{DeadLetterReason, DeliveryId, Verdict};
use postrider::lane::{DeadLetter, Shed, StartAt};
use postrider::record::Record;

use crate::broker::{Broker, CommitEntry, Group, Log, Stored, Tp};
use crate::check::{Check, Violation, ensure};
use crate::plan::{Class, Mix, Plan};
use crate::rng::Rng;

/// What a receiver does with one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Behaviour {
    Takes,
    TakesSlowly,
    FailsFirst(u32),
    PushesBackFirst(u32),
    FaultFirst(u32),
    GoneFirst(u32),
    HangsFirst { times: u32, accepting: bool },
    Rejects,
    FailsAlways,
    Drops,
    CannotBeMade,
    Panics,
}

/// What became of one record on its way to one destination, seen from outside.
#[derive(Debug, Clone)]
pub(crate) struct Fate {
    pub(crate) behaviour: Behaviour,
    pub(crate) verdict: Verdict,
    /// What must be left out of its dead letter.
    pub(crate) shed: Shed,
    /// Requests that reached the receiver while it was minded to look at them.
    pub(crate) tries: u32,
    pub(crate) accepted: u32,
    pub(crate) rejected: u32,
    pub(crate) retried: u32,
    pub(crate) dropped: u32,
    pub(crate) not_made: u32,
    pub(crate) letters: u32,
    id: Option<DeliveryId>,
}

impl Fate {
    fn settled(&self) -> bool {
        let nobody_wants_it = matches!(self.verdict, Verdict::NotMatched | Verdict::Dropped);
        nobody_wants_it || self.accepted > 0 || self.letters > 0 || self.dropped > 0
    }
}

#[derive(Debug)]
pub(crate) struct Produced {
    pub(crate) tp: Tp,
    pub(crate) record: Arc<Record>,
    /// One for each destination.
    pub(crate) fates: Vec<Fate>,
}

/// How far a partition has been found in order.
#[derive(Debug, Clone, Copy)]
struct Checked {
    upto: i64,
    start: i64,
}

pub(crate) struct Oracle {
    pub(crate) produced: Vec<Produced>,
    checked: BTreeMap<(usize, Tp), Checked>,
    ids: HashMap<DeliveryId, (usize, usize)>,
    rules: [Arc<str>; 2],
    start_at: StartAt,
    calm: bool,
    schedules: Vec<usize>,
    ages_short: Vec<bool>,
}

static PADDING: [u8; 4000] = [b'.'; 4000];

impl Oracle {
    pub(crate) fn new(plan: &Plan) -> Self {
        let options = || {
            plan.destinations
                .iter()
                .map(|destination| &destination.options)
        };
        Self {
            produced: Vec::new(),
            checked: BTreeMap::new(),
            ids: HashMap::new(),
            rules: ["first".into(), "second".into()],
            start_at: plan.start_at,
            calm: plan.class == Class::Calm,
            schedules: options()
                .map(|options| options.retry.schedule.len())
                .collect(),
            ages_short: options()
                .map(|options| options.max_age.as_secs() < 60)
                .collect(),
        }
    }

    pub(crate) fn is_calm(&self) -> bool {
        self.calm
    }

    /// A record is written; its number is the answer.
    pub(crate) fn produce(
        &mut self,
        rng: &mut Rng,
        plan: &Plan,
        tp: Tp,
        topic: &Arc<str>,
        offset: i64,
        timestamp: Timestamp,
    ) -> usize {
        let number = self.produced.len();
        let size = rng.pick(&[0, 10, 100, 100, 1500, 4000]);
        let record = Record {
            topic: Arc::clone(topic),
            partition: tp.partition as i32,
            offset,
            timestamp: Some(timestamp),
            key: Some(Bytes::copy_from_slice(&(number as u32).to_be_bytes())),
            value: Some(Bytes::from_static(&PADDING[..size])),
            headers: Vec::new(),
        };
        let fates = plan
            .destinations
            .iter()
            .map(|d| self.draw_fate(rng, d.mix))
            .collect();
        self.produced.push(Produced {
            tp,
            record: Arc::new(record),
            fates,
        });
        number
    }

    fn draw_fate(&self, rng: &mut Rng, mix: Mix) -> Fate {
        let verdict = if rng.chance(mix.unsent) {
            match rng.below(10) {
                0..5 => Verdict::NotMatched,
                5..8 => Verdict::Dropped,
                _ => Verdict::DeadLetter {
                    reason: DeadLetterReason::Undecodable,
                    error: "not JSON".into(),
                },
            }
        } else {
            Verdict::Deliver {
                rule: Arc::clone(&self.rules[rng.index(2)]),
            }
        };
        let behaviour = if rng.chance(mix.special) {
            special(rng, mix)
        } else {
            Behaviour::Takes
        };
        let shed = if rng.chance(mix.too_large) {
            rng.pick(&[Shed::Excerpt, Shed::Value])
        } else {
            Shed::Nothing
        };
        Fate {
            behaviour,
            verdict,
            shed,
            tries: 0,
            accepted: 0,
            rejected: 0,
            retried: 0,
            dropped: 0,
            not_made: 0,
            letters: 0,
            id: None,
        }
    }

    pub(crate) fn fate(&mut self, destination: usize, number: usize) -> &mut Fate {
        &mut self.produced[number].fates[destination]
    }

    // === Promise 5 ===

    /// A request or a dead letter carries this id.
    pub(crate) fn identify(
        &mut self,
        destination: usize,
        number: usize,
        id: DeliveryId,
    ) -> Result<(), Violation> {
        let fate = &mut self.produced[number].fates[destination];
        if let Some(before) = fate.id {
            ensure!(
                before == id,
                Identity,
                "record {number} has the ids {before} and {id} for destination {destination}"
            );
            return Ok(());
        }
        fate.id = Some(id);
        let other = self.ids.insert(id, (destination, number));
        ensure!(
            other.is_none(),
            Identity,
            "{id} is the id of {other:?} and of {:?}",
            (destination, number)
        );
        Ok(())
    }

    /// The receiver has it (once more).
    pub(crate) fn accept(&mut self, destination: usize, number: usize) -> Result<(), Violation> {
        let calm = self.calm;
        let fate = self.fate(destination, number);
        fate.accepted += 1;
        ensure!(
            !calm || fate.accepted == 1,
            Calm,
            "record {number} was accepted {} times by destination {destination} although nothing went wrong",
            fate.accepted
        );
        Ok(())
    }

    // === Promise 3 ===

    /// A dead letter is in the topic.
    pub(crate) fn bury(
        &mut self,
        destination: usize,
        number: usize,
        letter: &DeadLetter,
    ) -> Result<(), Violation> {
        self.identify(destination, number, letter.id)?;
        let (steps, age_short, calm) = (
            self.schedules[destination],
            self.ages_short[destination],
            self.calm,
        );
        let record = Arc::clone(&self.produced[number].record);
        let fate = self.fate(destination, number);
        fate.letters += 1;
        let reason = letter.reason;
        let justified = match reason {
            DeadLetterReason::Rejected => fate.rejected > 0,
            DeadLetterReason::Exhausted => fate.retried as usize > steps,
            DeadLetterReason::Expired => age_short && fate.retried > 0,
            DeadLetterReason::Undecodable => matches!(fate.verdict, Verdict::DeadLetter { .. }),
            DeadLetterReason::Unrenderable => {
                fate.behaviour == Behaviour::CannotBeMade && fate.not_made > 0
            }
            DeadLetterReason::Panic => fate.behaviour == Behaviour::Panics && fate.not_made > 0,
            DeadLetterReason::Gone
            | DeadLetterReason::Unmatched
            | DeadLetterReason::RuleRemoved
            | DeadLetterReason::Skipped => false,
        };
        ensure!(
            justified,
            DeadLetter,
            "nothing justifies the dead letter {reason:?} of record {number}: {fate:?}"
        );
        ensure!(
            *letter.record == *record,
            DeadLetter,
            "the dead letter of record {number} is not the record: {letter:?}"
        );
        ensure!(
            letter.shed == fate.shed,
            DeadLetter,
            "the dead letter of record {number} is without {:?} where {:?} was enough",
            letter.shed,
            fate.shed
        );
        ensure!(
            !calm || fate.letters == 1,
            Calm,
            "record {number} has {} dead letters",
            fate.letters
        );
        Ok(())
    }

    // === Promise 1 ===

    /// Where a member that asks now has to begin.
    pub(crate) fn licence(&self, group: &Group, tp: Tp, log: &Log) -> i64 {
        if let Some(committed) = group.committed.get(&tp) {
            return (*committed).max(log.low);
        }
        let known = group.committed.keys().any(|other| other.topic == tp.topic);
        match self.start_at {
            _ if known => log.low,
            StartAt::Earliest => log.low,
            StartAt::Latest => log.end,
            StartAt::Time(time) => self.first_not_before(log, time).unwrap_or(log.end),
        }
    }

    pub(crate) fn first_not_before(&self, log: &Log, time: Timestamp) -> Option<i64> {
        let in_time = |number: usize| self.produced[number].record.timestamp >= Some(time);
        log.records
            .iter()
            .find(|stored| in_time(stored.number))
            .map(|stored| stored.offset)
    }

    /// The broker takes a commit.
    pub(crate) fn committed(
        &mut self,
        destination: usize,
        entry: &CommitEntry,
        before: Option<i64>,
        log: &Log,
    ) -> Result<(), Violation> {
        let offset = entry.position.offset;
        let tp = entry.tp;
        let rewound = before.is_some_and(|before| offset < before);
        ensure!(
            !rewound,
            CommitRange,
            "{tp:?} of destination {destination} is taken back from {before:?} to {offset}"
        );
        ensure!(
            offset <= log.end,
            CommitRange,
            "{tp:?} is committed at {offset}, behind its end {}",
            log.end
        );
        let start = before.map_or(entry.licence, |_| i64::MIN);
        let checked = self
            .checked
            .entry((destination, tp))
            .or_insert(Checked { upto: start, start });
        let Checked { upto: from, start } = *checked;
        checked.upto = offset.max(from);
        for stored in log
            .from(from)
            .iter()
            .take_while(|stored| stored.offset < offset)
        {
            let fate = &self.produced[stored.number].fates[destination];
            ensure!(
                fate.settled(),
                Commit,
                "destination {destination} committed {tp:?} at {offset}, but record {} at offset {} is not settled \
                 (it had to begin at {start}): {fate:?}",
                stored.number,
                stored.offset
            );
        }
        Ok(())
    }

    /// Whether every record that this destination had to care for is settled.
    pub(crate) fn all_settled(
        &self,
        destination: usize,
        broker: &Broker,
        check: Check,
    ) -> Result<(), Violation> {
        for tp in broker.partitions() {
            let Some(log) = broker.log(tp) else { continue };
            let Some(checked) = self.checked.get(&(destination, tp)) else {
                return Err(Violation::new(
                    check,
                    format!("destination {destination} never began with {tp:?}"),
                ));
            };
            for stored in log.from(checked.start) {
                let fate = &self.produced[stored.number].fates[destination];
                if !fate.settled() {
                    let Stored { offset, number } = *stored;
                    let words = format!(
                        "destination {destination} has not settled record {number} ({tp:?} offset {offset}): {fate:?}"
                    );
                    return Err(Violation::new(check, words));
                }
            }
        }
        Ok(())
    }
}

fn special(rng: &mut Rng, mix: Mix) -> Behaviour {
    if mix.decided_at_once {
        return rng.pick(&[
            Behaviour::TakesSlowly,
            Behaviour::Rejects,
            Behaviour::Drops,
            Behaviour::CannotBeMade,
            Behaviour::Panics,
        ]);
    }
    let times = rng.between(1, 3) as u32;
    match rng.below(16) {
        0 | 14 | 15 => Behaviour::TakesSlowly,
        1 | 2 => Behaviour::FailsFirst(times),
        3 | 4 => Behaviour::PushesBackFirst(times),
        5 => Behaviour::FaultFirst(times),
        6 => Behaviour::GoneFirst(times),
        7 => Behaviour::HangsFirst {
            times,
            accepting: true,
        },
        8 => Behaviour::HangsFirst {
            times,
            accepting: false,
        },
        9 => Behaviour::Rejects,
        10 => Behaviour::FailsAlways,
        11 => Behaviour::Drops,
        12 => Behaviour::CannotBeMade,
        _ => Behaviour::Panics,
    }
}
