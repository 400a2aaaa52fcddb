//! What the state topic says, as far as it concerns destinations: keys, values, and what they mean.
//!
//! | key | value | meaning |
//! | --- | --- | --- |
//! | `pause/ID` | who, why, when, until when, whether the group is left | the destination is paused; without a value: resumed |
//! | `gone/ID` | the same, and which endpoint | it said 410; without a value: not any more. Of another endpoint it says nothing |
//! | `retry-now/ID` | who, why, when | try what waits; heard only by who runs at that time |
//! | `skip/ID/TOPIC/PARTITION/OFFSET` | who, why, when | that record goes to the dead letters; without a value: it has come to its end |
//! | `held/ID/KEY` | the same | records of this key (base64) wait; without a value: released |
//! | `retries-release/ID`, `retries-cancel/ID` | the same | what was in the ladder when the broker appended this |
//! | `instance/NAME` | since when, and what it obeyed last | it runs (`instances.rs`); without a value: it has ended |
//! | `rules/NAME` | what its file's rules are, and of when it is (`peers.rs`) | whoever has older ones leaves; written again and again |
//! | `position/ID/TOPIC/PARTITION` | how far it was read, and in which topic | for when Kafka has forgotten the group (`kafka/kept_positions.rs`) |
//! | `check` | who wrote it | proof that the topic can be written and keeps headers |

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::admin::api::{RecordPlace, Verb};
use crate::clock::{Clock, Timestamp};
use crate::kafka::StateRecord;
use crate::lane::{Asked, Order, Place};

/// The key of the record that proves that the topic can be written.
pub(super) const CHECK: &str = "check";
/// The headers: who and why of a record that has no value, and whose proof it is.
pub(super) const WHO: &str = "postrider-who";
pub(super) const REASON: &str = "postrider-reason";
pub(super) const VERSION: &str = "postrider-version";

/// A value, of any key of a destination.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) who: String,
    pub(super) reason: String,
    /// Milliseconds since 1970.
    pub(super) at: i64,
    /// The fingerprint of the endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) endpoint: Option<String>,
    /// What it answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) status: Option<u16>,
    /// Whether a paused lane leaves its consumer group.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) leave: bool,
    /// When a pause ends by itself, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) until: Option<i64>,
}

impl Entry {
    /// Of somebody, for a reason, now.
    pub(super) fn new(who: String, reason: String) -> Self {
        Self {
            who,
            reason,
            at: Clock::wall().0,
            endpoint: None,
            status: None,
            leave: false,
            until: None,
        }
    }
}

/// An endpoint that said that it is gone for good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct GoneEndpoint {
    pub(super) asked: Asked,
    pub(super) endpoint: Option<String>,
    pub(super) status: Option<u16>,
}

/// What is known of destinations, by id.
#[derive(Debug, Default)]
pub(super) struct Book {
    pauses: BTreeMap<String, Asked>,
    gone: BTreeMap<String, GoneEndpoint>,
    /// With the keys that are held.
    held: BTreeSet<(String, Bytes)>,
    releases: BTreeMap<String, Timestamp>,
    cancels: BTreeMap<String, Timestamp>,
    skips: BTreeMap<String, BTreeSet<Place>>,
}

/// What a record of the state topic means.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Heard {
    pub(super) id: String,
    pub(super) asked: Asked,
    pub(super) what: What,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum What {
    /// Kept in the book; to be told the lane whenever it is heard.
    Kept(Order),
    /// Not kept: for those who run when it is said.
    Said(Order),
    /// Kept; the endpoint with this fingerprint is gone.
    Gone(Option<String>),
    /// Kept, and nothing to do.
    Noted,
}

impl Book {
    /// Takes a record in. `None`: it concerns no destination, or is none of what this version knows.
    pub(super) fn hear(&mut self, record: &StateRecord) -> Option<Heard> {
        let (kind, id) = record.key.split_once('/')?;
        let (mut id, held) = match (kind, id.split_once('/')) {
            ("held", Some((id, key))) => (id, Some(Bytes::from(URL_SAFE_NO_PAD.decode(key).ok()?))),
            _ => (id, None),
        };
        let entry = record.value.as_deref().map(entry);
        let asked = asked(record, entry.as_ref());
        let what = match kind {
            "pause" if entry.is_some() => {
                let order = pausing(&asked);
                self.pauses.insert(id.to_owned(), asked.clone());
                What::Kept(order)
            }
            "pause" => {
                self.pauses.remove(id);
                What::Kept(Order::Resume)
            }
            "gone" if entry.is_some() => {
                let entry = entry.flatten();
                let endpoint = entry.as_ref().and_then(|entry| entry.endpoint.clone());
                let gone = GoneEndpoint {
                    asked: asked.clone(),
                    endpoint: endpoint.clone(),
                    status: entry.and_then(|entry| entry.status),
                };
                self.gone.insert(id.to_owned(), gone);
                What::Gone(endpoint)
            }
            "gone" => {
                self.gone.remove(id);
                What::Noted
            }
            "held" if entry.is_some() => {
                let key = held?;
                self.held.insert((id.to_owned(), key.clone()));
                What::Kept(Order::HoldKey { key })
            }
            "held" => {
                let key = held?;
                self.held.remove(&(id.to_owned(), key.clone()));
                What::Kept(Order::ReleaseKey { key })
            }
            "retries-release" => {
                let until = record.appended.filter(|_| entry.is_some())?;
                self.releases.insert(id.to_owned(), until);
                What::Kept(Order::ReleaseRetries { until })
            }
            "retries-cancel" => {
                let until = record.appended.filter(|_| entry.is_some())?;
                self.cancels.insert(id.to_owned(), until);
                What::Kept(Order::CancelRetries { until })
            }
            "retry-now" => What::Said(Order::RetryNow),
            "skip" => {
                let (of, place) = skipped(id)?;
                id = of;
                let skips = self.skips.entry(id.to_owned()).or_default();
                What::Kept(if entry.is_some() {
                    skips.insert(place.clone());
                    skip(place)
                } else {
                    skips.remove(&place);
                    skip_ended(place)
                })
            }
            _ => return None,
        };
        Some(Heard {
            id: id.to_owned(),
            asked,
            what,
        })
    }

    /// Takes out the pauses that have ended by themselves. Nobody takes them out of the topic: a word that comes late could end a pause that
    /// was asked for since.
    pub(super) fn end_pauses(&mut self, now: Timestamp) -> Vec<String> {
        let ended = |asked: &Asked| asked.until.is_some_and(|until| until <= now);
        let ids = self.pauses.iter().filter(|(_, asked)| ended(asked));
        let ids: Vec<String> = ids.map(|(id, _)| id.clone()).collect();
        self.pauses.retain(|_, asked| !ended(asked));
        ids
    }

    /// When the first pause ends by itself.
    pub(super) fn next_end(&self) -> Option<Timestamp> {
        self.pauses.values().filter_map(|asked| asked.until).min()
    }

    /// Who paused a destination.
    pub(super) fn pause(&self, id: &str) -> Option<&Asked> {
        self.pauses.get(id)
    }

    /// That a destination's endpoint is gone, if it is still the same endpoint.
    pub(super) fn gone(&self, id: &str, fingerprint: &str) -> Option<&GoneEndpoint> {
        let same = |gone: &&GoneEndpoint| gone.endpoint.as_deref() == Some(fingerprint);
        self.gone.get(id).filter(same)
    }

    /// What a lane that begins is told; until the last word it is paused.
    pub(super) fn first_orders(&self, id: &str, fingerprint: &str) -> Vec<Order> {
        let gone = self.gone(id, fingerprint).map(|_| Order::Gone);
        let begin = self.pauses.get(id).map_or(Order::Begin, pausing);
        let release = self.releases.get(id).copied();
        let cancel = self.cancels.get(id).copied();
        let held = self.held.iter().filter(|(other, _)| other == id);
        let held = held.map(|(_, key)| Order::HoldKey { key: key.clone() });
        let orders = [
            gone,
            release.map(|until| Order::ReleaseRetries { until }),
            cancel.map(|until| Order::CancelRetries { until }),
        ];
        let skips = self.skips.get(id).into_iter().flatten();
        let skips = skips.map(|place| skip(place.clone()));
        let orders = orders.into_iter().flatten().chain(skips);
        held.chain(orders).chain([begin]).collect()
    }

    /// How many records of a destination are to be skipped and have not come to their end.
    pub(super) fn skip_count(&self, id: &str) -> usize {
        self.skips.get(id).map_or(0, BTreeSet::len)
    }
}

/// The key that says that this record is to be skipped. Neither ids nor names of topics have a slash.
pub(super) fn skip_key(id: &str, place: &Place) -> String {
    let (topic, partition, offset) = place;
    format!("skip/{id}/{topic}/{partition}/{offset}")
}

/// The other way, for what follows the first slash.
fn skipped(key: &str) -> Option<(&str, Place)> {
    let mut parts = key.split('/');
    let (id, topic) = (parts.next()?, parts.next()?);
    let (partition, offset) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    let is_whole = parts.next().is_none() && !topic.is_empty();
    is_whole.then(|| (id, (topic.into(), partition, offset)))
}

fn skip((topic, partition, offset): Place) -> Order {
    Order::Skip {
        topic,
        partition,
        offset,
    }
}

fn skip_ended((topic, partition, offset): Place) -> Order {
    Order::SkipEnded {
        topic,
        partition,
        offset,
    }
}

/// Where it is kept that the records of this key wait.
pub(super) fn held_key(id: &str, key: &[u8]) -> String {
    format!("held/{id}/{}", URL_SAFE_NO_PAD.encode(key))
}

/// The key of what `verb` asks of the destination with this id, and whether it has a value.
pub(super) fn key(verb: Verb, id: &str, record: Option<&RecordPlace>) -> (String, bool) {
    let (kind, valued) = match verb {
        Verb::Pause => ("pause", true),
        Verb::Resume => ("pause", false),
        Verb::RetryNow => ("retry-now", true),
        Verb::Skip => {
            let place = record.map(place).unwrap_or_default();
            return (skip_key(id, &place), true);
        }
        // Of one of its keys: `held_key` says which.
        Verb::Release => ("held", false),
        Verb::ReleaseRetries => ("retries-release", true),
        Verb::CancelRetries => ("retries-cancel", true),
    };
    (format!("{kind}/{id}"), valued)
}

/// A record's place, as lanes name it.
pub(super) fn place(record: &RecordPlace) -> Place {
    (
        record.topic.as_str().into(),
        record.partition,
        record.offset,
    )
}

/// `None`: a value that this version cannot read. It is there all the same: what is paused by it is paused.
fn entry(value: &[u8]) -> Option<Entry> {
    serde_json::from_slice(value).ok()
}

/// What a pause asks of the lane.
fn pausing(asked: &Asked) -> Order {
    if asked.left {
        Order::Leave
    } else {
        Order::Pause
    }
}

fn asked(record: &StateRecord, entry: Option<&Option<Entry>>) -> Asked {
    if let Some(Some(entry)) = entry {
        return Asked {
            who: entry.who.clone(),
            reason: entry.reason.clone(),
            at: Timestamp(entry.at),
            left: entry.leave,
            until: entry.until.map(Timestamp),
        };
    }
    let header = |name| record.headers.get(name).cloned();
    Asked {
        who: header(WHO).unwrap_or_else(|| "somebody".to_owned()),
        reason: header(REASON).unwrap_or_else(|| "no reason given".to_owned()),
        at: record.appended.unwrap_or_default(),
        left: false,
        until: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(key: &str, value: Option<&str>) -> StateRecord {
        StateRecord {
            key: key.to_owned(),
            value: value.map(|value| value.as_bytes().to_vec()),
            headers: BTreeMap::new(),
            appended: Some(Timestamp(77)),
        }
    }

    const BY: &str = r#"{"who":"anna","reason":"moving","at":5}"#;

    #[test]
    fn a_pause_holds_until_it_is_taken_back() {
        let mut book = Book::default();
        let heard = book.hear(&record("pause/shop", Some(BY))).unwrap();
        assert_eq!(heard.what, What::Kept(Order::Pause));
        assert_eq!(
            (heard.id.as_str(), heard.asked.who.as_str()),
            ("shop", "anna")
        );
        assert_eq!(book.pause("shop").unwrap().reason, "moving");
        assert_eq!(book.first_orders("shop", "f"), [Order::Pause]);
        assert_eq!(book.first_orders("other", "f"), [Order::Begin]);
        let heard = book.hear(&record("pause/shop", None)).unwrap();
        assert_eq!(heard.what, What::Kept(Order::Resume));
        assert_eq!(book.pause("shop"), None);
    }

    #[test]
    fn a_pause_may_leave_the_group_and_end_by_itself() {
        let mut book = Book::default();
        let value = r#"{"who":"a","reason":"b","at":5,"leave":true,"until":900}"#;
        let heard = book.hear(&record("pause/shop", Some(value))).unwrap();
        assert_eq!(heard.what, What::Kept(Order::Leave));
        assert_eq!(book.first_orders("shop", "f"), [Order::Leave]);
        assert_eq!(book.next_end(), Some(Timestamp(900)));
        assert!(book.end_pauses(Timestamp(899)).is_empty());
        assert_eq!(book.end_pauses(Timestamp(900)), ["shop"]);
        assert_eq!(book.first_orders("shop", "f"), [Order::Begin]);
        assert_eq!(book.next_end(), None);
    }

    #[test]
    fn a_pause_that_cannot_be_read_is_a_pause() {
        let mut book = Book::default();
        for value in ["", "nonsense", r#"{"version":9}"#] {
            book.hear(&record("pause/shop", Some(value))).unwrap();
            assert_eq!(book.pause("shop").unwrap().who, "somebody", "{value}");
            book.hear(&record("pause/shop", None)).unwrap();
        }
    }

    #[test]
    fn an_endpoint_that_is_gone_is_so_until_it_is_another_or_resumed() {
        let mut book = Book::default();
        let value = r#"{"who":"a","reason":"410","at":5,"endpoint":"f","status":410}"#;
        let heard = book.hear(&record("gone/shop", Some(value))).unwrap();
        assert_eq!(heard.what, What::Gone(Some("f".to_owned())));
        assert_eq!(book.first_orders("shop", "f"), [Order::Gone, Order::Begin]);
        assert_eq!(book.first_orders("shop", "g"), [Order::Begin]);
        assert_eq!(book.gone("shop", "f").unwrap().status, Some(410));
        let heard = book.hear(&record("gone/shop", None)).unwrap();
        assert_eq!(heard.what, What::Noted);
        assert_eq!(book.first_orders("shop", "f"), [Order::Begin]);
    }

    #[test]
    fn what_waits_in_the_ladder_is_named_by_the_brokers_time() {
        let mut book = Book::default();
        let heard = book.hear(&record("retries-cancel/shop", Some(BY))).unwrap();
        let cancel = Order::CancelRetries {
            until: Timestamp(77),
        };
        assert_eq!(heard.what, What::Kept(cancel.clone()));
        assert_eq!(book.first_orders("shop", "f"), [cancel, Order::Begin]);
    }

    #[test]
    fn a_held_key_is_held_until_it_is_released() {
        let mut book = Book::default();
        let of = held_key("shop", b"a/b\xff");
        let key = Bytes::from_static(b"a/b\xff");
        let heard = book.hear(&record(&of, Some(BY))).unwrap();
        let hold = Order::HoldKey { key: key.clone() };
        assert_eq!(
            (heard.id.as_str(), heard.what),
            ("shop", What::Kept(hold.clone()))
        );
        assert_eq!(book.first_orders("shop", "f"), [hold, Order::Begin]);
        assert_eq!(book.first_orders("other", "f"), [Order::Begin]);
        let heard = book.hear(&record(&of, None)).unwrap();
        assert_eq!(heard.what, What::Kept(Order::ReleaseKey { key }));
        assert_eq!(book.first_orders("shop", "f"), [Order::Begin]);
        assert_eq!(book.hear(&record("held/shop", Some(BY))), None);
        assert_eq!(book.hear(&record("held/shop/!", Some(BY))), None);
    }

    #[test]
    fn what_is_said_is_not_kept_and_what_is_not_ours_is_nothing() {
        let mut book = Book::default();
        let heard = book.hear(&record("retry-now/shop", Some(BY))).unwrap();
        assert_eq!(heard.what, What::Said(Order::RetryNow));
        assert_eq!(book.first_orders("shop", "f"), [Order::Begin]);
        for key in [
            "check",
            "skip/shop",
            "skip/shop/t/1",
            "skip/shop/t/x/1",
            "later/shop",
            "",
        ] {
            assert_eq!(book.hear(&record(key, Some(BY))), None, "{key}");
        }
    }

    #[test]
    fn a_record_is_to_be_skipped_until_it_has_come_to_its_end() {
        let mut book = Book::default();
        let place: Place = ("a.b-c".into(), 1, 9);
        let key = skip_key("shop", &place);
        let heard = book.hear(&record(&key, Some(BY))).unwrap();
        assert_eq!(heard.id, "shop");
        assert_eq!(heard.what, What::Kept(skip(place.clone())));
        assert_eq!(book.skip_count("shop"), 1);
        let orders = [skip(place.clone()), Order::Begin];
        assert_eq!(book.first_orders("shop", "f"), orders);
        let heard = book.hear(&record(&key, None)).unwrap();
        assert_eq!(heard.what, What::Kept(skip_ended(place)));
        assert_eq!(book.first_orders("shop", "f"), [Order::Begin]);
    }

    #[test]
    fn every_verb_is_heard_as_what_it_is() {
        let mut book = Book::default();
        for verb in Verb::ALL {
            let place = RecordPlace {
                topic: "t".to_owned(),
                partition: 0,
                offset: 1,
            };
            let (mut key, valued) = key(verb, "shop", Some(&place));
            if verb == Verb::Release {
                key = held_key("shop", b"k");
            }
            let entry = Entry::new("anna".to_owned(), "why".to_owned());
            let value = serde_json::to_string(&entry).unwrap();
            let heard = book.hear(&record(&key, valued.then_some(&value)));
            assert_eq!(heard.unwrap().id, "shop", "{verb:?}");
        }
    }
}
