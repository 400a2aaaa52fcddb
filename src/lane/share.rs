//! What one endpoint of many may keep of the window while it takes nothing: its share. What is more is parked on the ladder with no attempt spent,
//! so that the others have room.
//!
//! The sole endpoint of a destination has the whole window: there the lane stops reading instead, and the backlog waits on its topic.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::delivery::DeliveryKey;

use super::delivery::Destiny;
use super::endpoint::State as Endpoint;
use super::endpoints::Slot;
use super::ladder::Step;
use super::machine::{Lane, WAITING_WHILE_OPEN};

/// One endpoint may hold so many parts of the window.
const SHARE: usize = 16;

/// How often a full window is looked through for what only stands in the way.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(1);

impl Lane {
    /// Parks what endpoints that take nothing hold beyond their share.
    pub(super) fn keep_to_shares(&mut self) {
        if !self.endpoints.are_many() || self.handover.is_draining() {
            return;
        }
        let crowded = self.is_full() && self.looks_through_all();
        let slots = self.endpoints.take_to_weigh();
        let share = match crowded {
            true => self.share_of_many(&slots),
            false => self.share(),
        };
        for slot in slots {
            self.keep_to_share(slot, share);
        }
        if self.is_full() {
            let wake = self.wake.unwrap_or(self.next_look);
            self.wake = Some(wake.min(self.next_look));
        }
    }

    /// Whether the endpoint of a record takes nothing and has its share of the window.
    pub(super) fn has_its_share(&self, key: DeliveryKey) -> bool {
        let slot = self.peek(key).map_or(Slot::SOLE, |d| d.endpoint);
        let endpoint = &self.endpoints[slot];
        slot != Slot::SOLE
            && endpoint.keeps_others_waiting(self.now.tick)
            && endpoint.here > self.share()
            && self.may_be_parked(key)
    }

    fn share(&self) -> usize {
        let records = self.options.window.records;
        (records / SHARE)
            .max(WAITING_WHILE_OPEN)
            .min((records / 2).max(1))
    }

    /// Where there is no room at all, one record each is enough to tell when they are well again; and where they are too many for that, the next
    /// that comes up when a probe is due.
    fn share_of_many(&self, slots: &BTreeSet<Slot>) -> usize {
        let now = self.now.tick;
        let in_the_way = |slot: &&Slot| {
            let endpoint = &self.endpoints[**slot];
            endpoint.keeps_others_waiting(now) && !endpoint.ready.is_empty()
        };
        let count = slots.iter().filter(in_the_way).count();
        usize::from(2 * count <= self.options.window.records)
    }

    /// Whether it is time to weigh all of them.
    fn looks_through_all(&mut self) -> bool {
        let now = self.now.tick;
        if self.next_look > now {
            return false;
        }
        self.next_look = now + LOOK_EVERY;
        self.endpoints.weigh_all();
        true
    }

    /// Parks the newest beyond the share, and whatever holds up a partition that is read no further because of what is not settled.
    fn keep_to_share(&mut self, slot: Slot, share: usize) {
        let now = self.now.tick;
        let endpoint = &self.endpoints[slot];
        let Endpoint::Open(open) = &endpoint.state else {
            if endpoint.keeps_others_waiting(now) {
                self.park(slot, share, Step::OneMinute);
            }
            return;
        };
        // As far away as the endpoint has been open at the least, so that an outage of days is not written again every minute.
        let open_for = now.since(open.since.tick);
        let step = match open_for >= Step::FiveMinutes.delay() {
            true => Step::FiveMinutes,
            false => Step::OneMinute,
        };
        self.park(slot, share, step);
    }

    fn park(&mut self, slot: Slot, share: usize, step: Step) {
        let mut ready = std::mem::take(&mut self.endpoints[slot].ready);
        let mut parked = Vec::new();
        let mut kept = 0;
        ready.retain(|key| {
            let read_no_further = self.partitions.get(&key.epoch).is_some_and(|p| p.paused);
            let parks = (kept >= share || read_no_further) && self.may_be_parked(*key);
            if parks {
                parked.push(*key);
            } else {
                kept += 1;
            }
            !parks
        });
        self.endpoints[slot].ready = ready;
        for key in parked {
            self.make_room_for(key, step);
        }
    }

    fn may_be_parked(&self, key: DeliveryKey) -> bool {
        let fits = self.peek(key).is_some_and(|delivery| {
            !delivery.stays_here
                && delivery.order_key.is_none()
                && matches!(delivery.destiny, Destiny::Deliver { .. })
        });
        fits && self.may_begin(key.epoch)
    }
}
