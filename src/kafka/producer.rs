//! The one producer of the process: idempotent, acknowledged by every in-sync replica.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::OwnedHeaders;
use tracing::warn;

use crate::clock::Clock;
use crate::lane::{DeadLetter, LadderRecord, Shed, Step, WriteError};

use super::awaited::AwaitedProducer;
use super::complaints::Complaints;
use super::context::Plain;
use super::envelope::{dead_letter_headers, ladder_headers};
use super::topics::OwnedTopic;

/// Writes to the topics of our own.
pub struct Producer {
    config: ClientConfig,
    dead_letters: String,
    state: String,
    ladder: BTreeMap<Step, String>,
    /// Topics that must not be written to, and why.
    shut: RwLock<BTreeMap<String, String>>,
    context: Plain,
    client: Mutex<Client>,
    /// Sends every record in a batch of its own; made when it is first needed.
    lone: Mutex<Option<AwaitedProducer>>,
}

/// One client, and how many were made before it.
#[derive(Clone)]
struct Client {
    producer: AwaitedProducer,
    number: u64,
}

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
            producer: AwaitedProducer::new(&config, context.clone())?,
            number: 0,
        });
        let ladder = OwnedTopic::read_by_lanes(prefix).into_iter();
        let ladder: BTreeMap<Step, String> = ladder
            .filter_map(|topic| Some((topic.step?, topic.name)))
            .collect();
        let unseen =
            |topic: &String| format!("the settings of {topic} have not been looked at yet");
        let shut = ladder.values().map(|topic| (topic.clone(), unseen(topic)));
        Ok(Self {
            config,
            dead_letters: OwnedTopic::dead_letters(prefix).name,
            state: OwnedTopic::state(prefix).name,
            shut: RwLock::new(shut.collect()),
            ladder,
            context,
            client,
            lone: Mutex::new(None),
        })
    }

    /// The name of the state topic.
    pub(super) fn state_topic(&self) -> &str {
        &self.state
    }

    /// Says which topics must not be written to, and why; all others may. At first it is the ladder.
    pub fn shut(&self, topics: BTreeMap<String, String>) {
        *self.shut.write().unwrap_or_else(PoisonError::into_inner) = topics;
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
        let record = &letter.record;
        let value = record
            .value
            .as_deref()
            .filter(|_| letter.shed < Shed::Value);
        let key = record.key.as_deref().filter(|_| letter.shed < Shed::Record);
        self.write(&self.dead_letters, key, value, headers).await
    }

    /// Writes a record to the ladder; `Ok` when every in-sync replica has it. Its key there is the delivery's id, so that a delivery stays in one
    /// partition of each step.
    ///
    /// # Errors
    /// [`WriteError::TooLarge`] when the topic does not take it at this size; anything else as [`WriteError::Failed`].
    pub async fn write_ladder(
        &self,
        ladder: &LadderRecord,
        destination_id: &str,
    ) -> Result<(), WriteError> {
        let topic = self.ladder.get(&ladder.step).map_or("", String::as_str);
        let headers = ladder_headers(ladder, destination_id, Clock::wall());
        let id = ladder.carried.id.to_string();
        let value = ladder.record.value.as_deref();
        self.write(topic, Some(id.as_bytes()), value, headers).await
    }

    pub(super) async fn write(
        &self,
        topic: &str,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: OwnedHeaders,
    ) -> Result<(), WriteError> {
        if let Some(why) = self.why_shut(topic) {
            return Err(WriteError::Failed(why));
        }
        let Client { producer, number } = self.client().clone();
        let Err(error) = producer.write(topic, key, value, headers.clone()).await else {
            return Ok(());
        };
        if !is_too_large(&error) {
            return Err(self.failed(&error, number));
        }
        // The broker has refused its whole batch, which may be another one's fault.
        let lone = self.lone()?;
        match lone.write(topic, key, value, headers).await {
            Ok(()) => Ok(()),
            Err(error) if is_too_large(&error) => Err(WriteError::TooLarge),
            Err(error) => {
                // What is wrong with the client, the next one is made without.
                self.locked_lone().take();
                Err(WriteError::Failed(error.to_string()))
            }
        }
    }

    /// A client that puts nothing together.
    fn lone(&self) -> Result<AwaitedProducer, WriteError> {
        let mut lone = self.locked_lone();
        if let Some(made) = &*lone {
            return Ok(made.clone());
        }
        let mut config = self.config.clone();
        config.set("batch.num.messages", "1").set("linger.ms", "0");
        let made = AwaitedProducer::new(&config, self.context.clone())
            .map_err(|error| WriteError::Failed(error.to_string()))?;
        Ok(lone.insert(made).clone())
    }

    fn locked_lone(&self) -> MutexGuard<'_, Option<AwaitedProducer>> {
        self.lone.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn why_shut(&self, topic: &str) -> Option<String> {
        let shut = self.shut.read().unwrap_or_else(PoisonError::into_inner);
        shut.get(topic).cloned()
    }

    fn client(&self) -> MutexGuard<'_, Client> {
        self.client.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A client that has met a fatal error never writes again: it is made anew, and the lane writes again.
    fn failed(&self, error: &KafkaError, number: u64) -> WriteError {
        if let Some(RDKafkaErrorCode::Fatal | RDKafkaErrorCode::OutOfOrderSequenceNumber) =
            error.rdkafka_error_code()
        {
            self.renew(number, error);
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
        if let Ok(producer) = AwaitedProducer::new(&self.config, self.context.clone()) {
            let number = number + 1;
            *client = Client { producer, number };
        }
    }
}

fn is_too_large(error: &KafkaError) -> bool {
    let code = error.rdkafka_error_code();
    matches!(
        code,
        Some(RDKafkaErrorCode::MessageSizeTooLarge | RDKafkaErrorCode::InvalidMessageSize)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

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
