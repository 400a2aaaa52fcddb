//! From the text to a tree with places, in TOML 1.0 and nothing newer.
//!
//! The parser goes on after an error, and so does this: where only values are wrong, the tree is still worth walking.

use std::cmp::Reverse;
use std::ops::Range;

use toml::de::{DeTable, DeValue};

use super::context::Context;
use super::newer::refuse_newer;
use super::problem::Severity;

/// More than any file written by people.
pub(super) const FILE_BYTES_MAX: usize = 1024 * 1024;

/// The tree of the text; `None` when it is so broken that looking further would only find follow-up errors.
pub(super) fn parse<'a>(context: &Context<'a>) -> Option<DeTable<'a>> {
    let text = context.text;
    if text.len() > FILE_BYTES_MAX {
        let hint = "a configuration is at most 1 MiB";
        context.report(Severity::Error, None, "", "the file is too large", hint);
        return None;
    }
    let (root, errors) = DeTable::parse_recoverable(text);
    let broken = report_faults(
        context,
        errors.iter().map(|error| {
            let end = text.len();
            (error.span().unwrap_or(end..end), error.message())
        }),
        root.get_ref(),
    );
    let root = root.into_inner();
    refuse_newer(context, &root);
    (!broken).then_some(root)
}

/// Reports what is not TOML. Whether the tree is not to be trusted for it.
fn report_faults<'e>(
    context: &Context<'_>,
    errors: impl Iterator<Item = (Range<usize>, &'e str)>,
    root: &DeTable<'_>,
) -> bool {
    let line_of = |at: usize| {
        let before = &context.text[..context.text.floor_char_boundary(at)];
        before.bytes().filter(|byte| *byte == b'\n').count()
    };
    let mut faults: Vec<_> = errors
        .map(|(span, message)| {
            let written = context.text.get(span.clone()).unwrap_or_default();
            (line_of(span.start), fault(message, written), span)
        })
        .collect();
    faults.sort_by_key(|(line, fault, span)| (*line, Reverse(fault.reach), span.start));
    // A parser that stumbled tends to stumble again at once: in each line, the first time tells most.
    faults.dedup_by(|(line, _, span), (line_before, before, span_before)| {
        line == line_before && (before.reach > Reach::Value || span == span_before)
    });
    if let Some(first) = faults
        .iter()
        .position(|(_, fault, _)| fault.reach == Reach::Rest)
    {
        faults.truncate(first + 1);
    }
    let breaks = |(_, fault, _): &(usize, Fault, Range<usize>)| fault.reach > Reach::Value;
    let broken = faults.iter().any(breaks);
    if broken {
        faults.truncate(BROKEN_LINES_MAX);
    }
    let last = faults.len().saturating_sub(1);
    for (index, (_, fault, span)) in faults.into_iter().enumerate() {
        let later = if broken && index == last { LATER } else { "" };
        let hint = format!("{}{later}", fault.hint);
        let again = fault.again;
        context.report(Severity::Error, Some(span.clone()), "", fault.message, hint);
        if let Some(first) = again.and_then(|key| only_before(root, &key, span.start)) {
            context.also(first, "first here");
        }
    }
    broken
}

/// How far a fault reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Reach {
    /// One value is wrong, and the tree around it is right.
    Value,
    /// One line is lost.
    Line,
    /// From here on nothing is certain.
    Rest,
}

struct Fault {
    message: String,
    hint: String,
    reach: Reach,
    /// The key that stands there again.
    again: Option<String>,
}

/// What word processors and chat programs make of quotes.
const TYPOGRAPHIC: [char; 7] = ['“', '”', '„', '‘', '’', '«', '»'];
const BROKEN_LINES_MAX: usize = 10;
const LATER: &str = ";\nthe rest of the file is looked at once this is mended";
const CLOSE: &str = "close it on the same line";
const NUMBER: &str = "write a number in plain digits; what is a text goes in quotes";
const TIME: &str = "write it like 2026-01-31T08:00:00Z";
const ESCAPES: &str =
    "in double quotes write a backslash twice; in single quotes it stands for itself: '\\d+'";

/// What the parser says by how it begins, and the same in the words of this program.
const FAULTS: &[(&str, &str, &str, Reach)] = &[
    (
        "duplicate key",
        "it stands here for the second time",
        "keep one of them",
        Reach::Value,
    ),
    (
        "cannot extend",
        "this is a value already and cannot be a section too",
        "keep one of them",
        Reach::Value,
    ),
    (
        "string values must be quoted",
        "a text without quotes",
        "put it in double quotes",
        Reach::Value,
    ),
    (
        "invalid boolean",
        "neither true nor false",
        "write true or false in small letters",
        Reach::Value,
    ),
    (
        "missing escaped value",
        "a backslash that begins no escape",
        ESCAPES,
        Reach::Value,
    ),
    (
        "too few unicode",
        "a backslash that begins no escape",
        ESCAPES,
        Reach::Value,
    ),
    (
        "invalid basic string, expected `\"`",
        "a string without its closing quote",
        CLOSE,
        Reach::Line,
    ),
    (
        "invalid literal string, expected `'`",
        "a string without its closing quote",
        CLOSE,
        Reach::Line,
    ),
    ("invalid float", "not a number", NUMBER, Reach::Value),
    ("invalid hexadecimal", "not a number", NUMBER, Reach::Value),
    ("invalid octal", "not a number", NUMBER, Reach::Value),
    ("invalid binary", "not a number", NUMBER, Reach::Value),
    ("invalid mantissa", "not a number", NUMBER, Reach::Value),
    ("invalid integer", "not a number", NUMBER, Reach::Value),
    (
        "unexpected leading zero",
        "not a number",
        NUMBER,
        Reach::Value,
    ),
    ("`_` may only go", "not a number", NUMBER, Reach::Value),
    ("invalid date", "not a date", TIME, Reach::Value),
    ("invalid time", "not a time", TIME, Reach::Value),
    (
        "key with no value",
        "a key without a value",
        "write key = value; a section is [name]",
        Reach::Line,
    ),
    ("extra `=`", "one `=` too many", "take it out", Reach::Line),
    (
        "unexpected key or value",
        "something stands behind the value",
        "begin a new line here",
        Reach::Line,
    ),
    (
        "unclosed table",
        "a section without its closing bracket",
        CLOSE,
        Reach::Line,
    ),
    (
        "unclosed array table",
        "a section without its closing brackets",
        CLOSE,
        Reach::Line,
    ),
    (
        "invalid unquoted key",
        "a character that cannot stand in a key",
        "a key is letters, digits, dashes and underscores, then `=`; any other goes in quotes",
        Reach::Line,
    ),
    (
        "unquoted keys cannot be empty",
        "a value without a key",
        "write key = value",
        Reach::Line,
    ),
    (
        "missing comma",
        "a comma is missing here, or the bracket that ends the list",
        "look at the end of the line before",
        Reach::Rest,
    ),
    (
        "unclosed array",
        "a list without its closing bracket",
        "write the ]",
        Reach::Rest,
    ),
    (
        "unclosed inline table",
        "a { without its }",
        CLOSE,
        Reach::Rest,
    ),
    (
        "extra comma",
        "a comma with nothing before it",
        "take it out",
        Reach::Rest,
    ),
];

/// What the parser says about `written`, in the words of this program.
fn fault(message: &str, written: &str) -> Fault {
    let known = FAULTS
        .iter()
        .find(|(begins, ..)| message.starts_with(begins));
    let Some((begins, message, hint, reach)) = known else {
        return Fault {
            message: format!("not TOML: {message}"),
            hint: "compare it with config.example.toml".to_owned(),
            reach: Reach::Rest,
            again: None,
        };
    };
    let again = (*begins == "duplicate key").then(|| written.trim_matches(['"', '\'']).to_owned());
    let (message, hint) = match &again {
        Some(key) => (format!("`{key}` stands here for the second time"), *hint),
        None if written.starts_with(TYPOGRAPHIC) => (
            "typographic quotes, which mean nothing in TOML".to_owned(),
            "write straight ones: \" or '",
        ),
        None => ((*message).to_owned(), *hint),
    };
    Fault {
        message,
        hint: hint.to_owned(),
        reach: *reach,
        again,
    }
}

/// Where `key` stands before `at`, when there is just one such place: then that is the first of the two. With more of them, which one it
/// is would be a guess.
fn only_before(table: &DeTable<'_>, key: &str, at: usize) -> Option<Range<usize>> {
    let mut places = Vec::new();
    collect(table, key, &mut places);
    // A section that stands there again takes the place of the first one.
    if places.iter().any(|place| place.start == at) {
        return None;
    }
    places.retain(|place| place.start < at);
    match places.as_slice() {
        [only] => Some(only.clone()),
        _ => None,
    }
}

fn collect(table: &DeTable<'_>, key: &str, places: &mut Vec<Range<usize>>) {
    for (name, value) in table {
        if name.get_ref() == key {
            places.push(name.span());
        }
        collect_in(value.get_ref(), key, places);
    }
}

fn collect_in(value: &DeValue<'_>, key: &str, places: &mut Vec<Range<usize>>) {
    if let Some(table) = value.as_table() {
        collect(table, key, places);
    }
    for entry in value.as_array().into_iter().flatten() {
        collect_in(entry.get_ref(), key, places);
    }
}
