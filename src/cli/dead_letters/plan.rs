//! Which dead letters a replay takes, and in which order.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use crate::clock::Timestamp;
use crate::delivery::DeliveryId;
use crate::kafka::Letter;

use super::reading::{Fate, Found};

/// A record is replayed so often; then a person must say that it is worth another round.
pub(super) const ROUNDS_MAX: u32 = 2;

/// A dead letter to replay, without what weighs much.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) id: DeliveryId,
    /// When it was written to the dead letters, and its place there.
    pub(super) written: Option<Timestamp>,
    pub(super) place: (i32, i64),
    /// The round that its replay begins.
    pub(super) round: u32,
    /// The id of its destination.
    pub(super) destination: String,
    /// What it has in memory, about.
    pub(super) weight: usize,
    /// Records of one group were in order in their first topic.
    group: u64,
    /// Its offset there.
    origin: i64,
}

/// A dead letter that is meant and is not replayed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Left {
    pub(super) id: DeliveryId,
    pub(super) why: String,
}

/// What a replay does.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// In this order.
    pub(super) rounds: Vec<Candidate>,
    pub(super) left: Vec<Left>,
    /// Those that are meant and were replayed before.
    pub(super) before: usize,
}

/// Makes a plan of dead letters as they are read.
pub(super) struct Planner<'a> {
    /// Why nothing can be replayed to a destination.
    pub(super) barred: &'a dyn Fn(&str) -> Option<String>,
    /// Whether another round is wanted, however many there were.
    pub(super) force: bool,
    candidates: BTreeMap<DeliveryId, Candidate>,
    plan: Plan,
}

impl<'a> Planner<'a> {
    pub(super) fn new(barred: &'a dyn Fn(&str) -> Option<String>, force: bool) -> Self {
        Self {
            barred,
            force,
            candidates: BTreeMap::new(),
            plan: Plan::default(),
        }
    }

    /// A dead letter that is meant.
    pub(super) fn add(&mut self, found: &Found) {
        let letter = &*found.letter;
        match found.fate {
            Fate::Copy => return,
            Fate::Replayed(_) => {
                self.plan.before += 1;
                return;
            }
            Fate::Open => {}
        }
        let too_often = || {
            (letter.round >= ROUNDS_MAX && !self.force).then(|| {
                format!(
                    "it was replayed {} times and died each time; --force replays it once more",
                    letter.round
                )
            })
        };
        if let Some(why) = (self.barred)(&letter.destination).or_else(too_often) {
            return self.plan.left.push(Left { id: letter.id, why });
        }
        let candidate = candidate(letter);
        // Of two lives of one record the later one is the one to go on with.
        match self.candidates.get(&letter.id) {
            Some(known) if known.round >= candidate.round => {}
            _ => drop(self.candidates.insert(letter.id, candidate)),
        }
    }

    /// All of them, `limit` at most.
    pub(super) fn finish(self, limit: Option<usize>) -> Plan {
        let mut plan = self.plan;
        plan.rounds = in_order(self.candidates.into_values().collect());
        plan.rounds.truncate(limit.unwrap_or(usize::MAX));
        plan
    }
}

fn candidate(letter: &Letter) -> Candidate {
    let record = &letter.record;
    let mut group = DefaultHasher::new();
    (&record.topic, record.partition, &letter.destination).hash(&mut group);
    match &record.key {
        Some(key) => key.hash(&mut group),
        // Without a key it was in order with nothing.
        None => letter.id.hash(&mut group),
    }
    Candidate {
        id: letter.id,
        written: letter.written,
        place: (letter.partition, letter.offset),
        round: letter.round + 1,
        destination: letter.destination.clone(),
        weight: record.weight(),
        group: group.finish(),
        origin: record.offset,
    }
}

/// As they were written, which is how they lie in each partition; but those of one group as they were first, each on the place of another.
fn in_order(mut all: Vec<Candidate>) -> Vec<Candidate> {
    all.sort_by_key(|candidate| (candidate.written, candidate.place));
    let mut groups: BTreeMap<u64, Vec<Candidate>> = BTreeMap::new();
    for candidate in &all {
        let group = groups.entry(candidate.group).or_default();
        group.push(candidate.clone());
    }
    for group in groups.values_mut() {
        // The last is taken first.
        group.sort_by_key(|candidate| std::cmp::Reverse(candidate.origin));
    }
    for place in &mut all {
        if let Some(next) = groups.get_mut(&place.group).and_then(Vec::pop) {
            *place = next;
        }
    }
    all
}

/// Cuts off the next chunk: so many records at most, and so many bytes, but one at least.
pub(super) fn next_chunk(rounds: &[Candidate], records: usize, bytes: usize) -> usize {
    let mut weight = 0;
    let fits = |candidate: &&Candidate| {
        weight += candidate.weight;
        weight <= bytes
    };
    let fit = rounds.iter().take(records).take_while(fits).count();
    fit.max(1).min(rounds.len())
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::letter;
    use super::*;
    use crate::kafka::Mark;

    fn found(letter: Letter, fate: Fate) -> Found {
        Found {
            letter: Box::new(letter),
            fate,
            kind: None,
        }
    }

    fn open(n: u8, round: u32) -> Found {
        found(letter(n, round), Fate::Open)
    }

    fn plan(force: bool, all: &[Found]) -> Plan {
        let barred = |id: &str| (id == "gone").then(|| "not in this file".to_owned());
        let mut planner = Planner::new(&barred, force);
        all.iter().for_each(|found| planner.add(found));
        planner.finish(None)
    }

    fn ids(plan: &Plan) -> Vec<(u8, u32)> {
        plan.rounds.iter().map(|c| (c.id.0[0], c.round)).collect()
    }

    #[test]
    fn what_was_replayed_is_not_replayed_again() {
        let mark = Mark {
            round: 1,
            at: 0,
            who: String::new(),
        };
        let all = [
            open(1, 0),
            found(letter(2, 0), Fate::Replayed(mark)),
            found(letter(1, 0), Fate::Copy),
            open(2, 1),
        ];
        let made = plan(false, &all);
        assert_eq!(ids(&made), [(1, 1), (2, 2)]);
        assert_eq!((made.before, made.left.len()), (1, 0));
    }

    #[test]
    fn two_rounds_are_enough_unless_forced() {
        let all = [open(1, 1), open(2, 2), open(3, 7)];
        let made = plan(false, &all);
        assert_eq!(ids(&made), [(1, 2)]);
        assert_eq!(made.left.len(), 2);
        assert!(made.left[0].why.contains("--force"), "{}", made.left[0].why);
        assert_eq!(ids(&plan(true, &all)), [(1, 2), (2, 3), (3, 8)]);
    }

    #[test]
    fn a_record_with_two_letters_is_replayed_once_and_goes_on_from_the_later() {
        assert_eq!(ids(&plan(false, &[open(1, 0), open(1, 1)])), [(1, 2)]);
        assert_eq!(ids(&plan(false, &[open(1, 1), open(1, 0)])), [(1, 2)]);
    }

    #[test]
    fn what_nobody_would_deliver_is_left() {
        let mut stray = letter(1, 0);
        stray.destination = "gone".to_owned();
        let made = plan(true, &[found(stray, Fate::Open), open(2, 0)]);
        assert_eq!(ids(&made), [(2, 1)]);
        assert_eq!(made.left[0].why, "not in this file");
    }

    #[test]
    fn records_of_one_key_go_as_they_came_and_the_others_stay_where_they_lie() {
        let one = |n: u8, key: Option<&'static str>, origin: i64| {
            let mut letter = letter(n, 0);
            letter.record.key = key.map(Into::into);
            letter.record.offset = origin;
            found(letter, Fate::Open)
        };
        let all = [
            one(1, Some("a"), 30),
            one(2, Some("b"), 5),
            one(3, Some("a"), 10),
            one(4, None, 9),
            one(5, None, 8),
            one(6, Some("a"), 20),
        ];
        let order: Vec<u8> = ids(&plan(false, &all)).iter().map(|(n, _)| *n).collect();
        assert_eq!(order, [3, 2, 6, 4, 5, 1]);
    }

    #[test]
    fn a_chunk_is_bounded_and_never_empty() {
        let made = plan(false, &[open(1, 0), open(2, 0), open(3, 0)]);
        let weight = made.rounds[0].weight;
        let next = |records, bytes| next_chunk(&made.rounds, records, bytes);
        assert_eq!(next(2, usize::MAX), 2);
        assert_eq!(next(9, usize::MAX), 3);
        assert_eq!(next(9, 2 * weight), 2);
        assert_eq!(next(9, 1), 1);
        assert_eq!(next_chunk(&[], 9, 9), 0);
    }
}
