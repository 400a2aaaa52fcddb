//! Reading what anybody may have written: every step is checked, and nothing is believed because it says so.

use std::ops::Range;
use std::time::Duration;

use crate::clock::Timestamp;

use super::{BITMAP, Budget, FAULTS_MAX, RUNS, SECONDS_MAX};

/// The bytes behind the hash.
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn at_end(&self) -> bool {
        self.0.is_empty()
    }

    /// So many bytes as they are.
    pub(super) fn array<const N: usize>(&mut self) -> Option<&'a [u8; N]> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(first)
    }

    /// A varint in its shortest form.
    pub(super) fn number(&mut self) -> Option<u64> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                return None;
            }
            number |= bits << shift;
            if byte < 0x80 {
                return (byte != 0 || shift == 0).then_some(number);
            }
        }
        None
    }

    pub(super) fn budgets(&mut self, base: i64) -> Option<Vec<Budget>> {
        let count = self.number()?;
        let mut budgets = Vec::new();
        if count == 0 {
            return Some(budgets);
        }
        let earliest = i64::try_from(self.number()?).ok()?;
        let mut next = base;
        let mut least_first = i64::MAX;
        // Each takes five bytes at least, so a count that lies ends with the text.
        for _ in 0..count {
            let offset = self.forward(next)?;
            next = offset.checked_add(1)?;
            let packed = self.number()?;
            let factor = u64::from(FAULTS_MAX) + 1;
            let first = self.forward(earliest)?;
            least_first = least_first.min(first);
            let due = first.checked_add(i64::try_from(self.seconds()?).ok()?)?;
            budgets.push(Budget {
                offset,
                attempts: u32::try_from(packed / factor).ok()?,
                faults: u32::try_from(packed % factor).ok()?,
                first_attempt: Timestamp(first.checked_mul(1000)?),
                due: Timestamp(due.checked_mul(1000)?),
                held: Duration::from_secs(self.seconds()?),
            });
        }
        (least_first == earliest).then_some(budgets)
    }

    pub(super) fn settled(&mut self, base: i64) -> Option<Vec<Range<i64>>> {
        match self.byte()? {
            RUNS => self.runs(base),
            BITMAP => self.bitmap(base),
            _ => None,
        }
    }

    fn runs(&mut self, base: i64) -> Option<Vec<Range<i64>>> {
        let count = self.number()?;
        let mut runs = Vec::new();
        let mut next = base;
        // Each takes two bytes at least.
        for _ in 0..count {
            let start = self.forward(next)?;
            let end = self.forward(start.checked_add(1)?)?;
            next = end.checked_add(1)?;
            runs.push(start..end);
        }
        Some(runs)
    }

    fn bitmap(&mut self, base: i64) -> Option<Vec<Range<i64>>> {
        let start = self.forward(base)?;
        let length = usize::try_from(self.number()?).ok()?;
        let map = self.0.get(..length)?;
        self.0 = self.0.get(length..)?;
        if map.first()? & 1 == 0 || *map.last()? == 0 {
            return None;
        }
        // So no offset below overflows.
        start.checked_add(i64::try_from(length.checked_mul(8)?).ok()?)?;
        let mut runs: Vec<Range<i64>> = Vec::new();
        let bits = map
            .iter()
            .flat_map(|byte| (0..8).map(move |bit| byte >> bit & 1 == 1));
        for (offset, settled) in (start..).zip(bits) {
            match runs.last_mut() {
                _ if !settled => {}
                Some(last) if last.end == offset => last.end += 1,
                _ => runs.push(offset..offset + 1),
            }
        }
        Some(runs)
    }

    /// A point that lies so far behind `from`.
    pub(super) fn forward(&mut self, from: i64) -> Option<i64> {
        from.checked_add(i64::try_from(self.number()?).ok()?)
    }

    /// A number that is no offset.
    pub(super) fn small(&mut self) -> Option<u32> {
        u32::try_from(self.number()?).ok()
    }

    fn seconds(&mut self) -> Option<u64> {
        self.number().filter(|seconds| *seconds <= SECONDS_MAX)
    }

    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }
}
