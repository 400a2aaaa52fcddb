//! What a lane cannot write to the topics of our own: its records stay, and the health of the process says so.

use crate::lane::WriteError;
use crate::metrics::OwnedWrite;

use super::lane_task::LaneTask;

impl LaneTask {
    /// A write did not succeed. True when it is the first of its kind.
    pub(super) fn cannot_write(&mut self, kind: OwnedWrite, failure: &WriteError) -> bool {
        let problem = match failure {
            WriteError::TooLarge => {
                "the topic does not take it, small as it was made: raise its max.message.bytes"
            }
            WriteError::Failed(problem) => problem,
        };
        let health = &self.parts.health;
        health.writes(&self.parts.name, kind.name(), Some(problem.to_owned()));
        self.blocked.insert(kind)
    }

    /// A write succeeded.
    pub(super) fn wrote_again(&mut self, kind: OwnedWrite) {
        if self.blocked.remove(&kind) {
            self.parts
                .health
                .writes(&self.parts.name, kind.name(), None);
        }
    }

    /// What could not be written is not ours to write any more: another instance has the partition.
    pub(super) fn forget_blocks(&mut self) {
        if self.blocked.is_empty() || self.parts.lane.waiting().write > 0 {
            return;
        }
        for kind in std::mem::take(&mut self.blocked) {
            self.parts
                .health
                .writes(&self.parts.name, kind.name(), None);
        }
        self.show_state();
    }
}
