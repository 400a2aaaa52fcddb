//! Lists of topics: by name, or by pattern.

use super::reader::Value;
use super::refusal::Refusal;
use crate::kafka::check_topic;
use crate::rules::{TopicSelector, is_reserved};

/// The entries of `topics` that can be read; the others are reported.
pub(super) fn read(value: &Value<'_>, prefix: &str) -> Vec<TopicSelector> {
    let texts = value.texts("[\"orders\"]").unwrap_or_default();
    let selectors = texts
        .into_iter()
        .filter_map(|(entry, text)| entry.accept(selector(&text, prefix)));
    selectors.collect()
}

fn selector(text: &str, prefix: &str) -> Result<TopicSelector, Refusal> {
    if text.starts_with('^') {
        return TopicSelector::new(text).map_err(|error| {
            // The parser draws the place on lines of its own; its last line says what is wrong.
            let reason = error.lines().last().unwrap_or_default();
            let reason = reason.trim().trim_start_matches("error: ");
            let hint = "a leading `^` makes it a regular expression of Rust's `regex` crate";
            Refusal::new(format!("is no pattern: {reason}"), hint)
        });
    }
    if let Err(error) = check_topic(text) {
        let hint = if text.contains('*') {
            let pattern = text.replace('.', "\\.").replace('*', ".*");
            format!("a pattern begins with `^`: '^{pattern}', in single quotes")
        } else {
            "a topic's name is 1 to 249 letters, digits, dots, dashes and underscores".to_owned()
        };
        return Err(Refusal::new(error.to_string(), hint));
    }
    if text.starts_with("__") {
        let hint = "take it out: topics that begin with `__` are Kafka's own";
        return Err(Refusal::new("is internal to Kafka", hint));
    }
    if !prefix.is_empty() && is_reserved(text, prefix) {
        let hint = format!(
            "take it out, or choose another `prefix` in [kafka]: `{prefix}.` begins our own topics"
        );
        return Err(Refusal::new("is a topic of our own", hint));
    }
    TopicSelector::new(text).map_err(|error| Refusal::new(error, ""))
}
