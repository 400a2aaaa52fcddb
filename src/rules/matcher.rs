//! What the rules say of a record: for one destination, or for the audit of the file as a whole.

mod explain;

use std::collections::BTreeSet;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::delivery::{DeadLetterReason, Verdict};
use crate::record::Record;

use super::condition::Condition;
use super::json::Json;
use super::options::{OnError, ReadOptions, ReadOverride, RuleOptions, Unmatched, ValuePolicy};
use super::pattern::Pattern;
use super::reading::{Reading, payload};
use super::topics::{TopicSelector, TopicSet};

pub use explain::RuleAnswer;

/// What the file says about records, all of it.
#[derive(Debug, Clone)]
pub struct RuleFile<'a> {
    rules: &'a [RuleOptions],
    read: &'a ReadOptions,
    overrides: &'a [ReadOverride],
    /// Made when they are first needed. All matchers of one file have them in common: a thousand rules in each of a thousand lanes would be a quarter of
    /// a gigabyte.
    terms: OnceLock<Vec<Arc<Terms>>>,
}

impl<'a> RuleFile<'a> {
    /// The rules in file order, how records are read, and how those of some topics are: the first whose topics fit counts.
    #[must_use]
    pub fn new(
        rules: &'a [RuleOptions],
        read: &'a ReadOptions,
        overrides: &'a [ReadOverride],
    ) -> Self {
        Self {
            rules,
            read,
            overrides,
            terms: OnceLock::new(),
        }
    }

    fn terms(&self) -> &[Arc<Terms>] {
        self.terms
            .get_or_init(|| self.rules.iter().map(Terms::of).map(Arc::new).collect())
    }

    /// Whether there is something that belongs to no destination: rules that drop, or dead letters of what no rule takes.
    #[must_use]
    pub fn needs_audit(&self) -> bool {
        let reads = self.overrides.iter().map(|o| &o.read).chain([self.read]);
        let mut unmatched = reads.map(|read| read.unmatched);
        self.rules.iter().any(RuleOptions::drops) || unmatched.any(|u| u == Unmatched::DeadLetter)
    }
}

/// What the rules say of one record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// What becomes of it in this lane.
    pub verdict: Verdict,
    /// The rule that dropped it, in the audit.
    pub dropped_by: Option<Arc<str>>,
    /// Whether no rule of the file takes it and this lane is the one that counts it.
    pub unmatched: bool,
}

/// Judges records for one lane.
#[derive(Debug, Clone, PartialEq)]
pub struct Matcher {
    rules: Vec<Rule>,
    reads: Vec<(Vec<TopicSelector>, ReadOptions)>,
    /// The audit's matcher has none: it asks every rule for the file's sake.
    destination: Option<Destination>,
    /// What holds for the topic of the last record.
    plan: Option<Plan>,
}

#[derive(Debug, Clone, PartialEq)]
struct Destination {
    /// Whether destinations count what no rule takes, and not the audit.
    counts: bool,
}

/// What a rule asks for, the same for every lane.
#[derive(Debug, PartialEq)]
struct Terms {
    name: Arc<str>,
    topics: Vec<TopicSelector>,
    types: Vec<Pattern>,
    conditions: Vec<Condition>,
    default: bool,
    on_error: OnError,
}

impl Terms {
    fn of(rule: &RuleOptions) -> Self {
        Self {
            name: Arc::clone(&rule.name),
            topics: rule.topics.clone(),
            types: rule.types.iter().map(|text| Pattern::new(text)).collect(),
            conditions: rule.conditions.clone(),
            default: rule.default,
            on_error: rule.on_error,
        }
    }
}

/// A rule as one lane sees it.
#[derive(Debug, Clone, PartialEq)]
struct Rule {
    terms: Arc<Terms>,
    /// Whether a destination that stands before this one has it too, and so counts what no rule takes of its topics. Only that is kept of their names:
    /// a thousand of them in each of a thousand lanes would be fifty megabytes.
    counted_before: bool,
    role: Role,
}

/// What a rule is to the lane that asks it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// It delivers to this lane's destination.
    Mine,
    /// It delivers, but not here.
    Other,
    /// It drops.
    Drop,
}

/// The rules that a topic's records are asked, and how they are read.
#[derive(Debug, Clone, PartialEq)]
struct Plan {
    topic: Arc<str>,
    rules: Vec<usize>,
    defaults: Vec<usize>,
    read: usize,
    counts_unmatched: bool,
}

/// What one rule says of one record.
enum Answer {
    Takes,
    Leaves,
    /// It cannot be told, and the rule wants that to end the record.
    Cannot(String),
}

/// What of a record does not fit a rule.
enum Misfit<'a> {
    /// Its type.
    Type(&'a str),
    /// A field of its value.
    Condition(&'a Condition, &'a Json),
}

impl Matcher {
    /// For the lane of `destination`. `counting` are the enabled destinations, in their order, when there is no audit: what no rule takes is
    /// counted by the first of them that reads the topic.
    #[must_use]
    pub fn for_destination(
        file: &RuleFile<'_>,
        destination: &str,
        counting: Option<&[&str]>,
    ) -> Self {
        let all = counting.unwrap_or_default().iter().copied();
        let before: BTreeSet<&str> = all.take_while(|name| *name != destination).collect();
        let counted_before = |rule: &RuleOptions| {
            let mut names = rule.deliver_to.iter();
            names.any(|name| before.contains(&**name))
        };
        let role = |rule: &RuleOptions| match rule {
            rule if rule.drops() => Role::Drop,
            rule if rule.deliver_to.iter().any(|name| name == destination) => Role::Mine,
            _ => Role::Other,
        };
        let destination = Destination {
            counts: counting.is_some(),
        };
        Self::new(file, role, counted_before, Some(destination))
    }

    /// For the audit, which has every topic of the file and sends nothing.
    #[must_use]
    pub fn for_audit(file: &RuleFile<'_>) -> Self {
        let role = |rule: &RuleOptions| {
            if rule.drops() {
                Role::Drop
            } else {
                Role::Other
            }
        };
        Self::new(file, role, |_| false, None)
    }

    fn new(
        file: &RuleFile<'_>,
        role: impl Fn(&RuleOptions) -> Role,
        counted_before: impl Fn(&RuleOptions) -> bool,
        destination: Option<Destination>,
    ) -> Self {
        let rules = file.terms().iter().zip(file.rules);
        let rules = rules.map(|(terms, rule)| Rule {
            terms: Arc::clone(terms),
            counted_before: counted_before(rule),
            role: role(rule),
        });
        let overrides = file.overrides.iter();
        let reads = overrides.map(|over| (over.topics.clone(), over.read.clone()));
        Self {
            rules: rules.collect(),
            reads: reads.chain([(Vec::new(), file.read.clone())]).collect(),
            destination,
            plan: None,
        }
    }

    /// The topics that this lane reads.
    #[must_use]
    pub fn topics(&self) -> TopicSet {
        let audit = self.destination.is_none();
        let read = self
            .rules
            .iter()
            .filter(|rule| audit || rule.role == Role::Mine);
        TopicSet::new(read.flat_map(|rule| &rule.topics))
    }

    /// The names of the rules whose matches this lane counts.
    #[must_use]
    pub fn rule_names(&self) -> Vec<Arc<str>> {
        let counted = if self.destination.is_some() {
            Role::Mine
        } else {
            Role::Drop
        };
        let rules = self.rules.iter().filter(|rule| rule.role == counted);
        rules.map(|rule| Arc::clone(&rule.name)).collect()
    }

    /// What tells these rules from others, as far as they decide which records are taken: what is sent for them has no part in it.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let has_default = |rule: &Rule| rule.default && rule.role == Role::Mine;
        let asks_all = self.destination.is_none() || self.rules.iter().any(has_default);
        let mut text = format!("{:?}", self.reads);
        for rule in &self.rules {
            let Rule {
                terms,
                counted_before: _,
                role,
            } = rule;
            let Terms {
                name,
                topics,
                types,
                conditions,
                default,
                on_error,
            } = &**terms;
            if asks_all || *role != Role::Other {
                let what = (name, topics, types, conditions, default, on_error, role);
                text += &format!("{what:?}");
            }
        }
        let digest = Sha256::digest(text);
        digest.iter().take(8).map(|b| format!("{b:02x}")).collect()
    }

    /// What becomes of a record.
    ///
    /// Rules are asked in file order, and the first that takes the record decides. One that drops takes it from every rule behind
    /// it, whatever the destination. Only then the defaults are asked, and none of them when any rule of the file has taken the record. The
    /// value is looked into only when a rule asks for something that lies in it: a record whose rules go by topic alone is sent as the
    /// bytes it is, JSON or not.
    #[must_use]
    pub fn judge(&mut self, record: &Record) -> Judgement {
        if self
            .plan
            .as_ref()
            .is_none_or(|plan| plan.topic != record.topic)
        {
            self.plan = Some(self.plan_of(&record.topic));
        }
        let Some(plan) = &self.plan else {
            return Verdict::NotMatched.into();
        };
        let read = &self.reads[plan.read].1;
        let reading = Reading::new(record, read);
        match self.destination {
            Some(_) => self.judge_for_destination(plan, read, &reading, record),
            None => self.judge_for_audit(plan, read, &reading, record),
        }
    }

    /// The type of a record, as the file reads it; nothing when that cannot be told.
    #[must_use]
    pub fn kind(&self, record: &Record) -> Option<String> {
        let read = &self.reads[self.read_of(&record.topic)].1;
        let reading = Reading::new(record, read);
        reading.kind().ok().map(str::to_owned)
    }

    /// What is sent for a record where no template says otherwise.
    #[must_use]
    pub fn payload(&self, record: &Record) -> Bytes {
        payload(record, self.reads[self.read_of(&record.topic)].1.format)
    }

    fn judge_for_destination(
        &self,
        plan: &Plan,
        read: &ReadOptions,
        reading: &Reading<'_>,
        record: &Record,
    ) -> Judgement {
        if let Some(verdict) = without_a_value(read, record) {
            return verdict.into();
        }
        if let Some(decided) = self.of(&plan.rules).find_map(|rule| rule.decides(reading)) {
            return decided;
        }
        let my_default = self.of(&plan.defaults).any(|rule| rule.role == Role::Mine);
        if !my_default && !plan.counts_unmatched {
            return Verdict::NotMatched.into();
        }
        let mut others = self.of(&plan.rules).filter(|rule| rule.role == Role::Other);
        if others.any(|rule| rule.has_a_say(reading)) {
            return Verdict::NotMatched.into();
        }
        let mut taken = false;
        for rule in self.of(&plan.defaults) {
            if let Some(decided) = rule.decides(reading) {
                return decided;
            }
            taken = taken || (rule.role == Role::Other && rule.has_a_say(reading));
        }
        Judgement {
            unmatched: plan.counts_unmatched && !taken,
            ..Verdict::NotMatched.into()
        }
    }

    /// What is delivered, or ends in a lane that delivers, is not the audit's. What is dropped is, and what nobody takes.
    fn judge_for_audit(
        &self,
        plan: &Plan,
        read: &ReadOptions,
        reading: &Reading<'_>,
        record: &Record,
    ) -> Judgement {
        let all = plan.rules.iter().chain(&plan.defaults);
        let delivered = self.of(all).any(|rule| rule.role == Role::Other);
        if let Some(verdict) = without_a_value(read, record) {
            let verdict = if delivered {
                Verdict::NotMatched
            } else {
                verdict
            };
            return verdict.into();
        }
        let mut unreadable = None;
        for rules in [&plan.rules, &plan.defaults] {
            let mut taken = false;
            for rule in self.of(rules) {
                match (rule.role, rule.asks(reading)) {
                    (_, Answer::Leaves) => {}
                    (Role::Drop, Answer::Takes) => return rule.drop(),
                    (Role::Drop, Answer::Cannot(error)) => unreadable = Some(error),
                    (Role::Mine | Role::Other, Answer::Takes | Answer::Cannot(_)) => taken = true,
                }
            }
            if taken {
                return Verdict::NotMatched.into();
            }
        }
        if let Some(error) = unreadable {
            return undecodable(error);
        }
        let verdict = match read.unmatched {
            Unmatched::Ignore => Verdict::NotMatched,
            Unmatched::DeadLetter => Verdict::DeadLetter {
                reason: DeadLetterReason::Unmatched,
                error: "no rule takes the record".to_owned(),
            },
        };
        Judgement {
            unmatched: true,
            ..verdict.into()
        }
    }

    fn of<'a>(
        &'a self,
        indices: impl IntoIterator<Item = &'a usize>,
    ) -> impl Iterator<Item = &'a Rule> {
        indices.into_iter().map(|index| &self.rules[*index])
    }

    fn plan_of(&self, topic: &Arc<str>) -> Plan {
        let reads = |rule: &Rule| rule.topics.iter().any(|selector| selector.selects(topic));
        let all = (0..self.rules.len()).filter(|index| reads(&self.rules[*index]));
        let (defaults, rules): (Vec<_>, Vec<_>) = all.partition(|index| self.rules[*index].default);
        let counts_unmatched = match &self.destination {
            None => true,
            Some(Destination { counts }) => {
                let mut rules = self.of(rules.iter().chain(&defaults));
                *counts && !rules.any(|rule| rule.counted_before)
            }
        };
        Plan {
            topic: Arc::clone(topic),
            rules,
            defaults,
            read: self.read_of(topic),
            counts_unmatched,
        }
    }

    /// The first override whose topics fit; the section itself, which stands last, when none does.
    fn read_of(&self, topic: &str) -> usize {
        let fits = |(topics, _): &(Vec<TopicSelector>, ReadOptions)| {
            topics.iter().any(|selector| selector.selects(topic))
        };
        let last = self.reads.len() - 1;
        self.reads.iter().position(fits).unwrap_or(last)
    }
}

impl Deref for Rule {
    type Target = Terms;

    fn deref(&self) -> &Terms {
        &self.terms
    }
}

impl Rule {
    fn asks(&self, reading: &Reading<'_>) -> Answer {
        match self.fits(reading) {
            Ok(None) => Answer::Takes,
            Ok(Some(_)) => Answer::Leaves,
            Err(error) => match self.on_error {
                OnError::DeadLetter => Answer::Cannot(error.to_owned()),
                OnError::NoMatch => Answer::Leaves,
            },
        }
    }

    /// Whether the record ends by this rule, delivered or not.
    fn has_a_say(&self, reading: &Reading<'_>) -> bool {
        !matches!(self.asks(reading), Answer::Leaves)
    }

    /// What of the record does not fit, if anything; the error is why that cannot be told.
    fn fits<'r>(&'r self, reading: &'r Reading<'_>) -> Result<Option<Misfit<'r>>, &'r str> {
        if !self.types.is_empty() {
            let kind = reading.kind()?;
            if !self.types.iter().any(|pattern| pattern.matches(kind)) {
                return Ok(Some(Misfit::Type(kind)));
            }
        }
        if self.conditions.is_empty() {
            return Ok(None);
        }
        let value = reading.value()?;
        let mut conditions = self.conditions.iter();
        let broken = conditions.find(|condition| !condition.holds(value));
        Ok(broken.map(|condition| Misfit::Condition(condition, value)))
    }

    /// What becomes of the record by this rule alone; `None`: that is for the next one to say.
    fn decides(&self, reading: &Reading<'_>) -> Option<Judgement> {
        match self.role {
            Role::Other => None,
            Role::Mine => match self.asks(reading) {
                Answer::Takes => Some(self.deliver()),
                Answer::Cannot(error) => Some(undecodable(error)),
                Answer::Leaves => None,
            },
            Role::Drop => match self.asks(reading) {
                Answer::Takes => Some(Verdict::NotMatched.into()),
                Answer::Cannot(_) | Answer::Leaves => None,
            },
        }
    }

    fn deliver(&self) -> Judgement {
        let rule = Arc::clone(&self.name);
        Verdict::Deliver { rule }.into()
    }

    fn drop(&self) -> Judgement {
        Judgement {
            dropped_by: Some(Arc::clone(&self.name)),
            ..Verdict::Dropped.into()
        }
    }
}

impl From<Verdict> for Judgement {
    fn from(verdict: Verdict) -> Self {
        Self {
            verdict,
            dropped_by: None,
            unmatched: false,
        }
    }
}

fn undecodable(error: String) -> Judgement {
    let reason = DeadLetterReason::Undecodable;
    Verdict::DeadLetter { reason, error }.into()
}

/// What the file says of a record whose value is null or empty; `None` when it says nothing against it.
fn without_a_value(read: &ReadOptions, record: &Record) -> Option<Verdict> {
    let (policy, what) = match record.value.as_deref() {
        None => (read.null, "null"),
        Some([]) => (read.empty, "empty"),
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

#[cfg(test)]
mod tests;
