//! Reads a topic of our own from its beginning, or from a time on, to where it ends now.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::clock::Timestamp;
use crate::record::Record;

use super::super::context::Plain;
use super::super::envelope::{Letter, read_letter};
use super::super::raw::{Fetched, copied};
use super::{Letters, LettersError, SILENCE, TIMEOUT, TURN};

/// A record of the topic of dead letters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scanned {
    /// A dead letter.
    Letter(Box<Letter>),
    /// Something that cannot be read as one.
    Unreadable {
        /// Its partition.
        partition: i32,
        /// Its offset.
        offset: i64,
        /// Why.
        why: String,
    },
}

/// Where a reading stands, in offsets: of how many, how far.
#[derive(Debug, Default)]
struct Reach {
    /// The next offset and the one to read up to, by partition.
    left: BTreeMap<i32, (i64, i64)>,
    done: u64,
    total: u64,
}

impl Letters {
    /// Reads every dead letter that is there at this moment, or that was written since a time. `progress` is told how far it is, and of how
    /// much. Waits; not for a runtime's worker.
    ///
    /// # Errors
    /// When Kafka does not answer, or somebody wants an end.
    pub fn scan(
        &self,
        since: Option<Timestamp>,
        progress: &mut dyn FnMut(u64, u64),
        each: &mut dyn FnMut(Scanned),
    ) -> Result<(), LettersError> {
        self.read(&self.topic(), since, progress, &mut |record| {
            let (partition, offset) = (record.partition, record.offset);
            each(match read_letter(record) {
                Ok(letter) => Scanned::Letter(Box::new(letter)),
                Err(why) => Scanned::Unreadable {
                    partition,
                    offset,
                    why,
                },
            });
        })
    }

    /// The same for any topic of our own, as it is; of transactions only what was committed.
    pub(super) fn read(
        &self,
        topic: &str,
        since: Option<Timestamp>,
        progress: &mut dyn FnMut(u64, u64),
        each: &mut dyn FnMut(Record),
    ) -> Result<(), LettersError> {
        let consumer = self.open()?;
        let mut reach = self.begin(&consumer, topic, since)?;
        progress(0, reach.total);
        let mut silent = Duration::ZERO;
        while !reach.left.is_empty() {
            self.go_on()?;
            match consumer.poll(TURN) {
                Some(Ok(message)) => {
                    silent = Duration::ZERO;
                    if let Fetched::Record(record) = copied(&message)
                        && reach.read(record.partition, record.offset)
                    {
                        each(record);
                        progress(reach.done, reach.total);
                    }
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => reach.end(partition),
                Some(Err(error)) => match error.rdkafka_error_code() {
                    Some(
                        RDKafkaErrorCode::TopicAuthorizationFailed
                        | RDKafkaErrorCode::UnknownTopicOrPartition
                        | RDKafkaErrorCode::Fatal,
                    ) => return Err(LettersError::Refused(format!("{topic}: {error}"))),
                    // The client mends it by itself, or Kafka stays away.
                    _ => silent += TURN,
                },
                None => silent += TURN,
            }
            if silent >= SILENCE {
                return Err(self.away("nothing came from it for 30 s"));
            }
        }
        progress(reach.total, reach.total);
        Ok(())
    }

    /// Places the consumer at the beginning, or at a time.
    fn begin(
        &self,
        consumer: &BaseConsumer<Plain>,
        topic: &str,
        since: Option<Timestamp>,
    ) -> Result<Reach, LettersError> {
        let mut reach = Reach::default();
        let mut from = TopicPartitionList::new();
        let starts = self.starts(consumer, topic, since)?;
        for (partition, start, end) in starts {
            if start < end {
                reach.total += u64::try_from(end - start).unwrap_or(0);
                reach.left.insert(partition, (start, end));
                from.add_partition_offset(topic, partition, Offset::Offset(start))?;
            }
        }
        consumer.assign(&from)?;
        Ok(reach)
    }

    /// Where each partition begins, or stood at a time, and where it ends.
    pub(super) fn starts(
        &self,
        consumer: &BaseConsumer<Plain>,
        topic: &str,
        since: Option<Timestamp>,
    ) -> Result<Vec<(i32, i64, i64)>, LettersError> {
        let mut starts = Vec::new();
        for partition in self.partitions(consumer, topic)? {
            let (low, high) = self.watermarks(consumer, topic, partition)?;
            starts.push((partition, low, high));
        }
        let Some(Timestamp(since)) = since.filter(|_| !starts.is_empty()) else {
            return Ok(starts);
        };
        let mut times = TopicPartitionList::new();
        for (partition, ..) in &starts {
            times.add_partition_offset(topic, *partition, Offset::Offset(since))?;
        }
        for found in consumer.offsets_for_times(times, TIMEOUT)?.elements() {
            // Without one, all that is there is older.
            let at = match found.offset() {
                Offset::Offset(offset) => Some(offset),
                Offset::Beginning
                | Offset::End
                | Offset::Stored
                | Offset::Invalid
                | Offset::OffsetTail(_) => None,
            };
            for (partition, start, end) in &mut starts {
                if *partition == found.partition() {
                    *start = at.unwrap_or(*end).clamp(*start, *end);
                }
            }
        }
        Ok(starts)
    }
}

impl Letters {
    /// The first offset of a partition and the one after its last. One that was only just made has nobody to ask for a moment.
    pub(super) fn watermarks(
        &self,
        consumer: &BaseConsumer<Plain>,
        topic: &str,
        partition: i32,
    ) -> Result<(i64, i64), LettersError> {
        let mut waited = Duration::ZERO;
        loop {
            self.go_on()?;
            let error = match consumer.fetch_watermarks(topic, partition, TIMEOUT) {
                Ok(marks) => return Ok(marks),
                Err(error) => error,
            };
            let is_new = matches!(
                error.rdkafka_error_code(),
                Some(
                    RDKafkaErrorCode::NotLeaderForPartition
                        | RDKafkaErrorCode::LeaderNotAvailable
                        | RDKafkaErrorCode::UnknownTopicOrPartition
                        | RDKafkaErrorCode::UnknownPartition
                )
            );
            if !is_new || waited >= TIMEOUT {
                return Err(self.away(&error.to_string()));
            }
            // Nothing is assigned, so that this only waits.
            drop(consumer.poll(TURN));
            waited += TURN;
        }
    }
}

impl Reach {
    /// A record came. False when it is none of those that were there at the start.
    fn read(&mut self, partition: i32, offset: i64) -> bool {
        let Some((next, end)) = self.left.get_mut(&partition) else {
            return false;
        };
        let (before, wanted) = (*next, offset < *end);
        *next = (offset + 1).clamp(before, *end);
        self.done += u64::try_from(*next - before).unwrap_or(0);
        if *next >= *end {
            self.left.remove(&partition);
        }
        wanted
    }

    /// Nothing comes any more, whatever the offsets say: markers of transactions have offsets too.
    fn end(&mut self, partition: i32) {
        if let Some((next, end)) = self.left.remove(&partition) {
            self.done += u64::try_from(end - next).unwrap_or(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_there_at_the_start_is_read_and_no_more() {
        let mut reach = Reach {
            left: [(0, (5, 8)), (1, (0, 2))].into(),
            done: 0,
            total: 5,
        };
        assert!(reach.read(0, 5));
        assert!(reach.read(0, 7), "an offset may be missing");
        assert_eq!(reach.done, 3);
        assert!(!reach.read(0, 8), "came later");
        assert!(reach.read(1, 0));
        assert!(!reach.read(1, 9), "the last ones were deleted meanwhile");
        assert!(reach.left.is_empty());
        assert_eq!(reach.done, 5);
    }
}
