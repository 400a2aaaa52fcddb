//! Durations and sizes as people write them: a number and a unit, never a bare number.

use std::time::Duration;

use super::refusal::Refusal;

/// Units of time, the largest first, in milliseconds.
const TIME: &[(&str, u64)] = &[
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1000),
    ("ms", 1),
];
/// Units of size, the largest first, in bytes.
const SIZE: &[(&str, u64)] = &[
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
];

pub(super) const TIME_HINT: &str =
    "write a number and its unit: \"500ms\", \"15s\", \"5m\", \"1h30m\", \"7d\"";
pub(super) const SIZE_HINT: &str =
    "write a number and its unit: \"512B\", \"64KiB\", \"8MiB\", \"1GiB\"";

/// `15s`, `1h30m`: whole numbers, each with a unit, the larger units first.
pub(super) fn duration(text: &str) -> Result<Duration, Refusal> {
    let refused = |message: &str| Err(Refusal::new(message, TIME_HINT));
    if text.is_empty() {
        return refused("is empty, not a duration");
    }
    let (mut rest, mut millis, mut last) = (text, 0u64, u64::MAX);
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        if number.is_empty() {
            return refused("is not a duration");
        }
        let unit_end = after
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(after.len());
        let (unit, tail) = after.split_at(unit_end);
        if unit.is_empty() && tail.starts_with('.') {
            return refused("has a fraction; a duration is made of whole numbers");
        }
        if unit.is_empty() && tail.is_empty() {
            return Err(Refusal::new("has no unit", bare_time_hint(number)));
        }
        let Some((_, factor)) = TIME.iter().find(|(name, _)| *name == unit) else {
            return refused("is not a duration: its units are ms, s, m, h and d");
        };
        if *factor >= last {
            return refused("is not a duration: the larger unit comes first, and each once");
        }
        let part = number
            .parse::<u64>()
            .ok()
            .and_then(|number| number.checked_mul(*factor));
        let Some(sum) = part.and_then(|part| millis.checked_add(part)) else {
            return refused("is too long a time");
        };
        (rest, millis, last) = (tail, sum, *factor);
    }
    Ok(Duration::from_millis(millis))
}

/// What to write instead of a bare number of a time.
pub(super) fn bare_time_hint(number: &str) -> String {
    format!("write \"{number}ms\", \"{number}s\", \"{number}m\", \"{number}h\" or \"{number}d\"")
}

/// What to write instead of a bare number of a size.
pub(super) fn bare_size_hint(number: &str) -> String {
    let bytes = number.replace('_', "").parse::<u64>().ok();
    if let Some(text) = bytes.map(size_text).filter(|text| text.ends_with("iB")) {
        return format!("write \"{text}\", if it is bytes");
    }
    format!("write \"{number}B\", \"{number}KiB\" or \"{number}MiB\"")
}

/// `64KiB`: one whole number and its unit, in bytes.
pub(super) fn size(text: &str) -> Result<u64, Refusal> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    if number.is_empty() {
        return Err(Refusal::new("is not a size", SIZE_HINT));
    }
    if unit.is_empty() {
        return Err(Refusal::new("has no unit", bare_size_hint(number)));
    }
    let Some((_, factor)) = SIZE.iter().find(|(name, _)| *name == unit) else {
        let first = unit.chars().next().unwrap_or_default();
        let meant = SIZE
            .iter()
            .find(|(name, _)| name.starts_with(first.to_ascii_uppercase()));
        let hint = meant.map_or(SIZE_HINT.to_owned(), |(name, _)| {
            format!("did you mean \"{number}{name}\"?")
        });
        return Err(Refusal::new(
            "is not a size: its units are B, KiB, MiB and GiB",
            hint,
        ));
    };
    let bytes = number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(*factor));
    bytes.ok_or_else(|| Refusal::new("is too large", SIZE_HINT))
}

/// A duration as the file would write it.
pub(super) fn duration_text(duration: Duration) -> String {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    written(millis, TIME)
}

/// A size as the file would write it.
pub(super) fn size_text(bytes: u64) -> String {
    let whole = SIZE
        .iter()
        .find(|(_, factor)| bytes >= *factor && bytes.is_multiple_of(*factor));
    whole.map_or("0B".to_owned(), |(unit, factor)| {
        format!("{}{unit}", bytes / factor)
    })
}

fn written(mut amount: u64, units: &[(&str, u64)]) -> String {
    let mut text = String::new();
    for (unit, factor) in units {
        if amount >= *factor {
            text.push_str(&format!("{}{unit}", amount / factor));
            amount %= factor;
        }
    }
    if text.is_empty() {
        "0s".to_owned()
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_go_there_and_back() {
        for (text, millis) in [
            ("500ms", 500),
            ("15s", 15_000),
            ("1h30m", 5_400_000),
            ("7d", 604_800_000),
            ("1d2h3m4s5ms", 93_784_005),
        ] {
            let read = duration(text).unwrap();
            assert_eq!(read, Duration::from_millis(millis));
            assert_eq!(duration_text(read), text);
        }
        assert_eq!(duration("90s").unwrap(), duration("1m30s").unwrap());
        for text in [
            "",
            "15",
            "s",
            "1.5s",
            "15sec",
            "30m1h",
            "1s1s",
            "-5s",
            "1h 30m",
            " 5s",
            "5S",
            "99999999999999999999d",
            "300000000000d",
        ] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_go_there_and_back() {
        for (text, bytes) in [
            ("1B", 1),
            ("64KiB", 65_536),
            ("8MiB", 8 << 20),
            ("3GiB", 3 << 30),
        ] {
            assert_eq!(size(text).unwrap(), bytes);
            assert_eq!(size_text(bytes), text);
        }
        assert_eq!(size("64KB").unwrap_err().hint, "did you mean \"64KiB\"?");
        for text in ["", "64", "KiB", "1.5MiB", "64 KiB", "-1B", "99999999999GiB"] {
            assert!(size(text).is_err(), "{text}");
        }
    }
}
