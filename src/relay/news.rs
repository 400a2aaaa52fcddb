//! What a lane has to say to every instance, and how it stands in the state topic.

use std::sync::Arc;

use bytes::Bytes;

use crate::lane::Place;

use super::book::{Entry, held_key, skip_key};
use super::doors::Address;

/// Who asks for what no person does.
pub(super) const WE: &str = "postrider";

/// What a lane wants every instance to know.
#[derive(Debug)]
pub(super) struct LaneWord {
    /// The destination's id.
    pub(super) id: Arc<str>,
    pub(super) what: LaneNews,
}

#[derive(Debug)]
pub(super) enum LaneNews {
    /// This endpoint has said that it is gone for good, and what it answered. The lane may have another one by the time that it is written.
    Gone(Arc<Address>, Option<u16>),
    /// A record that was to be skipped has come to its end.
    SkipEnded(Place),
    /// The records of this key wait for a person.
    Held(Bytes),
}

/// A record of the state topic, as it is to be written.
#[derive(Debug)]
pub(super) struct StateEntry {
    pub(super) key: String,
    pub(super) reason: String,
    /// Nothing: what stands there is taken back.
    pub(super) value: Option<Vec<u8>>,
}

impl LaneWord {
    /// What every instance reads. Nothing of it is looked up: the lane may have ended since, or go on with another endpoint.
    pub(super) fn entry(self) -> StateEntry {
        let Self { id, what } = self;
        let (key, reason, entry) = match what {
            LaneNews::Gone(address, status) => {
                let reason = format!("{} said that it is gone", address.name);
                let entry = Entry {
                    endpoint: Some(address.fingerprint.clone()),
                    status,
                    ..Entry::new(WE.to_owned(), reason.clone())
                };
                (format!("gone/{id}"), reason, Some(entry))
            }
            LaneNews::Held(key) => {
                let reason = "a record of this key is a dead letter".to_owned();
                let entry = Entry::new(WE.to_owned(), reason.clone());
                (held_key(&id, &key), reason, Some(entry))
            }
            LaneNews::SkipEnded(place) => {
                let reason = "the record has come to its end".to_owned();
                (skip_key(&id, &place), reason, None)
            }
        };
        let value = entry.map(|entry| serde_json::to_vec(&entry).unwrap_or_default());
        StateEntry { key, reason, value }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::StateRecord;
    use crate::relay::book::Book;

    fn word(what: LaneNews) -> StateEntry {
        let id = "shop".into();
        LaneWord { id, what }.entry()
    }

    #[test]
    fn an_endpoint_that_is_gone_is_told_from_the_one_that_a_reload_has_put_in_its_place() {
        let address = Arc::new(Address {
            name: "old.example".to_owned(),
            fingerprint: "of the old one".to_owned(),
        });
        let entry = word(LaneNews::Gone(address, Some(410)));
        let mut book = Book::default();
        book.hear(&StateRecord {
            key: entry.key,
            value: entry.value,
            headers: Default::default(),
            appended: None,
        });
        assert!(book.gone("shop", "of the old one").is_some());
        assert!(book.gone("shop", "of the new one").is_none());
        assert!(entry.reason.contains("old.example"), "{}", entry.reason);
    }

    #[test]
    fn what_a_lane_said_is_written_by_its_id_when_it_has_ended_since() {
        let key = Bytes::from_static(b"a key");
        let held = word(LaneNews::Held(key.clone()));
        assert_eq!(held.key, held_key("shop", &key));
        assert!(held.value.is_some());
    }
}
