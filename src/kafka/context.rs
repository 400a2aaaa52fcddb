//! What librdkafka calls back with, kept until the consumer thread asks for it.

use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaRespErr;
use tracing::debug;

use super::complaints::Complaints;

/// Something that librdkafka wants answered.
#[derive(Debug)]
pub(super) enum Notice {
    Assign(Vec<(Arc<str>, i32)>),
    Revoke(Vec<(Arc<str>, i32)>),
}

/// Keeps notices, and passes librdkafka's log on.
#[derive(Debug)]
pub(super) struct Context {
    complaints: Arc<Complaints>,
    notices: Mutex<VecDeque<Notice>>,
    closing: AtomicBool,
}

impl Context {
    pub(super) fn new(complaints: Arc<Complaints>) -> Self {
        Self {
            complaints,
            notices: Mutex::default(),
            closing: AtomicBool::new(false),
        }
    }

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
        self.complaints.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.complaints.report(&error, reason);
    }
}

/// For clients that have nothing to answer: passes librdkafka's log on.
#[derive(Debug, Clone)]
pub(super) struct Plain(pub(super) Arc<Complaints>);

impl ClientContext for Plain {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.0.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.0.report(&error, reason);
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
