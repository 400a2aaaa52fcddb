//! Which dead letters were replayed: marks in the state topic, written in the transaction that replays them.
//!
//! A mark is for the delivery's id and its round, not for the dead letter's place: a record that was written twice to the dead letters is
//! one, and a topic that was deleted and made again has other letters at the same places. The marks of one transaction are one record, so
//! that thousands of letters do not make thousands of keys for every instance to read at its start.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::delivery::DeliveryId;
use crate::record::Record;

use super::super::topics::OwnedTopic;
use super::{Letters, LettersError};

/// What the keys begin with.
const KEY: &str = "replayed/";
/// An id and its round.
const ENTRY_BYTES: usize = 17;

/// That a delivery was replayed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// The round of the last replay, from 1.
    pub round: u32,
    /// When, in milliseconds since 1970.
    pub at: i64,
    /// By whom.
    pub who: String,
}

/// Every mark there is.
#[derive(Debug, Default)]
pub struct Marks {
    by_id: BTreeMap<DeliveryId, Mark>,
    /// The records that they come from.
    records: BTreeMap<String, Vec<DeliveryId>>,
}

/// The value of a record of marks.
#[derive(Debug, Serialize, Deserialize)]
struct Value {
    version: u32,
    who: String,
    at: i64,
    /// Entries of sixteen bytes of id and one of round, in base64.
    marks: String,
}

impl Letters {
    /// Reads every mark. To be sure that nobody adds one meanwhile, begin a replay first. Waits; not for a runtime's worker.
    ///
    /// # Errors
    /// When Kafka does not answer, somebody wants an end, or a mark cannot be read: to go on would be to replay a letter twice.
    pub fn marks(&self) -> Result<Marks, LettersError> {
        let topic = OwnedTopic::state(&self.prefix).name;
        let mut values = BTreeMap::new();
        self.read(&topic, None, &mut |_, _| {}, &mut |record| {
            let key = record.key.as_deref().map(String::from_utf8_lossy);
            if let Some(key) = key.filter(|key| key.starts_with(KEY)) {
                match record.value {
                    Some(value) => values.insert(key.into_owned(), value),
                    None => values.remove(&*key),
                };
            }
        })?;
        let mut marks = Marks::default();
        for (key, value) in values {
            if !marks.add(&key, &value) {
                return Err(LettersError::Unreadable(format!(
                    "the marks {key:?} in topic {topic} cannot be read: they may come from a newer version of this program"
                )));
            }
        }
        Ok(marks)
    }
}

impl Marks {
    /// What is known of this delivery; nothing when it was never replayed.
    #[must_use]
    pub fn of(&self, id: DeliveryId) -> Option<&Mark> {
        self.by_id.get(&id)
    }

    /// Whether the letter that this delivery left when it died after so many rounds was replayed.
    #[must_use]
    pub fn was_replayed(&self, id: DeliveryId, round: u32) -> bool {
        self.of(id).is_some_and(|mark| mark.round > round)
    }

    /// The keys of records of which every delivery is none of `letters`.
    #[must_use]
    pub fn obsolete(&self, letters: &BTreeSet<DeliveryId>) -> Vec<String> {
        let gone = |ids: &Vec<DeliveryId>| ids.iter().all(|id| !letters.contains(id));
        let records = self.records.iter().filter(|(_, ids)| gone(ids));
        records.map(|(key, _)| key.clone()).collect()
    }

    /// Takes a record in; false when it cannot be read.
    fn add(&mut self, key: &str, value: &[u8]) -> bool {
        let Some((value, entries)) = entries(value) else {
            return false;
        };
        for (id, round) in entries {
            let mark = Mark {
                round,
                at: value.at,
                who: value.who.clone(),
            };
            let known = self.by_id.entry(id).or_insert_with(|| mark.clone());
            if known.round < round {
                *known = mark;
            }
            self.records.entry(key.to_owned()).or_default().push(id);
        }
        true
    }
}

/// What a record of the state topic marks; nothing when it is another one.
pub(super) fn entries_of(record: &Record) -> Vec<(DeliveryId, u32)> {
    let is_mark = |key: &[u8]| key.starts_with(KEY.as_bytes());
    let value = record.value.as_deref();
    let value = value.filter(|_| record.key.as_deref().is_some_and(is_mark));
    let entries = value.and_then(entries).map(|(_, entries)| entries);
    entries.unwrap_or_default()
}

/// What is in a value; nothing when it cannot be read.
fn entries(value: &[u8]) -> Option<(Value, Vec<(DeliveryId, u32)>)> {
    let value: Value = serde_json::from_slice(value).ok()?;
    let bytes = STANDARD.decode(&value.marks).ok()?;
    let (entries, rest) = bytes.as_chunks::<ENTRY_BYTES>();
    if value.version != 1 || !rest.is_empty() {
        return None;
    }
    let entry = |[id @ .., round]: &[u8; ENTRY_BYTES]| (DeliveryId(*id), u32::from(*round));
    let entries = entries.iter().map(entry).collect();
    Some((value, entries))
}

/// A record of marks: its key, which nobody else uses, and its value.
pub(super) fn record(
    name: &str,
    who: &str,
    at: i64,
    entries: &[(DeliveryId, u32)],
) -> (String, Vec<u8>) {
    let bytes: Vec<u8> = entries
        .iter()
        .flat_map(|(id, round)| {
            let round = u8::try_from(*round).unwrap_or(u8::MAX);
            id.0.into_iter().chain([round])
        })
        .collect();
    let value = Value {
        version: 1,
        who: who.to_owned(),
        at,
        marks: STANDARD.encode(bytes),
    };
    let value = serde_json::to_vec(&value).unwrap_or_default();
    (format!("{KEY}{name}"), value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::STATE_VALUE_MAX;

    const fn id(n: u8) -> DeliveryId {
        DeliveryId([n; 16])
    }

    #[test]
    fn marks_are_read_as_they_were_written_and_the_highest_round_counts() {
        let mut marks = Marks::default();
        for (name, who, entries) in [
            ("b", "anna", vec![(id(1), 2), (id(2), 1)]),
            ("a", "ben", vec![(id(1), 1), (id(3), 300)]),
        ] {
            let (key, value) = record(name, who, 7, &entries);
            assert!(marks.add(&key, &value));
        }
        let of = |n| marks.of(id(n)).map(|m| (m.round, m.who.as_str(), m.at));
        assert_eq!(of(1), Some((2, "anna", 7)));
        assert_eq!(of(2), Some((1, "anna", 7)));
        assert_eq!(of(3), Some((255, "ben", 7)));
        assert_eq!(of(4), None);
        assert!(marks.was_replayed(id(2), 0));
        assert!(!marks.was_replayed(id(2), 1), "it died again");
    }

    #[test]
    fn marks_go_when_all_their_letters_have_gone() {
        let mut marks = Marks::default();
        for (name, entries) in [
            ("1", [(id(1), 1), (id(2), 1)]),
            ("2", [(id(2), 2), (id(3), 1)]),
        ] {
            let (key, value) = record(name, "", 0, &entries);
            assert!(marks.add(&key, &value));
        }
        assert_eq!(marks.obsolete(&[id(2)].into()), Vec::<String>::new());
        assert_eq!(marks.obsolete(&[id(3)].into()), ["replayed/1"]);
        assert_eq!(marks.obsolete(&BTreeSet::new()).len(), 2);
    }

    #[test]
    fn marks_that_cannot_be_read_are_not_passed_over() {
        let (key, value) = record("n", "anna", 7, &[(id(1), 1)]);
        let text = String::from_utf8(value).unwrap();
        let mut marks = Marks::default();
        for wrong in [
            text.replace("\"version\":1", "\"version\":2"),
            text.replace("AQEB", "!!!!"),
            text.replace("AQEB", ""),
            "nonsense".to_owned(),
        ] {
            assert!(!marks.add(&key, wrong.as_bytes()), "{wrong}");
        }
    }

    #[test]
    fn a_whole_chunk_of_marks_fits_the_topic() {
        let entries = vec![(id(9), 1); super::super::replay::CHUNK_RECORDS];
        let (_, value) = record("n", &"w".repeat(1000), i64::MAX, &entries);
        assert!(value.len() < STATE_VALUE_MAX);
    }
}
