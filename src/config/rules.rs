//! `[[rules]]`: which records go where.

use std::ops::Range;
use std::sync::Arc;

use super::context::Context;
use super::destinations::Found;
use super::problem::Severity;
use super::reader::{Reader, Value};
use super::refusal::{listed, nearest};
use super::{conditions, template, topics};
use crate::rules::{OnError, ReadFormat, ReadOptions, RuleOptions};

/// A rule as it was found, with the places of what it names.
pub(super) struct FoundRule {
    pub(super) options: RuleOptions,
    path: String,
    /// Whether it has `deliver_to`, readable or not, and no action.
    delivers: bool,
    /// Where its `match` stands.
    match_span: Option<Range<usize>>,
    targets: Vec<Range<usize>>,
}

/// Every rule, in the order of the file.
pub(super) fn read(root: &Reader<'_>, prefix: &str) -> Vec<FoundRule> {
    let Some(section) = root.take("rules") else {
        return Vec::new();
    };
    if section.is_table() {
        let hint = "a rule is one entry of a list: write [[rules]], with two brackets";
        section.error_at_key("the rules are not a list", hint);
        return Vec::new();
    }
    let mut names: Vec<(Arc<str>, Range<usize>)> = Vec::new();
    let mut found = Vec::new();
    for value in section.list("[{ … }]").unwrap_or_default() {
        found.extend(rule(&value, prefix, &mut names));
    }
    found
}

fn rule(
    value: &Value<'_>,
    prefix: &str,
    names: &mut Vec<(Arc<str>, Range<usize>)>,
) -> Option<FoundRule> {
    if !value.is_table() {
        value.wrong_kind(
            "a rule",
            "write each rule as a section: [[rules]], with two brackets",
        );
        return None;
    }
    let reader = value.table()?;
    let hint = "write name = \"everything\"; it stands in metrics, logs and dead letters";
    let name = reader
        .require("name", hint)
        .and_then(|value| unique_name(&value, names));
    let topics = reader.require("topics", "write topics = [\"orders\"]");
    let topics = topics
        .map(|value| topics::read(&value, prefix))
        .unwrap_or_default();
    let types = reader
        .take("types")
        .and_then(|value| value.texts("[\"orders.*\"]"));
    let matches = reader.take("match");
    let conditions = matches.as_ref().map(conditions::read);
    let default = reader.read("default", false, Value::boolean);
    let choices = [
        ("dead_letter", OnError::DeadLetter),
        ("no_match", OnError::NoMatch),
    ];
    let on_error = reader.read("on_error", OnError::default(), |value| {
        value.one_of(&choices, &[])
    });
    let delivers = !reader.has("action");
    let deliver_to = deliver_to(&reader);
    let content = template::of_rule(&reader);
    reader.finish();
    let (targets, deliver_to) = deliver_to
        .into_iter()
        .map(|(value, name)| (value.span(), name))
        .unzip();
    let options = RuleOptions {
        name: name.unwrap_or_default(),
        topics,
        types: types
            .unwrap_or_default()
            .into_iter()
            .map(|(_, text)| text)
            .collect(),
        conditions: conditions.unwrap_or_default(),
        default,
        on_error,
        deliver_to,
        content,
    };
    Some(FoundRule {
        options,
        path: reader.path().to_owned(),
        delivers,
        match_span: matches.map(|value| value.span()),
        targets,
    })
}

fn deliver_to<'a>(reader: &Reader<'a>) -> Vec<(Value<'a>, String)> {
    let example = "[\"shop\"]";
    if let Some(action) = reader.take("action") {
        if action.one_of(&[("drop", ())], &[]).is_some()
            && let Some(value) = reader.take("deliver_to")
        {
            let hint = "keep one of them: a rule delivers or drops";
            value.error_at_key("the rule has an `action` and `deliver_to`", hint);
        }
        return Vec::new();
    }
    let value = reader.require(
        "deliver_to",
        "write deliver_to = [\"shop\"]: the names of destinations",
    );
    value
        .and_then(|value| value.texts(example))
        .unwrap_or_default()
}

fn unique_name(value: &Value<'_>, names: &mut Vec<(Arc<str>, Range<usize>)>) -> Option<Arc<str>> {
    let name: Arc<str> = Arc::from(value.text()?);
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if !(1..=63).contains(&name.len()) || !name.bytes().all(allowed) {
        let hint = "write 1 to 63 letters, digits, dots, dashes and underscores";
        value.error(format!("cannot be \"{name}\""), hint);
        return None;
    }
    if let Some((_, first)) = names.iter().find(|(other, _)| *other == name) {
        value.error(
            format!("is \"{name}\", as another rule's is"),
            "give each rule a name of its own",
        );
        value.also(first.clone(), "the other one");
        return None;
    }
    names.push((Arc::clone(&name), value.span()));
    Some(name)
}

/// Bytes have no fields. With overrides it depends on the topic, which may not be there yet.
pub(super) fn check_formats(context: &Context<'_>, read: &ReadOptions, rules: &[FoundRule]) {
    if read.format != ReadFormat::Bytes {
        return;
    }
    for rule in rules {
        if let Some(span) = &rule.match_span {
            let message = "`match` needs JSON, but `format` is \"bytes\"";
            let hint = "set format = \"json\" in [notification], or take it out";
            let key = format!("{}.match", rule.path);
            context.report(Severity::Error, Some(span.clone()), &key, message, hint);
        }
    }
}

/// Every name in `deliver_to` must be a destination's, and every enabled destination must be named.
pub(super) fn check_names(context: &Context<'_>, destinations: &[Found], rules: &[FoundRule]) {
    for rule in rules {
        for (target, span) in rule.options.deliver_to.iter().zip(&rule.targets) {
            if !destinations.iter().any(|found| *found.name == **target) && !destinations.is_empty()
            {
                let names = || destinations.iter().map(|found| &*found.name);
                let hint = match nearest(target, names()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("the destinations of this file: {}", listed(names())),
                };
                let message = format!("there is no destination `{target}`");
                let key = format!("{}.deliver_to", rule.path);
                context.report(Severity::Error, Some(span.clone()), &key, message, hint);
            }
        }
    }
    // A rule that could not be read may be the one that names it.
    let unread = |rule: &FoundRule| rule.delivers && rule.options.deliver_to.is_empty();
    if rules.is_empty() || rules.iter().any(unread) {
        return;
    }
    for found in destinations.iter().filter(|found| found.enabled) {
        let name = &found.name;
        let mut targets = rules.iter().flat_map(|rule| &rule.options.deliver_to);
        // A name that is nearly this one was answered with it already.
        if !targets.any(|target| nearest(target, [&**name]).is_some()) {
            let message = format!("no rule delivers to the destination `{name}`");
            let hint = format!(
                "add \"{name}\" to deliver_to of a rule, or switch it off:\n[destinations.{name}]\nenabled = false"
            );
            let key = format!("destinations.{name}");
            context.report(
                Severity::Error,
                Some(found.key_span.clone()),
                &key,
                message,
                hint,
            );
        }
    }
}
