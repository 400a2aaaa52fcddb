//! The oracle: what was produced, what the receivers and the dead-letter topic got, what was committed, and whether that is right.
//!
//! It looks at a run from outside. Nothing that a lane says of itself is believed here.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use postrider::clock::Timestamp;
use postrider::delivery::{DeadLetterReason, DeliveryId, Verdict};
use postrider::lane::{DeadLetter, Shed, StartAt};
use postrider::record::Record;

use crate::broker::Tp;
use crate::check::{Violation, ensure};
use crate::plan::DestinationPlan;
use crate::plan::{Class, Kinds, Mix, Plan};
use crate::reach::Reached;
use crate::rng::Rng;
use crate::rungs::Rung;
use crate::settings::AGE_MAX;

/// What a receiver does with one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Behaviour {
    Takes,
    TakesSlowly,
    FailsFirst(u32),
    PushesBackFirst(u32),
    FaultFirst(u32),
    GoneFirst(u32),
    HangsFirst {
        times: u32,
        accepting: bool,
    },
    Rejects,
    FailsAlways,
    Drops,
    CannotBeMade,
    Panics,
    /// 403, always, whatever becomes of others.
    FaultsAlways,
    /// 429, always, whatever becomes of others.
    PushesBackAlways,
}

impl Behaviour {
    /// It takes the record and lets its sender believe that it did not.
    fn hides_what_it_took(self) -> bool {
        matches!(
            self,
            Self::HangsFirst {
                accepting: true,
                ..
            }
        )
    }
}

/// What became of one record on its way to one destination, seen from outside.
#[derive(Debug, Clone)]
pub(crate) struct Fate {
    pub(crate) behaviour: Behaviour,
    pub(crate) endpoint: Option<Arc<str>>,
    pub(crate) order_key: Option<Bytes>,
    pub(crate) verdict: Verdict,
    /// What must be left out of its dead letter.
    pub(crate) shed: Shed,
    /// Requests that reached the receiver while it was minded to look at them.
    pub(crate) tries: u32,
    pub(crate) accepted: u32,
    /// When it was taken first.
    pub(crate) taken_at: crate::world::Time,
    pub(crate) rejected: u32,
    /// Answers that ask for another try, and those of them that came of the record and not of an outage.
    pub(crate) retried: u32,
    pub(crate) own_failures: u32,
    /// The same, of answers that speak of the endpoint or ask for less.
    pub(crate) faults: u32,
    pub(crate) own_faults: u32,
    /// Attempts that were spent beyond doubt, and those of them that an unclean end may have forgotten.
    pub(crate) spent: u32,
    pub(crate) spent_in_outages: u32,
    pub(crate) lost: u32,
    /// How often it went to another owner with its schedule used up.
    pub(crate) reborn: u32,
    /// It can be come across at two places, each with a budget of its own.
    pub(crate) doubled: bool,
    pub(crate) dropped: u32,
    pub(crate) not_made: u32,
    pub(crate) letters: u32,
    /// Requests that left for it, wherever they arrived.
    pub(crate) requests: u32,
    /// Where it landed on the ladder.
    pub(crate) rungs: Vec<usize>,
    id: Option<DeliveryId>,
}

impl Fate {
    pub(crate) fn settled(&self) -> bool {
        let nobody_wants_it = matches!(self.verdict, Verdict::NotMatched | Verdict::Dropped);
        nobody_wants_it || self.accepted > 0 || self.letters > 0 || self.dropped > 0
    }
}

#[derive(Debug)]
pub(crate) struct Produced {
    pub(crate) tp: Tp,
    pub(crate) record: Arc<Record>,
    pub(crate) written_at: crate::world::Time,
    /// One for each destination.
    pub(crate) fates: Vec<Fate>,
}

/// The shortest and the longest schedule that a destination has had, in entries.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Schedules {
    pub(crate) shortest: usize,
    pub(crate) longest: usize,
}

pub(crate) struct Oracle {
    pub(crate) produced: Vec<Produced>,
    /// What landed on the ladder, in order.
    pub(crate) rungs: Vec<Rung>,
    pub(crate) reached: BTreeMap<(usize, Tp), Reached>,
    pub(crate) rules_removed: bool,
    pub(crate) destination_ids: Vec<Arc<str>>,
    ids: HashMap<DeliveryId, (usize, usize)>,
    pub(crate) rules: [Arc<str>; 2],
    pub(crate) start_at: StartAt,
    /// The highest number that an attempt had.
    pub(crate) highest_attempt: u32,
    /// When the last record that was written before the end of the faults was taken.
    pub(crate) all_taken_at: crate::world::Time,
    calm: bool,
    long: bool,
    /// Nothing is slow or refused: an unclean end forgets one attempt at most.
    pub(crate) steady: bool,
    /// Partitions whose last owner did not hand them over in good order.
    pub(crate) unclean: BTreeSet<(usize, Tp)>,
    pub(crate) rows: BTreeMap<crate::sequence::Place, crate::sequence::Row>,
    outages: Vec<u32>,
    /// Endpoints, of several, that have said that they are gone.
    pub(crate) gone: BTreeSet<(usize, Arc<str>)>,
    /// Destinations with a record that is always bad.
    for_ever: BTreeSet<usize>,
    pub(crate) schedules: Vec<Schedules>,
    ages_short: Vec<bool>,
}

/// A record that met so many faults while others passed is rejected.
const FAULTS_TO_REJECT: u32 = 3;

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
            rules_removed: false,
            rungs: Vec::new(),
            reached: BTreeMap::new(),
            destination_ids: plan
                .destinations
                .iter()
                .map(|d| Arc::clone(&d.id))
                .collect(),
            ids: HashMap::new(),
            rules: ["first".into(), "second".into()],
            start_at: plan.start_at,
            highest_attempt: 0,
            all_taken_at: 0,
            calm: plan.is_calm(),
            long: plan.class == Class::Long,
            steady: plan.class == Class::Long && plan.broker.is_well(),
            unclean: BTreeSet::new(),
            for_ever: BTreeSet::new(),
            gone: BTreeSet::new(),
            rows: BTreeMap::new(),
            outages: plan
                .destinations
                .iter()
                .map(|d| d.outages.len() as u32)
                .collect(),
            schedules: options()
                .map(|options| options.retry.schedule.len())
                .map(|entries| Schedules {
                    shortest: entries,
                    longest: entries,
                })
                .collect(),
            ages_short: options().map(|options| options.max_age < AGE_MAX).collect(),
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
        (tp, topic): (Tp, &Arc<str>),
        offset: i64,
        (written_at, timestamp): (crate::world::Time, Timestamp),
        taken: bool,
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
        let mut fates: Vec<Fate> = plan
            .destinations
            .iter()
            .map(|d| {
                let mix = if taken { Mix::default() } else { d.mix };
                self.draw_fate(rng, mix, d, number)
            })
            .collect();
        self.one_for_ever(&mut fates);
        self.produced.push(Produced {
            tp,
            record: Arc::new(record),
            written_at,
            fates,
        });
        self.lines_up(number);
        number
    }

    fn draw_fate(&self, rng: &mut Rng, mix: Mix, d: &DestinationPlan, number: usize) -> Fate {
        let (endpoint, order_key) = (d.endpoint_of(number), d.order_key_of(number));
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
            endpoint,
            order_key,
            verdict,
            shed,
            tries: 0,
            accepted: 0,
            taken_at: 0,
            rejected: 0,
            retried: 0,
            own_failures: 0,
            faults: 0,
            own_faults: 0,
            spent: 0,
            spent_in_outages: 0,
            lost: 0,
            reborn: 0,
            doubled: false,
            dropped: 0,
            not_made: 0,
            letters: 0,
            requests: 0,
            rungs: Vec::new(),
            id: None,
        }
    }

    pub(crate) fn fate(&mut self, destination: usize, number: usize) -> &mut Fate {
        &mut self.produced[number].fates[destination]
    }

    /// Among few records two that are always bad accuse each other, and nobody can tell. One that is always pushed back is told from a receiver that
    /// limits its rate by many that pass, more than one endpoint of several gets here.
    fn one_for_ever(&mut self, fates: &mut [Fate]) {
        for (destination, fate) in fates.iter_mut().enumerate() {
            let for_ever = matches!(
                fate.behaviour,
                Behaviour::PushesBackAlways | Behaviour::FaultsAlways
            );
            // And with an order, others of its key wait for it that it would be told from.
            let pushed_back = fate.behaviour == Behaviour::PushesBackAlways;
            let among_few = fate.endpoint.is_some() && pushed_back || fate.order_key.is_some();
            if fate.order_key.is_some() && fate.behaviour == Behaviour::FailsAlways {
                // Two of them at the heads of all keys that a window holds look like an endpoint that is out, for as long as it takes.
                fate.behaviour = Behaviour::FailsFirst(3);
            }
            if for_ever && (among_few || !self.for_ever.insert(destination)) {
                fate.behaviour = Behaviour::FailsFirst(3);
            }
        }
    }

    pub(crate) fn schedule_changed(&mut self, destination: usize, entries: usize) {
        let Schedules { shortest, longest } = &mut self.schedules[destination];
        *shortest = entries.min(*shortest);
        *longest = entries.max(*longest);
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
            !calm || fate.accepted == 1 || fate.behaviour.hides_what_it_took(),
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
        let (long, outages) = (self.long, self.outages[destination]);
        let (steps, age_short, calm) = (
            self.schedules[destination].shortest,
            self.ages_short[destination],
            self.calm,
        );
        let record = Arc::clone(&self.produced[number].record);
        let rules_removed = self.rules_removed;
        let endpoint = self.fate(destination, number).endpoint.clone();
        let gone = endpoint.is_some_and(|endpoint| self.gone.contains(&(destination, endpoint)));
        let fate = self.fate(destination, number);
        fate.letters += 1;
        let reason = letter.reason;
        // In a long run an outage costs attempts only until the endpoint is left alone.
        let (failures, faults) = if long {
            let failures = fate.own_failures + fate.spent_in_outages;
            (failures + outages, fate.own_faults + outages)
        } else {
            (fate.retried, fate.faults)
        };
        // One that had an end before, which was not committed, is tried with what was spent on that.
        let ended_before = fate.rejected + fate.not_made;
        let used_up = (failures + faults + ended_before) as usize > steps;
        let justified = match reason {
            DeadLetterReason::Rejected => {
                fate.rejected > 0 || faults >= FAULTS_TO_REJECT || faults > 0 && used_up
            }
            DeadLetterReason::Exhausted => used_up,
            DeadLetterReason::Expired => age_short && fate.retried + fate.faults > 0,
            DeadLetterReason::Undecodable => matches!(fate.verdict, Verdict::DeadLetter { .. }),
            DeadLetterReason::Unrenderable => {
                fate.behaviour == Behaviour::CannotBeMade && fate.not_made > 0
            }
            DeadLetterReason::Panic => fate.behaviour == Behaviour::Panics && fate.not_made > 0,
            DeadLetterReason::RuleRemoved => rules_removed && !fate.rungs.is_empty(),
            DeadLetterReason::Gone => gone,
            DeadLetterReason::Unmatched | DeadLetterReason::Skipped => false,
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
}

fn special(rng: &mut Rng, mix: Mix) -> Behaviour {
    if mix.kinds == Kinds::Long {
        return special_long(rng);
    }
    if mix.kinds == Kinds::DecidedAtOnce {
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
        10 if mix.kinds == Kinds::Passing => Behaviour::FailsFirst(times),
        10 => Behaviour::FailsAlways,
        11 => Behaviour::Drops,
        12 => Behaviour::CannotBeMade,
        _ => Behaviour::Panics,
    }
}

fn special_long(rng: &mut Rng) -> Behaviour {
    let times = rng.between(1, 6) as u32;
    match rng.below(16) {
        0..5 => Behaviour::FailsFirst(times),
        5 | 6 => Behaviour::FailsAlways,
        7 | 8 => Behaviour::FaultsAlways,
        9 => Behaviour::PushesBackAlways,
        10 => Behaviour::FaultFirst(times % 3),
        11 => Behaviour::PushesBackFirst(times % 3),
        12 => Behaviour::HangsFirst {
            times,
            accepting: times.is_multiple_of(2),
        },
        13 => Behaviour::TakesSlowly,
        14 => Behaviour::Rejects,
        _ => rng.pick(&[Behaviour::Drops, Behaviour::CannotBeMade, Behaviour::Panics]),
    }
}
