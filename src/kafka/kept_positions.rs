//! Kept positions: how far each destination had read each partition, remembered in the state topic
//! for when Kafka has forgotten the group.
//!
//! Kafka deletes the offsets of a group without members after `offsets.retention.minutes`. With
//! `start_at = "latest"` what was written meanwhile would then be stepped over, and with
//! `"earliest"` everything be sent again. A kept position counts only for the topic with the same
//! id, and only where the group has nothing committed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use serde::{Deserialize, Serialize};

use crate::clock::{Clock, Tick};
use crate::lane::{TopicId, WriteError};

use super::complaints::Complaints;
use super::context::Plain;
use super::producer::Producer;
use super::raw::{Fetched, copied};

/// What was read is believed for so long, so that many lanes that begin together read it once.
const FRESH: Duration = Duration::from_secs(5);
/// How long one poll waits at most.
const POLL: Duration = Duration::from_millis(100);

/// How far a partition had been read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeptPosition {
    /// The first offset that was not settled.
    pub offset: i64,
    /// The topic it is in.
    pub topic_id: TopicId,
}

/// As it is written.
#[derive(Serialize, Deserialize)]
struct Value {
    offset: i64,
    /// In hexadecimal digits.
    topic_id: String,
    /// Milliseconds since 1970, for people who look.
    at: i64,
}

/// By destination id, topic and partition.
type All = BTreeMap<(String, String, i32), KeptPosition>;

/// All that is kept; read when it is first needed.
#[derive(Debug, Default)]
pub struct KeptPositions {
    read: Mutex<Option<(Tick, Arc<All>)>>,
}

impl KeptPositions {
    /// What is kept, from the state topic; nothing where that does not exist or may not be read.
    pub(super) fn all(
        &self,
        client: &ClientConfig,
        state_topic: &str,
        timeout: Duration,
        clock: Clock,
        complaints: &Arc<Complaints>,
    ) -> Result<Arc<All>, String> {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((then, all)) = &*read
            && clock.now().tick.since(*then) < FRESH
        {
            return Ok(Arc::clone(all));
        }
        let deadline = clock.now().tick + timeout;
        let context = Plain(Arc::clone(complaints));
        let left = || deadline.since(clock.now().tick);
        let all = Arc::new(read_all(client, state_topic, &left, context)?);
        *read = Some((clock.now().tick, Arc::clone(&all)));
        Ok(all)
    }
}

fn read_all(
    client: &ClientConfig,
    topic: &str,
    left: &dyn Fn() -> Duration,
    context: Plain,
) -> Result<All, String> {
    let text = |error: KafkaError| error.to_string();
    let mut config = client.clone();
    config.set("group.id", topic);
    config.set("isolation.level", "read_uncommitted");
    config.set("enable.partition.eof", "true");
    let reader: BaseConsumer<Plain> = config.create_with_context(context).map_err(text)?;
    let metadata = reader.fetch_metadata(Some(topic), left()).map_err(text)?;
    let found = metadata.topics().iter().find(|t| t.name() == topic);
    let partitions = found.map(|topic| topic.partitions().iter().map(|p| p.id()).collect());
    let mut behind: BTreeSet<i32> = partitions.unwrap_or_default();
    let mut all = All::new();
    {
        let mut from = TopicPartitionList::new();
        for partition in &behind {
            from.add_partition_offset(topic, *partition, Offset::Beginning)
                .map_err(text)?;
        }
        reader.assign(&from).map_err(text)?;
    }
    while !behind.is_empty() {
        if left().is_zero() {
            return Err(format!("topic {topic} could not be read in time"));
        }
        match reader.poll(left().min(POLL)) {
            Some(Ok(message)) => {
                if let Fetched::Record(record) = copied(&message) {
                    take(&mut all, record.key.as_deref(), record.value.as_deref());
                }
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                behind.remove(&partition);
            }
            // Who may not read there has kept nothing there either: `/readyz` says what is missing.
            Some(Err(error)) if is_forbidden(&error) => return Ok(All::new()),
            Some(Err(error)) => return Err(text(error)),
            None => {}
        }
    }
    Ok(all)
}

fn is_forbidden(error: &KafkaError) -> bool {
    error.rdkafka_error_code() == Some(RDKafkaErrorCode::TopicAuthorizationFailed)
}

/// Takes a record of the state topic in, if it is of this kind. Neither ids nor names of topics
/// have a slash.
fn take(all: &mut All, key: Option<&[u8]>, value: Option<&[u8]>) {
    let parsed = key.and_then(|key| {
        let mut parts = std::str::from_utf8(key).ok()?.split('/');
        let kind = parts.next()?;
        let (id, topic) = (parts.next()?.to_owned(), parts.next()?.to_owned());
        let partition = parts.next()?.parse().ok()?;
        (kind == "position" && parts.next().is_none()).then_some((id, topic, partition))
    });
    let Some(place) = parsed else { return };
    let kept = value.and_then(|value| {
        let value: Value = serde_json::from_slice(value).ok()?;
        let bits = u128::from_str_radix(&value.topic_id, 16).ok()?;
        let topic_id = TopicId::new(bits)?;
        (value.offset >= 0).then_some(KeptPosition {
            offset: value.offset,
            topic_id,
        })
    });
    match kept {
        Some(kept) => all.insert(place, kept),
        None => all.remove(&place),
    };
}

impl Producer {
    /// Keeps how far a destination has read a partition; `Ok` when every in-sync replica has it.
    ///
    /// # Errors
    /// When it is not known to be written; it may be.
    pub async fn keep_position(
        &self,
        destination_id: &str,
        (topic, partition): (&str, i32),
        kept: KeptPosition,
    ) -> Result<(), WriteError> {
        let key = format!("position/{destination_id}/{topic}/{partition}");
        let value = Value {
            offset: kept.offset,
            topic_id: format!("{:032x}", kept.topic_id.bits()),
            at: Clock::wall().0,
        };
        let value = serde_json::to_vec(&value).unwrap_or_default();
        self.write_state(
            self.state_topic(),
            &key,
            Some(&value),
            &[("postrider-version", "1")],
        )
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_position_of_a_partition_counts_and_what_is_none_is_passed_over() {
        let mut all = All::new();
        let id = format!("{:032x}", 7);
        let value = |offset: i64| format!(r#"{{"offset":{offset},"topic_id":"{id}","at":1}}"#);
        let place = ("shop".to_owned(), "orders".to_owned(), 3);
        for (key, value) in [
            ("position/shop/orders/3", value(5)),
            ("position/shop/orders/3", value(9)),
            ("position/shop/orders/x", value(1)),
            ("position/shop/orders", value(1)),
            ("pause/shop", value(1)),
        ] {
            take(&mut all, Some(key.as_bytes()), Some(value.as_bytes()));
        }
        take(&mut all, None, Some(b"{}"));
        let kept = KeptPosition {
            offset: 9,
            topic_id: TopicId::new(7).unwrap(),
        };
        assert_eq!(all, [(place, kept)].into());
        take(&mut all, Some(b"position/shop/orders/3"), None);
        assert!(all.is_empty());
    }
}
