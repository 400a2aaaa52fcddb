//! From the text to a tree with places, in TOML 1.0 and nothing newer.
//!
//! The `toml` crate also takes TOML 1.1, which editors and other readers of the file refuse. What is newer is found by looking at how
//! each value was written.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::Severity;
use super::reader::Context;

/// More than any file written by people.
const FILE_BYTES_MAX: usize = 1024 * 1024;

/// The tree of the text; `None` when it is so broken that looking further would only find follow-up errors.
pub(super) fn parse<'a>(context: &Context<'a>) -> Option<DeTable<'a>> {
    let text = context.text;
    if text.len() > FILE_BYTES_MAX {
        let hint = "a configuration is at most 1 MiB";
        context.report(Severity::Error, None, "", "the file is too large", hint);
        return None;
    }
    let (root, errors) = DeTable::parse_recoverable(text);
    let mut broken = false;
    let mut last_line = None;
    for error in &errors {
        let Fault {
            message,
            hint,
            local,
        } = fault(error.message());
        let span = error.span().unwrap_or(text.len()..text.len());
        broken |= !local;
        // A parser that lost its way tends to stumble again at once: the first time tells most.
        let line = text[..text.floor_char_boundary(span.start)]
            .matches('\n')
            .count();
        if last_line != Some(line) {
            context.report(Severity::Error, Some(span), "", message, hint);
        }
        last_line = Some(line);
    }
    let root = root.into_inner();
    refuse_newer(context, &root);
    (!broken).then_some(root)
}

struct Fault {
    message: String,
    hint: String,
    /// Whether the rest of the file can still be read.
    local: bool,
}

/// What the parser says, in the words of this program.
fn fault(message: &str) -> Fault {
    let fault = |message: &str, hint: &str, local| Fault {
        message: message.to_owned(),
        hint: hint.to_owned(),
        local,
    };
    if message.starts_with("duplicate key") {
        return fault("the same key stands here twice", "keep one of them", true);
    }
    if message.starts_with("string values must be quoted") {
        return fault("a text without quotes", "put it in double quotes", true);
    }
    if message.starts_with("key with no value") {
        return fault(
            "a key without a value",
            "write key = value; a section is [name]",
            false,
        );
    }
    if message.starts_with("missing comma") {
        return fault(
            "a comma is missing here",
            "put one between two entries",
            false,
        );
    }
    if message.starts_with("unclosed") || message.contains("expected `]`") {
        return fault(
            &format!("not TOML: {message}"),
            "close it on the same line",
            false,
        );
    }
    fault(
        &format!("not TOML: {message}"),
        "the rest is looked at once this is mended",
        false,
    )
}

fn refuse(context: &Context<'_>, span: Range<usize>, what: &str, hint: &str) {
    let message = format!("{what} is newer than TOML 1.0, which this file is written in");
    context.report(Severity::Error, Some(span), "", message, hint);
}

fn refuse_newer(context: &Context<'_>, table: &DeTable<'_>) {
    for (key, value) in table {
        refuse_escapes(context, key.span());
        refuse_newer_value(context, value);
    }
}

fn refuse_newer_value(context: &Context<'_>, value: &Spanned<DeValue<'_>>) {
    match value.get_ref() {
        DeValue::String(_) => refuse_escapes(context, value.span()),
        DeValue::Datetime(time) => {
            let written = context.text.get(value.span()).unwrap_or_default();
            if time.time.is_some() && written.matches(':').count() - offset_colons(written) < 2 {
                refuse(
                    context,
                    value.span(),
                    "a time without seconds",
                    "add the seconds: 07:32:00",
                );
            }
        }
        DeValue::Array(entries) => entries
            .iter()
            .for_each(|entry| refuse_newer_value(context, entry)),
        DeValue::Table(table) => {
            if context
                .text
                .get(value.span())
                .is_some_and(|text| text.starts_with('{'))
            {
                refuse_loose_inline(context, value.span(), table);
            }
            refuse_newer(context, table);
        }
        DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) => {}
    }
}

/// The colons in the offset of a time: `+01:00` has one.
fn offset_colons(written: &str) -> usize {
    let time = written
        .split_once(['T', 't', ' '])
        .map_or(written, |(_, time)| time);
    time.find(['+', '-'])
        .map_or(0, |at| time[at..].matches(':').count())
}

/// `\e` and `\xHH` in the string or the quoted key at `span`.
fn refuse_escapes(context: &Context<'_>, span: Range<usize>) {
    let written = context.text.get(span.clone()).unwrap_or_default();
    if !written.starts_with('"') {
        return;
    }
    let mut characters = written.char_indices();
    while let Some((at, character)) = characters.next() {
        if character != '\\' {
            continue;
        }
        if let Some((_, 'e' | 'x')) = characters.next() {
            let place = span.start + at..span.start + at + 2;
            refuse(
                context,
                place,
                "this escape",
                "write it as \\u and four hexadecimal digits",
            );
        }
    }
}

/// An inline table over several lines, or with a comma behind its last entry: what stands between its values shows it.
fn refuse_loose_inline(context: &Context<'_>, span: Range<usize>, table: &DeTable<'_>) {
    let mut leaves = Vec::new();
    collect_leaves(context.text, table, &mut leaves);
    leaves.sort_by_key(|leaf| leaf.start);
    let ends = leaves.iter().map(|leaf| leaf.end);
    let starts = leaves.iter().map(|leaf| leaf.start);
    let gaps = std::iter::once(span.start)
        .chain(ends)
        .zip(starts.chain([span.end]));
    let gaps: Vec<&str> = gaps
        .map(|(from, to)| context.text.get(from..to).unwrap_or_default())
        .collect();
    let begin = span.start..span.start + 1;
    if gaps.iter().any(|gap| gap.contains('\n')) {
        let hint = "write it on one line, or as a section of its own: [name]";
        refuse(context, begin, "a { … } over several lines", hint);
    } else if !leaves.is_empty() && gaps.last().is_some_and(|gap| gap.contains(',')) {
        refuse(
            context,
            begin,
            "a comma before the closing }",
            "take out the last comma",
        );
    }
}

/// The places of the values in an inline table, through its dotted keys.
fn collect_leaves(text: &str, table: &DeTable<'_>, leaves: &mut Vec<Range<usize>>) {
    for value in table.values() {
        match value.get_ref() {
            // The span of a dotted table is its key, not a value.
            DeValue::Table(inner) if !text[value.span()].starts_with('{') => {
                collect_leaves(text, inner, leaves);
            }
            _ => leaves.push(value.span()),
        }
    }
}
