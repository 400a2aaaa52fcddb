//! What is shown of a dead letter: a line of the table, or an object of JSON.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use crate::clock::Timestamp;
use crate::kafka::Letter;
use crate::lane::Shed;

use super::Desk;
use super::reading::{Fate, Found};

/// The longest error in a table; `show` has all of it.
const ERROR_WIDTH: usize = 60;
/// The longest key in a table.
const KEY_WIDTH: usize = 24;

/// What machines are told of a dead letter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Row {
    pub(super) id: String,
    /// `open`, `replayed` or `copy`.
    pub(super) state: &'static str,
    pub(super) destination: String,
    pub(super) rule: Option<String>,
    pub(super) reason: String,
    pub(super) status: Option<u16>,
    pub(super) error: String,
    pub(super) attempts: u32,
    /// Replays before it died.
    pub(super) round: u32,
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
    pub(super) key: Option<String>,
    pub(super) written: Option<String>,
    pub(super) first_attempt: Option<String>,
    pub(super) last_attempt: Option<String>,
    /// The record's place in its first topic.
    pub(super) topic: String,
    pub(super) partition: i32,
    pub(super) offset: i64,
    pub(super) timestamp: Option<String>,
    /// What was left out of it.
    pub(super) shed: Option<&'static str>,
    pub(super) dead_letter: Place,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) replayed: Option<Replayed>,
}

/// Its place in the topic of dead letters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Place {
    pub(super) partition: i32,
    pub(super) offset: i64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Replayed {
    pub(super) at: String,
    pub(super) by: String,
}

impl Row {
    pub(super) fn new(found: &Found, desk: &Desk) -> Self {
        let Found { letter, fate, kind } = found;
        let Letter { record, .. } = &**letter;
        let (state, replayed) = match fate {
            Fate::Open => ("open", None),
            Fate::Copy => ("copy", None),
            Fate::Replayed(mark) => (
                "replayed",
                Some(Replayed {
                    at: time(Timestamp(mark.at)),
                    by: mark.who.clone(),
                }),
            ),
        };
        Self {
            id: letter.id.to_string(),
            state,
            destination: desk.name(&letter.destination).to_owned(),
            rule: letter.rule.clone(),
            reason: letter.reason.clone(),
            status: letter.status,
            error: letter.error.clone(),
            attempts: letter.attempts,
            round: letter.round,
            kind: kind.clone(),
            key: record.key.as_deref().map(text),
            written: letter.written.map(time),
            first_attempt: letter.first_attempt.map(time),
            last_attempt: letter.last_attempt.map(time),
            topic: record.topic.to_string(),
            partition: record.partition,
            offset: record.offset,
            timestamp: record.timestamp.map(time),
            shed: shed(letter.shed),
            dead_letter: Place {
                partition: letter.partition,
                offset: letter.offset,
            },
            replayed,
        }
    }

    /// The columns of the table, but for the state.
    fn columns(&self) -> [String; 8] {
        let time = self.written.as_deref().unwrap_or("-");
        let status = self.status.map(|status| status.to_string());
        [
            time.get(..19).unwrap_or(time).to_owned(),
            self.id.clone(),
            self.destination.clone(),
            self.reason.clone(),
            status.unwrap_or_else(|| "-".to_owned()),
            format!("{} {} {}", self.topic, self.partition, self.offset),
            cut(self.key.as_deref().unwrap_or("-"), KEY_WIDTH),
            cut(&self.error, ERROR_WIDTH),
        ]
        .map(|column| plain(&column))
    }
}

pub(super) fn shed(shed: Shed) -> Option<&'static str> {
    match shed {
        Shed::Nothing => None,
        Shed::Excerpt => Some("excerpt"),
        Shed::Value => Some("value"),
        Shed::Record => Some("record"),
    }
}

/// A table of these, with their states where not all are open.
pub(super) fn table(rows: &[Row], states: bool) -> String {
    let head = [
        "WRITTEN (UTC)",
        "ID",
        "DESTINATION",
        "REASON",
        "STATUS",
        "RECORD",
        "KEY",
        "ERROR",
    ];
    let mut lines = vec![("STATE", head.map(str::to_owned))];
    lines.extend(rows.iter().map(|row| (row.state, row.columns())));
    let mut text = String::new();
    let widths: [usize; 8] = std::array::from_fn(|column| {
        let widths = lines.iter().map(|(_, row)| row[column].chars().count());
        widths.max().unwrap_or(0)
    });
    for (state, row) in &lines {
        let mut line = String::new();
        for (column, width) in row.iter().zip(widths) {
            line.push_str(&format!("{column:width$}  "));
            if states && column == &row[3] {
                line.push_str(&format!("{state:8}  "));
            }
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// The first characters, and a sign that there are more.
pub(super) fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width - 1).chain(['…']).collect()
}

/// Text that does nothing to a terminal: what a record holds, anybody may have written.
pub(super) fn plain(text: &str) -> String {
    let one = |c: char| match c {
        c if c.is_control() || is_direction(c) => c.escape_unicode().to_string(),
        c => c.to_string(),
    };
    text.chars().map(one).collect()
}

/// Whether a character turns the ones around it.
fn is_direction(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Bytes as text where they are text; else in base64, and said so.
pub(super) fn text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => format!("base64:{}", STANDARD.encode(bytes)),
    }
}

/// As RFC 3339 has it, in UTC.
pub(super) fn time(time: Timestamp) -> String {
    let known = jiff::Timestamp::from_millisecond(time.0);
    known.map_or_else(|_| time.0.to_string(), |time| format!("{time:.3}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: &str, state: &'static str, error: &str) -> Row {
        Row {
            id: id.to_owned(),
            state,
            destination: "hook".to_owned(),
            rule: None,
            reason: "rejected".to_owned(),
            status: Some(422),
            error: error.to_owned(),
            attempts: 1,
            round: 0,
            kind: None,
            key: Some("k".repeat(30)),
            written: Some(time(Timestamp(1_700_000_000_123))),
            first_attempt: None,
            last_attempt: None,
            topic: "in".to_owned(),
            partition: 2,
            offset: 7,
            timestamp: None,
            shed: None,
            dead_letter: Place {
                partition: 0,
                offset: 1,
            },
            replayed: None,
        }
    }

    #[test]
    fn a_table_lines_up_and_does_nothing_to_the_terminal() {
        let rows = [
            row("msg_1", "open", "\x1b[2Jgone"),
            row("msg_22", "replayed", "no"),
        ];
        let shown = table(&rows, true);
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(
            lines[1],
            "2023-11-14T22:13:20  msg_1   hook         rejected  open      422     in 2 7  kkkkkkkkkkkkkkkkkkkkkkk…  \\u{1b}[2Jgone"
        );
        assert_eq!(lines[0].find("REASON"), lines[2].find("rejected"));
        assert_eq!(lines[0].find("STATE "), lines[2].find("replayed"));
        assert!(!table(&rows, false).contains("STATE "));
    }

    #[test]
    fn what_is_no_text_is_shown_in_base64() {
        assert_eq!(text("größe".as_bytes()), "größe");
        assert_eq!(text(b"\xff\xfe"), "base64://4=");
        assert_eq!(plain("a\u{202e}b\tc"), "a\\u{202e}b\\u{9}c");
        assert_eq!(cut("größer", 5), "größ…");
    }
}
