//! Where the records of the ladder wait until they may go in: one for each partition, which is paused behind it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tracing::error;

use crate::clock::{Clock, Now, Timestamp};
use crate::delivery::Epoch;
use crate::lane::{Caller, Gate, Step};
use crate::record::Record;

use super::consumer::{ConsumerPlan, ConsumerThread, FromConsumer};
use super::envelope::{Address, Opened, address, open};
use super::mailbox::Allowance;
use super::raw::Fetched;
use super::reading::Parcels;
use super::topics::step_of;

/// A partition stands still for this long at least. To read on costs a new fetch, which is too much for one record at a time; what comes up in the
/// meantime goes in with the first.
const CLOSED_AT_LEAST: Duration = Duration::from_secs(1);

/// A record of the ladder, taken out of its envelope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FromLadder {
    /// Its offset on the ladder.
    pub offset: i64,
    /// What it weighed there: what the lane was asked room for.
    pub weight: u64,
    /// What is in it.
    pub opened: Opened,
}

/// The gate and those who stand before it.
#[derive(Debug, Default)]
pub(super) struct Gatehouse {
    gate: Gate,
    held: BTreeMap<Epoch, Held>,
}

/// A partition that stands still.
#[derive(Debug)]
struct Held {
    /// Its next record; `None` when that cannot be read, so that it stands for ever.
    first: Option<(Caller, Record)>,
    /// What was taken of it all the same before it stood.
    behind: VecDeque<Fetched>,
}

impl Held {
    fn may_go(&self, gate: &Gate, now: Now) -> bool {
        self.first.as_ref().is_some_and(|(caller, _)| {
            now.tick.since(caller.arrived) >= CLOSED_AT_LEAST && gate.lets_in(*caller, now)
        })
    }
}

impl Gatehouse {
    pub(super) fn release(&mut self, until: Timestamp) {
        self.gate.release(until);
    }

    /// Whether nobody stands before the gate.
    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    pub(super) fn forget(&mut self, epoch: Epoch) {
        self.held.remove(&epoch);
    }

    /// Whether what was just taken will stand before the gate, and its partition with it.
    pub(super) fn holds(&self, fetched: &Fetched, plan: &ConsumerPlan, clock: Clock) -> bool {
        let Fetched::Record(record) = fetched else {
            return false;
        };
        step_of(&plan.owned_prefix, &record.topic).is_some_and(|step| {
            match address(record, &plan.destination_id) {
                Ok(Address::Foreign(_)) => false,
                Ok(Address::Ours { written }) => {
                    let now = clock.now();
                    !self.gate.lets_in(caller(step, written, now), now)
                }
                Err(_) => true,
            }
        })
    }
}

fn caller(step: Step, written: Option<Timestamp>, now: Now) -> Caller {
    Caller {
        step,
        written,
        arrived: now.tick,
    }
}

impl ConsumerThread {
    /// A record of the ladder was read. It goes in, or stands before the gate, or behind one that does.
    pub(super) fn come_to_gate(
        &mut self,
        epoch: Epoch,
        step: Step,
        record: Record,
        parcels: &mut Parcels,
    ) {
        if let Some(held) = self.gate.held.get_mut(&epoch) {
            if held.first.is_some() {
                held.behind.push_back(Fetched::Record(record));
            }
            return;
        }
        match address(&record, &self.plan.destination_id) {
            Ok(Address::Foreign(_)) => self.go_in(epoch, record, parcels),
            Ok(Address::Ours { written }) => {
                let now = self.clock.now();
                let caller = caller(step, written, now);
                if self.gate.gate.lets_in(caller, now) {
                    self.go_in(epoch, record, parcels);
                } else {
                    self.hold(epoch, Some((caller, record)));
                }
            }
            Err(error) => self.cannot_read(epoch, record.offset, &error),
        }
    }

    /// A partition was read to its end; who stands before the gate hears of it in turn.
    pub(super) fn reach_end(&mut self, epoch: Epoch, offset: i64) {
        let Some(held) = self.gate.held.get_mut(&epoch) else {
            return self.tell(FromConsumer::EndOfPartition { epoch, offset });
        };
        if let (Some(_), Some((topic, partition))) = (&held.first, self.epochs.get(&epoch)) {
            held.behind.push_back(Fetched::EndOfPartition {
                topic: Arc::clone(topic),
                partition: *partition,
                offset,
            });
        }
    }

    /// Lets those in whose time has come, as far as the lane has room for them.
    pub(super) fn open_gates(&mut self, allowance: Allowance) {
        let now = self.clock.now();
        let Gatehouse { gate, held } = &self.gate;
        let due = held.iter().filter(|(_, held)| held.may_go(gate, now));
        let due: Vec<Epoch> = due.map(|(epoch, _)| *epoch).collect();
        if due.is_empty() {
            return;
        }
        for epoch in due {
            if self.has_room(allowance)
                && let Some(held) = self.gate.held.remove(&epoch)
            {
                self.pauses.by_gate(epoch, false);
                self.let_in(epoch, held);
            }
        }
        self.apply_pauses();
    }

    fn let_in(&mut self, epoch: Epoch, held: Held) {
        let Held { first, behind } = held;
        let Some((Caller { step, .. }, record)) = first else {
            return;
        };
        let mut parcels = Parcels::default();
        self.go_in(epoch, record, &mut parcels);
        for item in behind {
            match item {
                Fetched::Record(record) => self.come_to_gate(epoch, step, record, &mut parcels),
                Fetched::EndOfPartition { offset, .. } => {
                    self.send(&mut parcels);
                    self.reach_end(epoch, offset);
                }
                Fetched::Led { .. }
                | Fetched::Astray { .. }
                | Fetched::Damaged { .. }
                | Fetched::Error(_) => {}
            }
        }
        self.send(&mut parcels);
    }

    fn go_in(&mut self, epoch: Epoch, record: Record, parcels: &mut Parcels) {
        let (offset, weight) = (record.offset, record.weight() as u64);
        match open(record, &self.plan.destination_id) {
            Ok(opened) => {
                let record = FromLadder {
                    offset,
                    weight,
                    opened,
                };
                self.pack_ladder(epoch, record, parcels);
            }
            Err(error) => self.cannot_read(epoch, offset, &error),
        }
    }

    fn hold(&mut self, epoch: Epoch, first: Option<(Caller, Record)>) {
        let behind = VecDeque::new();
        self.gate.held.insert(epoch, Held { first, behind });
        self.pauses.by_gate(epoch, true);
    }

    /// Nobody knows what a record is that cannot be read, so nobody may step over it: its partition stands still.
    fn cannot_read(&mut self, epoch: Epoch, offset: i64, error: &str) {
        if let Some((topic, partition)) = self.epochs.get(&epoch) {
            error!(
                destination = %self.plan.destination, %topic, partition, offset, error,
                "a record of the ladder cannot be read: its partition stands still, and what waits behind it, until a program that can read it runs"
            );
        }
        self.hold(epoch, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Tick;

    fn record() -> Record {
        Record {
            topic: "p.retry.1m".into(),
            partition: 0,
            offset: 0,
            timestamp: None,
            key: None,
            value: None,
            headers: Vec::new(),
        }
    }

    #[test]
    fn a_partition_stands_for_a_while_and_until_its_first_may_go() {
        let now = |ms| Now {
            tick: Tick(Duration::from_millis(ms)),
            wall: Timestamp(i64::try_from(ms).unwrap()),
        };
        let held = |written| Held {
            first: Some((
                caller(Step::OneMinute, Some(Timestamp(written)), now(60_000)),
                record(),
            )),
            behind: VecDeque::new(),
        };
        let gate = Gate::default();
        assert!(!held(10).may_go(&gate, now(60_010)), "not for one record");
        assert!(held(10).may_go(&gate, now(61_000)));
        assert!(!held(5000).may_go(&gate, now(64_999)));
        assert!(held(5000).may_go(&gate, now(65_000)));
    }

    #[test]
    fn what_cannot_be_read_stands_for_ever() {
        let held = Held {
            first: None,
            behind: VecDeque::new(),
        };
        let late = Now {
            tick: Tick(Duration::from_secs(1 << 40)),
            wall: Timestamp(i64::MAX),
        };
        let mut gate = Gate::default();
        gate.release(Timestamp(i64::MAX));
        assert!(!held.may_go(&gate, late));
    }
}
