//! Problems for people, in the look of a compiler.

use std::ops::Range;

use annotate_snippets::renderer::Renderer;
use annotate_snippets::{AnnotationKind, Group, Level, Origin, Snippet};

use super::problem::{Problem, Severity};

/// Longer lines of the file are cut around what is underlined.
const WIDTH: usize = 100;

/// `list` as text, each with its line of `text` underlined.
pub(super) fn render(file: &str, text: &str, list: &[Problem], colour: bool) -> String {
    let renderer = if colour {
        Renderer::styled()
    } else {
        Renderer::plain()
    };
    let renderer = renderer.term_width(WIDTH);
    let mut page = String::new();
    for problem in list {
        for line in renderer.render(&[group(file, text, problem)]).lines() {
            page.push_str(line.trim_end());
            page.push('\n');
        }
        page.push('\n');
    }
    page.push_str(&summary(file, list));
    page
}

fn group<'a>(file: &'a str, text: &'a str, problem: &'a Problem) -> Group<'a> {
    let level = match problem.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let group = level.primary_title(problem.message.as_str());
    let group = match &problem.span {
        Some(span) => group.element(snippet(file, text, span, problem)),
        None => group.element(Origin::path(file)),
    };
    group.element(Level::HELP.message(problem.hint.as_str()))
}

/// The lines from the first place to the last one, and no more: a file is cut once per problem, not once per line.
fn snippet<'a>(
    file: &'a str,
    text: &'a str,
    span: &Range<usize>,
    problem: &'a Problem,
) -> Snippet<'a, annotate_snippets::Annotation<'a>> {
    let span = within_line(text, span);
    let also = problem
        .also
        .as_ref()
        .map(|(place, label)| (within_line(text, place), label));
    let first = also
        .as_ref()
        .map_or(span.start, |(place, _)| place.start.min(span.start));
    let last = also
        .as_ref()
        .map_or(span.end, |(place, _)| place.end.max(span.end));
    let from = text[..first].rfind('\n').map_or(0, |newline| newline + 1);
    let to = text[last..]
        .find('\n')
        .map_or(text.len(), |newline| last + newline);
    let line = text[..from].bytes().filter(|byte| *byte == b'\n').count() + 1;
    let shift = |place: Range<usize>| place.start - from..place.end - from;
    let snippet = Snippet::source(&text[from..to]).path(file).line_start(line);
    let snippet = snippet.annotation(AnnotationKind::Primary.span(shift(span)));
    match also {
        Some((place, label)) => snippet.annotation(
            AnnotationKind::Context
                .span(shift(place))
                .label(label.as_str()),
        ),
        None => snippet,
    }
}

/// `span` cut to the line it begins in, on whole characters.
fn within_line(text: &str, span: &Range<usize>) -> Range<usize> {
    let start = text.floor_char_boundary(span.start);
    let line_end = text[start..]
        .find('\n')
        .map_or(text.len(), |newline| start + newline);
    let end = text.ceil_char_boundary(span.end).min(line_end);
    start..end.max(start)
}

fn summary(file: &str, list: &[Problem]) -> String {
    let count = |severity, word: &str| {
        let number = list
            .iter()
            .filter(|problem| problem.severity == severity)
            .count();
        match number {
            0 => None,
            1 => Some(format!("1 {word}")),
            _ => Some(format!("{number} {word}s")),
        }
    };
    let counts = [
        count(Severity::Error, "error"),
        count(Severity::Warning, "warning"),
    ];
    let counts: Vec<String> = counts.into_iter().flatten().collect();
    if counts.is_empty() {
        return format!("{file}: no problems\n");
    }
    format!("{file}: {}\n", counts.join(", "))
}
