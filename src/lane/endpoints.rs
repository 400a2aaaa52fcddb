//! The endpoints of a lane, and whose turn it is.
//!
//! A destination with one address has one endpoint, the sole one. Where the address is made from the record there are many, told apart by a key:
//! each has its own queue, its own evidence and its own breaker, and they take turns. One that may not send leaves the round until its time has
//! come, or until something happens to it. Keys that are idle and of which nothing bad is known are forgotten when there are too many.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::{Index, IndexMut};
use std::sync::Arc;

use crate::clock::Tick;
use crate::delivery::DeliveryKey;

use super::endpoint::Endpoint;

/// So many keys are remembered, and as many more as there are records in the window.
const KEYS_MAX: usize = 10_000;

/// When there are too many, so many are forgotten at once: to look for them costs a walk over all.
const FORGOTTEN_AT_ONCE: usize = KEYS_MAX / 8;

/// Where an endpoint is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Slot(usize);

impl Slot {
    /// The endpoint of a destination that has one address. Records that are not sent anywhere wait there as well.
    pub(super) const SOLE: Self = Self(0);
}

/// How many endpoints there are in each state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EndpointStates {
    /// They do their work, as far as is known.
    pub closed: usize,
    /// They are left alone.
    pub open: usize,
    /// They are left alone, and a probe is under way.
    pub half_open: usize,
    /// They said that they are gone.
    pub gone: usize,
    /// A person has paused them.
    pub paused: usize,
}

impl EndpointStates {
    /// Every endpoint.
    #[must_use]
    pub fn total(&self) -> usize {
        self.by_name().iter().map(|(_, count)| count).sum()
    }

    /// The numbers with their names in metrics.
    #[must_use]
    pub fn by_name(&self) -> [(&'static str, usize); 5] {
        [
            ("closed", self.closed),
            ("open", self.open),
            ("half_open", self.half_open),
            ("gone", self.gone),
            ("paused", self.paused),
        ]
    }
}

/// The endpoints of a lane.
#[derive(Debug)]
pub(super) struct Endpoints {
    slots: Vec<Endpoint>,
    free: Vec<Slot>,
    by_key: BTreeMap<Arc<str>, Slot>,
    /// Those that may have something to send, in the order of their turns.
    turns: VecDeque<Slot>,
    /// Those that may send nothing before their time.
    sleepers: BTreeSet<(Tick, Slot)>,
    /// Those of many that may keep more records waiting than their share.
    surplus: BTreeSet<Slot>,
    /// Requests under way whose assignments have ended: what they say of their endpoint counts all the same.
    strays: BTreeMap<DeliveryKey, Slot>,
}

impl Default for Endpoints {
    fn default() -> Self {
        Self {
            slots: vec![Endpoint::default()],
            free: Vec::new(),
            by_key: BTreeMap::new(),
            turns: VecDeque::new(),
            sleepers: BTreeSet::new(),
            surplus: BTreeSet::new(),
            strays: BTreeMap::new(),
        }
    }
}

impl Index<Slot> for Endpoints {
    type Output = Endpoint;

    fn index(&self, slot: Slot) -> &Endpoint {
        &self.slots[slot.0]
    }
}

impl IndexMut<Slot> for Endpoints {
    fn index_mut(&mut self, slot: Slot) -> &mut Endpoint {
        &mut self.slots[slot.0]
    }
}

impl Endpoints {
    /// The endpoint with this key; a new one, of which nothing is known, if there is none.
    pub(super) fn of(&mut self, key: Option<&Arc<str>>, now: Tick) -> Slot {
        let Some(key) = key else { return Slot::SOLE };
        if let Some(slot) = self.by_key.get(key) {
            return *slot;
        }
        if self.by_key.len() >= KEYS_MAX {
            self.forget_some(now);
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Endpoint::default());
            Slot(self.slots.len() - 1)
        });
        self[slot].key = Some(Arc::clone(key));
        self.by_key.insert(Arc::clone(key), slot);
        slot
    }

    /// Whether the destination has more than its sole one.
    pub(super) fn are_many(&self) -> bool {
        !self.by_key.is_empty()
    }

    /// Those that stand for an address: the sole one, or else all others.
    pub(super) fn all(&self) -> impl Iterator<Item = (Slot, &Endpoint)> {
        let many = self.are_many();
        let slots = self.slots.iter().enumerate();
        slots
            .filter(move |(_, endpoint)| endpoint.key.is_some() == many)
            .map(|(place, endpoint)| (Slot(place), endpoint))
    }

    /// Every place there is.
    pub(super) fn slots(&self) -> impl Iterator<Item = Slot> + use<> {
        (0..self.slots.len()).map(Slot)
    }

    /// Every place, for what concerns all of them.
    pub(super) fn every(&mut self) -> &mut [Endpoint] {
        &mut self.slots
    }

    /// Forgets those that are idle: of which nothing bad is known first, then those that were silent the longest.
    fn forget_some(&mut self, now: Tick) {
        let mut idle: Vec<(bool, Tick, Slot)> = self
            .by_key
            .values()
            .map(|slot| (*slot, &self[*slot]))
            .filter(|(_, endpoint)| endpoint.is_idle())
            .map(|(slot, endpoint)| (endpoint.is_remarkable(now), endpoint.heard, slot))
            .collect();
        idle.sort_unstable();
        for (_, _, slot) in idle.into_iter().take(FORGOTTEN_AT_ONCE) {
            self.forget(slot);
        }
    }

    fn forget(&mut self, slot: Slot) {
        let endpoint = std::mem::take(&mut self[slot]);
        // A turn that it still has goes to whoever comes next.
        self[slot].has_turn = endpoint.has_turn;
        if let Some(key) = endpoint.key {
            self.by_key.remove(&key);
        }
        if let Some(at) = endpoint.wakes_at {
            self.sleepers.remove(&(at, slot));
        }
        self.surplus.remove(&slot);
        self.free.push(slot);
    }

    // === Turns ===

    /// Something has happened to this endpoint: it is asked in its turn.
    pub(super) fn call(&mut self, slot: Slot) {
        let endpoint = &mut self.slots[slot.0];
        if !endpoint.has_turn {
            endpoint.has_turn = true;
            self.turns.push_back(slot);
        }
    }

    /// The same for all.
    pub(super) fn call_all(&mut self) {
        for slot in self.slots() {
            self.call(slot);
        }
    }

    /// Whose turn it is.
    pub(super) fn turn(&self) -> Option<Slot> {
        self.turns.front().copied()
    }

    /// It has sent something: the next one, please.
    pub(super) fn rotate(&mut self) {
        if self.turns.len() > 1 {
            self.turns.rotate_left(1);
        }
    }

    /// It has nothing to send: it is asked again at this time, or when something happens to it.
    pub(super) fn sit_out(&mut self, until: Option<Tick>) {
        let Some(slot) = self.turns.pop_front() else {
            return;
        };
        let endpoint = &mut self.slots[slot.0];
        endpoint.has_turn = false;
        if let Some(before) = std::mem::replace(&mut endpoint.wakes_at, until) {
            self.sleepers.remove(&(before, slot));
        }
        if let Some(until) = until {
            self.sleepers.insert((until, slot));
        }
    }

    /// When the first of those that wait for their time is to be asked.
    pub(super) fn wakes_at(&self) -> Option<Tick> {
        self.sleepers.first().map(|(at, _)| *at)
    }

    /// Calls those whose time has come.
    pub(super) fn wake(&mut self, now: Tick) {
        while let Some((at, slot)) = self.sleepers.first().copied() {
            if at > now {
                return;
            }
            self.sleepers.pop_first();
            self[slot].wakes_at = None;
            self.call(slot);
        }
    }

    // === Shares ===

    /// This endpoint may keep more records waiting than it should; nothing to do with the sole one.
    pub(super) fn weigh(&mut self, slot: Slot) {
        if slot != Slot::SOLE {
            self.surplus.insert(slot);
        }
    }

    /// The same for all.
    pub(super) fn weigh_all(&mut self) {
        let keyed = self.by_key.values().copied();
        self.surplus.extend(keyed);
    }

    /// Those that were named since the last time.
    pub(super) fn take_to_weigh(&mut self) -> BTreeSet<Slot> {
        std::mem::take(&mut self.surplus)
    }

    // === Requests whose assignments have ended ===

    pub(super) fn strays(&mut self, key: DeliveryKey, slot: Slot) {
        self.strays.insert(key, slot);
    }

    /// The endpoint of such a request, which has ended.
    pub(super) fn take_stray(&mut self, key: DeliveryKey) -> Option<Slot> {
        self.strays.remove(&key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn at(seconds: u64) -> Tick {
        Tick(Duration::from_secs(seconds))
    }

    #[test]
    fn idle_keys_are_forgotten_when_there_are_too_many_and_busy_ones_never() {
        let mut endpoints = Endpoints::default();
        let mut busy = Vec::new();
        for number in 0..5 * KEYS_MAX {
            let key: Arc<str> = format!("{number}").into();
            let slot = endpoints.of(Some(&key), at(number as u64));
            endpoints[slot].heard = at(number as u64);
            endpoints.call(slot);
            if number % 100 == 0 {
                endpoints[slot].here = 1;
                busy.push((key, slot));
            }
        }
        assert!(endpoints.by_key.len() <= KEYS_MAX);
        assert!(endpoints.slots.len() <= KEYS_MAX + 1);
        assert!(endpoints.turns.len() <= KEYS_MAX + 1);
        for (key, slot) in busy {
            assert_eq!(endpoints.of(Some(&key), at(0)), slot, "{key}");
        }
    }

    #[test]
    fn endpoints_take_turns_and_come_back_at_their_time() {
        let mut endpoints = Endpoints::default();
        let keys: [Arc<str>; 2] = ["a".into(), "b".into()];
        let [a, b] = keys.map(|key| endpoints.of(Some(&key), at(0)));
        endpoints.call(a);
        endpoints.call(b);
        endpoints.call(a);
        assert_eq!(endpoints.turn(), Some(a));
        endpoints.rotate();
        assert_eq!(endpoints.turn(), Some(b));
        endpoints.sit_out(Some(at(5)));
        assert_eq!(endpoints.turn(), Some(a));
        endpoints.sit_out(None);
        assert_eq!(endpoints.turn(), None);
        assert_eq!(endpoints.wakes_at(), Some(at(5)));
        endpoints.wake(at(4));
        assert_eq!(endpoints.turn(), None);
        endpoints.wake(at(5));
        assert_eq!(endpoints.turn(), Some(b));
        assert_eq!(endpoints.wakes_at(), None);
    }
}
