//! Single dead letters by their places, and what was left out of them from where it still is.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::delivery::DeliveryId;
use crate::lane::Shed;
use crate::record::Record;

use super::super::context::Plain;
use super::super::envelope::{Letter, read_letter};
use super::super::raw::{Fetched, copied};
use super::{Letters, LettersError, SILENCE, TURN};

/// Places of one partition that are nearer to each other are read in one go.
const GAP: i64 = 1000;

/// Why what was left out of a dead letter is not to be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Missing {
    /// It was read from elsewhere.
    #[error(
        "its value was left out because it was too large, and is on another cluster ({0}), which this file does not name"
    )]
    OtherCluster(String),
    /// Nothing is there any more.
    #[error(
        "its value was left out because it was too large, and is not at its origin any more ({topic}, partition {partition}, offset {offset})"
    )]
    Gone {
        /// The first topic.
        topic: String,
        /// Its partition there.
        partition: i32,
        /// Its offset there.
        offset: i64,
    },
    /// Another record is there.
    #[error(
        "its value was left out because it was too large, and at its origin is another record now ({topic}, partition {partition}, offset {offset})"
    )]
    Another {
        /// The first topic.
        topic: String,
        /// Its partition there.
        partition: i32,
        /// Its offset there.
        offset: i64,
    },
}

impl Letters {
    /// The dead letters at these places; those that were deleted meanwhile are not among them. Waits; not for a runtime's worker.
    ///
    /// # Errors
    /// When Kafka does not answer, or somebody wants an end.
    pub fn fetch(
        &self,
        places: &[(i32, i64)],
    ) -> Result<BTreeMap<(i32, i64), Letter>, LettersError> {
        let topic = self.topic();
        let consumer = self.open()?;
        let mut found = BTreeMap::new();
        for run in runs(places) {
            self.read_run(&consumer, &topic, &run, &mut |record| {
                let place = (record.partition, record.offset);
                if let Ok(letter) = read_letter(record) {
                    found.insert(place, letter);
                }
            })?;
        }
        Ok(found)
    }

    /// Puts back into a dead letter what was left out of it, from the topic that it was read from first. `cluster_id` is this cluster's.
    ///
    /// # Errors
    /// Why it is not to be had; else when Kafka does not answer, or somebody wants an end.
    pub fn complete(
        &self,
        letter: &mut Letter,
        cluster_id: &str,
    ) -> Result<Result<(), Missing>, LettersError> {
        if letter.shed < Shed::Value {
            return Ok(Ok(()));
        }
        if letter.cluster_id != cluster_id {
            return Ok(Err(Missing::OtherCluster(letter.cluster_id.clone())));
        }
        let Record {
            topic,
            partition,
            offset,
            ..
        } = letter.record.clone();
        let there = self.record(&topic, partition, offset)?;
        let topic = topic.to_string();
        let Some(record) = there else {
            return Ok(Err(Missing::Gone {
                topic,
                partition,
                offset,
            }));
        };
        // The id is over cluster, place and timestamp. The key is not in it.
        let id = DeliveryId::new(cluster_id, &record, &letter.destination);
        let same_key = letter.shed == Shed::Record || record.key == letter.record.key;
        if id != letter.id || !same_key {
            return Ok(Err(Missing::Another {
                topic,
                partition,
                offset,
            }));
        }
        letter.record = record;
        Ok(Ok(()))
    }

    /// The record at this place of any topic; nothing when it is not there. Waits; not for a runtime's worker.
    ///
    /// # Errors
    /// When Kafka does not answer, or somebody wants an end.
    pub fn record(
        &self,
        topic: &str,
        partition: i32,
        offset: i64,
    ) -> Result<Option<Record>, LettersError> {
        let consumer = self.open()?;
        let mut there = None;
        if self.partitions(&consumer, topic)?.contains(&partition) {
            let offsets = [offset].into();
            let run = Run { partition, offsets };
            self.read_run(&consumer, topic, &run, &mut |record| there = Some(record))?;
        }
        Ok(there)
    }

    /// Reads the records of a run, as far as they are there.
    fn read_run(
        &self,
        consumer: &BaseConsumer<Plain>,
        topic: &str,
        run: &Run,
        each: &mut dyn FnMut(Record),
    ) -> Result<(), LettersError> {
        let (Some(first), Some(last)) = (run.offsets.first(), run.offsets.last()) else {
            return Ok(());
        };
        let mut from = TopicPartitionList::new();
        from.add_partition_offset(topic, run.partition, Offset::Offset(*first))?;
        consumer.assign(&from)?;
        let mut silent = Duration::ZERO;
        loop {
            self.go_on()?;
            match consumer.poll(TURN) {
                Some(Ok(message)) => {
                    silent = Duration::ZERO;
                    let Fetched::Record(record) = copied(&message) else {
                        continue;
                    };
                    if *record.topic != *topic || record.partition != run.partition {
                        continue;
                    }
                    let offset = record.offset;
                    if run.offsets.contains(&offset) {
                        each(record);
                    }
                    if offset >= *last {
                        return Ok(());
                    }
                }
                Some(Err(KafkaError::PartitionEOF(_))) => return Ok(()),
                Some(Err(error)) => match error.rdkafka_error_code() {
                    Some(
                        RDKafkaErrorCode::TopicAuthorizationFailed
                        | RDKafkaErrorCode::UnknownTopicOrPartition
                        | RDKafkaErrorCode::Fatal,
                    ) => return Err(LettersError::Refused(format!("{topic}: {error}"))),
                    _ => silent += TURN,
                },
                None => silent += TURN,
            }
            if silent >= SILENCE {
                return Err(self.away("nothing came from it for 30 s"));
            }
        }
    }
}

/// Places of one partition that are read in one go.
#[derive(Debug, PartialEq, Eq)]
struct Run {
    partition: i32,
    offsets: BTreeSet<i64>,
}

fn runs(places: &[(i32, i64)]) -> Vec<Run> {
    let places: BTreeSet<(i32, i64)> = places.iter().copied().collect();
    let mut runs: Vec<Run> = Vec::new();
    for (partition, offset) in places {
        match runs.last_mut() {
            Some(run)
                if run.partition == partition
                    && run.offsets.last().is_some_and(|l| offset - l <= GAP) =>
            {
                run.offsets.insert(offset);
            }
            _ => runs.push(Run {
                partition,
                offsets: [offset].into(),
            }),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_that_are_near_are_read_in_one_go() {
        let run = |partition, offsets: &[i64]| Run {
            partition,
            offsets: offsets.iter().copied().collect(),
        };
        assert_eq!(
            runs(&[(1, 5), (0, 7), (0, 3), (0, 2000), (1, 5), (0, 1007)]),
            [run(0, &[3, 7, 1007, 2000]), run(1, &[5])]
        );
        assert_eq!(runs(&[(0, 0), (0, 1001)]).len(), 2);
    }
}
