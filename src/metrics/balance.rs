//! The balance of one lane, as a scrape at this moment would show it.

use std::sync::PoisonError;

use crate::lane::{Settlement, Waiting};

use super::Metrics;

/// Where the records of one destination are: read = settled + released + waiting.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Balance {
    /// Read from topics since the start.
    pub read: u64,
    /// The receiver has it.
    pub delivered: u64,
    /// The dead-letter topic has it.
    pub dead_lettered: u64,
    /// The file says that it ends here.
    pub dropped: u64,
    /// No rule of this destination wants it.
    pub not_matched: u64,
    /// Given back unsettled.
    pub released: u64,
    /// Read and not settled yet.
    pub waiting: u64,
}

impl Balance {
    /// Records whose delivery has ended.
    #[must_use]
    pub fn settled(&self) -> u64 {
        self.delivered + self.dead_lettered + self.dropped + self.not_matched
    }
}

impl Metrics {
    /// The balance of a destination that has a lane; all zero for any other.
    #[must_use]
    pub fn balance(&self, destination: &str) -> Balance {
        let _gate = self.gate.write().unwrap_or_else(PoisonError::into_inner);
        let settled = |settlement: Settlement| {
            let labels = [destination, settlement.name()];
            self.records_settled.with_label_values(&labels).get()
        };
        let waiting = |(state, _)| {
            let records = self
                .records_waiting
                .with_label_values(&[destination, state])
                .get();
            u64::try_from(records).unwrap_or(0)
        };
        Balance {
            read: self
                .records_read
                .with_label_values(&[destination, "topic"])
                .get(),
            delivered: settled(Settlement::Delivered),
            dead_lettered: settled(Settlement::DeadLettered),
            dropped: settled(Settlement::Dropped),
            not_matched: settled(Settlement::NotMatched),
            released: self
                .records_released
                .with_label_values(&[destination])
                .get(),
            waiting: Waiting::default().by_state().into_iter().map(waiting).sum(),
        }
    }

    /// How many partitions the lane of a destination reads.
    #[must_use]
    pub fn partitions(&self, destination: &str) -> u64 {
        let partitions = self
            .partitions_assigned
            .with_label_values(&[destination])
            .get();
        u64::try_from(partitions).unwrap_or(0)
    }
}
