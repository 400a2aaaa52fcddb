//! `dead-letters show`: everything that is known of one.

use serde::Serialize;

use super::super::common::Format;
use super::super::output::complain;
use super::super::{exit, say};
use super::filter::FilterArguments;
use super::reading::{Found, read};
use super::row::{Row, plain, text};
use super::{Desk, Failure, usage};

/// So much of a value is shown to people.
const VALUE_CHARACTERS: usize = 4096;
/// What every id begins with.
const PREFIX: &str = "msg_";

/// Show one dead letter.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  postrider dead-letters show msg_2f6c1c6d0a4be2b0f7f6bd0a3f3b1c55
  postrider dead-letters show 2f6c                                  its beginning is enough
  postrider dead-letters show msg_2f6c --format json | jq -r .value")]
pub(super) struct ShowArguments {
    /// Its id, as `list` shows it and the receiver saw it, or the beginning of it.
    id: String,
}

/// All of it, for machines.
#[derive(Debug, Serialize)]
struct Whole {
    #[serde(flatten)]
    row: Row,
    cluster: String,
    /// What the receiver answered.
    excerpt: String,
    headers: Vec<(String, Option<String>)>,
    value: Option<String>,
}

impl Whole {
    fn new(found: &Found, desk: &Desk) -> Self {
        let record = &found.letter.record;
        let headers = record.headers.iter();
        Self {
            row: Row::new(found, desk),
            cluster: found.letter.cluster_id.clone(),
            excerpt: text(&found.letter.excerpt),
            headers: headers
                .map(|header| (text(&header.name), header.value.as_deref().map(text)))
                .collect(),
            value: record.value.as_deref().map(text),
        }
    }
}

pub(super) fn show(desk: &Desk, arguments: &ShowArguments) -> Result<u8, Failure> {
    let wanted = arguments.id.strip_prefix(PREFIX).unwrap_or(&arguments.id);
    let is_hex = wanted.bytes().all(|b| b.is_ascii_hexdigit());
    if wanted.is_empty() || !is_hex {
        return Err(usage(
            "this is no id: `postrider dead-letters list` shows them, they begin with msg_",
        ));
    }
    let wanted = format!("{PREFIX}{}", wanted.to_ascii_lowercase());
    desk.reach()?;
    let marks = desk.letters.marks()?;
    let mut found = Vec::new();
    let filter = FilterArguments::default();
    read(desk, &filter, &marks, None, &mut |one| {
        if one.letter.id.to_string().starts_with(&wanted) {
            found.push(Whole::new(&one, desk));
        }
    })?;
    found.sort_by(|a, b| (&a.row.id, a.row.round).cmp(&(&b.row.id, b.row.round)));
    let (Some(first), Some(last)) = (found.first(), found.last()) else {
        complain(&format!(
            "error: no dead letter has an id that begins with {wanted}"
        ));
        return Ok(exit::NO);
    };
    if first.row.id != last.row.id {
        let (a, b) = (&first.row.id, &last.row.id);
        return Err(usage(&format!("several ids begin so, such as {a} and {b}")));
    }
    for whole in &found {
        match desk.format {
            Format::Json => say(&(serde_json::to_string(whole).unwrap_or_default() + "\n")),
            Format::Human => say(&shown(whole)),
        }
    }
    Ok(exit::OK)
}

fn shown(whole: &Whole) -> String {
    let Whole { row, .. } = whole;
    let mut page = String::new();
    let mut line = |name: &str, value: Option<&str>| {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            page.push_str(&format!("{name:14}{}\n", plain(value)));
        }
    };
    let status = row.status.map(|status| status.to_string());
    let place = format!(
        "topic {}, partition {}, offset {}",
        row.topic, row.partition, row.offset
    );
    let here = format!(
        "partition {}, offset {}",
        row.dead_letter.partition, row.dead_letter.offset
    );
    let round = (row.round > 0).then(|| row.round.to_string());
    let replayed = row
        .replayed
        .as_ref()
        .map(|r| format!("{} by {}", r.at, r.by));
    line("id", Some(&row.id));
    line("destination", Some(&row.destination));
    line("rule", row.rule.as_deref());
    line("reason", Some(&row.reason));
    line("status", status.as_deref());
    line("error", Some(&row.error));
    line("answer", Some(&whole.excerpt));
    line("attempts", Some(&row.attempts.to_string()));
    line("first attempt", row.first_attempt.as_deref());
    line("last attempt", row.last_attempt.as_deref());
    line("written", row.written.as_deref());
    line("state", Some(row.state));
    line("replayed", replayed.as_deref());
    line("died in round", round.as_deref());
    line("dead letter", Some(&here));
    line("record", Some(&place));
    line("cluster", Some(&whole.cluster));
    line("timestamp", row.timestamp.as_deref());
    line("type", row.kind.as_deref());
    line("key", row.key.as_deref());
    for (name, value) in &whole.headers {
        let value = value.as_deref().unwrap_or("(null)");
        line("header", Some(&format!("{name}: {value}")));
    }
    match (row.shed, &whole.value) {
        (Some(what @ ("value" | "record")), _) => line(
            "value",
            Some(&format!(
                "(too large for the dead letters: the {what} was left out; a replay fetches it from its origin)"
            )),
        ),
        (_, None) => line("value", Some("(null)")),
        (_, Some(value)) => {
            line("value", Some(&shortened(value)));
        }
    }
    page
}

fn shortened(value: &str) -> String {
    let all = value.chars().count();
    if all <= VALUE_CHARACTERS {
        return value.to_owned();
    }
    let first: String = value.chars().take(VALUE_CHARACTERS).collect();
    format!("{first}… ({all} characters; --format json shows all)")
}
