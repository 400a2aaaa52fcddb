//! `webhook.success`: what a 2xx answer must be beyond its status.

use toml::de::DeValue;

use super::notification::json_pointer;
use super::reader::{Reader, Value};
use crate::send::{HeaderName, SuccessCondition};

/// The condition that `reader`, a webhook, asks for.
pub(super) fn read(reader: &Reader<'_>) -> Option<SuccessCondition> {
    let section = reader.take("success")?;
    let reader = section.table()?;
    let mut condition = SuccessCondition::default();
    if let Some(value) = reader.take("status") {
        condition.statuses = statuses(&value);
    }
    condition.header = reader.take("header").and_then(|value| header(&value));
    condition.text = reader.take("text").and_then(|value| value.text());
    let (pointer, equals) = (reader.take("pointer"), reader.take("equals"));
    let others = !reader.all_asked();
    reader.finish();
    match (pointer, equals) {
        (Some(pointer), Some(equals)) => {
            condition.field = json_pointer(&pointer).zip(scalar(&equals));
        }
        (Some(pointer), None) => {
            pointer.error(
                "has no `equals` beside it",
                "write what is there, like equals = true",
            );
        }
        (None, Some(equals)) => {
            let hint = "write where it is in the answer, like pointer = \"/ok\"";
            equals.error("has no `pointer` beside it", hint);
        }
        (None, None) if !others && reader.is_empty() => {
            let hint = "write one or more of status, header, text, and pointer with equals";
            section.error("asks for nothing", hint);
        }
        (None, None) => {}
    }
    Some(condition)
}

fn statuses(value: &Value<'_>) -> Vec<u16> {
    let status = |value: &Value<'_>| value.integer(200..=299).and_then(|n| u16::try_from(n).ok());
    if !value.is_list() {
        return status(value).into_iter().collect();
    }
    let entries = value.list("[200, 202]").unwrap_or_default();
    entries.iter().filter_map(status).collect()
}

fn header(value: &Value<'_>) -> Option<(HeaderName, String)> {
    let reader = value.table()?;
    let name = reader.require("name", "write name = \"x-result\"");
    let name = name.and_then(|value| {
        let text = value.text()?;
        let name = HeaderName::try_from(text);
        if name.is_err() {
            let hint = "a header name is letters, digits and dashes, like \"x-result\"";
            value.error("is not a header name", hint);
        }
        name.ok()
    });
    let equals = reader.require("equals", "write equals = \"done\"");
    let equals = equals.and_then(|value| value.text());
    reader.finish();
    name.zip(equals)
}

/// A text, a number or a truth value, as JSON has it.
fn scalar(value: &Value<'_>) -> Option<serde_json::Value> {
    match value.node.get_ref() {
        DeValue::Boolean(flag) => Some((*flag).into()),
        DeValue::Integer(_) => value.integer(i64::MIN..=i64::MAX).map(Into::into),
        DeValue::Float(number) => number
            .as_str()
            .replace('_', "")
            .parse::<f64>()
            .ok()
            .map(Into::into),
        DeValue::String(_) => value.text().map(Into::into),
        DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => {
            value.wrong_kind("a text, a number, true or false", "write it as JSON has it");
            None
        }
    }
}
