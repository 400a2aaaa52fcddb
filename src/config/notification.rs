//! `[notification]`: how records are read.

use super::reader::{Reader, Value};
use crate::rules::{ReadFormat, ReadOptions, TypePart, ValuePolicy};

const EXAMPLE: &str = "[{ topic = true }, { field = \"/type\" }]";

/// The section, with defaults where it says nothing or something wrong.
pub(super) fn read(root: &Reader<'_>) -> ReadOptions {
    let mut options = ReadOptions::default();
    root.section("notification", |reader| {
        let formats = [("json", ReadFormat::Json), ("bytes", ReadFormat::Bytes)];
        let later = ["cloudevents", "confluent-json"];
        options.format = reader.read("format", options.format, |value| {
            value.one_of(&formats, &later)
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
            options.empty =
                reader.read("empty", options.empty, |value| value.one_of(&policies, &[]));
        });
    });
    options
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
    let (topic, field) = (reader.take("topic"), reader.take("field"));
    let others = !reader.all_asked();
    reader.finish();
    match (topic, field) {
        (Some(topic), None) => match topic.boolean()? {
            true => Some(TypePart::Topic),
            false => {
                topic.error(
                    "can only be true",
                    "to leave the topic out of the type, take the whole part out",
                );
                None
            }
        },
        (None, Some(field)) => pointer(&field, format),
        (Some(_), Some(_)) => {
            value.error(
                "has two sources",
                format!("make two parts of it: {EXAMPLE}"),
            );
            None
        }
        (None, None) if others => None,
        (None, None) => {
            value.error("has no source", format!("write type = {EXAMPLE}"));
            None
        }
    }
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
    if !text.starts_with('/') {
        let hint = format!(
            "a JSON pointer begins with a slash: \"/{}\"",
            text.replace('.', "/")
        );
        value.error("is not a JSON pointer", hint);
        return None;
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
        return None;
    }
    Some(text)
}
