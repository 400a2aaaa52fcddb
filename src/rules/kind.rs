//! A record's type: what kind of notification it is.

use serde_json::Value;

use crate::record::Record;

use super::options::TypePart;

/// Stands for a part that the record does not have.
const MISSING: &str = "-";

/// The type of a record, its parts joined by dots. `value` is its value as JSON.
pub(super) fn kind(parts: &[TypePart], record: &Record, value: &Value) -> String {
    let mut kind = String::new();
    for (index, part) in parts.iter().enumerate() {
        if index > 0 {
            kind.push('.');
        }
        match part {
            TypePart::Topic => kind.push_str(&record.topic),
            TypePart::Field(pointer) => push_field(&mut kind, value.pointer(pointer)),
        }
    }
    kind
}

/// Text as it is, numbers and booleans as JSON writes them. Null, a list or an object names no type: it counts as missing.
fn push_field(kind: &mut String, field: Option<&Value>) {
    match field {
        Some(Value::String(text)) => kind.push_str(text),
        Some(value @ (Value::Number(_) | Value::Bool(_))) => kind.push_str(&value.to_string()),
        Some(Value::Null | Value::Array(_) | Value::Object(_)) | None => kind.push_str(MISSING),
    }
}
