//! How partitions leave a lane: taken away in good order, lost, or given back at the end.

use crate::clock::{Now, Tick};
use crate::delivery::{DeliveryKey, Epoch};

use super::delivery::State;
use super::event::Action;
use super::machine::Lane;
use super::window::Phase;

/// The partings under way.
#[derive(Debug, Default)]
pub(super) struct Handover {
    revocations: Vec<Revocation>,
    drain: Drain,
}

#[derive(Debug)]
struct Revocation {
    epochs: Vec<Epoch>,
    deadline: Tick,
}

#[derive(Debug, Default)]
enum Drain {
    #[default]
    No,
    Until(Tick),
    Done,
}

impl Handover {
    /// When the next answer must be given.
    pub(super) fn deadline(&self) -> Option<Tick> {
        let drain = match self.drain {
            Drain::Until(deadline) => Some(deadline),
            Drain::No | Drain::Done => None,
        };
        self.revocations
            .iter()
            .map(|r| r.deadline)
            .chain(drain)
            .min()
    }

    /// Whether the lane is on its way to its end, or there.
    pub(super) fn is_draining(&self) -> bool {
        !matches!(self.drain, Drain::No)
    }

    /// Whether the lane has ended.
    pub(super) fn is_drained(&self) -> bool {
        matches!(self.drain, Drain::Done)
    }
}

impl Lane {
    pub(super) fn revoking(&mut self, epochs: Vec<Epoch>, deadline: Tick) {
        for epoch in &epochs {
            if let Some(partition) = self.partitions.get_mut(epoch) {
                partition.phase = Phase::Revoking;
            }
        }
        self.handover
            .revocations
            .push(Revocation { epochs, deadline });
    }

    pub(super) fn lost(&mut self, epochs: &[Epoch]) {
        self.fence(epochs);
    }

    pub(super) fn drain(&mut self, deadline: Tick) {
        if !self.handover.is_draining() {
            self.handover.drain = Drain::Until(deadline);
        }
    }

    /// Answers the partings whose requests and writes have ended, or whose time is up.
    pub(super) fn end_handovers(&mut self, now: Now) {
        let busy =
            |lane: &Self, epoch: &Epoch| lane.partitions.get(epoch).is_some_and(|p| p.busy > 0);
        // What is taken away while the lane drains is answered when the drain ends, at the latest.
        let drain_ends = matches!(self.handover.drain, Drain::Done)
            || matches!(self.handover.drain, Drain::Until(deadline) if deadline <= now.tick);
        for revocation in std::mem::take(&mut self.handover.revocations) {
            let Revocation { epochs, deadline } = &revocation;
            let over = drain_ends || *deadline <= now.tick;
            if !over && epochs.iter().any(|epoch| busy(self, epoch)) {
                self.handover.revocations.push(revocation);
                continue;
            }
            let positions = self.positions(|epoch| epochs.contains(&epoch));
            self.fence(epochs);
            self.actions.push_back(Action::Revoked {
                epochs: revocation.epochs,
                positions,
            });
        }
        if let Drain::Until(deadline) = self.handover.drain {
            let epochs: Vec<Epoch> = self.partitions.keys().copied().collect();
            if deadline <= now.tick || !epochs.iter().any(|epoch| busy(self, epoch)) {
                let positions = self.positions(|_| true);
                self.fence(&epochs);
                self.handover.drain = Drain::Done;
                self.actions.push_back(Action::Drained { positions });
            }
        }
    }

    /// Forgets these assignments. What still arrives for them changes nothing; what was not settled is read again by whoever comes next.
    fn fence(&mut self, epochs: &[Epoch]) {
        let mut abort = Vec::new();
        for epoch in epochs {
            let Some(partition) = self.partitions.remove(epoch) else {
                continue;
            };
            for (offset, delivery) in partition.unsettled() {
                let epoch = *epoch;
                if delivery.state == State::InFlight {
                    let key = DeliveryKey { epoch, offset };
                    self.endpoints.strays(key, delivery.endpoint);
                    if delivery.order_key.is_some() {
                        abort.push(key);
                    }
                }
                self.endpoints[delivery.endpoint].here -= 1;
                *self.tally.of(delivery.state) -= 1;
                self.unsettled -= 1;
                self.unsettled_bytes -= delivery.weight;
                self.counts.released += 1;
            }
        }
        if !abort.is_empty() {
            self.actions.push_back(Action::Abort { keys: abort });
        }
        for endpoint in self.endpoints.every() {
            endpoint.forget(epochs);
        }
        self.endpoints.call_all();
        self.timers.retain(|(_, key)| !epochs.contains(&key.epoch));
    }
}
