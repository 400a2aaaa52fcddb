//! What is wrong with the file: every problem, with its place.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use serde::Serialize;

use super::mask::mask;
use super::render;

/// How much a problem matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The file cannot be used.
    Error,
    /// Legal, and probably not what was meant.
    Warning,
}

/// One thing that is wrong with the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// How much it matters.
    pub severity: Severity,
    /// The file, as it was named.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// The key it is about, like `destinations.shop.webhook.url`; empty when it is about the whole file.
    pub key: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: String,
    /// What to underline, in bytes of the file; `None` when the place is the file as a whole.
    #[serde(skip)]
    pub(super) span: Option<Range<usize>>,
    /// A second place that belongs to it, and what is there.
    #[serde(skip)]
    pub(super) also: Option<(Range<usize>, String)>,
}

/// Everything that is wrong with one file, in the order of the file.
#[derive(Clone, PartialEq, Eq)]
pub struct Problems {
    file: Arc<str>,
    /// The file with its secrets blotted out; what is underlined is taken from here.
    text: Arc<str>,
    list: Vec<Problem>,
}

impl Problems {
    pub(super) fn new(file: &str, text: &str, mut list: Vec<Problem>) -> Self {
        for problem in &mut list {
            let start = problem.span.as_ref().map_or(0, |span| span.start);
            (problem.line, problem.column) = position(text, start);
        }
        list.sort_by_key(|problem| (problem.span.is_none(), problem.line, problem.column));
        Self {
            file: Arc::from(file),
            // A line's end is not worth a sign of its own; the length stays.
            text: Arc::from(mask(text).replace("\r\n", " \n")),
            list,
        }
    }

    /// Each of them.
    #[must_use]
    pub fn list(&self) -> &[Problem] {
        &self.list
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// How many of them are errors.
    #[must_use]
    pub fn errors(&self) -> usize {
        self.count(Severity::Error)
    }

    /// How many of them are warnings.
    #[must_use]
    pub fn warnings(&self) -> usize {
        self.count(Severity::Warning)
    }

    fn count(&self, severity: Severity) -> usize {
        self.list
            .iter()
            .filter(|problem| problem.severity == severity)
            .count()
    }

    /// All of them for people: the line, underlined, and the hint; then how many there are.
    #[must_use]
    pub fn render(&self, colour: bool) -> String {
        render::render(&self.file, &self.text, &self.list, colour)
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl fmt::Debug for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.list).finish()
    }
}

impl std::error::Error for Problems {}

/// Line and column of the byte at `offset`, both from 1, the column in characters.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = &text[..text.floor_char_boundary(offset)];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
    (line, before[line_start..].chars().count() + 1)
}
