//! What is known of a partition beyond its position, as it is committed with the offset: which records are settled already, and what was
//! spent on those that are still being tried.
//!
//! The text is `pr1.` and base64 of: a hash, the base offset, the budgets, the settled offsets as run lengths or as a bitmap, whichever
//! is shorter, then, where there is anything to say of them, what is known of unclean ends and the topic's id. The hash covers whose it is and every byte behind it. Anybody may write metadata into a group, with the right hash
//! even, so everything is checked: what does not fit as a whole is as good as nothing, and no number in it costs more memory or time than the
//! text is long. Numbers are varints (seven bits to a byte, the lowest first), each in its shortest form; differences, where an order is known.

mod caution;
mod reader;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use sha2::{Digest, Sha256};

pub(super) use caution::ACCUSED_MAX;
pub use caution::Caution;
use reader::Reader;

use crate::clock::Timestamp;

use super::start::TopicId;

/// The longest text, in bytes: well under the 4096 that a broker takes unless told otherwise (`offset.metadata.max.bytes`).
pub const METADATA_MAX: usize = 3000;

/// Whose progress it is: one that names anything else is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner<'a> {
    /// The cluster.
    pub cluster_id: &'a str,
    /// The destination's id.
    pub destination_id: &'a str,
    /// The topic.
    pub topic: &'a str,
    /// Its partition.
    pub partition: i32,
}

/// What is known beyond a position.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Progress {
    /// Offsets that are settled, from the position on: in order, none empty, none touching the next. Offsets that hold no record may be in
    /// them or not.
    pub settled: Vec<Range<i64>>,
    /// What was spent on records that are not settled, in the order of their offsets.
    pub budgets: Vec<Budget>,
    /// What is known of unclean ends.
    pub caution: Caution,
    /// Which of the topics that had this name the position is in.
    pub topic_id: Option<TopicId>,
}

/// What was spent on one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Its offset.
    pub offset: i64,
    /// Attempts spent.
    pub attempts: u32,
    /// How often it met an endpoint fault while others passed; at most 3.
    pub faults: u32,
    /// When its first attempt began, in whole seconds.
    pub first_attempt: Timestamp,
    /// When its next attempt is due, in whole seconds; not before `first_attempt`.
    pub due: Timestamp,
    /// Time held or open since the first attempt, in whole seconds: it does not count towards `max_age`.
    pub held: Duration,
}

/// Begins every text; another version begins otherwise.
const PREFIX: &str = "pr1.";
const HASH_BYTES: usize = 8;
/// The most faults that can be told apart, and the factor that packs them with the attempts.
const FAULTS_MAX: u32 = 3;
/// Waits that are longer, a century and more, are cut to this.
const SECONDS_MAX: u64 = u32::MAX as u64;
const RUNS: u8 = 0;
const BITMAP: u8 = 1;

impl Progress {
    /// The text to commit with the offset `base`; empty when there is nothing to say, `None` when it would be longer than
    /// [`METADATA_MAX`], or when something is out of its order or below `base`.
    #[must_use]
    pub fn encode(&self, owner: Owner<'_>, base: i64) -> Option<String> {
        if *self == Self::default() {
            return Some(String::new());
        }
        let mut body = Vec::new();
        put(&mut body, u64::try_from(base).ok()?);
        self.put_budgets(&mut body, base)?;
        self.put_settled(&mut body, base)?;
        // Nothing at all when there is nothing to say, so that the text is the one of a program that knows nothing of this.
        if self.caution != Caution::default() || self.topic_id.is_some() {
            self.caution.put(&mut body, base)?;
        }
        if let Some(id) = self.topic_id {
            body.extend_from_slice(&id.bits().to_be_bytes());
        }
        let mut bytes = hash(owner, &body).to_vec();
        bytes.extend_from_slice(&body);
        let text = format!("{PREFIX}{}", STANDARD_NO_PAD.encode(bytes));
        (text.len() <= METADATA_MAX).then_some(text)
    }

    /// What `text`, found beside the committed offset `base`, says; `None` when it is not ours, not of this owner, not of this base, or
    /// damaged.
    #[must_use]
    pub fn decode(owner: Owner<'_>, base: i64, text: &[u8]) -> Option<Self> {
        if text.len() > METADATA_MAX {
            return None;
        }
        let bytes = STANDARD_NO_PAD
            .decode(text.strip_prefix(PREFIX.as_bytes())?)
            .ok()?;
        let (found, body) = bytes.split_first_chunk::<HASH_BYTES>()?;
        if *found != hash(owner, body) {
            return None;
        }
        let mut reader = Reader::new(body);
        if i64::try_from(reader.number()?).ok()? != base {
            return None;
        }
        let budgets = reader.budgets(base)?;
        let settled = reader.settled(base)?;
        let mut found = Self {
            settled,
            budgets,
            ..Self::default()
        };
        if !reader.at_end() {
            found.caution = Caution::read(&mut reader, base)?;
            if reader.at_end() {
                return (found.caution != Caution::default()).then_some(found);
            }
            found.topic_id = Some(TopicId::new(u128::from_be_bytes(*reader.array()?))?);
        }
        reader.at_end().then_some(found)
    }

    /// How many there are; if there are any, the earliest first attempt; then each.
    fn put_budgets(&self, body: &mut Vec<u8>, base: i64) -> Option<()> {
        put(body, u64::try_from(self.budgets.len()).ok()?);
        let first_seconds = |budget: &Budget| budget.first_attempt.as_seconds();
        let Some(earliest) = self.budgets.iter().map(first_seconds).min() else {
            return Some(());
        };
        put(body, u64::try_from(earliest).ok()?);
        let mut next = base;
        for budget in &self.budgets {
            put(body, gap(next, budget.offset)?);
            next = budget.offset.checked_add(1)?;
            let faults = budget.faults.min(FAULTS_MAX);
            put(
                body,
                u64::from(budget.attempts) * u64::from(FAULTS_MAX + 1) + u64::from(faults),
            );
            let first = first_seconds(budget);
            put(body, gap(earliest, first)?);
            // Rounded up: never before its time.
            let due = budget.due.0.checked_add(999)?.div_euclid(1000);
            put(body, gap(first, due.max(first))?.min(SECONDS_MAX));
            put(body, budget.held.as_secs().min(SECONDS_MAX));
        }
        Some(())
    }

    fn put_settled(&self, body: &mut Vec<u8>, base: i64) -> Option<()> {
        let mut runs = vec![RUNS];
        put(&mut runs, u64::try_from(self.settled.len()).ok()?);
        let mut next = base;
        for range in &self.settled {
            put(&mut runs, gap(next, range.start)?);
            put(&mut runs, gap(range.start.checked_add(1)?, range.end)?);
            // The one behind it is unsettled, or the two runs would be one.
            next = range.end.checked_add(1)?;
        }
        match self.bitmap(base, runs.len()) {
            Some(bitmap) => body.extend_from_slice(&bitmap),
            None => body.extend_from_slice(&runs),
        }
        Some(())
    }

    /// The settled offsets as a bitmap, if it is shorter than `limit`: where it begins, how many bytes it has, and the bytes. Its first
    /// bit and its last byte are not zero.
    fn bitmap(&self, base: i64, limit: usize) -> Option<Vec<u8>> {
        let (first, last) = (self.settled.first()?, self.settled.last()?);
        let bits = usize::try_from(last.end.checked_sub(first.start)?).ok()?;
        let length = bits.div_ceil(8);
        if length >= limit {
            return None;
        }
        let mut map = vec![0_u8; length];
        for offset in self.settled.iter().flat_map(Range::clone) {
            let bit = usize::try_from(offset - first.start).ok()?;
            *map.get_mut(bit / 8)? |= 1 << (bit % 8);
        }
        let mut bytes = vec![BITMAP];
        put(&mut bytes, gap(base, first.start)?);
        put(&mut bytes, u64::try_from(length).ok()?);
        bytes.extend_from_slice(&map);
        (bytes.len() < limit).then_some(bytes)
    }
}

/// From `from` to `to`; `None` when that is back.
fn gap(from: i64, to: i64) -> Option<u64> {
    u64::try_from(to.checked_sub(from)?).ok()
}

fn put(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

/// Over the version, the owner and the body, each with its length, so that no two of them can be told as one.
fn hash(owner: Owner<'_>, body: &[u8]) -> [u8; HASH_BYTES] {
    let mut hash = Sha256::new();
    let partition = owner.partition.to_be_bytes();
    let parts = [
        PREFIX.as_bytes(),
        owner.cluster_id.as_bytes(),
        owner.destination_id.as_bytes(),
        owner.topic.as_bytes(),
        &partition,
        body,
    ];
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let mut first = [0; HASH_BYTES];
    first
        .iter_mut()
        .zip(hash.finalize())
        .for_each(|(to, from)| *to = from);
    first
}
