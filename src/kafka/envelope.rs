//! What a dead letter looks like on its topic: the record untouched, and `postrider-*` headers behind its own.

use rdkafka::message::{Header, OwnedHeaders};

use crate::lane::{DeadLetter, Shed};

/// The version of the envelope. A reader that meets a higher one must not guess.
const VERSION: &str = "1";

/// The headers of a dead letter: the record's own first, in order, then ours.
///
/// Header names that are not UTF-8 cannot be produced by this client; they are kept with each wrong byte replaced by U+FFFD. Headers of the
/// record that already begin with `postrider-` come from somebody else and are left out, so that ours can be believed.
#[must_use]
pub fn dead_letter_headers(letter: &DeadLetter, destination_id: &str) -> OwnedHeaders {
    let mut headers = OwnedHeaders::new_with_capacity(letter.record.headers.len() + 16);
    for header in &letter.record.headers {
        let name = String::from_utf8_lossy(&header.name);
        if !name.starts_with("postrider-") {
            headers = headers.insert(Header {
                key: &name,
                value: header.value.as_deref(),
            });
        }
    }
    let record = &letter.record;
    let text = [
        ("postrider-version", Some(VERSION.to_owned())),
        ("postrider-id", Some(letter.id.to_string())),
        ("postrider-destination", Some(destination_id.to_owned())),
        ("postrider-rule", letter.rule.as_deref().map(str::to_owned)),
        ("postrider-reason", Some(letter.reason.name().to_owned())),
        (
            "postrider-status",
            letter.status.map(|status| status.to_string()),
        ),
        (
            "postrider-error",
            (!letter.error.is_empty()).then(|| letter.error.clone()),
        ),
        ("postrider-attempts", Some(letter.attempts.to_string())),
        (
            "postrider-first-attempt",
            letter.first_attempt.map(|time| time.0.to_string()),
        ),
        (
            "postrider-last-attempt",
            letter.last_attempt.map(|time| time.0.to_string()),
        ),
        ("postrider-cluster", Some(letter.cluster_id.to_string())),
        ("postrider-topic", Some(record.topic.to_string())),
        ("postrider-partition", Some(record.partition.to_string())),
        ("postrider-offset", Some(record.offset.to_string())),
        (
            "postrider-timestamp",
            record.timestamp.map(|time| time.0.to_string()),
        ),
        ("postrider-shed", shed_name(letter.shed).map(str::to_owned)),
    ];
    for (name, value) in text {
        if let Some(value) = value {
            headers = headers.insert(Header {
                key: name,
                value: Some(&value),
            });
        }
    }
    if letter.shed == Shed::Nothing && !letter.excerpt.is_empty() {
        let value = Some(letter.excerpt.as_ref());
        headers = headers.insert(Header {
            key: "postrider-excerpt",
            value,
        });
    }
    headers
}

fn shed_name(shed: Shed) -> Option<&'static str> {
    match shed {
        Shed::Nothing => None,
        Shed::Excerpt => Some("excerpt"),
        Shed::Value => Some("value"),
    }
}
