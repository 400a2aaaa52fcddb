//! The dead letters that are meant, each with what became of it.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::clock::Timestamp;
use crate::delivery::DeliveryId;
use crate::kafka::{Letter, Mark, Marks, Scanned};
use crate::rules::Matcher;

use super::super::output::complain as say;
use super::super::progress::Bar;
use super::filter::FilterArguments;
use super::{Desk, Failure};

/// What became of a dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fate {
    /// Nothing yet.
    Open,
    /// It was replayed.
    Replayed(Mark),
    /// It was written twice: whoever wrote it the first time did not live to know.
    Copy,
}

/// A dead letter that is meant.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) letter: Box<Letter>,
    pub(super) fate: Fate,
    /// Its record's type.
    pub(super) kind: Option<String>,
}

/// What was read, whether it was meant or not.
pub(super) struct Read {
    /// Records that are no dead letters that can be read.
    pub(super) unreadable: usize,
    /// The deliveries whose letters are there.
    pub(super) ids: BTreeSet<DeliveryId>,
}

impl Read {
    /// The marks that nobody needs, when of the letters that are there only some stay.
    pub(super) fn obsolete(
        &self,
        marks: &Marks,
        stays: impl Fn(DeliveryId) -> bool,
    ) -> Vec<String> {
        // Whose mark it is that belongs to what cannot be read, is not known.
        if self.unreadable > 0 {
            return Vec::new();
        }
        let ids = self.ids.iter().copied();
        marks.obsolete(&ids.filter(|id| stays(*id)).collect())
    }
}

/// Tells what became of dead letters, which it is told in the order of their partitions.
pub(super) struct Fates<'a> {
    marks: &'a Marks,
    seen: BTreeSet<(DeliveryId, u32)>,
}

impl<'a> Fates<'a> {
    pub(super) fn new(marks: &'a Marks) -> Self {
        let seen = BTreeSet::new();
        Self { marks, seen }
    }

    pub(super) fn of(&mut self, letter: &Letter) -> Fate {
        if !self.seen.insert((letter.id, letter.round)) {
            return Fate::Copy;
        }
        match self.marks.of(letter.id) {
            Some(mark) if self.marks.was_replayed(letter.id, letter.round) => {
                Fate::Replayed(mark.clone())
            }
            _ => Fate::Open,
        }
    }
}

/// Hands over every dead letter that the filter takes, of those written since a time. Those that cannot be read are counted and said.
pub(super) fn read(
    desk: &Desk,
    filter: &FilterArguments,
    marks: &Marks,
    since: Option<Timestamp>,
    each: &mut dyn FnMut(Found),
) -> Result<Read, Failure> {
    let matcher = Matcher::for_audit(&desk.config.rule_file());
    let mut fates = Fates::new(marks);
    let mut unreadable: Option<(usize, String)> = None;
    let bar = Bar::new("reading");
    let mut seen = BTreeSet::new();
    let done = desk.letters.scan(
        since,
        &mut |done, total| bar.show(done, total),
        &mut |scanned| match scanned {
            Scanned::Letter(letter) => {
                let fate = fates.of(&letter);
                if !seen.contains(&*letter.destination) {
                    seen.insert(Arc::from(&*letter.destination));
                }
                let kind = || matcher.kind(&letter.record);
                if filter.takes(&letter, desk.name(&letter.destination), kind) {
                    let kind = matcher.kind(&letter.record);
                    each(Found { letter, fate, kind });
                }
            }
            Scanned::Unreadable {
                partition,
                offset,
                why,
            } => {
                let first = || format!("partition {partition}, offset {offset}: {why}");
                unreadable.get_or_insert_with(|| (0, first())).0 += 1;
            }
        },
    );
    drop(bar);
    done?;
    desk.check_names(filter, &seen)?;
    let count = unreadable.as_ref().map_or(0, |(count, _)| *count);
    if let Some((count, first)) = unreadable {
        let topic = desk.letters.topic();
        say(&format!(
            "note: {count} records of topic {topic} are no dead letters that can be read; the first is at {first}"
        ));
    }
    Ok(Read {
        unreadable: count,
        ids: fates.seen.into_iter().map(|(id, _)| id).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::letter;
    use super::*;

    #[test]
    fn a_letter_that_was_written_twice_is_one() {
        let marks = Marks::default();
        let mut fates = Fates::new(&marks);
        assert_eq!(fates.of(&letter(1, 0)), Fate::Open);
        assert_eq!(fates.of(&letter(1, 0)), Fate::Copy);
        assert_eq!(fates.of(&letter(1, 1)), Fate::Open, "it died again");
        assert_eq!(fates.of(&letter(2, 0)), Fate::Open);
    }
}
