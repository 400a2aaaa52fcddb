//! What is newer than TOML 1.0 in a file that the parser took.
//!
//! The `toml` crate also takes TOML 1.1, which editors and other readers of the file refuse. It shows in how a value was written, not in
//! what it is, so the text at its place is looked at.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::context::Context;
use super::problem::Severity;

fn refuse(context: &Context<'_>, span: Range<usize>, what: &str, hint: &str) {
    let message = format!("{what} is newer than TOML 1.0, which this file is written in");
    context.report(Severity::Error, Some(span), "", message, hint);
}

/// Reports everything in `table` that only TOML 1.1 knows.
pub(super) fn refuse_newer(context: &Context<'_>, table: &DeTable<'_>) {
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
        // The parser takes letters behind a number with underscores: 1_000d.
        DeValue::Integer(number) => {
            let digits = number.as_str().trim_start_matches(['+', '-']);
            if !digits.chars().all(|c| c.is_digit(number.radix())) {
                let hint = "write a number in plain digits; what is a text goes in quotes";
                let span = Some(value.span());
                context.report(Severity::Error, span, "", "not a number", hint);
            }
        }
        DeValue::Float(_) | DeValue::Boolean(_) => {}
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
        // The span of a dotted table is its key, not a value.
        let dotted = value
            .get_ref()
            .as_table()
            .filter(|_| !text[value.span()].starts_with('{'));
        match dotted {
            Some(inner) => collect_leaves(text, inner, leaves),
            None => leaves.push(value.span()),
        }
    }
}
