//! `dead-letters list` and `stats`.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::clock::Timestamp;

use super::super::common::Format;
use super::super::{exit, say};
use super::filter::FilterArguments;
use super::reading::{Fate, Found, read};
use super::row::{Row, table, time};
use super::{Desk, Failure, letters};

/// List dead letters.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  postrider dead-letters list
  postrider dead-letters list -d shop --reason rejected --status 4xx
  postrider dead-letters list --since 2026-05-01T08:00:00Z --until 2026-05-01T09:00:00Z
  postrider dead-letters list --format json | jq -r .id

JSON is one object on each line. Times are UTC.")]
pub(super) struct ListArguments {
    #[command(flatten)]
    filter: FilterArguments,
    /// List also those that were replayed.
    #[arg(long)]
    all: bool,
}

/// Count dead letters.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  postrider dead-letters stats
  postrider dead-letters stats --since 24h --format json | jq .open

What was never replayed is open.")]
pub(super) struct StatsArguments {
    #[command(flatten)]
    filter: FilterArguments,
    /// Show also what has nothing open.
    #[arg(long)]
    all: bool,
}

pub(super) fn list(desk: &Desk, arguments: &ListArguments) -> Result<u8, Failure> {
    desk.reach()?;
    let marks = desk.letters.marks()?;
    let mut rows = Vec::new();
    let mut hidden = 0_usize;
    let since = arguments.filter.since();
    read(desk, &arguments.filter, &marks, since, &mut |found| {
        if arguments.all || found.fate == Fate::Open {
            rows.push((found.letter.written, Row::new(&found, desk)));
        } else {
            hidden += 1;
        }
    })?;
    rows.sort_by_key(|(written, _)| *written);
    let rows: Vec<Row> = rows.into_iter().map(|(_, row)| row).collect();
    match desk.format {
        Format::Json => {
            for row in &rows {
                say(&(serde_json::to_string(row).unwrap_or_default() + "\n"));
            }
        }
        Format::Human => {
            if !rows.is_empty() {
                say(&table(&rows, arguments.all));
            }
            let open = if arguments.all { "" } else { " not replayed" };
            let more = match hidden {
                0 => String::new(),
                _ => format!("; --all lists {hidden} more that were"),
            };
            say(&format!("{}{open}{more}\n", letters(rows.len())));
        }
    }
    Ok(exit::OK)
}

/// What is counted.
#[derive(Debug, Default, Serialize)]
struct Stats {
    open: usize,
    replayed: usize,
    /// Records that cannot be read as dead letters.
    unreadable: usize,
    groups: Vec<Group>,
}

/// The dead letters of one destination and reason.
#[derive(Debug, Clone, Serialize)]
struct Group {
    destination: String,
    reason: String,
    open: usize,
    replayed: usize,
    /// When the first of those that are open was written, and the last.
    oldest: Option<String>,
    newest: Option<String>,
}

#[derive(Debug, Default)]
struct Tally {
    open: usize,
    replayed: usize,
    oldest: Option<Timestamp>,
    newest: Option<Timestamp>,
}

impl Tally {
    fn add(&mut self, found: &Found) {
        let written = found.letter.written;
        match found.fate {
            Fate::Open => {
                self.open += 1;
                self.oldest = self.oldest.into_iter().chain(written).min();
                self.newest = self.newest.max(written);
            }
            Fate::Replayed(_) => self.replayed += 1,
            Fate::Copy => {}
        }
    }
}

pub(super) fn stats(desk: &Desk, arguments: &StatsArguments) -> Result<u8, Failure> {
    desk.reach()?;
    let marks = desk.letters.marks()?;
    let mut tallies: BTreeMap<(String, String), Tally> = BTreeMap::new();
    let since = arguments.filter.since();
    let found = read(desk, &arguments.filter, &marks, since, &mut |found| {
        let name = desk.name(&found.letter.destination).to_owned();
        let key = (name, found.letter.reason.clone());
        tallies.entry(key).or_default().add(&found);
    })?;
    let groups = tallies
        .into_iter()
        .map(|((destination, reason), tally)| Group {
            destination,
            reason,
            open: tally.open,
            replayed: tally.replayed,
            oldest: tally.oldest.map(time),
            newest: tally.newest.map(time),
        });
    let groups: Vec<Group> = groups.collect();
    let mut stats = Stats {
        open: groups.iter().map(|group| group.open).sum(),
        replayed: groups.iter().map(|group| group.replayed).sum(),
        unreadable: found.unreadable,
        groups,
    };
    stats.groups.retain(|group| arguments.all || group.open > 0);
    match desk.format {
        Format::Json => say(&(serde_json::to_string(&stats).unwrap_or_default() + "\n")),
        Format::Human => say(&shown(&stats)),
    }
    Ok(exit::OK)
}

fn shown(stats: &Stats) -> String {
    let mut text = String::new();
    let head = [
        "DESTINATION",
        "REASON",
        "OPEN",
        "REPLAYED",
        "OLDEST (UTC)",
        "NEWEST (UTC)",
    ];
    let time = |time: &Option<String>| time.as_deref().map_or("-", |t| &t[..19]).to_owned();
    let rows = stats.groups.iter().map(|group| {
        [
            super::row::plain(&group.destination),
            super::row::plain(&group.reason),
            group.open.to_string(),
            group.replayed.to_string(),
            time(&group.oldest),
            time(&group.newest),
        ]
    });
    let rows: Vec<[String; 6]> = [head.map(str::to_owned)].into_iter().chain(rows).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let [a, b, c, d, e] = [0, 1, 2, 3, 4].map(|column| width(column).unwrap_or(0));
    if rows.len() > 1 {
        for [name, reason, open, replayed, oldest, newest] in &rows {
            text.push_str(&format!(
                "{name:a$}  {reason:b$}  {open:>c$}  {replayed:>d$}  {oldest:e$}  {newest}\n"
            ));
        }
    }
    let open = letters(stats.open);
    text.push_str(&format!("{open} open, {} replayed\n", stats.replayed));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_counts_lines_up() {
        let group = |destination: &str, open, oldest: Option<i64>| Group {
            destination: destination.to_owned(),
            reason: "rejected".to_owned(),
            open,
            replayed: 3,
            oldest: oldest.map(|at| time(Timestamp(at))),
            newest: oldest.map(|at| time(Timestamp(at + 1000))),
        };
        let stats = Stats {
            open: 12_345,
            replayed: 6,
            unreadable: 0,
            groups: vec![
                group("shop", 12_345, Some(0)),
                group("a-longer-name", 0, None),
            ],
        };
        let expected = "\
DESTINATION    REASON     OPEN  REPLAYED  OLDEST (UTC)         NEWEST (UTC)
shop           rejected  12345         3  1970-01-01T00:00:00  1970-01-01T00:00:01
a-longer-name  rejected      0         3  -                    -
12345 dead letters open, 6 replayed
";
        assert_eq!(shown(&stats), expected);
    }
}
