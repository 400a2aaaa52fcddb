//! A producer of librdkafka whose every write is waited for, with a thread that hears what became of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::OwnedHeaders;
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer as _, ProducerContext};
use tokio::sync::oneshot;

use super::context::Plain;

/// How long the thread listens at once while it waits for a report. Each time ends with up to a millisecond of looking again and again, for
/// librdkafka counts in milliseconds.
const LISTEN: Duration = Duration::from_millis(100);
/// How often, and for how long, it looks for what else there is to hear: errors of a client that writes nothing.
const IDLE: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_millis(1);
/// How long a write may wait for a place in librdkafka's queue, and how often it asks for one.
const QUEUE_WAIT: Duration = Duration::from_secs(5);
const QUEUE_PAUSE: Duration = Duration::from_millis(100);

/// The producer. A copy is the same one; it ends with the last.
#[derive(Clone)]
pub(super) struct AwaitedProducer(Arc<Shared>);

struct Shared {
    producer: Arc<BaseProducer<Reports>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

type Told = oneshot::Sender<Result<(), KafkaError>>;

/// Passes what became of a write on to whoever waits for it.
struct Reports(Plain);

impl AwaitedProducer {
    /// A producer with these settings.
    ///
    /// # Errors
    /// When librdkafka refuses them, or the system another thread.
    pub(super) fn new(config: &ClientConfig, context: Plain) -> Result<Self, KafkaError> {
        let producer = Arc::new(config.create_with_context(Reports(context))?);
        let stop = Arc::new(AtomicBool::new(false));
        let thread = {
            let (producer, stop) = (Arc::clone(&producer), Arc::clone(&stop));
            std::thread::Builder::new()
                .name("reports".to_owned())
                .spawn(move || listen(&producer, &stop))
        };
        let thread = thread.map_err(|error| KafkaError::ClientCreation(error.to_string()))?;
        Ok(Self(Arc::new(Shared {
            producer,
            stop,
            thread: Some(thread),
        })))
    }

    /// Writes a record; `Ok` when every in-sync replica has it.
    ///
    /// # Errors
    /// When librdkafka has no place for it in time, or the broker does not take it.
    pub(super) async fn write(
        &self,
        topic: &str,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: OwnedHeaders,
    ) -> Result<(), KafkaError> {
        let (told, report) = oneshot::channel();
        let mut record: BaseRecord<'_, [u8], [u8], Box<Told>> =
            BaseRecord::with_opaque_to(topic, Box::new(told)).headers(headers);
        if let Some(key) = key {
            record = record.key(key);
        }
        if let Some(value) = value {
            record = record.payload(value);
        }
        let mut waited = Duration::ZERO;
        while let Err((error, refused)) = self.0.producer.send(record) {
            let is_full = error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull);
            if !is_full || waited >= QUEUE_WAIT {
                return Err(error);
            }
            tokio::time::sleep(QUEUE_PAUSE).await;
            waited += QUEUE_PAUSE;
            record = refused;
        }
        self.0.wake();
        report.await.unwrap_or(Err(KafkaError::Canceled))
    }
}

impl Shared {
    fn wake(&self) {
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }
}

impl Drop for Shared {
    /// Waits for the thread, so that the client has ended before the process does: OpenSSL is not to be used after its own end.
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        self.wake();
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

fn listen(producer: &BaseProducer<Reports>, stop: &AtomicBool) {
    while !stop.load(Ordering::Acquire) {
        if producer.in_flight_count() > 0 {
            producer.poll(LISTEN);
        } else {
            // A write that comes in between has left its mark: this returns at once.
            std::thread::park_timeout(IDLE);
            producer.poll(LOOK);
        }
    }
}

impl ClientContext for Reports {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.0.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.0.error(error, reason);
    }
}

impl ProducerContext for Reports {
    type DeliveryOpaque = Box<Told>;

    fn delivery(&self, result: &DeliveryResult<'_>, told: Box<Told>) {
        let result = result
            .as_ref()
            .map(|_| ())
            .map_err(|(error, _)| error.clone());
        // Who waited may have been dropped.
        told.send(result).ok();
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::mocking::MockCluster;

    use crate::clock::Clock;
    use crate::kafka::complaints::Complaints;

    use super::*;

    #[tokio::test]
    async fn a_write_is_told_of_at_once_though_the_thread_has_nothing_to_do_in_between() {
        const WRITES: u32 = 20;
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic("topic", 1, 1).unwrap();
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", cluster.bootstrap_servers());
        config.set("linger.ms", "0");
        let clock = Clock::start();
        let context = Plain(Arc::new(Complaints::new(clock)));
        let producer = AwaitedProducer::new(&config, context).unwrap();
        let write = || producer.write("topic", None, Some(b"value"), OwnedHeaders::new());
        write().await.unwrap();
        let began = clock.now().tick;
        for _ in 1..WRITES {
            tokio::time::sleep(LOOK * 5).await;
            write().await.unwrap();
        }
        let took = clock.now().tick.since(began);
        assert!(took < IDLE * WRITES / 2, "{took:?}");
        let began = clock.now().tick;
        drop(producer);
        let took = clock.now().tick.since(began);
        assert!(took < IDLE, "its end took {took:?}");
    }
}
