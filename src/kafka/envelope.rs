//! What a record looks like on a topic of our own: the record untouched, and `postrider-*` headers behind its own.
//!
//! They are believed on topics of our own and nowhere else: anybody may write them on a topic that a rule names.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rdkafka::message::{Header as Outgoing, OwnedHeaders};

use crate::clock::Timestamp;
use crate::delivery::{Carried, DeliveryId};
use crate::lane::{DeadLetter, LadderRecord, Shed};
use crate::record::{Header, Record};

/// The version of the envelope. A reader that meets another one must not guess.
const VERSION: &str = "1";
/// What the names of our headers begin with.
const OURS: &str = "postrider-";
/// A header whose name this client cannot write, or that looks like one of ours, is written as two: its name, then its value.
const NAME: &str = "postrider-header-name";
const VALUE: &str = "postrider-header-value";

/// So much of an error is kept in a dead letter that is cut to the bone.
const ERROR_BYTES: usize = 512;

/// The headers of a dead letter: the record's own first, in order, then ours. What a replay makes a delivery of again is [`read_letter`]'s.
#[must_use]
pub fn dead_letter_headers(letter: &DeadLetter, destination_id: &str) -> OwnedHeaders {
    let mut headers = Headers::new(&letter.record);
    let mut error = letter.error.as_str();
    if letter.shed < Shed::Record {
        headers.own(&letter.record);
    } else {
        error = &error[..error.floor_char_boundary(ERROR_BYTES)];
    }
    headers.whose(letter.id, destination_id);
    headers.text("rule", letter.rule.as_deref());
    headers.text("reason", Some(letter.reason.name()));
    headers.text("status", letter.status);
    headers.text("error", Some(error).filter(|e| !e.is_empty()));
    headers.text("attempts", Some(letter.attempts));
    headers.text("round", Some(letter.round).filter(|round| *round > 0));
    headers.time("first-attempt", letter.first_attempt);
    headers.time("last-attempt", letter.last_attempt);
    headers.origin(&letter.cluster_id, &letter.record);
    let shed = match letter.shed {
        Shed::Nothing => None,
        Shed::Excerpt => Some("excerpt"),
        Shed::Value => Some("value"),
        Shed::Record => Some("record"),
    };
    headers.text("shed", shed);
    if letter.shed == Shed::Nothing && !letter.excerpt.is_empty() {
        headers.bytes("postrider-excerpt", Some(&letter.excerpt));
    }
    headers.0
}

/// The headers of a record on the ladder, written at `now`. [`open`] makes the record of them that it was.
#[must_use]
pub(super) fn ladder_headers(
    ladder: &LadderRecord,
    destination_id: &str,
    now: Timestamp,
) -> OwnedHeaders {
    let LadderRecord {
        record, carried, ..
    } = ladder;
    let mut headers = Headers::new(record);
    headers.own(record);
    headers.whose(carried.id, destination_id);
    headers.text("rule", Some(&carried.rule));
    headers.text("attempts", Some(carried.attempts));
    headers.text("faults", Some(carried.faults));
    headers.text("hop", Some(carried.hop));
    headers.text("round", Some(carried.round).filter(|round| *round > 0));
    headers.time("due", Some(carried.due));
    headers.time("written", Some(now));
    headers.time("first-attempt", carried.first_attempt);
    headers.time("last-attempt", carried.last_attempt);
    headers.text("held-ms", Some(carried.held.as_millis()));
    headers.text("status", carried.status);
    headers.text("error", Some(&carried.error).filter(|e| !e.is_empty()));
    headers.origin(&carried.cluster_id, record);
    if let Some(key) = &record.key {
        headers.bytes("postrider-key", Some(key));
    }
    headers.0
}

/// Builds headers.
struct Headers(OwnedHeaders);

impl Headers {
    fn new(record: &Record) -> Self {
        Self(OwnedHeaders::new_with_capacity(record.headers.len() + 20))
    }

    fn bytes(&mut self, key: &str, value: Option<&[u8]>) {
        let headers = std::mem::take(&mut self.0);
        self.0 = headers.insert(Outgoing { key, value });
    }

    /// The record's own, so that they can be taken for what they were.
    fn own(&mut self, record: &Record) {
        for header in &record.headers {
            let value = header.value.as_deref();
            match std::str::from_utf8(&header.name) {
                Ok(name) if !name.starts_with(OURS) => self.bytes(name, value),
                _ => {
                    self.bytes(NAME, Some(&header.name));
                    self.bytes(VALUE, value);
                }
            }
        }
    }

    /// One of ours; none without a value.
    fn text(&mut self, name: &str, value: Option<impl Display>) {
        if let Some(value) = value {
            self.bytes(&format!("{OURS}{name}"), Some(value.to_string().as_bytes()));
        }
    }

    fn time(&mut self, name: &str, time: Option<Timestamp>) {
        self.text(name, time.map(|time| time.0));
    }

    fn whose(&mut self, id: DeliveryId, destination_id: &str) {
        self.text("version", Some(VERSION));
        self.text("id", Some(id));
        self.text("destination", Some(destination_id));
    }

    fn origin(&mut self, cluster_id: &str, record: &Record) {
        self.text("cluster", Some(cluster_id));
        self.text("topic", Some(&record.topic));
        self.text("partition", Some(record.partition));
        self.text("offset", Some(record.offset));
        self.time("timestamp", record.timestamp);
    }
}

/// What is in an envelope, for the lane with a certain id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opened {
    /// A delivery of this lane.
    Ours {
        /// The record as it was on its first topic.
        record: Record,
        /// What it brings along.
        carried: Box<Carried>,
    },
    /// A delivery of another one.
    Foreign {
        /// The envelope itself.
        record: Record,
        /// The other destination's id.
        destination: String,
    },
}

/// Whose an envelope is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Address {
    Ours {
        /// When it was written, by the clock of the broker or of its writer, whichever says later.
        written: Option<Timestamp>,
    },
    Foreign(String),
}

/// Reads who an envelope is for; else says why that cannot be told.
pub(super) fn address(record: &Record, destination_id: &str) -> Result<Address, String> {
    let fields = Fields(&record.headers);
    fields.check_version()?;
    let destination = fields.text("destination")?;
    if destination != destination_id {
        return Ok(Address::Foreign(destination.to_owned()));
    }
    let by_writer = fields.number("written")?.map(Timestamp);
    Ok(Address::Ours {
        written: record.timestamp.and(record.timestamp.max(by_writer)),
    })
}

/// Takes a record out of its envelope; else says why that cannot be done.
pub(super) fn open(record: Record, destination_id: &str) -> Result<Opened, String> {
    let appended = match address(&record, destination_id)? {
        Address::Ours { written } => written,
        Address::Foreign(destination) => {
            return Ok(Opened::Foreign {
                record,
                destination,
            });
        }
    };
    let fields = Fields(&record.headers);
    let carried = Carried {
        id: fields.id()?,
        rule: fields.text("rule")?.into(),
        attempts: fields.required("attempts")?,
        faults: fields.required("faults")?,
        hop: fields.required("hop")?,
        round: fields.number("round")?.unwrap_or(0),
        due: Timestamp(fields.required("due")?),
        first_attempt: fields.number("first-attempt")?.map(Timestamp),
        last_attempt: fields.number("last-attempt")?.map(Timestamp),
        held: Duration::from_millis(fields.required("held-ms")?),
        status: fields.number("status")?,
        error: fields
            .optional_text("error")?
            .unwrap_or_default()
            .to_owned(),
        cluster_id: fields.text("cluster")?.into(),
        appended,
    };
    let key = fields.find("key").and_then(|header| header.value.clone());
    let first = fields.first_record(key, record.value)?;
    Ok(Opened::Ours {
        record: first,
        carried: Box::new(carried),
    })
}

/// A dead letter, read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    /// Its partition of the topic of dead letters.
    pub partition: i32,
    /// Its offset there.
    pub offset: i64,
    /// When it was written, by the broker's clock.
    pub written: Option<Timestamp>,
    /// The id of its delivery.
    pub id: DeliveryId,
    /// The id of the destination that it did not reach.
    pub destination: String,
    /// The rule that wanted it delivered, if one was found.
    pub rule: Option<String>,
    /// Why it ended: one of [`DeadLetterReason`](crate::delivery::DeadLetterReason)'s names, or one of a newer program.
    pub reason: String,
    /// The last status.
    pub status: Option<u16>,
    /// The last error, in words.
    pub error: String,
    /// The first bytes of the last answer.
    pub excerpt: Bytes,
    /// Attempts spent.
    pub attempts: u32,
    /// When the first attempt began.
    pub first_attempt: Option<Timestamp>,
    /// When the last attempt ended.
    pub last_attempt: Option<Timestamp>,
    /// The cluster it came from.
    pub cluster_id: String,
    /// How often it had been replayed before it died.
    pub round: u32,
    /// What was left out of it.
    pub shed: Shed,
    /// The record as it was on its first topic, but for what was left out.
    pub record: Record,
}

/// Reads a dead letter; else says why it cannot be one.
pub(super) fn read_letter(record: Record) -> Result<Letter, String> {
    let fields = Fields(&record.headers);
    fields.check_version()?;
    let text = |name| fields.optional_text(name);
    let shed = match text("shed")? {
        None => Shed::Nothing,
        Some("excerpt") => Shed::Excerpt,
        Some("value") => Shed::Value,
        Some("record") => Shed::Record,
        Some(other) => return Err(format!("it lacks something that is not known: {other:?}")),
    };
    let excerpt = fields.find("excerpt").and_then(|h| h.value.clone());
    Ok(Letter {
        partition: record.partition,
        offset: record.offset,
        written: record.timestamp,
        id: fields.id()?,
        destination: fields.text("destination")?.to_owned(),
        rule: text("rule")?.filter(|r| !r.is_empty()).map(str::to_owned),
        reason: fields.text("reason")?.to_owned(),
        status: fields.number("status")?,
        error: text("error")?.unwrap_or_default().to_owned(),
        excerpt: excerpt.unwrap_or_default(),
        attempts: fields.number("attempts")?.unwrap_or(0),
        first_attempt: fields.number("first-attempt")?.map(Timestamp),
        last_attempt: fields.number("last-attempt")?.map(Timestamp),
        cluster_id: text("cluster")?.unwrap_or_default().to_owned(),
        round: fields.number("round")?.unwrap_or(0),
        shed,
        record: fields.first_record(record.key.clone(), record.value.clone())?,
    })
}

/// The headers that the record had on its first topic.
fn own_headers(headers: &[Header]) -> Result<Vec<Header>, String> {
    let mut own = Vec::new();
    let mut name: Option<Bytes> = None;
    for header in headers {
        if header.name == NAME {
            name.clone_from(&header.value);
        } else if header.name == VALUE {
            own.push(Header {
                name: name.take().ok_or("a header has a value and no name")?,
                value: header.value.clone(),
            });
        } else if !header.name.starts_with(OURS.as_bytes()) {
            own.push(header.clone());
        }
    }
    Ok(own)
}

/// Our own headers of an envelope.
struct Fields<'a>(&'a [Header]);

impl<'a> Fields<'a> {
    fn find(&self, name: &str) -> Option<&'a Header> {
        let ours = |header: &&Header| {
            let name_of = header.name.strip_prefix(OURS.as_bytes());
            name_of.is_some_and(|found| found == name.as_bytes())
        };
        self.0.iter().find(ours)
    }

    fn optional_text(&self, name: &str) -> Result<Option<&'a str>, String> {
        let Some(header) = self.find(name) else {
            return Ok(None);
        };
        let value = header.value.as_deref().unwrap_or_default();
        let text = std::str::from_utf8(value);
        text.map(Some)
            .map_err(|_| format!("its header {OURS}{name} is not text"))
    }

    fn text(&self, name: &str) -> Result<&'a str, String> {
        let text = self.optional_text(name)?;
        text.ok_or_else(|| format!("it has no header {OURS}{name}"))
    }

    fn number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, String> {
        let Some(text) = self.optional_text(name)? else {
            return Ok(None);
        };
        let number = text.parse().map(Some);
        number.map_err(|_| format!("its header {OURS}{name} is no number that fits: {text:?}"))
    }

    fn required<T: std::str::FromStr>(&self, name: &str) -> Result<T, String> {
        let number = self.number(name)?;
        number.ok_or_else(|| format!("it has no header {OURS}{name}"))
    }

    fn id(&self) -> Result<DeliveryId, String> {
        let text = self.text("id")?;
        let digits = text.strip_prefix("msg_").filter(|hex| hex.len() == 32);
        let number = digits.and_then(|hex| u128::from_str_radix(hex, 16).ok());
        let id = number.map(|number| DeliveryId(number.to_be_bytes()));
        id.ok_or_else(|| format!("its header {OURS}id is no id: {text:?}"))
    }

    fn check_version(&self) -> Result<(), String> {
        let version = self.text("version")?;
        if version == VERSION {
            return Ok(());
        }
        Err(format!(
            "its envelope has version {version:?}; this program reads version {VERSION}"
        ))
    }

    /// The record as it was on its first topic.
    fn first_record(&self, key: Option<Bytes>, value: Option<Bytes>) -> Result<Record, String> {
        Ok(Record {
            topic: Arc::from(self.text("topic")?),
            partition: self.required("partition")?,
            offset: self.required("offset")?,
            timestamp: self.number("timestamp")?.map(Timestamp),
            key,
            headers: own_headers(self.0)?,
            value,
        })
    }
}

#[cfg(test)]
mod tests;
