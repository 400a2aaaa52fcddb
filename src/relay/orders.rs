//! What a person asks: looked at, written to the state topic, and answered with what the instances make of it.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio::task::spawn_blocking;
use tracing::debug;

use crate::admin::api::{OrderReport, OrderRequest, OrderResult, RecordPlace, Verb};
use crate::clock::Timestamp;
use crate::config::unknown_destination;
use crate::lane::{Found, SKIPS_MAX};

use super::book::{Entry, held_key, key, place, skip_key};
use super::doors::Door;
use super::instances::Obeyed;
use super::operators::FrontDesk;
use super::overview::rfc3339;

/// The key that an order is about, if it is about one.
fn held(request: &OrderRequest) -> Option<Vec<u8>> {
    STANDARD.decode(request.key.as_ref()?).ok()
}

/// How long the broker may take to say where a partition ends.
const END_WAIT: Duration = Duration::from_secs(5);
/// How long it may take to look for one record on the ladder.
const LADDER_WAIT: Duration = Duration::from_secs(10);

impl FrontDesk {
    pub(super) async fn order(&self, verb: Verb, request: OrderRequest) -> OrderReport {
        let name = request.destination.clone();
        let answer = match self.doors.named(&name) {
            Some(door) => self.order_of(&door, verb, request).await,
            None => {
                let doors = self.doors.all();
                let names: Vec<&str> = doors.iter().map(|door| &*door.name).collect();
                let disabled = self.doors.disabled();
                let text = match disabled.iter().any(|disabled| **disabled == *name) {
                    true => format!("{name} has enabled = false: nothing is delivered there"),
                    false => unknown_destination(&name, &names),
                };
                let result = OrderResult::Unknown;
                return OrderReport { result, text };
            }
        };
        let Answer { result, text } = answer;
        let text = format!("{name}: {text}");
        Answer { result, text }.report()
    }

    async fn order_of(&self, door: &Door, verb: Verb, request: OrderRequest) -> Answer {
        if let Err(text) = self.check(door, verb, &request).await {
            return refused(text);
        }
        let mut entry = Entry::new(request.who.clone(), request.reason.clone());
        if verb == Verb::Pause {
            entry.leave = request.leave;
            entry.until = request.for_ms.map(|span| after(entry.at, span));
        }
        let order = self.begin_order();
        if let Err(text) = self.give(door, verb, &request, &entry, &order).await {
            self.drop_order(&order);
            let result = OrderResult::Unavailable;
            return Answer { result, text };
        }
        let obeyed = self.gather(&order).await;
        match request.record.filter(|_| verb == Verb::Skip) {
            Some(record) => self.skip_answer(door, &record, &obeyed).await,
            None => {
                let done = done(verb, &entry, &self.group(door));
                Answer {
                    result: OrderResult::Done,
                    text: format!("{done}; {}", obeyed.words()),
                }
            }
        }
    }

    /// Refuses what makes no sense as it is.
    async fn check(&self, door: &Door, verb: Verb, request: &OrderRequest) -> Result<(), String> {
        let endpoint = &door.address.name;
        if let Some(named) = request.endpoint.as_ref().filter(|named| *named != endpoint) {
            return Err(format!("has no endpoint {named}; it has one: {endpoint}"));
        }
        if verb == Verb::Release && held(request).is_none() {
            return Err("which key? `--key` says so".to_owned());
        }
        if verb != Verb::Skip {
            return Ok(());
        }
        let Some(record) = &request.record else {
            return Err("which record? topic, partition and offset say so".to_owned());
        };
        if self.known().book.skip_count(&door.id) >= SKIPS_MAX {
            return Err(format!("{SKIPS_MAX} records are to be skipped already"));
        }
        // A slip of the finger would be kept until that record is written.
        let RecordPlace {
            topic,
            partition,
            offset,
        } = record;
        match self.end(record).await {
            Some(end) if *offset >= end => Err(format!(
                "there is no record {topic} {partition} {offset}: the partition ends at {end}"
            )),
            _ if *offset < 0 => Err("an offset is not below 0".to_owned()),
            _ => Ok(()),
        }
    }

    /// Where the partition of a record ends, if the broker says it in time.
    async fn end(&self, record: &RecordPlace) -> Option<i64> {
        let partition = (Arc::from(record.topic.as_str()), record.partition);
        let (ends, asked) = (Arc::clone(&self.ends), partition.clone());
        let found = spawn_blocking(move || ends.ends(&[asked], END_WAIT)).await;
        match found.ok()? {
            Ok(found) => found.get(&partition).copied(),
            Err(error) => {
                debug!(%error, "the end of a partition is not known");
                None
            }
        }
    }

    /// Writes an order to the state topic.
    async fn give(
        &self,
        door: &Door,
        verb: Verb,
        request: &OrderRequest,
        entry: &Entry,
        order: &str,
    ) -> Result<(), String> {
        let (who, reason) = (&*request.who, &*request.reason);
        // First, so that whoever hears of the resumption and is started again does not find it gone.
        if verb == Verb::Resume {
            let gone = format!("gone/{}", door.id);
            self.write(&gone, None, who, reason, None).await?;
        }
        let (mut key, valued) = key(verb, &door.id, request.record.as_ref());
        if let (Verb::Release, Some(held)) = (verb, held(request)) {
            key = held_key(&door.id, &held);
        }
        let value = serde_json::to_vec(entry).ok().filter(|_| valued);
        self.write(&key, value.as_deref(), who, reason, Some(order))
            .await
    }

    fn group(&self, door: &Door) -> String {
        format!("{}.{}", self.ladder.prefix, door.id)
    }

    /// Says what becomes of a record that is to be skipped.
    async fn skip_answer(&self, door: &Door, record: &RecordPlace, obeyed: &Obeyed) -> Answer {
        let text = match obeyed.found {
            Some(Found::Waiting) => "it waited, and is written to the dead letters".to_owned(),
            Some(Found::InFlight) => {
                "it is being tried: it goes to the dead letters if that does not succeed".to_owned()
            }
            Some(Found::Leaving) => {
                "it is being written to the dead letters or to the ladder; from there it goes to the dead letters when it comes up".to_owned()
            }
            Some(Found::Ahead) => {
                "it is not read yet: it goes to the dead letters when it is its turn".to_owned()
            }
            Some(Found::Damaged) => {
                "its partition stands still before it, in a batch that does not read: the batch is stepped over, and its records are counted as lost; the log says their offsets".to_owned()
            }
            Some(Found::Settled) => return self.settled_answer(door, record, obeyed).await,
            Some(Found::Elsewhere) | None => format!(
                "no instance holds {} {}: it goes to the dead letters as soon as one reads it, unless it has come to its end before",
                record.topic, record.partition
            ),
        };
        Answer {
            result: OrderResult::Done,
            text: format!("{text}; {}", obeyed.words()),
        }
    }

    /// What is settled where it was read first may be on the ladder; if it is not, there is nothing to skip.
    async fn settled_answer(&self, door: &Door, record: &RecordPlace, obeyed: &Obeyed) -> Answer {
        let (ladder, id, clock) = (Arc::clone(&self.ladder), Arc::clone(&door.id), self.clock);
        let look = spawn_blocking(move || ladder.waiting(&id, usize::MAX, clock, LADDER_WAIT));
        let is_it = |found: &crate::record::Record| {
            *found.topic == *record.topic
                && found.partition == record.partition
                && found.offset == record.offset
        };
        let text = match look.await {
            Ok(Ok(found)) => match found.first.iter().find(|retry| is_it(&retry.record)) {
                Some(retry) => format!(
                    "it is on the ladder: it goes to the dead letters when it comes up, at {} at the latest",
                    rfc3339(retry.carried.due)
                ),
                None if found.complete => return self.nothing_to_skip(door, record).await,
                None => "it may be on the ladder, which is too long to look through: then it goes to the dead letters when it comes up".to_owned(),
            },
            Ok(Err(_)) | Err(_) => "it may be on the ladder, which cannot be read: then it goes to the dead letters when it comes up".to_owned(),
        };
        Answer {
            result: OrderResult::Done,
            text: format!("{text}; {}", obeyed.words()),
        }
    }

    /// The order is taken back: nobody will ever see that record again.
    async fn nothing_to_skip(&self, door: &Door, record: &RecordPlace) -> Answer {
        let key = skip_key(&door.id, &place(record));
        let taken = self.write(&key, None, "postrider", "the record is settled", None);
        if let Err(problem) = taken.await {
            debug!("{problem}");
        }
        refused(format!(
            "{} {} {} is settled already: there is nothing to skip",
            record.topic, record.partition, record.offset
        ))
    }
}

/// What a person is told.
struct Answer {
    result: OrderResult,
    text: String,
}

impl Answer {
    fn report(self) -> OrderReport {
        let Self { result, text } = self;
        OrderReport { result, text }
    }
}

fn refused(text: String) -> Answer {
    let result = OrderResult::Refused;
    Answer { result, text }
}

fn done(verb: Verb, entry: &Entry, group: &str) -> String {
    match verb {
        Verb::Pause => {
            let end = entry.until.map(|until| rfc3339(Timestamp(until)));
            let end = end.map_or(String::new(), |end| format!("{end}, or "));
            let left = if entry.leave {
                format!(
                    ", out of the consumer group {group}: when the status of every instance says so, its offsets can be reset"
                )
            } else {
                String::new()
            };
            format!("paused over restarts too, until {end}it is resumed{left}")
        }
        Verb::Resume => "resumed".to_owned(),
        Verb::RetryNow => "what waits is tried now".to_owned(),
        Verb::Skip => "to be skipped".to_owned(),
        Verb::Release => "the records of this key go on".to_owned(),
        Verb::ReleaseRetries => "what waits in the ladder is due now".to_owned(),
        Verb::CancelRetries => "what waits in the ladder goes to the dead letters".to_owned(),
    }
}

/// So many milliseconds later.
fn after(at: i64, span_ms: u64) -> i64 {
    at.saturating_add(i64::try_from(span_ms).unwrap_or(i64::MAX))
}
