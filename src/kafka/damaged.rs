//! A batch that does not read: its partition stands still before it until it reads after all, or a
//! person has it stepped over.
//!
//! librdkafka says so once, steps over the batch by itself, and may take its last bytes for the
//! next one: of what it brings behind the error nothing is taken. Where the batch ends is not to be
//! had from bytes that are wrong, so the broker is asked, offset by offset.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::Consumer;
use tracing::{debug, error, info, warn};

use crate::clock::Tick;
use crate::delivery::Epoch;
use crate::lane::Place;

use super::consumer::{ConsumerThread, FromConsumer, TopicPartition};
use super::members::Part;

/// How often it is tried whether a batch reads again: the partition may have another leader by
/// then, with a copy that is whole.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// When it is asked again where nothing has come.
const ASK_AGAIN: Duration = Duration::from_secs(3);
/// How long the broker may take to say where a partition ends.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a consumer thread tells its lane of batches that do not read.
#[derive(Debug)]
pub enum FromDamage {
    /// All places where partitions of this member stand still before one.
    StandsBefore(Part, Vec<Place>),
    /// These offsets were one; a person had it stepped over.
    SteppedOver {
        /// The assignment.
        epoch: Epoch,
        /// The topic.
        topic: Arc<str>,
        /// What is lost.
        offsets: Range<i64>,
    },
}

/// The partitions that stand still before a batch that does not read.
#[derive(Debug, Default)]
pub(super) struct Damages(BTreeMap<TopicPartition, Damage>);

#[derive(Debug)]
struct Damage {
    epoch: Epoch,
    /// The first offset that was not read.
    from: i64,
    /// The first offset of the batch, by its own bytes; nothing where the broker itself cannot read
    /// it.
    base: Option<i64>,
    state: State,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    /// It is looked at again then.
    Still(Tick),
    /// It is being looked at.
    Looking,
    /// It is looked for the end of the batch.
    Searching(Search),
}

/// The search for the first offset behind a batch (pure): further and further, then by halves.
#[derive(Debug, PartialEq, Eq)]
struct Search {
    from: i64,
    /// In the batch.
    low: i64,
    /// Behind it; at first the end of the partition.
    high: i64,
    /// Whether `high` was asked for.
    has_been_behind: bool,
    /// What the broker is asked for.
    asked: i64,
    /// Whether that is behind the batch, once it is known.
    is_behind: Option<bool>,
    /// When it is asked again, if nothing comes.
    again_at: Tick,
}

#[derive(Debug, PartialEq, Eq)]
enum Step {
    Ask(i64),
    Found(i64),
}

impl Search {
    /// The batch begins at `from` or before it, and ends at `end` at the latest.
    fn begin(from: i64, end: i64) -> Self {
        Self {
            from,
            low: from,
            high: end.max(from + 1),
            has_been_behind: false,
            asked: from,
            is_behind: Some(false),
            again_at: Tick::default(),
        }
    }

    /// Only the first that comes is the answer.
    fn answer(&mut self, is_behind: bool) {
        self.is_behind.get_or_insert(is_behind);
    }

    /// What follows from the answer, if there is one.
    fn step(&mut self) -> Option<Step> {
        if self.is_behind.take()? {
            self.high = self.asked;
            self.has_been_behind = true;
        } else {
            self.low = self.asked;
        }
        let left = self.high - self.low;
        if left <= 1 {
            return Some(Step::Found(self.high));
        }
        let further = match self.has_been_behind {
            true => left / 2,
            false => (self.low - self.from).clamp(1, left - 1),
        };
        self.asked = self.low + further;
        Some(Step::Ask(self.asked))
    }
}

impl Damages {
    /// When one of them is looked at, or asked for again.
    pub(super) fn due(&self) -> Option<Tick> {
        let still = self.0.values().filter_map(|damage| match damage.state {
            State::Still(look_at) => Some(look_at),
            State::Searching(ref search) => Some(search.again_at),
            State::Looking => None,
        });
        still.min()
    }

    /// These are not ours any more. Says whether any of them stood still.
    pub(super) fn forget(&mut self, partitions: &[TopicPartition]) -> bool {
        let before = self.0.len();
        self.0.retain(|tp, _| !partitions.contains(tp));
        self.0.len() != before
    }
}

impl ConsumerThread {
    /// Something of the partition came. Whether it is not to be taken, because what lies before it
    /// does not read.
    pub(super) fn lies_behind_damage(&mut self, tp: &TopicPartition) -> bool {
        let Some(damage) = self.damages.0.get_mut(tp) else {
            return false;
        };
        match &mut damage.state {
            State::Still(_) => return true,
            State::Searching(search) => {
                search.answer(true);
                return true;
            }
            State::Looking => {}
        }
        info!(destination = %self.plan.destination, topic = %tp.0, partition = tp.1, offset = damage.from, "the batch reads again");
        self.damages.0.remove(tp);
        self.tell_damaged();
        false
    }

    /// librdkafka does not find the place where it would read on. Behind damage that may be a place
    /// that it has made up itself, out of bytes that it took for a batch; it says so without the
    /// mark that tells what is outdated.
    pub(super) fn is_astray_behind_damage(&self, tp: &TopicPartition) -> bool {
        let damage = self.damages.0.get(tp);
        damage.is_some_and(|damage| damage.state != State::Looking)
    }

    /// A batch of the partition does not read.
    pub(super) fn meet_damage(&mut self, tp: TopicPartition, base: Option<i64>, why: &str) {
        let Some(epoch) = self.assigned.get(&tp).copied() else {
            return;
        };
        let Some(next) = self.next_offsets.get(&epoch).copied() else {
            return;
        };
        let look_at = self.clock.now().tick + LOOK_EVERY;
        if let Some(damage) = self.damages.0.get_mut(&tp) {
            match &mut damage.state {
                State::Still(_) => {}
                State::Looking => {
                    damage.state = State::Still(look_at);
                    self.pauses.by_damage(epoch, true);
                }
                State::Searching(search) => search.answer(base.is_some() && base != damage.base),
            }
            return;
        }
        let from = base.map_or(next, |base| next.max(base));
        let (destination, topic, partition) = (&self.plan.destination, &tp.0, tp.1);
        error!(
            %destination, %topic, partition, offset = from, why,
            "a batch does not read: nothing of this partition is read from here on. It is tried again; if another replica has it whole, move the leadership there. `postrider skip -d {destination} --topic {topic} --partition {partition} --offset {from}` steps over it, and its records are lost"
        );
        let damage = Damage {
            epoch,
            from,
            base,
            state: State::Still(look_at),
        };
        self.damages.0.insert(tp, damage);
        self.pauses.by_damage(epoch, true);
        self.tell_damaged();
    }

    /// Looks again at those whose time it is.
    pub(super) fn look_at_damage(&mut self) {
        let now = self.clock.now().tick;
        if self.damages.due().is_none_or(|due| due > now) {
            return;
        }
        let mut due = Vec::new();
        for (tp, damage) in &mut self.damages.0 {
            let offset = match &mut damage.state {
                State::Still(look_at) if *look_at <= now => damage.from,
                State::Searching(search) if search.again_at <= now => {
                    search.again_at = now + ASK_AGAIN;
                    search.asked
                }
                State::Still(_) | State::Searching(_) | State::Looking => continue,
            };
            if matches!(damage.state, State::Still(_)) {
                damage.state = State::Looking;
            }
            due.push((tp.clone(), damage.epoch, offset));
        }
        for (tp, epoch, offset) in due {
            self.read_damaged(&tp, epoch, offset);
        }
    }

    /// Steps over the batch that a person has named by the offset that was said.
    pub(super) fn step_over(&mut self, (topic, partition, offset): Place) {
        let tp = (topic, partition);
        let Some(damage) = self.damages.0.get_mut(&tp) else {
            return;
        };
        if damage.from != offset || matches!(damage.state, State::Searching(_)) {
            return;
        }
        self.beat.beat(self.clock.now().tick, PATIENCE);
        match self.consumer.fetch_watermarks(&tp.0, tp.1, PATIENCE) {
            Ok((_, end)) => {
                damage.state = State::Searching(Search::begin(damage.from, end));
                self.search_on();
            }
            Err(error) => warn!(
                destination = %self.plan.destination, topic = %tp.0, partition = tp.1, %error,
                "the broker does not say where the partition ends: nothing was stepped over; ask for it again"
            ),
        }
    }

    /// Goes on with the searches that have an answer.
    pub(super) fn search_on(&mut self) {
        let again_at = self.clock.now().tick + ASK_AGAIN;
        let mut steps = Vec::new();
        for (tp, damage) in &mut self.damages.0 {
            if let State::Searching(search) = &mut damage.state
                && let Some(step) = search.step()
            {
                search.again_at = again_at;
                steps.push((tp.clone(), damage.epoch, damage.from, step));
            }
        }
        for (tp, epoch, from, step) in steps {
            match step {
                Step::Ask(offset) => self.read_damaged(&tp, epoch, offset),
                Step::Found(end) => self.go_on_behind(&tp, epoch, from..end),
            }
        }
    }

    fn go_on_behind(&mut self, tp: &TopicPartition, epoch: Epoch, offsets: Range<i64>) {
        let (topic, partition) = (Arc::clone(&tp.0), tp.1);
        let last = offsets.end - 1;
        warn!(
            destination = %self.plan.destination, %topic, partition, first = offsets.start, last,
            "a batch that does not read was stepped over: the records with these offsets are lost"
        );
        self.damages.0.remove(tp);
        self.next_offsets.insert(epoch, offsets.end);
        let end = offsets.end;
        self.tell(FromConsumer::Damage(FromDamage::SteppedOver {
            epoch,
            topic,
            offsets,
        }));
        self.tell_damaged();
        self.read_damaged(tp, epoch, end);
    }

    fn read_damaged(&mut self, tp: &TopicPartition, epoch: Epoch, offset: i64) {
        debug!(destination = %self.plan.destination, topic = %tp.0, partition = tp.1, offset, "reading from a damaged place");
        self.pauses.by_damage(epoch, false);
        if let Err(error) = self.go_to(tp, offset) {
            self.lose(std::slice::from_ref(tp));
            self.leave_and_join_again(&error.to_string());
        }
    }

    pub(super) fn tell_damaged(&self) {
        let all = self.damages.0.iter();
        let all =
            all.map(|((topic, partition), damage)| (Arc::clone(topic), *partition, damage.from));
        let all = FromDamage::StandsBefore(self.part, all.collect());
        self.tell(FromConsumer::Damage(all));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_batch_is_found_however_long_it_is() {
        for (length, behind) in [(1, 0), (1, 9), (2, 1), (7, 0), (64, 1000), (1_000_003, 5)] {
            let (from, end) = (17, 17 + length);
            let mut search = Search::begin(from, end + behind);
            let mut asked = None;
            let mut found = None;
            for _ in 0..60 {
                if let Some(asked) = asked {
                    search.answer(asked >= end);
                    search.answer(false);
                }
                match search.step().unwrap() {
                    Step::Ask(offset) => asked = Some(offset),
                    Step::Found(offset) => {
                        found = Some(offset);
                        break;
                    }
                }
                assert_eq!(search.step(), None, "nothing without an answer");
                assert!(asked < Some(end + behind), "within the partition");
            }
            assert_eq!(found, Some(end), "{length} and {behind} behind it");
        }
    }
}
