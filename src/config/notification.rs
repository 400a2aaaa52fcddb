//! `[notification]`: how records are read.

use super::reader::{Reader, Value};
use super::topics;
use crate::rules::{ReadFormat, ReadOptions, ReadOverride, TypePart, Unmatched, ValuePolicy};

const EXAMPLE: &str = "[{ topic = true }, { field = \"/type\" }]";

/// The section and its overrides, with defaults where it says nothing or something wrong.
pub(super) fn read(root: &Reader<'_>, prefix: &str) -> (ReadOptions, Vec<ReadOverride>) {
    let mut options = ReadOptions::default();
    let mut overrides = Vec::new();
    root.section("notification", |reader| {
        keys(reader, &mut options);
        let Some(value) = reader.take("override") else {
            return;
        };
        if value.is_table() {
            let hint = "write [[notification.override]], with two brackets";
            return value.error_at_key("the overrides are not a list", hint);
        }
        let entries = value
            .list("[{ topics = [\"orders\"], … }]")
            .unwrap_or_default();
        for reader in entries.iter().filter_map(Value::table) {
            let topics = reader.require("topics", "write topics = [\"orders\"]");
            // What an override does not say, the section says.
            let mut read = options.clone();
            keys(&reader, &mut read);
            reader.finish();
            let topics = topics.map(|value| topics::read(&value, prefix));
            overrides.push(ReadOverride {
                topics: topics.unwrap_or_default(),
                read,
            });
        }
    });
    (options, overrides)
}

fn keys(reader: &Reader<'_>, options: &mut ReadOptions) {
    let formats = [
        ("json", ReadFormat::Json),
        ("bytes", ReadFormat::Bytes),
        ("cloudevents", ReadFormat::CloudEvents),
        ("confluent-json", ReadFormat::ConfluentJson),
    ];
    options.format = reader.read("format", options.format, |value| {
        value.one_of(&formats, &[])
    });
    if let Some(value) = reader.take("type") {
        options.type_parts = type_parts(&value, options.format);
    }
    reader.section("values", |reader| {
        let policies = [
            ("skip", ValuePolicy::Skip),
            ("send", ValuePolicy::Send),
            ("dead_letter", ValuePolicy::DeadLetter),
        ];
        options.null = reader.read("null", options.null, |value| value.one_of(&policies, &[]));
        options.empty = reader.read("empty", options.empty, |value| value.one_of(&policies, &[]));
    });
    let unmatched = [
        ("ignore", Unmatched::Ignore),
        ("dead_letter", Unmatched::DeadLetter),
    ];
    options.unmatched = reader.read("unmatched", options.unmatched, |value| {
        value.one_of(&unmatched, &[])
    });
}

fn type_parts(value: &Value<'_>, format: ReadFormat) -> Vec<TypePart> {
    if !value.is_list() {
        return type_part(value, format).into_iter().collect();
    }
    let parts = value.list(EXAMPLE).unwrap_or_default();
    parts
        .iter()
        .filter_map(|part| type_part(part, format))
        .collect()
}

fn type_part(value: &Value<'_>, format: ReadFormat) -> Option<TypePart> {
    if !value.is_table() {
        value.error(
            "must say where a part of the type comes from",
            format!("write type = {EXAMPLE}"),
        );
        return None;
    }
    let reader = value.table()?;
    let sources = ["topic", "field", "header", "cloudevents"];
    let sources: Vec<_> = sources
        .into_iter()
        .filter_map(|key| reader.take(key))
        .collect();
    let others = !reader.all_asked();
    reader.finish();
    match &sources[..] {
        [source] => match source.key {
            "topic" => only_true(source).then_some(TypePart::Topic),
            "cloudevents" => only_true(source).then_some(TypePart::CloudEvents),
            "header" => header(source),
            _ => pointer(source, format),
        },
        [] if others => None,
        [] => {
            value.error("has no source", format!("write type = {EXAMPLE}"));
            None
        }
        _ => {
            value.error(
                "has two sources",
                format!("make two parts of it: {EXAMPLE}"),
            );
            None
        }
    }
}

fn only_true(value: &Value<'_>) -> bool {
    match value.boolean() {
        Some(false) => {
            let hint = format!(
                "to leave the {} out of the type, take the whole part out",
                value.key
            );
            value.error("can only be true", hint);
            false
        }
        said => said.is_some(),
    }
}

fn header(value: &Value<'_>) -> Option<TypePart> {
    let name = value.text()?;
    if name.is_empty() {
        value.error("is empty", "write the name of a header of the records");
        return None;
    }
    Some(TypePart::Header(name))
}

fn pointer(value: &Value<'_>, format: ReadFormat) -> Option<TypePart> {
    let text = json_pointer(value)?;
    if format == ReadFormat::Bytes {
        let hint = "set format = \"json\", or take this part out";
        value.error("needs JSON, but `format` is \"bytes\"", hint);
        return None;
    }
    Some(TypePart::Field(text))
}

/// A JSON pointer (RFC 6901) to a field.
pub(super) fn json_pointer(value: &Value<'_>) -> Option<String> {
    let text = value.text()?;
    check_pointer(value, &text).then_some(text)
}

/// Whether `text`, which `value` says, is a JSON pointer; else that is reported.
pub(super) fn check_pointer(value: &Value<'_>, text: &str) -> bool {
    if !text.starts_with('/') {
        let hint = format!(
            "a JSON pointer begins with a slash: \"/{}\"",
            text.replace('.', "/")
        );
        value.error("is not a JSON pointer", hint);
        return false;
    }
    let escaped = text
        .split('~')
        .skip(1)
        .all(|rest| rest.starts_with(['0', '1']));
    if !escaped {
        value.error(
            "is not a JSON pointer",
            "in a field's name, write ~ as ~0 and / as ~1",
        );
    }
    escaped
}
