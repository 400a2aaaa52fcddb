//! What an answer means: the outcome table, with the rows a destination moved.

use std::collections::BTreeMap;
use std::str::FromStr;

use thiserror::Error;

use crate::delivery::{FailureReason, Outcome};

/// How an attempt ended that has no status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Failure {
    /// No answer within the time allowed.
    Timeout,
    /// The connection was refused, or could not be made for another reason.
    Connect,
    /// The connection broke before the answer.
    Reset,
    /// The host's name could not be resolved for the moment.
    Dns,
    /// There is no host of that name.
    UnknownHost,
    /// The TLS handshake failed.
    Tls,
    /// The proxy could not be reached, or did not lead to the receiver.
    Proxy,
}

impl Failure {
    /// The name in metrics, logs and headers.
    #[must_use]
    pub fn reason(self) -> FailureReason {
        match self {
            Self::Timeout => FailureReason::Timeout,
            Self::Connect => FailureReason::Connect,
            Self::Reset => FailureReason::Reset,
            Self::Dns | Self::UnknownHost => FailureReason::Dns,
            Self::Tls => FailureReason::Tls,
            Self::Proxy => FailureReason::Proxy,
        }
    }

    fn default_outcome(self) -> Outcome {
        match self {
            Self::Timeout | Self::Connect | Self::Reset | Self::Dns | Self::Proxy => Outcome::Retry,
            Self::UnknownHost | Self::Tls => Outcome::EndpointFault,
        }
    }
}

/// The left side of an entry of `outcomes`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Selector {
    /// `404`.
    Status(u16),
    /// `420-429`, both ends included.
    Range(u16, u16),
    /// `4xx`, by its first digit.
    Class(u16),
    /// `tls`, `timeout`, `connect`.
    Failure(Failure),
}

/// Why a text is not the left side of an entry of `outcomes`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("is neither a status, nor a range, nor a class of answers")]
pub struct SelectorError;

impl FromStr for Selector {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Self, SelectorError> {
        match text {
            "tls" => return Ok(Self::Failure(Failure::Tls)),
            "timeout" => return Ok(Self::Failure(Failure::Timeout)),
            "connect" => return Ok(Self::Failure(Failure::Connect)),
            _ => {}
        }
        if let Some(class) = text.strip_suffix("xx") {
            let digit = class.parse().ok().filter(|digit| (2..=5).contains(digit));
            return digit
                .filter(|_| class.len() == 1)
                .map(Self::Class)
                .ok_or(SelectorError);
        }
        let Some((first, last)) = text.split_once('-') else {
            return status(text).map(Self::Status);
        };
        let (first, last) = (status(first)?, status(last)?);
        if first < last {
            Ok(Self::Range(first, last))
        } else {
            Err(SelectorError)
        }
    }
}

fn status(text: &str) -> Result<u16, SelectorError> {
    let digits = text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit());
    let status = text.parse().map_err(|_| SelectorError)?;
    if digits && (200..=599).contains(&status) {
        Ok(status)
    } else {
        Err(SelectorError)
    }
}

/// Two ranges hold the same status, so neither could win.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("overlaps the range {0}-{1}")]
pub struct Overlap(pub u16, pub u16);

/// What every answer means to one destination: a status first, then a range, then a class, then the default.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OutcomeTable {
    statuses: BTreeMap<u16, Outcome>,
    ranges: Vec<(u16, u16, Outcome)>,
    classes: BTreeMap<u16, Outcome>,
    failures: BTreeMap<Failure, Outcome>,
}

impl OutcomeTable {
    /// Moves what `selector` names to `outcome`. A connection that breaks goes with one that cannot be made.
    ///
    /// # Errors
    ///
    /// When a range overlaps one that was moved before.
    pub fn set(&mut self, selector: Selector, outcome: Outcome) -> Result<(), Overlap> {
        match selector {
            Selector::Status(status) => {
                self.statuses.insert(status, outcome);
            }
            Selector::Range(first, last) => {
                let other = self
                    .ranges
                    .iter()
                    .find(|(from, to, _)| first <= *to && *from <= last);
                if let Some((from, to, _)) = other {
                    return Err(Overlap(*from, *to));
                }
                self.ranges.push((first, last, outcome));
            }
            Selector::Class(class) => {
                self.classes.insert(class, outcome);
            }
            Selector::Failure(failure) => {
                self.failures.insert(failure, outcome);
                if failure == Failure::Connect {
                    self.failures.insert(Failure::Reset, outcome);
                }
            }
        }
        Ok(())
    }

    /// What an answer with `status` means. `retry_after`: whether it says when to come again.
    #[must_use]
    pub fn outcome(&self, status: u16, retry_after: bool) -> Outcome {
        let in_range = |(first, last, _): &&(u16, u16, Outcome)| (*first..=*last).contains(&status);
        let range = || {
            self.ranges
                .iter()
                .find(in_range)
                .map(|(_, _, outcome)| outcome)
        };
        let class = || self.classes.get(&(status / 100));
        let moved = self.statuses.get(&status).or_else(range).or_else(class);
        moved
            .copied()
            .unwrap_or_else(|| default_outcome(status, retry_after))
    }

    /// What an attempt without an answer means.
    #[must_use]
    pub fn failure(&self, failure: Failure) -> Outcome {
        self.failures
            .get(&failure)
            .copied()
            .unwrap_or_else(|| failure.default_outcome())
    }
}

fn default_outcome(status: u16, retry_after: bool) -> Outcome {
    match status {
        200..=299 => Outcome::Delivered,
        429 => Outcome::PushBack,
        503 if retry_after => Outcome::PushBack,
        408 | 425 => Outcome::Retry,
        410 => Outcome::Gone,
        401 | 403 | 404 | 405 | 407 => Outcome::EndpointFault,
        400..=499 => Outcome::Reject,
        // Below 200 is no final answer, and redirects are never followed: the address is not what it should be.
        0..=399 => Outcome::EndpointFault,
        // A status above 599 is nobody's promise, so it is treated as the server's trouble.
        500.. => Outcome::Retry,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(entries: &[(&str, Outcome)]) -> OutcomeTable {
        let mut table = OutcomeTable::default();
        for (selector, outcome) in entries {
            table.set(selector.parse().unwrap(), *outcome).unwrap();
        }
        table
    }

    #[test]
    fn the_default_rows() {
        let table = OutcomeTable::default();
        let rows: &[(&[u16], Outcome)] = &[
            (&[200, 204, 299], Outcome::Delivered),
            (&[408, 425, 500, 502, 503, 599, 999], Outcome::Retry),
            (&[429], Outcome::PushBack),
            (&[400, 402, 409, 413, 415, 422, 451, 499], Outcome::Reject),
            (
                &[101, 301, 304, 401, 403, 404, 405, 407],
                Outcome::EndpointFault,
            ),
            (&[410], Outcome::Gone),
        ];
        for (statuses, outcome) in rows {
            for status in *statuses {
                assert_eq!(table.outcome(*status, false), *outcome, "{status}");
            }
        }
        assert_eq!(table.outcome(503, true), Outcome::PushBack);
        assert_eq!(table.outcome(500, true), Outcome::Retry);
        assert_eq!(table.failure(Failure::Tls), Outcome::EndpointFault);
        assert_eq!(table.failure(Failure::UnknownHost), Outcome::EndpointFault);
        assert_eq!(table.failure(Failure::Timeout), Outcome::Retry);
    }

    #[test]
    fn a_status_wins_over_a_range_and_a_range_over_a_class() {
        let table = table(&[
            ("4xx", Outcome::Retry),
            ("420-429", Outcome::PushBack),
            ("422", Outcome::Dropped),
            ("connect", Outcome::EndpointFault),
        ]);
        assert_eq!(table.outcome(400, false), Outcome::Retry);
        assert_eq!(table.outcome(420, false), Outcome::PushBack);
        assert_eq!(table.outcome(422, false), Outcome::Dropped);
        assert_eq!(table.outcome(500, false), Outcome::Retry);
        assert_eq!(table.failure(Failure::Reset), Outcome::EndpointFault);
    }

    #[test]
    fn what_selects_nothing_is_refused() {
        for text in [
            "", "4", "40", "4000", "199", "600", "+04", "1xx", "44xx", "xx", "429-420", "4xx-5xx",
            "TLS",
        ] {
            assert_eq!(text.parse::<Selector>(), Err(SelectorError), "{text}");
        }
        let mut table = table(&[("420-429", Outcome::Retry)]);
        assert_eq!(
            table.set(Selector::Range(429, 440), Outcome::Retry),
            Err(Overlap(420, 429))
        );
    }
}
