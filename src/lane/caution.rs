//! A record that ends the process: how it is found, though nobody is left to say which it was.
//!
//! What is committed says how often a partition was begun at one position without a graceful end. After three unclean ends its lane goes one record
//! at a time, and before each of them is sent the broker has acknowledged which. A record that an unclean end leaves behind so is accused. That proves
//! nothing: another lane's record may have ended the process, or somebody with `kill -9`. So an accused record is tried only when nothing else of the
//! process is under way, and weighs more when another one has passed before it; it is tried as soon as one has. Whatever it answers, it is acquitted;
//! when it has been accused too often, it is not sent any more.
//!
//! `progress/caution.rs` is how all this is written; here is what follows from it.

mod ends;
mod others;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Tick;
use crate::delivery::{DeadLetterReason, DeliveryKey, Epoch};
use crate::record::Record;

pub(super) use ends::{Ends, read_ahead};

use ends::CONVICTED;

use super::delivery::{Destiny, State};
use super::endpoints::Slot;
use super::event::{Action, Notice, Position};
use super::machine::Lane;
use super::progress::{Owner, Progress};
use super::status::Doing;
use super::window::Phase;

/// A lane that has been cautious for so long without an end of the process goes on as usual, but for records that are accused: one record at a time is
/// slow, and what ended the process would have ended it again.
const LONG_ENOUGH: Duration = Duration::from_secs(30);

/// What an unclean end says against the record that was under way alone in its lane, or in the whole process.
const WEAK: u32 = 1;
/// The same, after another record had passed in the same way: it is not that everything dies here.
const STRONG: u32 = 2;

/// One record at a time: which, and what it waits for.
#[derive(Debug, Default)]
pub(super) struct OneAtATime {
    /// The partitions that ask for it.
    epochs: BTreeSet<Epoch>,
    /// The partitions in which records are accused.
    accusing: BTreeSet<Epoch>,
    current: Option<Current>,
    /// The record whose mark was taken away, until the broker has acknowledged that: nothing else is sent before, or it would be blamed for that.
    clearing: Option<DeliveryKey>,
    /// Since when.
    since: Option<Tick>,
    /// Whether it is known why the process ended before it began this time.
    explained: bool,
    /// Until when the rate lets nothing pass: what waits for that is not marked.
    not_before: Tick,
    /// Whether a record has come back that nothing was said against.
    others_passed: bool,
    stillness: Stillness,
    /// Since when every other lane is still, and nothing is under way here.
    idle_since: Option<Tick>,
    /// Another lane asks for stillness.
    hushed: bool,
}

#[derive(Debug)]
struct Current {
    key: DeliveryKey,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The broker has not acknowledged which record it is.
    Marking,
    Marked,
    UnderWay,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Stillness {
    #[default]
    NotNeeded,
    Asked,
    Granted,
}

impl OneAtATime {
    /// Whether any record goes alone, or may have to.
    fn is_needed(&self) -> bool {
        let nobody = self.epochs.is_empty() && self.accusing.is_empty();
        !nobody || self.current.is_some() || self.clearing.is_some()
    }
}

impl Lane {
    /// What an assignment begins with.
    pub(super) fn look_back(&mut self, epoch: Epoch) {
        let Some(partition) = self.partitions.get_mut(&epoch) else {
            return;
        };
        if self.one_at_a_time.explained {
            partition.ends.calm_down(true);
        }
        if partition.ends.accused().next().is_some() {
            self.one_at_a_time.accusing.insert(epoch);
        }
        if !partition.ends.is_cautious() {
            return;
        }
        self.one_at_a_time.epochs.insert(epoch);
        self.one_at_a_time.since.get_or_insert(self.now.tick);
        self.actions.push_back(Action::Tell(Notice::Cautious {
            topic: Arc::clone(&partition.topic),
            partition: partition.partition,
            offset: partition.position(),
        }));
    }

    /// Records were read. When the first of them that is to be delivered is there, it is committed that the assignment has begun, before anything is sent.
    pub(super) fn begin(&mut self, epoch: Epoch) {
        if let Some(partition) = self.partitions.get_mut(&epoch)
            && partition.phase == Phase::Starting
            && partition.unsettled().next().is_some()
            && partition.ends.begin(partition.position())
        {
            partition.committed = None;
            self.commit_due = Some(self.now.tick);
        }
    }

    /// What becomes of a record that was accused before; `None`: what becomes of any other.
    pub(super) fn destiny_of_accused(
        &mut self,
        key: DeliveryKey,
        record: &Arc<Record>,
    ) -> Option<Destiny> {
        let partition = self.partitions.get(&key.epoch)?;
        if partition.ends.points(key.offset) < CONVICTED {
            return None;
        }
        let record = Arc::clone(record);
        self.actions
            .push_back(Action::Tell(Notice::EndsTheProcess { key, record }));
        Some(Destiny::DeadLetter {
            reason: DeadLetterReason::Panic,
            error: "the process ended again and again while this record alone was being delivered"
                .to_owned(),
        })
    }

    /// Whether a commit that the broker has acknowledged lets its partition begin; and the record that waits for it.
    pub(super) fn acknowledged(&mut self, position: &Position) -> bool {
        let Some(partition) = self.partitions.get_mut(&position.epoch) else {
            return false;
        };
        partition.ends.acknowledge(position.offset);
        let nobody = !self.one_at_a_time.is_needed() && partition.ends.closing.is_none();
        if nobody && partition.phase != Phase::Starting {
            return false;
        }
        let owner = Owner {
            cluster_id: &self.cluster_id,
            destination_id: &self.destination_id,
            topic: &partition.topic,
            partition: partition.partition,
        };
        let text = position.metadata.as_bytes();
        let found = Progress::decode(owner, position.offset, text).unwrap_or_default();
        let begun = partition.ends.is_begun_by(&found.caution);
        let epoch = position.epoch;
        if let Some(partition) = self.partitions.get_mut(&epoch)
            && let Some(settled) = partition.ends.closing
            && !found.caution.accused.contains_key(&settled)
        {
            partition.ends.closing = None;
            partition.ends.known.accused.remove(&settled);
            partition.ends.calm_down(false);
            self.actions.push_back(Action::Tell(Notice::CauseRemoved));
        }
        let alone = found.caution.alone.map(|(offset, _)| offset);
        let cleared =
            |clearing: &mut DeliveryKey| clearing.epoch == epoch && alone != Some(clearing.offset);
        if self.one_at_a_time.clearing.take_if(cleared).is_some() {
            self.end_stillness_unless_needed();
        }
        let Some(offset) = alone else { return begun };
        let ours = |current: &&mut Current| current.key == DeliveryKey { epoch, offset };
        match self.one_at_a_time.current.as_mut().filter(ours) {
            Some(current) if current.stage == Stage::Marking => current.stage = Stage::Marked,
            Some(_) => {}
            // It was taken away while this was on its way.
            None => self.commit_due = Some(self.now.tick),
        }
        begun
    }

    /// Whether records go one at a time.
    pub(super) fn is_cautious(&mut self) -> bool {
        if self.one_at_a_time.epochs.is_empty() {
            return false;
        }
        let now = self.now.tick;
        let since = self.one_at_a_time.since;
        if since.is_some_and(|since| now.since(since) >= LONG_ENOUGH) {
            for partition in self.partitions.values_mut() {
                partition.ends.calm_down(false);
            }
        }
        let partitions = &self.partitions;
        self.one_at_a_time.epochs.retain(|epoch| {
            partitions
                .get(epoch)
                .is_some_and(|held| held.ends.is_cautious())
        });
        let is_over = self.one_at_a_time.epochs.is_empty();
        if is_over {
            self.one_at_a_time.since = None;
            // An accused record goes alone even so.
            if self.one_at_a_time.stillness == Stillness::NotNeeded {
                self.nobody_goes_alone();
            }
            self.actions.push_back(Action::Tell(Notice::CautionOver));
        }
        !is_over
    }

    /// That they do, and where the reason lies.
    pub(super) fn doing_one_at_a_time(&self) -> Option<Doing> {
        let epoch = self.one_at_a_time.epochs.first()?;
        let partition = self.partitions.get(epoch)?;
        Some(Doing::OneAtATime {
            topic: Arc::clone(&partition.topic),
            partition: partition.partition,
            offset: partition.position(),
        })
    }

    /// Whether a request may begin at all: none while another lane's record must be alone, and none beside one that must be alone here.
    pub(super) fn may_admit(&mut self) -> bool {
        if self.one_at_a_time.hushed {
            self.nobody_goes_alone();
            return false;
        }
        let one = self.is_cautious() || self.one_at_a_time.current.is_some();
        !one || self.in_flight == 0
    }

    /// Where among the records of an endpoint that may go the one is that goes next because of what is said against some: one that nothing is said
    /// against first, so that there is something to compare with, and then those that are accused. `None`: whichever has its turn.
    pub(super) fn place_by_suspicion(&mut self, slot: Slot) -> Option<usize> {
        if self.one_at_a_time.accusing.is_empty() {
            return None;
        }
        let partitions = &self.partitions;
        self.one_at_a_time.accusing.retain(|epoch| {
            let held = partitions.get(epoch);
            held.is_some_and(|held| held.ends.accused().next().is_some())
        });
        let ready = &self.endpoints[slot].ready;
        if self.one_at_a_time.others_passed {
            let is_ready =
                |key: &DeliveryKey| self.peek(*key).map(|d| &d.state) == Some(&State::Ready);
            // All that may go are looked through only for one that is among them.
            let accused = self.accused().find(is_ready)?;
            return ready.iter().position(|key| *key == accused);
        }
        let is_accused = |key: &DeliveryKey| self.points_of(*key) > 0;
        match ready.front() {
            Some(first) if is_accused(first) => ready.iter().position(|key| !is_accused(key)),
            _ => None,
        }
    }

    fn accused(&self) -> impl Iterator<Item = DeliveryKey> {
        self.one_at_a_time.accusing.iter().flat_map(|epoch| {
            let held = self.partitions.get(epoch).into_iter();
            let epoch = *epoch;
            held.flat_map(|held| held.ends.accused())
                .map(move |offset| DeliveryKey { epoch, offset })
        })
    }

    fn points_of(&self, key: DeliveryKey) -> u32 {
        let partition = self.partitions.get(&key.epoch);
        partition.map_or(0, |held| held.ends.points(key.offset))
    }

    /// The rate does not let pass what was to go alone.
    pub(super) fn goes_later(&mut self, until: Tick) {
        if self.one_at_a_time.current.is_some() {
            self.one_at_a_time.not_before = until;
            self.take_mark_away();
            self.end_stillness();
        }
    }

    /// Whether this record may be sent now. If not, what it waits for is asked for.
    pub(super) fn may_go_alone(&mut self, key: DeliveryKey) -> bool {
        let accused = self.points_of(key) > 0;
        if !self.is_cautious() && !accused {
            self.nobody_goes_alone();
            return self.one_at_a_time.clearing.is_none();
        }
        if self.in_flight > 0 {
            return false;
        }
        let not_before = self.one_at_a_time.not_before;
        if not_before > self.now.tick {
            self.rate_wait.until = Some(not_before);
            return false;
        }
        match &mut self.one_at_a_time.current {
            Some(current) if current.key == key => {
                let cleared = self.one_at_a_time.clearing.is_none();
                let marked = current.stage == Stage::Marked && cleared;
                if marked {
                    current.stage = Stage::UnderWay;
                }
                return marked;
            }
            Some(_) => self.take_mark_away(),
            None => {}
        }
        if accused && self.one_at_a_time.stillness != Stillness::Granted {
            self.ask_for_stillness();
            return false;
        }
        if !accused {
            self.end_stillness_unless_needed();
        }
        let weight = match accused && self.one_at_a_time.others_passed {
            true => STRONG,
            false => WEAK,
        };
        self.mark(key, weight);
        false
    }

    fn mark(&mut self, key: DeliveryKey, weight: u32) {
        if let Some(partition) = self.partitions.get_mut(&key.epoch) {
            partition.ends.known.alone = Some((key.offset, weight));
            // Whatever was acknowledged before, it is this answer that is waited for.
            partition.committed = None;
            partition.asked = None;
            self.one_at_a_time.current = Some(Current {
                key,
                stage: Stage::Marking,
            });
            // The mark that was to be taken away is the one that is made again.
            self.one_at_a_time.clearing.take_if(|c| *c == key);
            self.commit_due = Some(self.now.tick);
        }
    }

    /// Nothing may be tried now: nobody is to be blamed for what happens meanwhile.
    pub(super) fn nobody_goes_alone(&mut self) {
        let under_way = |current: &Current| current.stage == Stage::UnderWay;
        if !self.one_at_a_time.current.as_ref().is_some_and(under_way) {
            self.take_mark_away();
            self.end_stillness_unless_needed();
        }
    }

    fn take_mark_away(&mut self) {
        let Some(current) = self.one_at_a_time.current.take() else {
            return;
        };
        if let Some(partition) = self.partitions.get_mut(&current.key.epoch) {
            partition.ends.known.alone = None;
            partition.committed = None;
            partition.asked = None;
            self.one_at_a_time.clearing = Some(current.key);
            self.commit_due = Some(self.now.tick);
        }
    }

    fn ask_for_stillness(&mut self) {
        if self.one_at_a_time.stillness == Stillness::NotNeeded {
            self.one_at_a_time.stillness = Stillness::Asked;
            self.actions.push_back(Action::AskForStillness);
        }
    }

    fn end_stillness(&mut self) {
        if std::mem::take(&mut self.one_at_a_time.stillness) != Stillness::NotNeeded {
            self.actions.push_back(Action::EndStillness);
        }
    }

    /// Whoever is alone stays so until the broker knows that it is not any more.
    fn end_stillness_unless_needed(&mut self) {
        let accused = |current: &Current| self.points_of(current.key) > 0;
        let needed = self.one_at_a_time.current.as_ref().is_some_and(accused);
        if !needed && self.one_at_a_time.clearing.is_none() {
            self.end_stillness();
        }
    }

    /// It is known, from another lane, why the process has ended before.
    pub(super) fn is_explained(&mut self) {
        self.one_at_a_time.explained = true;
        for partition in self.partitions.values_mut() {
            partition.ends.calm_down(true);
        }
    }

    /// Every other lane of the process is still.
    pub(super) fn is_still_around(&mut self) {
        if self.one_at_a_time.stillness == Stillness::Asked {
            self.one_at_a_time.stillness = Stillness::Granted;
        }
    }

    pub(super) fn hush(&mut self, hushed: bool) {
        self.one_at_a_time.hushed = hushed;
    }

    /// An attempt ended, and the process did not: its record is not one that ends it.
    pub(super) fn survived(&mut self, key: DeliveryKey) {
        if !self.one_at_a_time.is_needed() {
            return;
        }
        let ours = |current: &Current| current.key == key;
        if self.one_at_a_time.current.as_ref().is_some_and(ours) {
            self.take_mark_away();
        }
        let partition = self.partitions.get_mut(&key.epoch);
        let accused = partition.and_then(|held| held.ends.known.accused.remove(&key.offset));
        self.one_at_a_time.others_passed |= accused.is_none();
    }

    /// A record is settled. With the one that ended the process gone, there is no more reason for caution, as soon as the broker knows that it is: another
    /// one may end the process before.
    pub(super) fn close_case(&mut self, key: DeliveryKey) {
        if let Some(partition) = self.partitions.get_mut(&key.epoch)
            && partition.ends.points(key.offset) >= CONVICTED
        {
            partition.ends.closing = Some(key.offset);
            self.commit_due = Some(self.now.tick);
        }
    }

    /// These assignments end gracefully: what is committed last says so.
    pub(super) fn part(&mut self, epochs: &[Epoch]) {
        for epoch in epochs {
            if let Some(partition) = self.partitions.get_mut(epoch) {
                partition.ends.parting = true;
            }
        }
    }

    /// These assignments are over.
    pub(super) fn forget_alone(&mut self, epochs: &[Epoch]) {
        let current = &mut self.one_at_a_time.current;
        current.take_if(|current| epochs.contains(&current.key.epoch));
        let clearing = &mut self.one_at_a_time.clearing;
        clearing.take_if(|clearing| epochs.contains(&clearing.epoch));
        self.one_at_a_time.epochs.retain(|e| !epochs.contains(e));
        self.one_at_a_time.accusing.retain(|e| !epochs.contains(e));
        self.end_stillness_unless_needed();
    }

    /// Whether no request of this lane is under way: what another lane's record waits for that must be alone.
    #[must_use]
    pub fn is_still(&self) -> bool {
        self.in_flight == 0
    }
}
