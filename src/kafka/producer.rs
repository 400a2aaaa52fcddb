//! The one producer of the process: idempotent, acknowledged by every in-sync replica.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{FutureProducer, FutureRecord};
use tracing::warn;

use crate::lane::{DeadLetter, Shed, WriteError};

use super::complaints::Complaints;
use super::context::Plain;
use super::envelope::dead_letter_headers;

/// Writes to the topics of our own.
pub struct Producer {
    config: ClientConfig,
    dead_letters: String,
    context: Plain,
    client: Mutex<Client>,
}

/// One client, and how many were made before it.
#[derive(Clone)]
pub(super) struct Client {
    pub(super) producer: FutureProducer<Plain>,
    pub(super) number: u64,
}

/// How long a write may wait for a place in librdkafka's queue.
pub(super) const QUEUE_WAIT: Duration = Duration::from_secs(5);

impl Producer {
    /// A producer for the topics that begin with `prefix`.
    ///
    /// # Errors
    /// When librdkafka refuses the settings.
    pub fn new(
        config: ClientConfig,
        prefix: &str,
        complaints: Arc<Complaints>,
    ) -> Result<Self, KafkaError> {
        let context = Plain(complaints);
        let client = Mutex::new(Client {
            producer: config.create_with_context(context.clone())?,
            number: 0,
        });
        Ok(Self {
            config,
            dead_letters: format!("{prefix}.dead-letters"),
            context,
            client,
        })
    }

    /// Writes a dead letter; `Ok` when every in-sync replica has it.
    ///
    /// # Errors
    /// [`WriteError::TooLarge`] when the topic does not take it at this size; anything else as [`WriteError::Failed`].
    pub async fn write_dead_letter(
        &self,
        letter: &DeadLetter,
        destination_id: &str,
    ) -> Result<(), WriteError> {
        let headers = dead_letter_headers(letter, destination_id);
        let mut record: FutureRecord<'_, [u8], [u8]> =
            FutureRecord::to(&self.dead_letters).headers(headers);
        if let Some(key) = &letter.record.key {
            record = record.key(key);
        }
        if letter.shed != Shed::Value
            && let Some(value) = &letter.record.value
        {
            record = record.payload(value);
        }
        let Client { producer, number } = self.client().clone();
        match producer.send(record, QUEUE_WAIT).await {
            Ok(_) => Ok(()),
            Err((error, _)) => Err(self.failed(&error, number)),
        }
    }

    pub(super) fn client(&self) -> MutexGuard<'_, Client> {
        self.client.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A client that has met a fatal error never writes again: it is made anew, and the lane writes again.
    pub(super) fn failed(&self, error: &KafkaError, number: u64) -> WriteError {
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::MessageSizeTooLarge | RDKafkaErrorCode::InvalidMessageSize) => {
                return WriteError::TooLarge;
            }
            Some(RDKafkaErrorCode::Fatal | RDKafkaErrorCode::OutOfOrderSequenceNumber) => {
                self.renew(number, error);
            }
            _ => {}
        }
        WriteError::Failed(error.to_string())
    }

    /// Makes the client anew, once for all the writes that failed in the one with this number.
    fn renew(&self, number: u64, error: &KafkaError) {
        let mut client = self.client();
        if client.number != number {
            return;
        }
        warn!(%error, "the producer met a fatal error and is made anew");
        if let Ok(producer) = self.config.create_with_context(self.context.clone()) {
            let number = number + 1;
            *client = Client { producer, number };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    #[test]
    fn a_fatal_error_that_many_writes_met_makes_one_new_client() {
        let producer = Producer::new(
            ClientConfig::new(),
            "p",
            Arc::new(Complaints::new(Clock::start())),
        )
        .unwrap();
        let fatal = KafkaError::MessageProduction(RDKafkaErrorCode::Fatal);
        for _ in 0..100 {
            producer.failed(&fatal, 0);
        }
        assert_eq!(producer.client().number, 1);
    }
}
