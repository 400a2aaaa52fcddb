//! The `match` of a rule.

use toml::de::DeValue;

use super::notification::check_pointer;
use super::reader::Value;
use crate::rules::{Condition, Scalar, Test};

const EXAMPLE: &str =
    "match = { owner_email = { present = true }, resource = [\"graph\", \"layout\"] }";

/// What the fields must be; what cannot be read is reported.
pub(super) fn read(value: &Value<'_>) -> Vec<Condition> {
    if !value.is_table() {
        value.wrong_kind("a table", format!("write {EXAMPLE}"));
        return Vec::new();
    }
    let Some(reader) = value.table() else {
        return Vec::new();
    };
    let conditions: Vec<_> = reader.entries().map(|entry| condition(&entry)).collect();
    if conditions.is_empty() {
        value.error("is empty", format!("write {EXAMPLE}, or take it out"));
    }
    conditions.into_iter().flatten().collect()
}

fn condition(value: &Value<'_>) -> Option<Condition> {
    let key = value.key;
    let sound = !key.starts_with('/') || check_pointer(value, key);
    let test = test(value);
    sound.then_some(Condition {
        pointer: Condition::pointer_of(key),
        test: test?,
    })
}

fn test(value: &Value<'_>) -> Option<Test> {
    if !value.is_table() {
        return scalars(value).map(|values| Test::Is {
            values,
            lenient: false,
        });
    }
    let reader = value.table()?;
    let (present, is) = (reader.take("present"), reader.take("is"));
    let lenient = reader.take("lenient");
    let others = !reader.all_asked();
    reader.finish();
    match (present, is) {
        (Some(present), None) => {
            if let Some(lenient) = lenient {
                lenient.error_at_key("`lenient` says nothing without `is`", "take it out");
            }
            present.boolean().map(Test::Present)
        }
        (None, Some(is)) => {
            let lenient = lenient.map_or(Some(false), |value| value.boolean());
            let values = scalars(&is)?;
            Some(Test::Is {
                values,
                lenient: lenient?,
            })
        }
        (Some(_), Some(_)) => {
            value.error(
                "has both `present` and `is`",
                "a field that is something is there: take `present` out",
            );
            None
        }
        (None, None) if others => None,
        (None, None) => {
            value.error(
                "says nothing of the field",
                "write { present = true } or { is = [7, 8] }",
            );
            None
        }
    }
}

fn scalars(value: &Value<'_>) -> Option<Vec<Scalar>> {
    if !value.is_list() {
        return Some(vec![scalar(value)?]);
    }
    let entries = value.list("[7, 8]")?;
    let found: Vec<_> = entries.iter().map(scalar).collect();
    found.into_iter().collect()
}

fn scalar(value: &Value<'_>) -> Option<Scalar> {
    match value.node.get_ref() {
        DeValue::String(_) => value.text().map(Scalar::Text),
        DeValue::Integer(_) => value.integer(i64::MIN..=i64::MAX).map(Scalar::Integer),
        DeValue::Boolean(flag) => Some(Scalar::Boolean(*flag)),
        DeValue::Float(_) | DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => {
            value.wrong_kind(
                "a string, a whole number or a truth value",
                "write 7, \"7\" or true",
            );
            None
        }
    }
}
