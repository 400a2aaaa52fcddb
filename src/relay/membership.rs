//! Whether a lane is a member of its group, as far as the rules of other instances are concerned. Pure: what is known of them is `peers.rs`'s.

use std::time::Duration;

use crate::clock::Tick;

use super::peers::Stand;

#[cfg(test)]
mod tests;

/// How long an instance with an older file has to leave. It leaves as soon as it hears of the newer one; one that does not is frozen, or gone.
const PATIENCE: Duration = Duration::from_secs(10);
/// A lane that was asked to leave and has no partitions might just be given some; after this time it is not.
const OUT_AFTER: Duration = Duration::from_millis(500);

/// Whether a lane is a member of its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Membership {
    /// Not yet: it is not known who else there is, or others have to leave first.
    #[default]
    Starting,
    /// It is.
    In,
    /// Not while another instance has a newer file.
    Outdated,
}

/// One lane, as it was told.
#[derive(Debug, Default)]
pub(super) struct Seat {
    membership: Membership,
    since: Tick,
    /// Since when it waits for others to leave.
    waits: Option<Tick>,
}

impl Seat {
    pub(super) fn membership(&self) -> Membership {
        self.membership
    }

    /// What it is to be.
    pub(super) fn wanted(&mut self, stand: &Stand, now: Tick) -> Membership {
        if !matches!(stand, Stand::Newest { .. }) {
            self.waits = None;
        }
        match stand {
            Stand::Outdated { .. } => Membership::Outdated,
            Stand::Alone => Membership::In,
            // One that comes later with an older file has to leave, and nobody else.
            Stand::Newest { .. } if self.membership == Membership::In => Membership::In,
            Stand::Newest { .. } => {
                let since = *self.waits.get_or_insert(now);
                if now.since(since) < PATIENCE {
                    Membership::Starting
                } else {
                    Membership::In
                }
            }
        }
    }

    /// It was told.
    pub(super) fn told(&mut self, membership: Membership, now: Tick) {
        self.membership = membership;
        self.since = now;
    }

    /// Whether one that was told to leave, and has no partitions, has left.
    pub(super) fn may_be_out(&self, now: Tick) -> bool {
        self.membership == Membership::Outdated && now.since(self.since) >= OUT_AFTER
    }
}
