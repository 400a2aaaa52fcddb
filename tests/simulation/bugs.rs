//! Planted bugs of what lasts: budgets, evidence, progress, the ladder.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use postrider::delivery::{Attempt, DeadLetterReason, DeliveryId, Epoch, Outcome};
use postrider::lane::{Action, AssignedPartition, Event, Notice, Owner, Progress};

use crate::foreign::{PLACES, elsewhere};
use crate::mutant::Mutant;
use crate::reach::CLUSTER;

/// What such a bug has to remember.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    destination_id: Arc<str>,
    entries: usize,
    open: bool,
    ids: BTreeMap<postrider::delivery::DeliveryKey, DeliveryId>,
    begun_before: BTreeSet<Epoch>,
    /// Failures while the endpoint was open.
    spent_while_open: BTreeMap<DeliveryId, usize>,
}

impl Memory {
    pub(crate) fn new(destination_id: Arc<str>, entries: usize) -> Self {
        Self {
            destination_id,
            entries,
            ..Self::default()
        }
    }

    /// What the lane hears.
    pub(crate) fn bend(&mut self, mutant: Mutant, mut event: Event) -> Event {
        match (mutant, &mut event) {
            (Mutant::SpendsWhileOpen, Event::AttemptEnded { key, attempt }) if self.open => {
                let id = self.ids.get(key).copied();
                self.spend(id, attempt);
            }
            (Mutant::ForgetsBudgets, Event::Assigned { partitions, .. }) => {
                for partition in partitions {
                    self.rewrite(partition, |progress| progress.budgets.clear());
                }
            }
            (Mutant::OrderForgottenAtRestart, Event::Assigned { partitions, .. }) => {
                let known = partitions.iter().filter(|assigned| assigned.committed);
                self.begun_before
                    .extend(known.map(|assigned| assigned.epoch));
            }
            (Mutant::OrderForgottenAtRestart, Event::Read { epoch, records })
                if self.begun_before.contains(epoch) =>
            {
                records
                    .iter_mut()
                    .for_each(|incoming| incoming.order_key = None);
            }
            (Mutant::BelievesAnyMetadata, Event::Assigned { partitions, .. }) => {
                for partition in partitions {
                    self.believe(partition);
                }
            }
            (Mutant::FaultHoldsTheLane, Event::AttemptEnded { attempt, .. })
                if attempt.outcome == Outcome::EndpointFault =>
            {
                attempt.outcome = Outcome::PushBack;
                attempt.retry_after = Some(Duration::from_secs(24 * 3600));
            }
            _ => {}
        }
        event
    }

    /// What the shell hears.
    pub(crate) fn bend_action(&mut self, mutant: Mutant, mut action: Action) -> Action {
        if mutant != Mutant::SpendsWhileOpen {
            return action;
        }
        match &mut action {
            Action::Tell(Notice::Opened { .. }) => self.open = true,
            Action::Tell(Notice::Closed { .. }) => self.open = false,
            Action::Send(send) => {
                self.ids.insert(send.key, send.id);
            }
            Action::WriteDeadLetter(letter) if self.is_used_up(letter.id) => {
                letter.reason = DeadLetterReason::Exhausted;
            }
            _ => {}
        }
        action
    }

    fn is_used_up(&self, id: DeliveryId) -> bool {
        self.spent_while_open
            .get(&id)
            .is_some_and(|spent| *spent > self.entries)
    }

    fn spend(&mut self, id: Option<DeliveryId>, attempt: &mut Attempt) {
        let Some(id) = id else { return };
        if !matches!(attempt.outcome, Outcome::Retry | Outcome::EndpointFault) {
            return;
        }
        *self.spent_while_open.entry(id).or_default() += 1;
        if self.is_used_up(id) {
            attempt.outcome = Outcome::Reject;
        }
    }

    fn owner<'a>(&'a self, assigned: &'a AssignedPartition) -> Owner<'a> {
        Owner {
            cluster_id: CLUSTER,
            destination_id: &self.destination_id,
            topic: &assigned.topic,
            partition: assigned.partition,
        }
    }

    fn rewrite(&self, assigned: &mut AssignedPartition, how: impl Fn(&mut Progress)) {
        let owner = self.owner(assigned);
        let text = assigned.metadata.as_deref();
        let found = text.and_then(|text| Progress::decode(owner, assigned.base, text));
        let Some(mut progress) = found else { return };
        how(&mut progress);
        let text = progress.encode(owner, assigned.base).map(Bytes::from);
        assigned.metadata = text;
    }

    /// Takes what was written for another place for its own.
    fn believe(&self, assigned: &mut AssignedPartition) {
        let owner = self.owner(assigned);
        let text = assigned.metadata.as_deref().unwrap_or_default();
        let found = (0..PLACES).find_map(|place| {
            let (owner, base) = elsewhere(place, owner, assigned.base);
            Progress::decode(owner, base, text)
        });
        let text = found
            .and_then(|progress| progress.encode(owner, assigned.base))
            .map(Bytes::from);
        if text.is_some() {
            assigned.metadata = text;
        }
    }
}
