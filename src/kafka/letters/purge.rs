//! Deletes the oldest dead letters, and the marks of those that are gone.

use std::collections::BTreeMap;
use std::sync::Arc;

use rdkafka::admin::AdminClient;
use rdkafka::producer::{BaseRecord, Producer as _, ThreadedProducer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::clock::Timestamp;

use super::super::context::Plain;
use super::super::topics::{OwnedTopic, admin_options};
use super::replay::Reports;
use super::{Letters, LettersError, TIMEOUT};

/// Where each partition is cut: what lies below is older.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cut(BTreeMap<i32, i64>);

impl Cut {
    /// Whether the letter at this place is older.
    #[must_use]
    pub fn takes(&self, partition: i32, offset: i64) -> bool {
        self.0.get(&partition).is_some_and(|cut| offset < *cut)
    }
}

impl Letters {
    /// Where the partitions are to be cut so that only what was written before this time goes. Waits; not for a runtime's worker.
    ///
    /// # Errors
    /// When Kafka does not answer.
    pub fn cut(&self, before: Timestamp) -> Result<Cut, LettersError> {
        let consumer = self.open()?;
        let starts = self.starts(&consumer, &self.topic(), Some(before))?;
        let cuts = starts.into_iter().map(|(partition, at, _)| (partition, at));
        Ok(Cut(cuts.collect()))
    }

    /// Deletes what lies below the cut. It does not come back.
    ///
    /// # Errors
    /// When Kafka does not do so.
    pub async fn purge(&self, cut: &Cut) -> Result<(), LettersError> {
        let context = Plain(Arc::clone(&self.complaints));
        let client: AdminClient<Plain> = self.producer.create_with_context(context)?;
        let topic = self.topic();
        let mut list = TopicPartitionList::new();
        for (partition, offset) in &cut.0 {
            list.add_partition_offset(&topic, *partition, Offset::Offset(*offset))?;
        }
        if cut.0.is_empty() {
            return Ok(());
        }
        let done = client.delete_records(&list, &admin_options()).await?;
        for partition in done.elements() {
            partition.error()?;
        }
        Ok(())
    }

    /// Deletes records of marks.
    ///
    /// # Errors
    /// When Kafka does not do so; to try again does no harm.
    pub fn forget_marks(&self, keys: &[String]) -> Result<(), LettersError> {
        if keys.is_empty() {
            return Ok(());
        }
        let reports = Reports::new(Arc::clone(&self.complaints));
        let producer: ThreadedProducer<Reports> = self.producer.create_with_context(reports)?;
        let topic = OwnedTopic::state(&self.prefix).name;
        for key in keys {
            let record: BaseRecord<'_, str, [u8]> = BaseRecord::to(&topic).key(key);
            producer.send(record).map_err(|(error, _)| error)?;
        }
        producer.flush(TIMEOUT)?;
        let failed = producer.context().failed().into_iter().next();
        failed.map_or(Ok(()), |error| Err(error.into()))
    }
}
