//! One record as its rules see it: the value and the type, each read once, and only when a rule asks.

use std::cell::OnceCell;

use bytes::Bytes;

use crate::record::Record;

use super::json::{DuplicateKeys, Json};
use super::options::{ReadFormat, ReadOptions, TypePart};

/// Stands for a part that the record does not have.
const MISSING: &str = "-";
/// What Confluent's serializers put before a value: a zero and the number of its schema.
const CONFLUENT_PREFIX: usize = 5;

/// A record that is being judged.
pub(super) struct Reading<'a> {
    record: &'a Record,
    options: &'a ReadOptions,
    value: OnceCell<Result<Json, String>>,
    kind: OnceCell<Result<String, String>>,
}

impl<'a> Reading<'a> {
    pub(super) fn new(record: &'a Record, options: &'a ReadOptions) -> Self {
        Self {
            record,
            options,
            value: OnceCell::new(),
            kind: OnceCell::new(),
        }
    }

    /// The value as JSON; null where it is nothing that can be looked into. The error is why it is not what the file says.
    pub(super) fn value(&self) -> Result<&Json, &str> {
        let value = self
            .value
            .get_or_init(|| decode(self.record, self.options.format));
        value.as_ref().map_err(String::as_str)
    }

    /// The type, its parts joined by dots. The error is the value's.
    pub(super) fn kind(&self) -> Result<&str, &str> {
        let kind = self
            .kind
            .get_or_init(|| self.read_kind().map_err(str::to_owned));
        kind.as_ref().map(String::as_str).map_err(String::as_str)
    }

    fn read_kind(&self) -> Result<String, &str> {
        let mut kind = String::new();
        for (index, part) in self.options.type_parts.iter().enumerate() {
            if index > 0 {
                kind.push('.');
            }
            match part {
                TypePart::Topic => kind.push_str(&self.record.topic),
                TypePart::Field(pointer) => push_field(&mut kind, self.value()?.pointer(pointer)),
                TypePart::Header(name) => {
                    kind.push_str(header(self.record, name).unwrap_or(MISSING))
                }
                TypePart::CloudEvents => match header(self.record, "ce_type") {
                    Some(text) => kind.push_str(text),
                    None if is_binary_event(self.record) => kind.push_str(MISSING),
                    None => push_field(&mut kind, self.value()?.pointer("/type")),
                },
            }
        }
        Ok(kind)
    }
}

/// Text as it is, numbers and booleans as JSON writes them. Null, a list or an object names no type: it counts as missing.
fn push_field(kind: &mut String, field: Option<&Json>) {
    match field {
        Some(Json::Text(text)) => kind.push_str(text),
        Some(value @ (Json::Number(_) | Json::Boolean(_))) => kind.push_str(&value.to_string()),
        Some(Json::Null | Json::List(_) | Json::Object(_)) | None => kind.push_str(MISSING),
    }
}

/// The last header of that name, as Kafka's own clients read it; one that is null or no UTF-8 counts as missing.
fn header<'a>(record: &'a Record, name: &str) -> Option<&'a str> {
    let mut headers = record.headers.iter().rev();
    let found = headers.find(|header| &header.name[..] == name.as_bytes())?;
    std::str::from_utf8(found.value.as_deref()?).ok()
}

/// CloudEvents' binary mode puts the attributes into headers and leaves the value to the data.
fn is_binary_event(record: &Record) -> bool {
    header(record, "ce_specversion").is_some()
}

/// What is sent where no template says otherwise: the value, without what stands before the JSON.
pub(super) fn payload(record: &Record, format: ReadFormat) -> Bytes {
    let value = record.value.clone().unwrap_or_default();
    let prefixed =
        format == ReadFormat::ConfluentJson && value.len() >= CONFLUENT_PREFIX && value[0] == 0;
    if prefixed {
        value.slice(CONFLUENT_PREFIX..)
    } else {
        value
    }
}

fn decode(record: &Record, format: ReadFormat) -> Result<Json, String> {
    let bytes = record.value.as_deref().unwrap_or_default();
    // What has nothing in it was let through by the file; its fields are missing.
    if bytes.is_empty() {
        return Ok(Json::Null);
    }
    match format {
        ReadFormat::Bytes => Ok(Json::Null),
        ReadFormat::Json => json(bytes),
        ReadFormat::ConfluentJson => match bytes.split_at_checked(CONFLUENT_PREFIX) {
            Some(([0, ..], rest)) => json(rest),
            _ => Err("the value does not begin with Confluent's prefix".to_owned()),
        },
        ReadFormat::CloudEvents => event(record, bytes),
    }
}

fn event(record: &Record, bytes: &[u8]) -> Result<Json, String> {
    if is_binary_event(record) {
        let media = header(record, "content-type").unwrap_or("application/json");
        let media = media
            .split(';')
            .next()
            .unwrap_or(media)
            .trim()
            .to_ascii_lowercase();
        let in_json = media.ends_with("/json") || media.ends_with("+json");
        return if in_json { json(bytes) } else { Ok(Json::Null) };
    }
    let value = json(bytes)?;
    match value.pointer("/specversion") {
        Some(Json::Text(_)) => Ok(value),
        _ => Err("the record is no CloudEvent: it has no specversion".to_owned()),
    }
}

fn json(bytes: &[u8]) -> Result<Json, String> {
    let value = Json::parse(bytes, DuplicateKeys::Last);
    value.map_err(|fault| format!("the value is not JSON: {fault}"))
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{header, record};
    use super::*;

    fn kind(record: &Record, format: ReadFormat, parts: &[TypePart]) -> String {
        let options = ReadOptions {
            format,
            type_parts: parts.to_vec(),
            ..ReadOptions::default()
        };
        let reading = Reading::new(record, &options);
        reading.kind().unwrap_or_else(|error| error).to_owned()
    }

    #[test]
    fn types_from_headers() {
        let mut it = record("t", b"{}");
        let parts = [TypePart::Topic, TypePart::Header("kind".to_owned())];
        assert_eq!(kind(&it, ReadFormat::Json, &parts), "t.-");
        it.headers.push(header("kind", Some(b"a")));
        it.headers.push(header("kind", Some(b"b")));
        assert_eq!(
            kind(&it, ReadFormat::Json, &parts),
            "t.b",
            "the last counts"
        );
        it.headers.push(header("kind", Some(b"\xff")));
        assert_eq!(kind(&it, ReadFormat::Json, &parts), "t.-", "no text");
        it.headers.push(header("kind", None));
        assert_eq!(kind(&it, ReadFormat::Json, &parts), "t.-", "null");
        let not_json = Record {
            value: Some("x".into()),
            ..it
        };
        assert_eq!(
            kind(&not_json, ReadFormat::Json, &parts),
            "t.-",
            "the value is not looked into"
        );
    }

    #[test]
    fn types_of_cloudevents() {
        let parts = [TypePart::CloudEvents];
        let structured = record("t", br#"{"specversion": "1.0", "type": "shop.paid"}"#);
        assert_eq!(
            kind(&structured, ReadFormat::CloudEvents, &parts),
            "shop.paid"
        );
        assert_eq!(kind(&structured, ReadFormat::Json, &parts), "shop.paid");
        let mut binary = record("t", b"\xff no json");
        binary.headers = vec![
            header("ce_specversion", Some(b"1.0")),
            header("ce_type", Some(b"shop.sent")),
            header("content-type", Some(b"image/png")),
        ];
        assert_eq!(kind(&binary, ReadFormat::CloudEvents, &parts), "shop.sent");
        let field = [TypePart::Field("/type".to_owned())];
        assert_eq!(
            kind(&binary, ReadFormat::CloudEvents, &field),
            "-",
            "data that is not JSON"
        );
        binary.headers.pop();
        let error = kind(&binary, ReadFormat::CloudEvents, &field);
        assert!(error.starts_with("the value is not JSON"), "{error}");
        binary.value = Some(r#"{"type": 7}"#.into());
        assert_eq!(kind(&binary, ReadFormat::CloudEvents, &field), "7");
        let neither = record("t", br#"{"type": "x"}"#);
        let error = kind(&neither, ReadFormat::CloudEvents, &parts);
        assert!(error.contains("no CloudEvent"), "{error}");
    }

    #[test]
    fn confluent_json_has_five_bytes_before_it() {
        let parts = [TypePart::Field("/type".to_owned())];
        let of =
            |value: &'static [u8]| kind(&record("t", value), ReadFormat::ConfluentJson, &parts);
        assert_eq!(of(b"\x00\x00\x00\x00\x07{\"type\": \"a\"}"), "a");
        for wrong in [
            &b"{\"type\": \"a\"}"[..],
            b"\x00\x00",
            b"\x01\x00\x00\x00\x07{}",
        ] {
            assert!(of(wrong).contains("Confluent"), "{wrong:?}");
        }
        assert!(of(b"\x00\x00\x00\x00\x07{").contains("not JSON"));
    }
}
