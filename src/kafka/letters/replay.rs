//! Writes dead letters to the topic where their lane reads them, with their marks, in one transaction: both are there, or neither.
//!
//! The transactional id is the same for every replay of a prefix. So whoever begins one ends what was left open by one that was killed, and
//! fences one that still runs; and the marks that can be read after that are all there are.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer};

use crate::clock::{Clock, Timestamp};
use crate::delivery::{Carried, DeliveryId, DeliveryKey, Epoch};
use crate::lane::{LadderRecord, Step};
use crate::record::Record;

use super::super::complaints::Complaints;
use super::super::context::Plain;
use super::super::envelope::{Letter, ladder_headers};
use super::super::topics::OwnedTopic;
use super::{Letters, LettersError, marks};

/// So many letters are replayed in one transaction at most.
pub(super) const CHUNK_RECORDS: usize = 500;
/// After this the broker ends a transaction that was left open.
const TRANSACTION_MS: &str = "15000";
/// How long a broker may take to begin or to end a transaction.
const TRANSACTION: Duration = Duration::from_secs(60);
/// Hops of the ladder in different rounds are never the same, so that a second copy is known from the next round.
const HOPS_OF_ROUND: u32 = 1 << 16;

/// A dead letter, and the round that its replay begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Round {
    /// The letter, whole.
    pub letter: Letter,
    /// From 1.
    pub round: u32,
}

/// How a transaction ended that did not fail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sent {
    /// All of them are replayed.
    All,
    /// None is, because the topic does not take one of them, or all of them together.
    TooLarge,
}

/// Replays.
pub struct Replayer {
    producer: ThreadedProducer<Reports>,
    topic: String,
    partitions: u64,
    state: String,
    who: String,
    name: String,
    chunks: AtomicU64,
}

impl Letters {
    /// Begins to replay: ends what an earlier replay has left open, and any that still runs. Waits; not for a runtime's worker.
    ///
    /// # Errors
    /// When Kafka does not answer, or does not allow it.
    pub fn begin_replay(&self, who: &str) -> Result<Replayer, LettersError> {
        let topic = OwnedTopic::replay(&self.prefix).name;
        let partitions = self.partitions(&self.open()?, &topic)?.len();
        if partitions == 0 {
            return Err(LettersError::Refused(format!("there is no topic {topic}")));
        }
        let mut config = self.producer.clone();
        config.set("transactional.id", &topic);
        // Behind a transaction that was left open, a lane that reads the topic waits.
        config.set("transaction.timeout.ms", TRANSACTION_MS);
        config.set("message.timeout.ms", TRANSACTION_MS);
        config.set("socket.timeout.ms", TRANSACTION_MS);
        let reports = Reports::new(Arc::clone(&self.complaints));
        let producer: ThreadedProducer<Reports> = config.create_with_context(reports)?;
        producer.init_transactions(TRANSACTION)?;
        Ok(Replayer {
            producer,
            topic,
            partitions: partitions as u64,
            state: OwnedTopic::state(&self.prefix).name,
            who: who.to_owned(),
            name: format!("{}-{}", Clock::wall().0, std::process::id()),
            chunks: AtomicU64::new(0),
        })
    }
}

impl Replayer {
    /// How many letters may be given to [`Replayer::send`] at once.
    pub const CHUNK: usize = CHUNK_RECORDS;

    /// Replays these, in this order, or none of them. `go_on` is asked before the end whether that is still wanted.
    ///
    /// # Errors
    /// When Kafka does not take them. What became of them is told by the marks, after a new beginning.
    pub fn send(&self, rounds: &[Round], go_on: impl Fn() -> bool) -> Result<Sent, LettersError> {
        let reports = self.producer.context();
        reports.clear();
        self.producer.begin_transaction()?;
        let written = self.write(rounds);
        if written.is_ok() {
            self.producer.flush(TRANSACTION)?;
        }
        let failed = reports.failed();
        let too_large = |error: &KafkaError| {
            let code = error.rdkafka_error_code();
            matches!(
                code,
                Some(RDKafkaErrorCode::MessageSizeTooLarge | RDKafkaErrorCode::InvalidMessageSize)
            )
        };
        if written.is_ok() && failed.is_empty() && go_on() {
            self.producer.commit_transaction(TRANSACTION)?;
            return Ok(Sent::All);
        }
        self.producer.abort_transaction(TRANSACTION)?;
        // A record that is too large takes all of its transaction with it, whatever the others are told.
        if failed.iter().any(too_large) {
            return Ok(Sent::TooLarge);
        }
        written?;
        match failed.into_iter().next() {
            Some(error) => Err(error.into()),
            None => Err(LettersError::Interrupted),
        }
    }

    fn write(&self, rounds: &[Round]) -> Result<(), LettersError> {
        let now = Clock::wall();
        for round in rounds {
            self.write_one(round, now)?;
        }
        let entries: Vec<_> = rounds.iter().map(|r| (r.letter.id, r.round)).collect();
        let chunk = self.chunks.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}-{chunk}", self.name);
        let (key, value) = marks::record(&name, &self.who, now.0, &entries);
        let record = BaseRecord::to(&self.state).key(&key).payload(&value);
        self.producer.send(record).map_err(|(error, _)| error)?;
        Ok(())
    }

    fn write_one(&self, round: &Round, now: Timestamp) -> Result<(), LettersError> {
        let Letter {
            id,
            record,
            destination,
            ..
        } = &round.letter;
        let deferred = deferred(round, now);
        let partition = place(record, *id, self.partitions);
        let wire_key = id.to_string();
        let mut outgoing: BaseRecord<'_, str, [u8]> = BaseRecord::to(&self.topic)
            .key(wire_key.as_str())
            .partition(i32::try_from(partition).unwrap_or(0))
            .headers(ladder_headers(&deferred, destination, now));
        if let Some(value) = &record.value {
            outgoing = outgoing.payload(value);
        }
        match self.producer.send(outgoing) {
            Ok(()) => Ok(()),
            Err((error, _)) => {
                self.producer.context().note(&error);
                Err(error.into())
            }
        }
    }
}

/// The envelope in which it goes back to its lane: a delivery that nothing was spent on, but for its round.
fn deferred(round: &Round, now: Timestamp) -> LadderRecord {
    let Round { letter, round } = round;
    LadderRecord {
        key: DeliveryKey {
            epoch: Epoch(0),
            offset: letter.offset,
        },
        record: Arc::new(letter.record.clone()),
        step: Step::Replay,
        carried: Carried {
            id: letter.id,
            rule: letter.rule.as_deref().unwrap_or_default().into(),
            attempts: 0,
            faults: 0,
            hop: round.saturating_mul(HOPS_OF_ROUND),
            round: *round,
            due: now,
            first_attempt: None,
            last_attempt: None,
            held: Duration::ZERO,
            status: None,
            error: String::new(),
            cluster_id: letter.cluster_id.as_str().into(),
            appended: None,
        },
        makes_room: false,
    }
}

/// The partition of the replay: records that were in order in their first topic, because they had one key, are so here.
fn place(record: &Record, id: DeliveryId, partitions: u64) -> u64 {
    let place = [record.topic.as_bytes(), &record.partition.to_be_bytes()];
    let key = record.key.as_deref().unwrap_or(&id.0);
    // FNV-1a.
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in place.into_iter().flatten().chain(key) {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    }
    (hash ^ (hash >> 32)) % partitions.max(1)
}

/// Why records could not be written.
#[derive(Debug)]
pub(super) struct Reports {
    plain: Plain,
    failed: Mutex<Vec<KafkaError>>,
}

impl Reports {
    pub(super) fn new(complaints: Arc<Complaints>) -> Self {
        Self {
            plain: Plain(complaints),
            failed: Mutex::default(),
        }
    }

    pub(super) fn failed(&self) -> Vec<KafkaError> {
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.clone()
    }

    fn clear(&self) {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.clear();
    }

    fn note(&self, error: &KafkaError) {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.push(error.clone());
    }
}

impl ClientContext for Reports {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.plain.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.plain.error(error, reason);
    }
}

impl ProducerContext for Reports {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            self.note(error);
        }
    }
}
