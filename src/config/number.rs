//! One value of the file, read as a truth value, a number, a duration or a size, each within its bounds.

use std::ops::RangeInclusive;
use std::time::Duration;

use toml::de::DeValue;

use super::units;
use super::value::Value;

impl Value<'_> {
    /// True or false.
    pub(super) fn boolean(&self) -> Option<bool> {
        let DeValue::Boolean(flag) = self.node.get_ref() else {
            self.wrong_kind("true or false", "write true or false, without quotes");
            return None;
        };
        Some(*flag)
    }

    /// A whole number within `range`.
    pub(super) fn integer(&self, range: RangeInclusive<i64>) -> Option<i64> {
        let hint = format!(
            "write a whole number from {} to {}",
            range.start(),
            range.end()
        );
        let DeValue::Integer(number) = self.node.get_ref() else {
            self.wrong_kind("a whole number", format!("{hint}, without quotes"));
            return None;
        };
        let number = i64::from_str_radix(number.as_str(), number.radix()).ok();
        let within = number.filter(|number| range.contains(number));
        if within.is_none() {
            self.error("is out of range", hint);
        }
        within
    }

    /// A number of things, within `range`.
    pub(super) fn count(&self, range: RangeInclusive<i64>) -> Option<usize> {
        self.integer(range)
            .and_then(|number| usize::try_from(number).ok())
    }

    /// A part of one: 0 to 1.
    pub(super) fn ratio(&self) -> Option<f64> {
        let hint = "write a number from 0 to 1, like 0.2";
        let (DeValue::Float(_) | DeValue::Integer(_)) = self.node.get_ref() else {
            self.wrong_kind("a number", hint);
            return None;
        };
        let number = self.raw().replace('_', "").parse::<f64>().ok();
        let within = number.filter(|number| (0.0..=1.0).contains(number));
        if within.is_none() {
            self.error("is out of range", hint);
        }
        within
    }

    /// A duration within `range`.
    pub(super) fn duration(&self, range: RangeInclusive<Duration>) -> Option<Duration> {
        if let DeValue::Integer(_) | DeValue::Float(_) = self.node.get_ref() {
            let hint = units::bare_time_hint(self.raw());
            self.error("is a bare number; a duration needs a unit", hint);
            return None;
        }
        let text = self.text_as("a duration in quotes", units::TIME_HINT)?;
        let duration = self.accept(units::duration(&text))?;
        let (least, most) = (
            units::duration_text(*range.start()),
            units::duration_text(*range.end()),
        );
        if !range.contains(&duration) {
            let message = if duration < *range.start() {
                "is too short"
            } else {
                "is too long"
            };
            self.error(
                message,
                format!("write a duration from \"{least}\" to \"{most}\""),
            );
            return None;
        }
        Some(duration)
    }

    /// A size in bytes within `range`.
    pub(super) fn size(&self, range: RangeInclusive<u64>) -> Option<usize> {
        if let DeValue::Integer(_) | DeValue::Float(_) = self.node.get_ref() {
            let hint = units::bare_size_hint(self.raw());
            self.error("is a bare number; a size needs a unit", hint);
            return None;
        }
        let text = self.text_as("a size in quotes", units::SIZE_HINT)?;
        let size = self.accept(units::size(&text))?;
        let (least, most) = (
            units::size_text(*range.start()),
            units::size_text(*range.end()),
        );
        if !range.contains(&size) {
            let message = if size < *range.start() {
                "is too small"
            } else {
                "is too large"
            };
            self.error(
                message,
                format!("write a size from \"{least}\" to \"{most}\""),
            );
            return None;
        }
        usize::try_from(size).ok()
    }
}
