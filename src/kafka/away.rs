//! Why no broker answers, for somebody who waits for the answer.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};

use crate::clock::Clock;

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

/// An answer that is not there by then is not coming.
const REACH: Duration = Duration::from_secs(10);
/// How long another broker may still answer when a connection has failed.
const OTHERS: Duration = Duration::from_millis(1500);

/// Asks for a topic until a broker answers, or what is in the way is known and no other broker has answered since. Waits; not for a runtime's
/// worker.
///
/// # Errors
/// Why nobody answers.
pub fn reach(
    config: &ClientConfig,
    topic: &str,
    complaints: &Arc<Complaints>,
    clock: Clock,
    is_enough: &dyn Fn() -> bool,
) -> Result<(), String> {
    let mut config = config.clone();
    config.set("group.id", "postrider");
    let context = Plain(Arc::clone(complaints));
    let consumer: BaseConsumer<Plain> = config
        .create_with_context(context)
        .map_err(|error| error.to_string())?;
    let begin = clock.now().tick;
    let mut failed = None;
    loop {
        let error = match consumer.fetch_metadata(Some(topic), 3 * TURN) {
            Ok(_) => return Ok(()),
            Err(error) => error,
        };
        // What the log says reaches us when somebody polls.
        drop(consumer.poll(TURN));
        let now = clock.now().tick;
        if let (None, Some(cause)) = (&failed, complaints.connection()) {
            failed = Some((now, cause));
        }
        match &failed {
            Some((since, cause)) if now.since(*since) >= OTHERS => return Err(cause.clone()),
            _ if is_enough() || now.since(begin) >= REACH => return Err(error.to_string()),
            _ => {}
        }
    }
}
