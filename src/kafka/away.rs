//! Why no broker answers, for somebody who waits for the answer.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};

use super::complaints::Complaints;
use super::context::Plain;

const TURN: Duration = Duration::from_millis(100);
/// A connection that is neither made nor refused by then says nothing.
const TURNS: usize = 60;

/// Tries to connect until librdkafka says what is in the way, for six seconds at most. Waits; not for a runtime's worker.
///
/// A client of its own, because librdkafka's log is read by those who poll, and a client for questions does not.
#[must_use]
pub fn why_away(config: &ClientConfig, complaints: &Arc<Complaints>) -> Option<String> {
    let mut config = config.clone();
    // It joins nothing; without a group it is no consumer.
    config.set("group.id", "postrider");
    let context = Plain(Arc::clone(complaints));
    let consumer: BaseConsumer<Plain> = config.create_with_context(context).ok()?;
    // Somebody must ask for something, or nothing is connected to.
    drop(consumer.fetch_metadata(Some("__consumer_offsets"), TURN));
    (0..TURNS).find_map(|_| {
        drop(consumer.poll(TURN));
        complaints.connection()
    })
}
