//! One value of the file, read as what it should be. Each reading that fails is written down with what to do, and gives `None`.

use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::DeValue;

use super::context::Context;
use super::interpolate::interpolate;
use super::problem::Severity;
use super::reader::{Place, Reader};
use super::refusal::{Refusal, nearest};

/// What stands in the tables that are most often written as a single value.
const TABLES: &[(&str, &str)] = &[
    ("bridge", "recipe = \"sendgrid\", with = { … }"),
    ("dead_letters", "excerpt = \"1KiB\""),
    ("header", "name = \"x-result\", equals = \"done\""),
    ("headers", "x-name = \"value\""),
    ("outcomes", "404 = \"retry\""),
    ("retry", "schedule = [\"5s\", \"30s\", \"5m\"]"),
    ("timeouts", "connect = \"5s\", total = \"15s\""),
    ("values", "null = \"skip\", empty = \"send\""),
    ("webhook", "url = \"http://localhost:8000/hooks\""),
    ("window", "records = 4096, bytes = \"8MiB\""),
];

/// One value and where it stands.
#[derive(Clone)]
pub(super) struct Value<'a> {
    context: &'a Context<'a>,
    place: Place,
    /// The last key on the way here.
    pub(super) key: &'a str,
    /// What messages call it.
    subject: String,
    pub(super) key_span: Range<usize>,
    pub(super) node: &'a Spanned<DeValue<'a>>,
}

impl<'a> Value<'a> {
    pub(super) fn new(
        context: &'a Context<'a>,
        place: Place,
        key: &'a str,
        key_span: Range<usize>,
        node: &'a Spanned<DeValue<'a>>,
    ) -> Self {
        let subject = format!("`{key}`");
        Self {
            context,
            place,
            key,
            subject,
            key_span,
            node,
        }
    }

    /// The same value, called `name` in messages.
    pub(super) fn called(self, name: &str) -> Self {
        Self {
            subject: format!("`{name}`"),
            ..self
        }
    }

    /// Where the value itself stands.
    pub(super) fn span(&self) -> Range<usize> {
        self.node.span()
    }

    /// Reports that the value is wrong. `message` goes on after the key: "*is empty*".
    pub(super) fn error(&self, message: impl AsRef<str>, hint: impl Into<String>) {
        self.report(Severity::Error, message.as_ref(), hint.into());
    }

    /// Reports that the value is legal and probably not what was meant.
    pub(super) fn warning(&self, message: impl AsRef<str>, hint: impl Into<String>) {
        self.report(Severity::Warning, message.as_ref(), hint.into());
    }

    fn report(&self, severity: Severity, message: &str, hint: String) {
        let message = format!("{} {message}", self.subject);
        self.context
            .report(severity, Some(self.span()), &self.place.path, message, hint);
    }

    /// Reports that the key is wrong, whatever its value is; the message stands for itself.
    pub(super) fn error_at_key(&self, message: impl Into<String>, hint: impl Into<String>) {
        let span = Some(self.key_span.clone());
        self.context
            .report(Severity::Error, span, &self.place.path, message, hint);
    }

    /// Reports that something at `span` is wrong, which `key` below this value says.
    pub(super) fn error_at(&self, span: Range<usize>, key: &str, message: String, hint: &str) {
        let path = self.place.key(key).path;
        self.context
            .report(Severity::Error, Some(span), &path, message, hint);
    }

    /// Adds a second place to what was reported last.
    pub(super) fn also(&self, span: Range<usize>, label: &str) {
        self.context.also(span, label);
    }

    /// What was read, or its refusal reported.
    pub(super) fn accept<T>(&self, read: Result<T, Refusal>) -> Option<T> {
        read.map_err(|refusal| self.error(refusal.message, refusal.hint))
            .ok()
    }

    /// Another file is about to be read for it.
    pub(super) fn reads(&self, path: &Path) {
        self.context.reads(path);
    }

    /// The folder and name of the file this value stands in.
    pub(super) fn origin(&self) -> &'a Path {
        self.context.origin
    }

    /// The environment variable `name`.
    pub(super) fn environment(&self, name: &str) -> Option<String> {
        (self.context.environment)(name)
    }

    pub(super) fn wrong_kind(&self, wanted: &str, hint: impl Into<String>) {
        self.error(
            format!("must be {wanted}, not {}", kind(self.node.get_ref())),
            hint,
        );
    }

    pub(super) fn is_table(&self) -> bool {
        self.node.get_ref().is_table()
    }

    pub(super) fn is_list(&self) -> bool {
        self.node.get_ref().is_array()
    }

    /// Whether it is a `{ … }`, and not a section or dotted keys.
    pub(super) fn is_inline_table(&self) -> bool {
        self.is_table() && self.raw().starts_with('{')
    }

    /// The value as it stands in the file.
    pub(super) fn raw(&self) -> &'a str {
        self.context.text.get(self.span()).unwrap_or_default()
    }

    /// A string, its variables replaced.
    pub(super) fn text(&self) -> Option<String> {
        match self.node.get_ref() {
            DeValue::String(text) => self.accept(interpolate(text, self.context.environment)),
            // The value itself is not repeated: it may be a password made of digits.
            DeValue::Integer(_) | DeValue::Float(_) | DeValue::Datetime(_) => {
                self.wrong_kind("a string", "put it in double quotes");
                None
            }
            DeValue::Array(_) => {
                self.wrong_kind(
                    "a string",
                    "write one string in quotes, without the brackets",
                );
                None
            }
            DeValue::Boolean(_) | DeValue::Table(_) => {
                self.wrong_kind("a string", "write a text in double quotes");
                None
            }
        }
    }

    /// A string that is `wanted`; `hint` says how it is written.
    pub(super) fn text_as(&self, wanted: &str, hint: &str) -> Option<String> {
        if !self.node.get_ref().is_str() {
            self.wrong_kind(wanted, hint);
            return None;
        }
        self.text()
    }

    /// A time that stands there without quotes, as it is written.
    pub(super) fn datetime(&self) -> Option<String> {
        self.node.get_ref().as_datetime().map(ToString::to_string)
    }

    /// A string as librdkafka takes it: also a number or a truth value.
    pub(super) fn scalar_text(&self) -> Option<String> {
        let value = self.node.get_ref();
        if let DeValue::Boolean(flag) = value {
            return Some(flag.to_string());
        }
        let number = value.as_integer().filter(|number| number.radix() == 10);
        let number = number.map(|number| number.as_str());
        match number.or_else(|| value.as_float().map(|number| number.as_str())) {
            Some(number) => Some(number.to_owned()),
            None => self.text(),
        }
    }

    /// One of the words in `choices`. Those in `later` belong to the contract, but not to this version.
    pub(super) fn one_of<T: Clone>(&self, choices: &[(&str, T)], later: &[&str]) -> Option<T> {
        let words = || choices.iter().map(|(word, _)| *word);
        let all = words()
            .map(|word| format!("\"{word}\""))
            .collect::<Vec<_>>()
            .join(", ");
        let text = self.text_as("a string", &format!("write one of {all}"))?;
        if let Some((_, choice)) = choices.iter().find(|(word, _)| *word == text) {
            return Some(choice.clone());
        }
        if later.contains(&text.as_str()) {
            let message = format!("cannot be \"{text}\" in this version");
            self.error(message, format!("this version knows {all}"));
            return None;
        }
        let hint = match nearest(&text, words()) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => format!("write one of {all}"),
        };
        self.error(format!("cannot be \"{text}\""), hint);
        None
    }

    /// The table, to be read key by key.
    pub(super) fn table(&self) -> Option<Reader<'a>> {
        let DeValue::Table(table) = self.node.get_ref() else {
            let example = TABLES.iter().find(|(key, _)| *key == self.key);
            let inside = example.map_or("…", |(_, inside)| inside);
            self.wrong_kind("a table", format!("write {} = {{ {inside} }}", self.key));
            return None;
        };
        Some(Reader::new(
            self.context,
            self.place.clone(),
            table,
            self.span(),
        ))
    }

    /// The entries of a list that must not be empty. `example` shows how one is written.
    pub(super) fn list(&self, example: &str) -> Option<Vec<Value<'a>>> {
        let entries = self.any_list(example)?;
        if entries.is_empty() {
            self.error("is empty", format!("write {} = {example}", self.key));
            return None;
        }
        Some(entries)
    }

    /// The entries of a list that may be empty.
    pub(super) fn any_list(&self, example: &str) -> Option<Vec<Value<'a>>> {
        let DeValue::Array(array) = self.node.get_ref() else {
            self.wrong_kind("a list", format!("write {} = {example}", self.key));
            return None;
        };
        let entry = |(index, node): (usize, &'a Spanned<DeValue<'a>>)| {
            let place = self.place.entry(index);
            let subject = format!("an entry of {}", self.subject);
            Value {
                subject,
                ..Value::new(self.context, place, self.key, node.span(), node)
            }
        };
        Some(array.iter().enumerate().map(entry).collect())
    }

    /// A list of strings, none of them empty, no two the same.
    pub(super) fn texts(&self, example: &str) -> Option<Vec<(Value<'a>, String)>> {
        let mut texts: Vec<(Value<'a>, String)> = Vec::new();
        for entry in self.list(example)? {
            let Some(text) = entry.text() else { continue };
            if text.is_empty() {
                entry.error("is empty", "take it out");
            } else if let Some((first, _)) = texts.iter().find(|(_, other)| *other == text) {
                entry.error("stands there twice", "take one of them out");
                entry.also(first.span(), "first here");
            } else {
                texts.push((entry, text));
            }
        }
        Some(texts)
    }
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "a truth value",
        DeValue::Datetime(_) => "a time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
