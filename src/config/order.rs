//! `order`: whether records with one key are delivered one after the other.

use super::reader::{Reader, Value};
use super::template::template;
use crate::lane::{AfterDeadLetter, OrderOptions};
use crate::rules::{Escape, SequenceOptions};

const WAYS: [(&str, bool); 2] = [("none", false), ("key", true)];

/// `"none"`, `"key"`, or a table with what the key is made of and what a dead letter means for the rest of it.
pub(super) fn order(value: &Value<'_>) -> (OrderOptions, Option<SequenceOptions>) {
    let none = (OrderOptions::None, None);
    if value.is_table() {
        return value.table().map_or(none, |reader| by(&reader));
    }
    match value.one_of(&WAYS, &[]) {
        Some(true) => (
            OrderOptions::Key(AfterDeadLetter::Continue),
            Some(SequenceOptions::RecordKey),
        ),
        Some(false) | None => none,
    }
}

fn by(reader: &Reader<'_>) -> (OrderOptions, Option<SequenceOptions>) {
    let sequence = match reader.take("by") {
        None => Some(SequenceOptions::RecordKey),
        Some(value) => template(&value, Escape::Nothing).and_then(|template| {
            if ["id", "attempt"].iter().any(|name| template.uses(name)) {
                let hint =
                    "every delivery and every attempt has another: nothing would be in order";
                value.error("is made of `id` or `attempt`", hint);
                return None;
            }
            if !template.uses("key") {
                let hint = "records with one such key in two partitions are not kept in order";
                value.warning("holds within a partition only", hint);
            }
            Some(SequenceOptions::By(template))
        }),
    };
    let ways = [
        ("continue", AfterDeadLetter::Continue),
        ("hold", AfterDeadLetter::Hold),
    ];
    let after = reader.read("after_dead_letter", AfterDeadLetter::Continue, |value| {
        value.one_of(&ways, &[])
    });
    reader.finish();
    (OrderOptions::Key(after), sequence)
}
