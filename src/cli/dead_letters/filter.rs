//! Which dead letters are meant.

use clap::builder::PossibleValuesParser;

use crate::clock::{Clock, Timestamp};
use crate::config;
use crate::delivery::DeadLetterReason;
use crate::kafka::Letter;

/// Which dead letters are meant: all of what is said must hold; of one option that is said several times, one.
#[derive(Debug, Default, clap::Args)]
pub(super) struct FilterArguments {
    /// The destination that they did not reach.
    #[arg(short, long, value_name = "NAME")]
    destination: Vec<String>,
    /// The rule that wanted them delivered.
    #[arg(long, value_name = "NAME")]
    rule: Vec<String>,
    /// Why they ended.
    #[arg(long, value_name = "REASON", value_parser = reasons())]
    reason: Vec<String>,
    /// The last HTTP status, such as 503, or a class of them, such as 5xx.
    #[arg(long, value_name = "STATUS", value_parser = status)]
    status: Vec<Status>,
    /// The record's type, as [notification] reads it; `*` stands for anything.
    #[arg(long = "type", value_name = "TYPE")]
    kind: Vec<String>,
    /// The record's key.
    #[arg(long, value_name = "KEY")]
    key: Vec<String>,
    /// Written since then: a time such as 2026-05-01T08:00:00Z, or how long ago, such as 2h or 7d.
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: Option<Timestamp>,
    /// Written before then, in the same way.
    #[arg(long, value_name = "TIME", value_parser = time)]
    until: Option<Timestamp>,
}

/// `503` or `5xx`: the first and the last status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Status(u16, u16);

impl FilterArguments {
    /// Whether nothing was said.
    pub(super) fn is_empty(&self) -> bool {
        let Self {
            destination,
            rule,
            reason,
            status,
            kind,
            key,
            since,
            until,
        } = self;
        let texts = [destination, rule, reason, kind, key];
        texts.iter().all(|said| said.is_empty())
            && status.is_empty()
            && since.is_none()
            && until.is_none()
    }

    /// The destinations that were named.
    pub(super) fn destinations(&self) -> &[String] {
        &self.destination
    }

    /// The time before which nothing is meant.
    pub(super) fn since(&self) -> Option<Timestamp> {
        self.since
    }

    /// Whether this one is meant. `name` is what its destination is called; `kind` tells its type.
    pub(super) fn takes(
        &self,
        letter: &Letter,
        name: &str,
        kind: impl FnOnce() -> Option<String>,
    ) -> bool {
        let any = |said: &[String], is: &str| said.is_empty() || said.iter().any(|s| s == is);
        let written = letter.written.unwrap_or_default();
        let key = letter.record.key.as_deref();
        (any(&self.destination, name) || any(&self.destination, &letter.destination))
            && any(&self.rule, letter.rule.as_deref().unwrap_or_default())
            && any(&self.reason, &letter.reason)
            && (self.status.is_empty() || self.status.iter().any(|s| s.takes(letter.status)))
            && (self.key.is_empty() || self.key.iter().any(|k| Some(k.as_bytes()) == key))
            && self.since.is_none_or(|since| written >= since)
            && self.until.is_none_or(|until| written < until)
            && (self.kind.is_empty() || {
                let kind = kind().unwrap_or_default();
                self.kind.iter().any(|pattern| fits(pattern, &kind))
            })
    }
}

impl Status {
    fn takes(self, status: Option<u16>) -> bool {
        status.is_some_and(|status| (self.0..=self.1).contains(&status))
    }
}

fn reasons() -> PossibleValuesParser {
    PossibleValuesParser::new(DeadLetterReason::ALL.iter().map(|reason| reason.name()))
}

fn status(text: &str) -> Result<Status, String> {
    let wrong = || "write a status such as 503, or a class such as 5xx".to_owned();
    if let Some(class) = text.strip_suffix("xx") {
        let class: u16 = class.parse().map_err(|_| wrong())?;
        return match class {
            1..=5 => Ok(Status(class * 100, class * 100 + 99)),
            _ => Err(wrong()),
        };
    }
    match text.parse() {
        Ok(status) if (100..600).contains(&status) => Ok(Status(status, status)),
        _ => Err(wrong()),
    }
}

/// A time, or how long ago it was.
pub(super) fn time(text: &str) -> Result<Timestamp, String> {
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Ok(Timestamp(time.as_millisecond()));
    }
    let age = config::duration(text.strip_prefix('-').unwrap_or(text)).map_err(|_| {
        "write a time such as 2026-05-01T08:00:00Z, or how long ago, such as 90s, 2h or 7d"
            .to_owned()
    })?;
    let age_ms = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
    Ok(Timestamp(Clock::wall().0.saturating_sub(age_ms).max(0)))
}

/// Whether `text` is what `pattern` says, where `*` stands for anything.
fn fits(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let Some(mut text) = text.strip_prefix(first) else {
        return false;
    };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let last = parts.pop().unwrap_or_default();
    for part in parts {
        match text.split_once(part) {
            Some((_, behind)) => text = behind,
            None => return false,
        }
    }
    text.ends_with(last)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::fixtures::letter;
    use super::*;

    #[derive(Debug, Parser)]
    struct Typed {
        #[command(flatten)]
        filter: FilterArguments,
    }

    fn filter(line: &str) -> Result<FilterArguments, clap::Error> {
        let words = std::iter::once("x").chain(line.split_whitespace());
        Typed::try_parse_from(words).map(|typed| typed.filter)
    }

    fn takes(line: &str) -> bool {
        filter(line)
            .unwrap()
            .takes(&letter(1, 0), "hook", || Some("owner.put".to_owned()))
    }

    #[test]
    fn all_that_is_said_must_hold() {
        for line in [
            "",
            "-d hook",
            "-d other -d hook",
            "-d hook-id",
            "--rule r",
            "--reason rejected --reason gone",
            "--status 503",
            "--status 5xx",
            "--type owner.put",
            "--type owner.* --key k1",
            "--type *",
            "--since 1970-01-01T00:00:05Z",
            "--until 1970-01-01T00:00:05.001Z",
        ] {
            assert!(takes(line), "{line}");
        }
        for line in [
            "-d other",
            "--rule s",
            "--reason gone",
            "--status 500 --status 4xx",
            "--type owner.put.x",
            "--type *.post",
            "--key k",
            "--since 1970-01-01T00:00:05.001Z",
            "--until 1970-01-01T00:00:05Z",
            "--since 1h",
            "-d hook --rule s",
        ] {
            assert!(!takes(line), "{line}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_what_to_write() {
        for (line, hint) in [
            ("--status 7xx", "a class such as 5xx"),
            ("--status 99", "a status such as 503"),
            ("--since yesterday", "how long ago"),
            ("--reason bored", "exhausted"),
        ] {
            let error = filter(line).unwrap_err().to_string();
            assert!(error.contains(hint), "{error}");
        }
        assert!(filter("").unwrap().is_empty());
        assert!(!filter("--status 5xx").unwrap().is_empty());
    }

    #[test]
    fn a_star_stands_for_anything() {
        for (pattern, text) in [
            ("*", ""),
            ("a*", "a"),
            ("a*c*e", "abcde"),
            ("*b", "ab"),
            ("a*a", "aa"),
        ] {
            assert!(fits(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [("a", "ab"), ("a*a", "a"), ("a*c", "ab"), ("a*b*b", "ab")] {
            assert!(!fits(pattern, text), "{pattern} {text}");
        }
    }
}
