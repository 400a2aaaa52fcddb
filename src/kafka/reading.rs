//! The way of records through the consumer thread: from librdkafka's queue to the lane.

use tracing::debug;

use crate::delivery::Epoch;
use crate::record::Record;

use super::astray::Cut;
use super::consumer::{ConsumerThread, FromConsumer, TopicPartition};
use super::gatehouse::FromLadder;
use super::mailbox::Allowance;
use super::raw::Fetched;
use super::topics::step_of;

/// Records taken at once.
const CHUNK: u64 = 1024;

/// Why a look at the queue ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Left {
    /// There may be more.
    More,
    /// Nothing is there that may be read.
    Nothing,
    /// The lane has no room.
    NoRoom,
}

/// Records that follow each other, on their way to the lane.
#[derive(Default)]
pub(super) struct Parcels {
    topic: Option<(Epoch, Vec<Record>)>,
    ladder: Option<(Epoch, Vec<FromLadder>)>,
}

/// Adds to the parcel of this epoch; gives the one of another epoch that is ended by that.
fn add<T>(parcel: &mut Option<(Epoch, Vec<T>)>, epoch: Epoch, item: T) -> Option<(Epoch, Vec<T>)> {
    match parcel {
        Some((current, items)) if *current == epoch => {
            items.push(item);
            None
        }
        _ => parcel.replace((epoch, vec![item])),
    }
}

impl ConsumerThread {
    /// Reads what is there and what the lane has room for.
    pub(super) fn read(&mut self, allowance: Allowance) -> Left {
        // What was assigned while the lane was sent away is not read: an instance with newer rules may read it already.
        if self.assigned.is_empty() || self.mailbox.sends_away() {
            return Left::Nothing;
        }
        let has_room = self.has_room(allowance);
        self.rest(has_room);
        if !has_room {
            return Left::NoRoom;
        }
        self.open_gates(allowance);
        let records = allowance.records.saturating_sub(self.taken.records);
        let bytes = allowance.bytes.saturating_sub(self.taken.bytes);
        let fit = (bytes / self.largest).clamp(1, CHUNK).min(records);
        let mut chunk = std::mem::take(&mut self.chunk);
        let Self {
            queues,
            gate,
            plan,
            clock,
            ..
        } = self;
        // What may not go in yet is the last that is taken: its partition is paused before the next one is.
        let held = |fetched: &Fetched| gate.holds(fetched, plan, *clock);
        let was_all = queues.read(usize::try_from(fit).unwrap_or(1), &mut chunk, held);
        self.pass_on(&mut chunk);
        self.chunk = chunk;
        if was_all { Left::Nothing } else { Left::More }
    }

    pub(super) fn has_room(&self, allowance: Allowance) -> bool {
        allowance.records > self.taken.records && allowance.bytes > self.taken.bytes
    }

    /// Hands records to the lane, those of one partition that follow each other together.
    pub(super) fn pass_on(&mut self, fetched: &mut Vec<Fetched>) {
        let mut parcels = Parcels::default();
        let mut cut = Vec::new();
        let mut astray = Vec::new();
        for item in fetched.drain(..) {
            match item {
                Fetched::Record(record) => {
                    let tp = (std::sync::Arc::clone(&record.topic), record.partition);
                    if self.lies_behind_damage(&tp) {
                        continue;
                    }
                    if self.has_gone_back(&tp, record.offset) {
                        self.send(&mut parcels);
                        self.lose(std::slice::from_ref(&tp));
                        cut.push((tp.clone(), record.offset));
                    }
                    // A partition that is not ours any more: its next owner reads the record.
                    let Some(epoch) = self.assigned.get(&tp).copied() else {
                        continue;
                    };
                    match step_of(&self.plan.owned_prefix, &tp.0) {
                        Some(step) => self.come_to_gate(epoch, step, record, &mut parcels),
                        None => self.pack(epoch, record, &mut parcels),
                    }
                }
                Fetched::EndOfPartition {
                    topic,
                    partition,
                    offset,
                } => {
                    self.send(&mut parcels);
                    let tp = (topic, partition);
                    if self.lies_behind_damage(&tp) {
                        continue;
                    }
                    if let Some(epoch) = self.assigned.get(&tp).copied() {
                        self.reach_end(epoch, offset);
                    }
                }
                Fetched::Led {
                    topic,
                    partition,
                    offset,
                    leader,
                } => {
                    if let Some(epoch) = self.assigned.get(&(topic, partition)) {
                        self.leaders.read(*epoch, offset, leader);
                    }
                }
                Fetched::Astray {
                    topic,
                    partition,
                    was_cut,
                    why,
                } => {
                    if self.is_astray_behind_damage(&(std::sync::Arc::clone(&topic), partition)) {
                        continue;
                    }
                    debug!(destination = %self.plan.destination, %topic, partition, why, "the partition cannot be read on where it was left");
                    astray.push(((topic, partition), Cut::of(was_cut, &why)));
                }
                Fetched::Damaged {
                    topic,
                    partition,
                    base,
                    why,
                } => {
                    self.send(&mut parcels);
                    self.meet_damage((topic, partition), base, &why);
                }
                Fetched::Error(error) => {
                    debug!(destination = %self.plan.destination, error, "fetch error");
                }
            }
        }
        self.send(&mut parcels);
        self.apply_pauses();
        for (tp, offset) in cut {
            self.begin_again(&tp, offset);
        }
        self.find_ways(&astray);
        self.search_on();
        self.largest = self.heaviest.max(self.largest - self.largest / 8).max(1);
        self.heaviest = 0;
    }

    fn pack(&mut self, epoch: Epoch, record: Record, parcels: &mut Parcels) {
        self.take(record.weight() as u64);
        if let Some((epoch, records)) = add(&mut parcels.topic, epoch, record) {
            self.tell(FromConsumer::Read { epoch, records });
        }
    }

    pub(super) fn pack_ladder(&mut self, epoch: Epoch, record: FromLadder, parcels: &mut Parcels) {
        self.take(record.weight);
        if let Some((epoch, records)) = add(&mut parcels.ladder, epoch, record) {
            self.tell(FromConsumer::ReadLadder { epoch, records });
        }
    }

    /// Counts a record that is handed to the lane.
    fn take(&mut self, weight: u64) {
        self.heaviest = self.heaviest.max(weight);
        self.taken.records += 1;
        self.taken.bytes += weight;
    }

    pub(super) fn send(&self, parcels: &mut Parcels) {
        if let Some((epoch, records)) = parcels.topic.take() {
            self.tell(FromConsumer::Read { epoch, records });
        }
        if let Some((epoch, records)) = parcels.ladder.take() {
            self.tell(FromConsumer::ReadLadder { epoch, records });
        }
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
}
