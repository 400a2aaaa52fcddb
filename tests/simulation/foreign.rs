//! Groups that begin with metadata which is not ours, or not of this place: whatever it says, nothing of it may be believed.

use std::time::Duration;

use bytes::Bytes;
use postrider::clock::Timestamp;
use postrider::lane::{Budget, Owner, Progress};

use crate::broker::{Committed, Tp};
use crate::coverage::Seen;
use crate::plan::Class;
use crate::reach::{CLUSTER, Reached};
use crate::world::{WALL_AT_START, World};

/// The ways in which a text can be of another place than the one it is found at.
pub(crate) const PLACES: usize = 5;

/// The owner and the base of the n-th other place.
pub(crate) fn elsewhere(place: usize, owner: Owner<'_>, base: i64) -> (Owner<'_>, i64) {
    match place {
        0 => (
            Owner {
                cluster_id: "another",
                ..owner
            },
            base,
        ),
        1 => (
            Owner {
                destination_id: "somebody",
                ..owner
            },
            base,
        ),
        2 => (
            Owner {
                topic: "elsewhere",
                ..owner
            },
            base,
        ),
        3 => (
            Owner {
                partition: owner.partition + 1,
                ..owner
            },
            base,
        ),
        _ => (owner, base + 1),
    }
}

impl World {
    /// Some groups are not new: somebody has committed the beginning of some partitions, with whatever beside it.
    pub(crate) fn commit_foreign_metadata(&mut self) {
        let rough = matches!(self.plan.class, Class::Rough | Class::Long);
        if !rough || !self.rng.chance(30) {
            return;
        }
        for group in 0..self.broker.groups.len() {
            for tp in self.broker.partitions() {
                if self.rng.chance(50) {
                    self.commit_foreign(group, tp);
                }
            }
        }
    }

    fn commit_foreign(&mut self, group: usize, tp: Tp) {
        let base = self.broker.log(tp).map_or(0, |log| log.low);
        let owner = Owner {
            cluster_id: CLUSTER,
            destination_id: &self.plan.destinations[group].id,
            topic: &self.broker.topics[tp.topic].name,
            partition: tp.partition as i32,
        };
        let kind = self.rng.index(PLACES + 4);
        let text = |owner: Owner<'_>, base: i64| {
            what_others_say(base)
                .encode(owner, base)
                .unwrap_or_default()
                .into_bytes()
        };
        let metadata = match kind {
            0 => Vec::new(),
            1 => b"written by hand on a Monday".to_vec(),
            2 => (0..40).map(|_| self.rng.below(256) as u8).collect(),
            3 => {
                let mut text = text(owner, base);
                text.truncate(text.len() / 2);
                text
            }
            place => {
                let (owner, base) = elsewhere(place - 4, owner, base);
                text(owner, base)
            }
        };
        self.coverage.see(Seen::ForeignMetadata);
        let committed = Committed {
            offset: base,
            metadata: Bytes::from(metadata),
        };
        self.broker.groups[group].committed.insert(tp, committed);
        self.oracle
            .reached
            .insert((group, tp), Reached::starting_at(base));
    }
}

/// Everything up to here is settled, and of the next one a lot is spent.
fn what_others_say(base: i64) -> Progress {
    let settled = base + 1..base + 12;
    Progress {
        budgets: vec![Budget {
            offset: base,
            attempts: 3,
            faults: 2,
            first_attempt: Timestamp(WALL_AT_START),
            due: Timestamp(WALL_AT_START + 3_600_000),
            held: Duration::ZERO,
        }],
        settled: vec![settled],
        ..Progress::default()
    }
}
