//! What is known of unclean ends, as it is committed beside a position.

use std::collections::BTreeMap;

use super::reader::Reader;
use super::{gap, put};

/// So many records are remembered as accused; beyond that the newest are not.
pub(in crate::lane) const ACCUSED_MAX: usize = 32;

/// What is known of unclean ends at a position, and of the record that may be to blame.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Caution {
    /// How many assignments in a row have begun at this position, the one that lasts included; 0: none, for it was reached later than that, or the
    /// last one ended gracefully.
    pub starts: u32,
    /// Records below this are sent one at a time.
    pub until: Option<i64>,
    /// The record that is sent alone at this moment, and how much an unclean end would say against it.
    pub alone: Option<(i64, u32)>,
    /// The records that were sent alone when an assignment ended uncleanly, and how much that says against each.
    pub accused: BTreeMap<i64, u32>,
}

impl Caution {
    pub(super) fn put(&self, body: &mut Vec<u8>, base: i64) -> Option<()> {
        put(body, u64::from(self.starts));
        let until = self.until.filter(|until| *until > base);
        put(body, gap(base, until.unwrap_or(base))?);
        match self.alone {
            None => put(body, 0),
            Some((offset, weight)) => {
                put(body, u64::from(weight));
                put(body, gap(base, offset)?);
            }
        }
        put(body, u64::try_from(self.accused.len()).ok()?);
        let mut next = base;
        for (offset, points) in &self.accused {
            put(body, gap(next, *offset)?);
            put(body, u64::from(*points));
            next = offset.checked_add(1)?;
        }
        Some(())
    }

    pub(super) fn read(reader: &mut Reader<'_>, base: i64) -> Option<Self> {
        let starts = reader.small()?;
        let until = Some(reader.forward(base)?).filter(|until| *until != base);
        let alone = match reader.small()? {
            0 => None,
            weight => Some((reader.forward(base)?, weight)),
        };
        let count = usize::try_from(reader.number()?).ok()?;
        let mut accused = BTreeMap::new();
        let mut next = base;
        // Each takes two bytes at least, so a count that lies ends with the text.
        for _ in 0..count {
            let offset = reader.forward(next)?;
            next = offset.checked_add(1)?;
            accused.insert(offset, reader.small()?);
        }
        Some(Self {
            starts,
            until,
            alone,
            accused,
        })
    }
}
