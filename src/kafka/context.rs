//! What librdkafka calls back with, kept until the consumer thread asks for it.

use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaRespErr;
use tracing::{debug, error, info, warn};

/// Something that librdkafka wants answered.
#[derive(Debug)]
pub(super) enum Notice {
    Assign(Vec<(Arc<str>, i32)>),
    Revoke(Vec<(Arc<str>, i32)>),
}

/// Keeps notices, and passes librdkafka's log on.
#[derive(Debug, Default)]
pub(super) struct Context {
    notices: Mutex<VecDeque<Notice>>,
    closing: AtomicBool,
}

impl Context {
    pub(super) fn next_notice(&self) -> Option<Notice> {
        self.lock().pop_front()
    }

    /// From here on a revoke is answered at once: the consumer is being dropped and nobody reads notices any more.
    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Notice>> {
        self.notices.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        report(&error, reason);
    }
}

/// librdkafka's own log, on our log.
pub(super) fn log(level: RDKafkaLogLevel, facility: &str, message: &str) {
    // "X is a consumer property and will be ignored by this producer": the file's properties go to every client, and that is as it should be.
    if facility == "CONFWARN" {
        return debug!(facility, "librdkafka: {message}");
    }
    match level {
        RDKafkaLogLevel::Emerg
        | RDKafkaLogLevel::Alert
        | RDKafkaLogLevel::Critical
        | RDKafkaLogLevel::Error => error!(facility, "librdkafka: {message}"),
        RDKafkaLogLevel::Warning => warn!(facility, "librdkafka: {message}"),
        RDKafkaLogLevel::Notice => info!(facility, "librdkafka: {message}"),
        RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug => debug!(facility, "librdkafka: {message}"),
    }
}

/// An error of the client as a whole. librdkafka tries again by itself, and says so on each try: only what it will not mend is a warning.
pub(super) fn report(error: &KafkaError, reason: &str) {
    match error.rdkafka_error_code() {
        Some(RDKafkaErrorCode::Fatal) => error!(%error, "Kafka client: {reason}"),
        Some(
            RDKafkaErrorCode::UnknownTopicOrPartition
            | RDKafkaErrorCode::UnknownTopic
            | RDKafkaErrorCode::TopicAuthorizationFailed
            | RDKafkaErrorCode::GroupAuthorizationFailed
            | RDKafkaErrorCode::Authentication,
        ) => warn!(%error, "Kafka client: {reason}"),
        _ => debug!(%error, "Kafka client: {reason}"),
    }
}

impl ConsumerContext for Context {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        error: RDKafkaRespErr,
        partitions: &mut TopicPartitionList,
    ) {
        let list = names(partitions);
        let assign = error == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        if !self.closing.load(Ordering::Relaxed) {
            self.lock().push_back(if assign {
                Notice::Assign(list)
            } else {
                Notice::Revoke(list)
            });
            return;
        }
        let answered = if assign {
            consumer.incremental_assign(&TopicPartitionList::new())
        } else {
            give_back(consumer, &list)
        };
        if let Err(error) = answered {
            debug!(%error, "rebalance while closing");
        }
    }
}

/// Answers a revoke. librdkafka refuses the whole answer, and waits for another one for ever, when it names a partition that was never taken:
/// one whose start could not be found out, and which is revoked all the same.
pub(super) fn give_back(
    consumer: &BaseConsumer<Context>,
    partitions: &[(Arc<str>, i32)],
) -> KafkaResult<()> {
    let held: BTreeSet<(Arc<str>, i32)> = names(&consumer.assignment()?).into_iter().collect();
    let mut list = TopicPartitionList::new();
    for (topic, partition) in partitions.iter().filter(|tp| held.contains(*tp)) {
        list.add_partition(topic, *partition);
    }
    consumer.incremental_unassign(&list)
}

fn names(list: &TopicPartitionList) -> Vec<(Arc<str>, i32)> {
    list.elements()
        .iter()
        .map(|e| (Arc::from(e.topic()), e.partition()))
        .collect()
}
