//! Order by key within a partition: records with one key stand in a chain, and only its head is tried. Whatever becomes of the head, the next one
//! waits until that is settled.
//!
//! A chain is as long as what was read: nothing of it goes to the ladder, where others would overtake it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use crate::delivery::DeliveryKey;

use super::delivery::{Delivery, State};
use super::event::{Action, Notice};
use super::machine::Lane;
use super::options::{AfterDeadLetter, OrderOptions};
use super::share::LOOK_EVERY;
use super::status::HeldKey;
use super::window::Partition;

/// So many held keys are named where they are spoken of; the others are counted.
const KEYS_NAMED: usize = 5;

/// The chains of one partition.
#[derive(Debug, Default)]
pub(super) struct Chains {
    chains: BTreeMap<Bytes, VecDeque<i64>>,
}

impl Chains {
    /// The record at this offset joins the chain of its key. True when it is the head.
    fn join(&mut self, key: &Bytes, offset: i64) -> bool {
        let chain = match self.chains.get_mut(key) {
            Some(chain) => chain,
            None => self.chains.entry(key.clone()).or_default(),
        };
        let place = chain.partition_point(|other| *other < offset);
        chain.insert(place, offset);
        place == 0
    }

    /// The record has ended. The next of its chain, when it was the head and there is one.
    fn leave(&mut self, key: &Bytes, offset: i64) -> Option<i64> {
        let chain = self.chains.get_mut(key)?;
        let was_head = chain.front() == Some(&offset);
        chain.retain(|other| *other != offset);
        let next = chain.front().copied();
        if next.is_none() {
            self.chains.remove(key);
        }
        next.filter(|_| was_head)
    }

    /// The head of a key's chain.
    fn head(&self, key: &Bytes) -> Option<i64> {
        self.chains.get(key)?.front().copied()
    }
}

impl Lane {
    /// Whether a record keeps its place among those of its key.
    pub(super) fn is_in_order(&self, key: DeliveryKey) -> bool {
        self.peek(key).is_some_and(|d| d.order_key.is_some())
    }

    /// A record takes its place among those of its key. True when it is its turn.
    pub(super) fn joins_its_chain(&mut self, key: DeliveryKey) -> bool {
        let Some(partition) = self.partitions.get_mut(&key.epoch) else {
            return false;
        };
        let order_key = partition.peek(key.offset).and_then(|d| d.order_key.clone());
        let Some(order_key) = order_key else {
            return true;
        };
        let is_head = partition.chains.join(&order_key, key.offset);
        if is_head && !self.held_keys.contains(&order_key) {
            return true;
        }
        self.enter(key, State::Behind);
        false
    }

    /// A record that stood in a chain is settled: it is the next one's turn.
    pub(super) fn leaves_its_chain(&mut self, key: DeliveryKey, delivery: &Delivery) {
        let Some(order_key) = &delivery.order_key else {
            return;
        };
        let Some(partition) = self.partitions.get_mut(&key.epoch) else {
            return;
        };
        let next = partition.chains.leave(order_key, key.offset);
        if let Some(offset) = next
            && !self.held_keys.contains(order_key)
        {
            self.takes_its_turn(DeliveryKey { offset, ..key });
        }
    }

    fn takes_its_turn(&mut self, key: DeliveryKey) {
        let is_behind = self.peek(key).is_some_and(|d| d.state == State::Behind);
        if is_behind {
            self.enter(key, State::Ready);
            self.place_first_of_its_key(key);
        }
    }

    /// A record is to become a dead letter: those behind it that have its key wait for a person, where the file wants that. It is said before the
    /// letter is written, because a process that ends between the two must not forget it; then the record itself waits for the person too.
    pub(super) fn holds_its_key(&mut self, key: DeliveryKey) {
        if self.options.order != OrderOptions::Key(AfterDeadLetter::Hold) {
            return;
        }
        let order_key = self.peek(key).and_then(|d| d.order_key.clone());
        if let Some(key) = order_key
            && self.held_keys.insert(key.clone())
        {
            self.actions
                .push_back(Action::Tell(Notice::KeyHeld { key }));
        }
    }

    /// A person, or an earlier life of the lane, says that the records of a key wait. One that is under way may end.
    pub(super) fn hold_key_as_ordered(&mut self, key: Bytes) {
        self.held_keys.insert(key);
    }

    /// A person lets the records of a key go on.
    pub(super) fn release_key(&mut self, key: &Bytes) {
        if !self.held_keys.remove(key) {
            return;
        }
        let heads = self.partitions.iter().filter_map(|(epoch, partition)| {
            let offset = partition.chains.head(key)?;
            Some(DeliveryKey {
                epoch: *epoch,
                offset,
            })
        });
        for key in heads.collect::<Vec<_>>() {
            self.takes_its_turn(key);
        }
    }

    /// Says when nothing more can be read because of what waits behind others of its key, and when that is over.
    pub(super) fn watch_held_keys(&mut self) {
        if self.options.order == OrderOptions::None {
            return;
        }
        let stands = |partition: &Partition| partition.paused;
        let reads_no_more = self.is_full() || self.partitions.values().any(stands);
        if !reads_no_more {
            self.held_up = false;
            return;
        }
        // To look costs a walk over all keys, and the window may be full for long without any harm.
        let now = self.now.tick;
        if self.held_up || self.next_look > now {
            return;
        }
        self.next_look = now + LOOK_EVERY;
        let (keys, count) = self.keys_that_hold();
        let behind: usize = keys.iter().map(|held| held.behind).sum();
        if behind * 2 < self.unsettled {
            return;
        }
        self.held_up = true;
        self.actions
            .push_back(Action::Tell(Notice::HeldUp { keys, count }));
    }

    /// The keys behind whose heads records wait, those with most of them first, and how many there are.
    pub(super) fn keys_that_hold(&self) -> (Vec<HeldKey>, usize) {
        let mut held: Vec<HeldKey> = Vec::new();
        for partition in self.partitions.values() {
            for (key, chain) in &partition.chains.chains {
                let Some(head) = chain.front() else { continue };
                let by_a_person = self.held_keys.contains(key);
                let state = partition.peek(*head).map(|d| d.state);
                let moves = matches!(state, Some(State::Ready | State::InFlight) | None);
                if moves || chain.len() < 2 && !by_a_person {
                    continue;
                }
                held.push(HeldKey {
                    key: key.clone(),
                    topic: Arc::clone(&partition.topic),
                    partition: partition.partition,
                    offset: *head,
                    behind: chain.len() - usize::from(!by_a_person),
                    by_a_person,
                });
            }
        }
        let count = held.len();
        held.sort_by(|a, b| (b.behind, &a.key).cmp(&(a.behind, &b.key)));
        held.truncate(KEYS_NAMED);
        (held, count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_head_of_a_chain_has_its_turn() {
        let mut chains = Chains::default();
        let (a, b) = (Bytes::from_static(b"a"), Bytes::from_static(b"b"));
        assert!(chains.join(&a, 1));
        assert!(!chains.join(&a, 4));
        assert!(!chains.join(&a, 3));
        assert!(chains.join(&b, 2));
        assert_eq!(chains.leave(&a, 4), None, "it was not its turn");
        assert_eq!(chains.leave(&a, 1), Some(3));
        assert_eq!(chains.leave(&a, 3), None);
        assert_eq!(chains.leave(&b, 2), None);
        assert!(
            chains.chains.is_empty(),
            "a key is forgotten with its last record"
        );
    }
}
