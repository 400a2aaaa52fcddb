//! Order by key, judged from outside: whoever sends a record, those of its key that stand before it have ended.

use bytes::Bytes;

use crate::broker::{Log, Tp};
use crate::check::{Violation, ensure};
use crate::oracle::Oracle;

/// The records of one key in one partition, and up to where all of them have ended.
#[derive(Debug, Default)]
pub(crate) struct Row {
    numbers: Vec<usize>,
    ended: usize,
}

/// Whose order it is.
pub(crate) type Place = (usize, Tp, Bytes);

impl Oracle {
    /// A record takes its place.
    pub(crate) fn lines_up(&mut self, number: usize) {
        let produced = &self.produced[number];
        for (destination, fate) in produced.fates.iter().enumerate() {
            if let Some(key) = &fate.order_key {
                let place = (destination, produced.tp, key.clone());
                self.rows.entry(place).or_default().numbers.push(number);
            }
        }
    }

    /// A request leaves. What retention has taken, and what lies before the group's start, is not waited for.
    pub(crate) fn in_turn(
        &mut self,
        destination: usize,
        number: usize,
        log: &Log,
    ) -> Result<(), Violation> {
        let produced = &self.produced[number];
        let (tp, offset) = (produced.tp, produced.record.offset);
        let Some(key) = &produced.fates[destination].order_key else {
            return Ok(());
        };
        let start = self.start_of(destination, tp).max(log.low);
        let Some(row) = self.rows.get_mut(&(destination, tp, key.clone())) else {
            return Ok(());
        };
        while let Some(before) = row.numbers.get(row.ended) {
            let produced = &self.produced[*before];
            let is_behind = produced.record.offset >= offset;
            if is_behind {
                break;
            }
            let ended = produced.fates[destination].settled() || produced.record.offset < start;
            ensure!(
                ended,
                Order,
                "record {number} of destination {destination} is sent before record {before} of its key has ended"
            );
            row.ended += 1;
        }
        Ok(())
    }
}
