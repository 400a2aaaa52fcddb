//! Why the rules say what they say of a record, for a person: each is asked what it is asked in judging.

use std::sync::Arc;

use crate::record::Record;

use super::super::condition::{Condition, Scalar, Test};
use super::super::json::Json;
use super::super::options::OnError;
use super::super::pattern::Pattern;
use super::super::reading::Reading;
use super::{Matcher, Misfit, Role, Rule};

/// So much of a field is shown.
const FIELD_CHARACTERS: usize = 80;

/// What one rule says of one record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleAnswer {
    /// The rule.
    pub rule: Arc<str>,
    /// Whether the record ends by it.
    pub decides: bool,
    /// In words that go on after the rule's name.
    pub text: String,
}

impl Matcher {
    /// What the rules say that have a say in this lane, in the order in which they are asked.
    #[must_use]
    pub fn explain(&self, record: &Record) -> Vec<RuleAnswer> {
        let read = &self.reads[self.read_of(&record.topic)].1;
        let reading = Reading::new(record, read);
        let mine = |rule: &&Rule| rule.role == Role::Mine;
        let has_default = self.rules.iter().filter(mine).any(|rule| rule.default);
        let (defaults, rules): (Vec<&Rule>, Vec<&Rule>) =
            self.rules.iter().partition(|rule| rule.default);
        let mut answers = Vec::new();
        let mut decided: Option<&Rule> = None;
        // What keeps a default out takes nothing from another destination.
        let mut elsewhere: Option<&Rule> = None;
        for rule in rules.into_iter().chain(defaults) {
            if rule.role == Role::Other {
                let reads = rule.topics.iter().any(|topic| topic.selects(&record.topic));
                if has_default && !rule.default && reads && rule.has_a_say(&reading) {
                    elsewhere = elsewhere.or(Some(rule));
                }
                continue;
            }
            let kept_out = elsewhere.filter(|_| rule.default);
            let (decides, text) = match (decided, kept_out) {
                (Some(by), _) => (false, format!("is not asked: {} comes first", by.name)),
                (None, Some(by)) => (
                    false,
                    format!("is a default, and the rule {} has a say", by.name),
                ),
                (None, None) => rule.answer(record, &reading),
            };
            if decides {
                decided = Some(rule);
            }
            let rule = Arc::clone(&rule.name);
            answers.push(RuleAnswer {
                rule,
                decides,
                text,
            });
        }
        answers
    }
}

impl Rule {
    /// Whether the record ends by this rule, and why or why not.
    fn answer(&self, record: &Record, reading: &Reading<'_>) -> (bool, String) {
        if !self.topics.iter().any(|topic| topic.selects(&record.topic)) {
            let topics: Vec<&str> = self.topics.iter().map(|topic| topic.text()).collect();
            let text = format!("does not read topic {}: topics = {topics:?}", record.topic);
            return (false, text);
        }
        let drops = self.role == Role::Drop;
        match self.fits(reading) {
            Ok(None) if drops => (true, "takes it, and drops it".to_owned()),
            Ok(None) => (true, "takes it".to_owned()),
            Ok(Some(Misfit::Type(kind))) => {
                let types: Vec<String> = self.types.iter().map(Pattern::text).collect();
                let text = format!("leaves it: its type is {kind:?}, and types = {types:?}");
                (false, text)
            }
            Ok(Some(Misfit::Condition(condition, value))) => {
                (false, format!("leaves it: {}", unmet(condition, value)))
            }
            Err(error) => match self.on_error {
                OnError::DeadLetter if !drops => (
                    true,
                    format!("cannot tell, so it becomes a dead letter: {error}"),
                ),
                OnError::DeadLetter | OnError::NoMatch => {
                    (false, format!("leaves it, for it cannot tell: {error}"))
                }
            },
        }
    }
}

/// What a field is, and what it should be.
fn unmet(condition: &Condition, value: &Json) -> String {
    let pointer = &condition.pointer;
    let field = value.pointer(pointer);
    let field = field.filter(|field| **field != Json::Null);
    let is = match field {
        None => "is not there".to_owned(),
        Some(field) => {
            let text = field.to_string();
            let shown: String = text.chars().take(FIELD_CHARACTERS).collect();
            let cut = if shown.len() < text.len() { "…" } else { "" };
            format!("is {shown}{cut}")
        }
    };
    let wanted = match &condition.test {
        Test::Present(true) => "must be there".to_owned(),
        Test::Present(false) => "must not be there".to_owned(),
        Test::Is { values, .. } => {
            let values: Vec<String> = values.iter().map(written).collect();
            format!("must be {}", values.join(" or "))
        }
    };
    format!("the field {pointer} {is}, and {wanted}")
}

fn written(scalar: &Scalar) -> String {
    match scalar {
        Scalar::Text(text) => format!("{text:?}"),
        Scalar::Integer(number) => number.to_string(),
        Scalar::Boolean(flag) => flag.to_string(),
    }
}
