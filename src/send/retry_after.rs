//! `Retry-After`, in seconds or as a date (RFC 9110, section 10.2.3).

use std::time::Duration;

use http::header::{DATE, HeaderMap, RETRY_AFTER};

use crate::clock::Timestamp;

/// How long the receiver asks to be left alone; `None` when it does not ask, or asks in a way nobody can read.
///
/// A date is judged by the receiver's own `Date`, because its clock and ours may differ; without one, by `now`. A date that has passed
/// means now.
pub(super) fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than fit are still a number: for ever.
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    let until = date_ms(text)?;
    let receiver = headers
        .get(DATE)
        .and_then(|date| date_ms(date.to_str().ok()?));
    let wait_ms = until - receiver.unwrap_or(now.0);
    Some(Duration::from_millis(u64::try_from(wait_ms).unwrap_or(0)))
}

/// An HTTP date in milliseconds since the epoch. Of the three forms that RFC 9110 knows, the two obsolete ones are not read.
fn date_ms(text: &str) -> Option<i64> {
    let time = jiff::fmt::rfc2822::DateTimeParser::new()
        .parse_timestamp(text)
        .ok()?;
    Some(time.as_millisecond())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(retry_after_text: &str, date: Option<&str>) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, retry_after_text.parse().unwrap());
        if let Some(date) = date {
            headers.insert(DATE, date.parse().unwrap());
        }
        // 1994-11-06T08:49:37Z
        retry_after(&headers, Timestamp(784_111_777_000))
    }

    #[test]
    fn seconds_and_dates_are_read() {
        assert_eq!(asked("120", None), Some(Duration::from_secs(120)));
        assert_eq!(asked("0", None), Some(Duration::ZERO));
        let date = "Sun, 06 Nov 1994 08:50:37 GMT";
        assert_eq!(asked(date, None), Some(Duration::from_secs(60)));
        let receiver = Some("Sun, 06 Nov 1994 08:50:27 GMT");
        assert_eq!(
            asked(date, receiver),
            Some(Duration::from_secs(10)),
            "by its own clock"
        );
    }

    #[test]
    fn a_date_that_has_passed_means_now() {
        assert_eq!(
            asked("Sun, 06 Nov 1994 08:00:00 GMT", None),
            Some(Duration::ZERO)
        );
    }

    #[test]
    fn more_than_fits_is_for_ever_and_garbage_is_nothing() {
        assert_eq!(
            asked("99999999999999999999999", None),
            Some(Duration::from_secs(u64::MAX))
        );
        for garbage in ["", "soon", "-5", "1.5", "12 monkeys"] {
            assert_eq!(asked(garbage, None), None, "{garbage}");
        }
    }
}
