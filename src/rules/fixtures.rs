//! Rules and records for tests.

use bytes::Bytes;

use crate::record::{Header, Record};

use super::options::{OnError, RuleOptions};
use super::topics::TopicSelector;

pub(super) fn rule(name: &str, topics: &[&str], types: &[&str], to: &[&str]) -> RuleOptions {
    let owned = |list: &[&str]| list.iter().map(ToString::to_string).collect();
    RuleOptions {
        name: name.into(),
        topics: topics
            .iter()
            .map(|text| TopicSelector::new(text).unwrap())
            .collect(),
        types: owned(types),
        conditions: Vec::new(),
        default: false,
        on_error: OnError::DeadLetter,
        deliver_to: owned(to),
        content: Default::default(),
    }
}

pub(super) fn record(topic: &str, value: &'static [u8]) -> Record {
    Record {
        topic: topic.into(),
        partition: 0,
        offset: 0,
        timestamp: None,
        key: None,
        value: Some(Bytes::from_static(value)),
        headers: Vec::new(),
    }
}

pub(super) fn header(name: &'static str, value: Option<&'static [u8]>) -> Header {
    Header {
        name: Bytes::from_static(name.as_bytes()),
        value: value.map(Bytes::from_static),
    }
}
