//! `rate`: one limit or several, on requests or on bytes.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::lane::{RateOptions, RateUnit};

use super::reader::Reader;
use super::refusal::Refusal;
use super::units;
use super::value::Value;

const EXAMPLE: &str = "{ limit = \"50/s\", burst = 100 }";
const LIMIT_HINT: &str = "write an amount and a time: \"50/s\", \"200/m\", \"10/h\", \"1MiB/s\"";
/// Above this a rate limits nothing that one process can send.
const PER_SECOND_MAX: u64 = 1_000_000_000;

/// The limits of `rate`, which is one table or a list of them.
pub(super) fn rate(value: &Value<'_>) -> Vec<RateOptions> {
    if !value.is_list() && !value.is_table() {
        value.wrong_kind(
            "a table or a list of tables",
            format!("write rate = {EXAMPLE}"),
        );
        return Vec::new();
    }
    if !value.is_list() {
        return value.table().as_ref().and_then(limit).into_iter().collect();
    }
    let entries = value.any_list(&format!("[{EXAMPLE}]")).unwrap_or_default();
    entries
        .iter()
        .filter_map(|entry| limit(&entry.table()?))
        .collect()
}

fn limit(reader: &Reader<'_>) -> Option<RateOptions> {
    let limit = reader.require("limit", LIMIT_HINT).and_then(|value| {
        let text = value.text_as("a rate", LIMIT_HINT)?;
        value.accept(parse(&text))
    });
    let burst = reader.read("burst", Some(1), |value| {
        let in_bytes = matches!(limit, Some((_, RateUnit::Bytes)));
        Some(
            if in_bytes && !value.raw().starts_with(|c: char| c.is_ascii_digit()) {
                value.size(1..=1 << 30)
            } else {
                value.count(1..=1_000_000_000)
            },
        )
    });
    reader.finish();
    let (period, unit) = limit?;
    let burst = NonZeroU32::new(u32::try_from(burst?).ok()?)?;
    Some(RateOptions {
        period,
        burst,
        unit,
    })
}

/// `50/s`: after how long another one may go.
pub(super) fn requests(text: &str) -> Result<Duration, Refusal> {
    match parse(text)? {
        (period, RateUnit::Requests) => Ok(period),
        (_, RateUnit::Bytes) => Err(Refusal::new(
            "is a rate of bytes",
            "write \"50/s\" or \"200/m\"",
        )),
    }
}

/// `50/s`, `1MiB/s`: after how long another unit may go.
fn parse(text: &str) -> Result<(Duration, RateUnit), Refusal> {
    let refused = |message: &str| Refusal::new(message, LIMIT_HINT);
    let (amount, time) = text
        .split_once('/')
        .ok_or_else(|| refused("has no `/` and no time"))?;
    let seconds = match time {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err(refused("is not a rate: its times are s, m and h")),
    };
    let plain = !amount.is_empty() && amount.bytes().all(|byte| byte.is_ascii_digit());
    let (amount, unit) = if plain {
        (
            amount.parse().map_err(|_| refused("is too large"))?,
            RateUnit::Requests,
        )
    } else {
        let bytes = units::size(amount).map_err(|_| refused("is not a rate"))?;
        (bytes, RateUnit::Bytes)
    };
    if amount == 0 {
        let hint = "to send nothing for a while, write enabled = false";
        return Err(Refusal::new("would let nothing through", hint));
    }
    if amount / seconds > PER_SECOND_MAX {
        return Err(refused("is too large"));
    }
    let nanos = u128::from(seconds) * 1_000_000_000 / u128::from(amount);
    let nanos = u64::try_from(nanos).unwrap_or(u64::MAX).max(1);
    Ok((Duration::from_nanos(nanos), unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_an_amount_and_a_time() {
        let period = |text| parse(text).map(|(period, _)| period);
        assert_eq!(period("50/s"), Ok(Duration::from_millis(20)));
        assert_eq!(period("200/m"), Ok(Duration::from_millis(300)));
        assert_eq!(period("10/h"), Ok(Duration::from_secs(360)));
        assert_eq!(
            parse("1KiB/s"),
            Ok((Duration::from_nanos(976_562), RateUnit::Bytes))
        );
        for text in [
            "50",
            "/s",
            "50/",
            "50/d",
            "-1/s",
            "1.5/s",
            "0/s",
            "1MB/s",
            "50/s/s",
            "9999999999999/s",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
