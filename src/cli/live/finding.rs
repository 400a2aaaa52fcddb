//! What was found, and how it is shown.

use serde::Serialize;

use crate::cli::{exit, look};

/// How it stands with one thing; the worse, the further down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum State {
    /// As it should be.
    Ok,
    /// It works, and one day it may not.
    Warning,
    /// It was reached, and does not do.
    Wrong,
    /// It could not be reached.
    Unreachable,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    /// What: `topic owner`.
    pub(super) about: String,
    pub(super) state: State,
    /// How it stands, and what to do about it.
    pub(super) text: String,
}

/// All of them, in the order in which they were found.
#[derive(Debug, Default, Serialize)]
pub(super) struct Findings {
    pub(super) findings: Vec<Finding>,
    /// The commands that give the rights that are missing.
    pub(super) grant: Vec<String>,
}

impl Findings {
    pub(super) fn add(&mut self, state: State, about: impl Into<String>, text: impl Into<String>) {
        let (about, text) = (about.into(), text.into());
        self.findings.push(Finding { about, state, text });
    }

    fn worst(&self) -> State {
        let states = self.findings.iter().map(|finding| finding.state);
        states.max().unwrap_or(State::Ok)
    }

    pub(super) fn exit_code(&self) -> u8 {
        match self.worst() {
            State::Ok | State::Warning => exit::OK,
            State::Wrong => exit::NO,
            State::Unreachable => exit::UNAVAILABLE,
        }
    }

    /// For programs.
    pub(super) fn json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default() + "\n"
    }

    /// For people: a row for each, as wide as the terminal is.
    pub(super) fn table(&self, width: usize, colours: bool) -> String {
        let longest = self.findings.iter().map(|f| f.about.chars().count()).max();
        let column = longest.unwrap_or(0).min(32);
        // Beside such a column, a narrow terminal has no room for sentences.
        let beside = width >= column + 11 + 30;
        let indent = if beside { column + 11 } else { 4 };
        let mut table = String::new();
        for Finding { about, state, text } in &self.findings {
            let pad = 7_usize.saturating_sub(state.word().len());
            let word = state.shown(colours);
            table.push_str(&format!("{word}{:pad$}  ", ""));
            let mut lines = look::wrap(text, width.saturating_sub(indent).max(20)).into_iter();
            if beside && about.chars().count() <= column {
                let first = lines.next().unwrap_or_default();
                table.push_str(&format!("{about:column$}  {first}"));
            } else {
                table.push_str(about);
            }
            table.push('\n');
            for line in lines {
                table.push_str(&format!("{:indent$}{line}\n", ""));
            }
        }
        if !self.grant.is_empty() {
            table.push_str("\nThe rights that are missing are granted with:\n");
            for command in &self.grant {
                table.push_str(&format!("  {command}\n"));
            }
        }
        table
    }
}

impl State {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Wrong => "wrong",
            Self::Unreachable => "away",
        }
    }

    fn shown(self, colours: bool) -> String {
        let colour = match self {
            Self::Ok => 32,
            Self::Warning => 33,
            Self::Wrong | Self::Unreachable => 31,
        };
        let word = self.word();
        if colours {
            format!("\x1b[{colour}m{word}\x1b[0m")
        } else {
            word.to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two() -> Findings {
        let mut findings = Findings::default();
        findings.add(State::Ok, "kafka", "1 broker answers");
        findings.add(
            State::Wrong,
            "topic a",
            "there is no such topic on this cluster",
        );
        findings
    }

    #[test]
    fn a_row_for_each_where_there_is_room() {
        let table = two().table(usize::MAX, false);
        let wanted = "ok       kafka    1 broker answers\n\
                      wrong    topic a  there is no such topic on this cluster\n";
        assert_eq!(table, wanted);
        assert!(
            two()
                .table(80, true)
                .starts_with("\x1b[32mok\x1b[0m       kafka")
        );
    }

    #[test]
    fn a_narrow_terminal_has_the_words_below() {
        let wanted = "ok       kafka\n    1 broker answers\n\
                      wrong    topic a\n    there is no such\n    topic on this\n    cluster\n";
        assert_eq!(two().table(24, false), wanted);
    }

    #[test]
    fn the_worst_decides() {
        let mut findings = two();
        assert_eq!(findings.exit_code(), exit::NO);
        findings.add(State::Unreachable, "b", "");
        assert_eq!(findings.exit_code(), exit::UNAVAILABLE);
        assert_eq!(Findings::default().exit_code(), exit::OK);
    }
}
