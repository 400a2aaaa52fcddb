//! What the rules say of a record, for one destination.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::delivery::{DeadLetterReason, Verdict};
use crate::record::Record;

use super::kind::kind;
use super::options::{ReadFormat, ReadOptions, RuleOptions, TypePart, ValuePolicy};
use super::pattern::Pattern;

/// The rules that name one destination, in file order.
#[derive(Debug, Clone)]
pub struct Matcher {
    rules: Vec<Rule>,
    read: ReadOptions,
}

#[derive(Debug, Clone)]
struct Rule {
    name: Arc<str>,
    topics: Vec<String>,
    types: Vec<Pattern>,
}

impl Matcher {
    /// The rules of `rules` that deliver to `destination`.
    #[must_use]
    pub fn new(rules: &[RuleOptions], destination: &str, read: ReadOptions) -> Self {
        let of_destination = |rule: &&RuleOptions| rule.deliver_to.iter().any(|d| d == destination);
        let rules = rules.iter().filter(of_destination).map(|rule| Rule {
            name: Arc::clone(&rule.name),
            topics: rule.topics.clone(),
            types: rule.types.iter().map(|text| Pattern::new(text)).collect(),
        });
        Self {
            rules: rules.collect(),
            read,
        }
    }

    /// The topics that any of the rules names.
    #[must_use]
    pub fn topics(&self) -> BTreeSet<String> {
        self.rules
            .iter()
            .flat_map(|rule| rule.topics.iter().cloned())
            .collect()
    }

    /// The names of the rules.
    #[must_use]
    pub fn rule_names(&self) -> Vec<Arc<str>> {
        self.rules
            .iter()
            .map(|rule| Arc::clone(&rule.name))
            .collect()
    }

    /// What becomes of a record: the first rule that takes it decides.
    ///
    /// The value is looked into only when a rule asks for a type that lies in it. So a record whose rules go by topic alone is sent as the
    /// bytes it is, JSON or not.
    #[must_use]
    pub fn judge(&self, record: &Record) -> Verdict {
        let mut kind = Kind::Unread;
        for rule in &self.rules {
            if !rule.topics.iter().any(|topic| **topic == *record.topic) {
                continue;
            }
            if let Some(verdict) = self.without_a_value(record) {
                return verdict;
            }
            if rule.types.is_empty() {
                return Verdict::Deliver {
                    rule: Arc::clone(&rule.name),
                };
            }
            match kind.read(&self.read, record) {
                Ok(kind) if rule.types.iter().any(|pattern| pattern.matches(kind)) => {
                    return Verdict::Deliver {
                        rule: Arc::clone(&rule.name),
                    };
                }
                Ok(_) => {}
                Err(error) => {
                    let reason = DeadLetterReason::Undecodable;
                    return Verdict::DeadLetter {
                        reason,
                        error: error.to_owned(),
                    };
                }
            }
        }
        Verdict::NotMatched
    }

    /// What the file says of a record whose value is null or empty; `None` when it says nothing against it.
    fn without_a_value(&self, record: &Record) -> Option<Verdict> {
        let (policy, what) = match record.value.as_deref() {
            None => (self.read.null, "null"),
            Some([]) => (self.read.empty, "empty"),
            Some(_) => return None,
        };
        match policy {
            ValuePolicy::Skip => Some(Verdict::Dropped),
            ValuePolicy::Send => None,
            ValuePolicy::DeadLetter => Some(Verdict::DeadLetter {
                reason: DeadLetterReason::Undecodable,
                error: format!("the value is {what}"),
            }),
        }
    }
}

/// A record's type, read at most once.
enum Kind {
    Unread,
    Read(String),
    Undecodable(String),
}

impl Kind {
    fn read(&mut self, options: &ReadOptions, record: &Record) -> Result<&str, &str> {
        if let Self::Unread = self {
            *self = Self::of(options, record);
        }
        match self {
            Self::Read(kind) => Ok(kind),
            Self::Undecodable(error) => Err(error),
            Self::Unread => Err("the value was not read"),
        }
    }

    fn of(options: &ReadOptions, record: &Record) -> Self {
        let in_value = options
            .type_parts
            .iter()
            .any(|part| matches!(part, TypePart::Field(_)));
        let bytes = record.value.as_deref().unwrap_or_default();
        // What has nothing in it was let through by the file; its fields are missing.
        if !in_value || bytes.is_empty() || options.format == ReadFormat::Bytes {
            return Self::Read(kind(&options.type_parts, record, &serde_json::Value::Null));
        }
        match serde_json::from_slice(bytes) {
            Ok(value) => Self::Read(kind(&options.type_parts, record, &value)),
            // The parser's message speaks of the place, never of the content.
            Err(error) => Self::Undecodable(format!("the value is not JSON: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(name: &str, topics: &[&str], types: &[&str], to: &[&str]) -> RuleOptions {
        let owned = |list: &[&str]| list.iter().map(ToString::to_string).collect();
        RuleOptions {
            name: name.into(),
            topics: owned(topics),
            types: owned(types),
            deliver_to: owned(to),
            content: Default::default(),
        }
    }

    fn record(topic: &str, value: Option<&'static [u8]>) -> Record {
        Record {
            topic: topic.into(),
            partition: 0,
            offset: 0,
            timestamp: None,
            key: None,
            value: value.map(bytes::Bytes::from_static),
            headers: Vec::new(),
        }
    }

    fn graphspace() -> Matcher {
        let field = |pointer: &str| TypePart::Field(pointer.to_owned());
        let read = ReadOptions {
            type_parts: vec![TypePart::Topic, field("/type"), field("/resource")],
            ..ReadOptions::default()
        };
        let rules = [
            rule("uploads", &["owner"], &["owner.upload.*"], &["a"]),
            rule(
                "shares",
                &["group", "owner"],
                &["group.share.*", "*.7.-"],
                &["a", "b"],
            ),
            rule("rest", &["watching"], &[], &["a"]),
            rule("other", &["billing"], &[], &["b"]),
        ];
        Matcher::new(&rules, "a", read)
    }

    fn taken_by(verdict: Verdict) -> String {
        match verdict {
            Verdict::Deliver { rule } => rule.to_string(),
            Verdict::NotMatched => "nobody".to_owned(),
            Verdict::Dropped => "dropped".to_owned(),
            Verdict::DeadLetter { reason, error } => format!("{}: {error}", reason.name()),
        }
    }

    #[test]
    fn the_first_rule_that_takes_a_record_decides() {
        let matcher = graphspace();
        let judge = |topic, value: &'static str| {
            taken_by(matcher.judge(&record(topic, Some(value.as_bytes()))))
        };
        assert_eq!(
            judge("owner", r#"{"type": "upload", "resource": "graph"}"#),
            "uploads"
        );
        assert_eq!(
            judge("group", r#"{"type": "share", "resource": "layout"}"#),
            "shares"
        );
        assert_eq!(judge("owner", r#"{"type": 7, "resource": null}"#), "shares");
        assert_eq!(judge("owner", r#"{"type": "delete"}"#), "nobody");
        assert_eq!(judge("billing", "{}"), "nobody");
        assert_eq!(
            matcher.topics().into_iter().collect::<Vec<_>>(),
            ["group", "owner", "watching"]
        );
    }

    #[test]
    fn a_value_is_looked_into_only_when_a_rule_asks() {
        let matcher = graphspace();
        let judge =
            |topic, value: &'static [u8]| taken_by(matcher.judge(&record(topic, Some(value))));
        assert_eq!(judge("watching", b"\xff\xfe"), "rest");
        assert!(judge("owner", b"\xff\xfe").starts_with("undecodable: the value is not JSON"));
        assert!(judge("owner", b"not json").starts_with("undecodable"));
    }

    #[test]
    fn null_and_empty_values_go_where_the_file_says() {
        let mut matcher = graphspace();
        assert_eq!(
            taken_by(matcher.judge(&record("watching", None))),
            "dropped"
        );
        assert_eq!(
            taken_by(matcher.judge(&record("watching", Some(b"")))),
            "rest"
        );
        matcher.read.null = ValuePolicy::Send;
        matcher.read.empty = ValuePolicy::DeadLetter;
        assert_eq!(taken_by(matcher.judge(&record("watching", None))), "rest");
        let empty = taken_by(matcher.judge(&record("watching", Some(b""))));
        assert_eq!(empty, "undecodable: the value is empty");
    }
}
