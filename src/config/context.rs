//! What the reading of one file shares: where things come from, what was found wrong, and which keys were asked for.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::ops::Range;
use std::path::Path;

use super::problem::{Problem, Problems, Severity};
use super::sources::Source;

/// Nobody reads further.
const PROBLEMS_MAX: usize = 1000;

/// What the reading of one file shares: where things come from, and what was found wrong.
pub(super) struct Context<'a> {
    pub(super) origin: &'a Path,
    pub(super) text: &'a str,
    pub(super) environment: &'a dyn Fn(&str) -> Option<String>,
    problems: RefCell<Vec<Problem>>,
    known: RefCell<BTreeSet<String>>,
    sources: RefCell<Vec<Source>>,
    /// Whether the last report was left out.
    left_out: Cell<bool>,
}

impl<'a> Context<'a> {
    pub(super) fn new(
        origin: &'a Path,
        text: &'a str,
        environment: &'a dyn Fn(&str) -> Option<String>,
    ) -> Self {
        let (problems, known, left_out) = (RefCell::default(), RefCell::default(), Cell::default());
        Self {
            origin,
            text,
            environment,
            problems,
            known,
            sources: RefCell::default(),
            left_out,
        }
    }

    /// Another file is about to be read.
    pub(super) fn reads(&self, path: &Path) {
        self.sources.borrow_mut().push(Source::of(path));
    }

    /// The other files that were read, as they were before.
    pub(super) fn sources(&self) -> Vec<Source> {
        self.sources.borrow().clone()
    }

    /// Writes down what is wrong at `span`; `None` is the file as a whole. What is not even TOML is not judged
    /// further.
    pub(super) fn report(
        &self,
        severity: Severity,
        span: Option<Range<usize>>,
        key: &str,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        let no_toml = |problem: &Problem| {
            let (Some(span), Some(other)) = (&span, &problem.span) else {
                return false;
            };
            problem.key.is_empty() && span.start <= other.end && other.start <= span.end
        };
        let left_out = !key.is_empty() && self.problems.borrow().iter().any(no_toml);
        let left_out = left_out || self.problems.borrow().len() >= PROBLEMS_MAX;
        self.left_out.set(left_out);
        if left_out {
            return;
        }
        self.problems.borrow_mut().push(Problem {
            severity,
            file: self.origin.to_string_lossy().into_owned(),
            line: 1,
            column: 1,
            key: key.to_owned(),
            message: message.into(),
            hint: hint.into(),
            span,
            also: None,
        });
    }

    /// Adds a second place to what was reported last.
    pub(super) fn also(&self, span: Range<usize>, label: &str) {
        if self.left_out.get() {
            return;
        }
        if let Some(problem) = self.problems.borrow_mut().last_mut() {
            problem.also = Some((span, label.to_owned()));
        }
    }

    /// Whether something is wrong so far that makes the file unusable.
    pub(super) fn failed(&self) -> bool {
        self.problems
            .borrow()
            .iter()
            .any(|problem| problem.severity == Severity::Error)
    }

    /// Whether a section of the file is unknown or not readable at all, so that what seems to be missing may stand there.
    pub(super) fn complained_at_top(&self) -> bool {
        let top = |problem: &Problem| {
            problem.span.is_some() && !problem.key.is_empty() && !problem.key.contains(['.', '['])
        };
        self.problems.borrow().iter().any(top)
    }

    /// What was found wrong, and the keys that were asked for.
    pub(super) fn finish(self) -> (Problems, BTreeSet<String>) {
        let origin = self.origin.to_string_lossy();
        (
            Problems::new(&origin, self.text, self.problems.into_inner()),
            self.known.into_inner(),
        )
    }

    /// Remembers that the key `pattern` can stand in a file.
    pub(super) fn know(&self, pattern: &str) {
        if !self.known.borrow().contains(pattern) {
            self.known.borrow_mut().insert(pattern.to_owned());
        }
    }
}
