//! `dead-letters purge`: deletes the oldest for good.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::clock::Timestamp;
use crate::kafka::LettersError;

use super::super::common::Format;
use super::super::output::complain;
use super::super::{exit, say};
use super::filter::{FilterArguments, time};
use super::reading::{Fate, read};
use super::row;
use super::{Desk, Failure, asked, letters};

/// Delete the oldest dead letters.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  postrider dead-letters purge --before 30d                        asks before it does anything
  postrider dead-letters purge --before 2026-05-01T00:00:00Z --yes

Kafka deletes from the beginning of a topic only, so no other option says which.")]
pub(super) struct PurgeArguments {
    /// Delete what was written before then: a time such as 2026-05-01T08:00:00Z, or how long ago, such as 30d.
    #[arg(long, value_name = "TIME", value_parser = time)]
    before: Timestamp,
    /// Do not ask.
    #[arg(short, long)]
    yes: bool,
}

/// What was done.
#[derive(Debug, Default, Serialize)]
struct Report {
    before: String,
    deleted: usize,
    /// Those of them that were never replayed, by destination.
    open: BTreeMap<String, usize>,
}

pub(super) fn purge(desk: &Desk, arguments: &PurgeArguments) -> Result<u8, Failure> {
    desk.reach()?;
    let cut = desk.letters.cut(arguments.before)?;
    let marks = desk.letters.marks()?;
    let mut report = Report {
        before: row::time(arguments.before),
        ..Report::default()
    };
    let mut stay = BTreeSet::new();
    let filter = FilterArguments::default();
    let found = read(desk, &filter, &marks, None, &mut |found| {
        let letter = &found.letter;
        if !cut.takes(letter.partition, letter.offset) {
            stay.insert(letter.id);
            return;
        }
        report.deleted += 1;
        if found.fate == Fate::Open {
            let name = desk.name(&letter.destination).to_owned();
            *report.open.entry(name).or_default() += 1;
        }
    })?;
    if report.deleted > 0 {
        let (count, before) = (letters(report.deleted), &report.before);
        let question = format!("Delete {count} written before {before}, {}?", open(&report));
        if !asked(desk, &question, arguments.yes)? {
            complain("nothing was deleted");
            return Ok(exit::NO);
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| LettersError::Refused(error.to_string()))?;
        runtime.block_on(desk.letters.purge(&cut))?;
        // Marks are for those that are there.
        let obsolete = found.obsolete(&marks, |id| stay.contains(&id));
        desk.letters.forget_marks(&obsolete)?;
    }
    match desk.format {
        Format::Json => say(&(serde_json::to_string(&report).unwrap_or_default() + "\n")),
        Format::Human => say(&format!(
            "{} deleted, {}\n",
            letters(report.deleted),
            open(&report)
        )),
    }
    Ok(exit::OK)
}

fn open(report: &Report) -> String {
    let counts = report.open.iter();
    let counts: Vec<String> = counts.map(|(name, n)| format!("{n} of {name}")).collect();
    match counts.len() {
        0 => "none of which is open".to_owned(),
        _ => format!("{} of which were never replayed", counts.join(", ")),
    }
}
