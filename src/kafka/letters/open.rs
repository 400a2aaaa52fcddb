//! How many dead letters are open: neither replayed nor deleted. For the daemon, which follows the letters and their marks.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{Consumer, StreamConsumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::delivery::DeliveryId;

use super::super::complaints::Complaints;
use super::super::context::Plain;
use super::super::envelope::{Letter, read_letter};
use super::super::raw::{Fetched, copied};
use super::super::topics::OwnedTopic;
use super::{TIMEOUT, marks};

/// So many open letters are known one by one; beyond that the count is what it is at least.
const OPEN_MAX: usize = 200_000;
/// Marks that came before their letters, for the two are read side by side.
const EARLY_MAX: usize = 4096;
/// How often a change is shown.
const SHOW: Duration = Duration::from_secs(1);
/// How often it is looked what has been deleted.
const LOOK: Duration = Duration::from_secs(30);
/// After a failure.
const AGAIN: Duration = Duration::from_secs(5);

/// Follows the dead letters and their marks.
pub struct OpenLetters {
    /// A consumer's settings.
    pub client: ClientConfig,
    /// What every topic of our own begins with.
    pub prefix: String,
    /// Where librdkafka's complaints go.
    pub complaints: Arc<Complaints>,
}

/// How many are open, by the ids of their destinations.
pub type OpenCounts = BTreeMap<Arc<str>, u64>;

type Client = Arc<StreamConsumer<Plain>>;

impl OpenLetters {
    /// Reads, and shows how many are open as soon as that is known, until `stop`.
    pub async fn run(self, show: impl Fn(&OpenCounts), stop: CancellationToken) {
        let follow = async {
            loop {
                if let Err(error) = self.follow(&show).await {
                    debug!(%error, "open dead letters are not known");
                }
                tokio::time::sleep(AGAIN).await;
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = follow => {}
        }
    }

    /// Follows until something must be opened again; then everything is read anew.
    async fn follow(&self, show: &impl Fn(&OpenCounts)) -> Result<(), KafkaError> {
        let letters_topic = OwnedTopic::dead_letters(&self.prefix).name;
        let (letters, mut behind) = self.open(&letters_topic).await?;
        let mut open = Open::default();
        while !behind.is_empty() {
            read(&letters, &mut behind, |record| open.letter(record)).await?;
        }
        // After the letters, so that no mark waits for its letter.
        let state = OwnedTopic::state(&self.prefix).name;
        let (state, mut behind) = self.open(&state).await?;
        while !behind.is_empty() {
            read(&state, &mut behind, |record| open.marks(&record)).await?;
        }
        show(&open.counts());
        let (mut never, mut never_either) = (BTreeSet::new(), BTreeSet::new());
        let mut shown = tokio::time::interval(SHOW);
        let mut looked = tokio::time::interval(LOOK);
        for due in [&mut shown, &mut looked] {
            due.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        }
        loop {
            let Open { changed, .. } = open;
            tokio::select! {
                done = receive(&letters, &mut never) => {
                    if let Some(record) = done? { open.letter(record); }
                }
                done = receive(&state, &mut never_either) => {
                    if let Some(record) = done? { open.marks(&record); }
                }
                _ = shown.tick(), if changed => {
                    open.changed = false;
                    show(&open.counts());
                }
                _ = looked.tick() => {
                    for (partition, low) in lows(&letters, &letters_topic).await? {
                        open.forget_below(partition, low);
                    }
                }
            }
        }
    }

    /// A consumer at the beginning of a topic, and its partitions.
    async fn open(&self, topic: &str) -> Result<(Client, BTreeSet<i32>), KafkaError> {
        let mut config = self.client.clone();
        config.set("group.id", topic);
        // Read once and then followed: what is kept ready for a lane's speed would only be memory here.
        config.set("queued.max.messages.kbytes", "1024");
        let context = Plain(Arc::clone(&self.complaints));
        let topic = topic.to_owned();
        let opened = tokio::task::spawn_blocking(move || {
            let consumer: StreamConsumer<Plain> = config.create_with_context(context)?;
            let partitions = partitions(&consumer, &topic)?;
            let mut from = TopicPartitionList::new();
            for partition in &partitions {
                from.add_partition_offset(&topic, *partition, Offset::Beginning)?;
            }
            consumer.assign(&from)?;
            Ok((Arc::new(consumer), partitions))
        });
        opened.await.unwrap_or(Err(KafkaError::Canceled))
    }
}

/// A topic that is not there is one that is being made.
fn partitions(consumer: &StreamConsumer<Plain>, topic: &str) -> Result<BTreeSet<i32>, KafkaError> {
    let metadata = consumer.fetch_metadata(Some(topic), TIMEOUT)?;
    let found = metadata.topics().iter().filter(|t| t.name() == topic);
    let ids: BTreeSet<i32> = found.flat_map(|t| t.partitions()).map(|p| p.id()).collect();
    if ids.is_empty() {
        return Err(KafkaError::MetadataFetch(RDKafkaErrorCode::UnknownTopic));
    }
    Ok(ids)
}

async fn read(
    consumer: &StreamConsumer<Plain>,
    behind: &mut BTreeSet<i32>,
    mut each: impl FnMut(crate::record::Record),
) -> Result<(), KafkaError> {
    if let Some(record) = receive(consumer, behind).await? {
        each(record);
    }
    Ok(())
}

/// The next record; nothing when something else came.
async fn receive(
    consumer: &StreamConsumer<Plain>,
    behind: &mut BTreeSet<i32>,
) -> Result<Option<crate::record::Record>, KafkaError> {
    match consumer.recv().await {
        Ok(message) => match copied(&message) {
            Fetched::Record(record) => Ok(Some(record)),
            Fetched::EndOfPartition { .. }
            | Fetched::Led { .. }
            | Fetched::Astray { .. }
            | Fetched::Damaged { .. }
            | Fetched::Error(_) => Ok(None),
        },
        Err(KafkaError::PartitionEOF(partition)) => {
            behind.remove(&partition);
            Ok(None)
        }
        Err(error) => match error.rdkafka_error_code() {
            Some(
                RDKafkaErrorCode::UnknownTopicOrPartition
                | RDKafkaErrorCode::UnknownPartition
                | RDKafkaErrorCode::UnknownTopic
                | RDKafkaErrorCode::TopicAuthorizationFailed
                | RDKafkaErrorCode::Fatal,
            ) => Err(error),
            // The client mends it by itself.
            _ => Ok(None),
        },
    }
}

/// The first offset of each partition.
async fn lows(consumer: &Client, topic: &str) -> Result<Vec<(i32, i64)>, KafkaError> {
    let (consumer, topic) = (Arc::clone(consumer), topic.to_owned());
    let asked = tokio::task::spawn_blocking(move || {
        let mut lows = Vec::new();
        for partition in partitions(&consumer, &topic)? {
            // A partition that does not answer now is asked again.
            if let Ok((low, _)) = consumer.fetch_watermarks(&topic, partition, TIMEOUT) {
                lows.push((partition, low));
            }
        }
        Ok(lows)
    });
    asked.await.unwrap_or(Err(KafkaError::Canceled))
}

/// What is known of the letters that are open.
#[derive(Debug, Default)]
struct Open {
    letters: BTreeMap<DeliveryId, Place>,
    destinations: Vec<Arc<str>>,
    early: VecDeque<(DeliveryId, u32)>,
    full: bool,
    changed: bool,
}

#[derive(Debug, Clone, Copy)]
struct Place {
    round: u32,
    destination: u32,
    partition: i32,
    offset: i64,
}

impl Open {
    fn letter(&mut self, record: crate::record::Record) {
        if let Ok(letter) = read_letter(record) {
            self.add(&letter);
        }
    }

    fn add(&mut self, letter: &Letter) {
        let replayed = |(id, round): &(DeliveryId, u32)| *id == letter.id && *round > letter.round;
        let known = self.letters.get(&letter.id);
        if known.is_some_and(|known| known.round > letter.round) || self.early.iter().any(replayed)
        {
            return;
        }
        if known.is_none() && self.letters.len() >= OPEN_MAX {
            if !std::mem::replace(&mut self.full, true) {
                warn!(
                    "more than {OPEN_MAX} dead letters are open: from here on their number is what it is at least"
                );
            }
            return;
        }
        let name = &letter.destination;
        let destination = self.destinations.iter().position(|id| **id == **name);
        let destination = destination.unwrap_or_else(|| {
            self.destinations.push(name.as_str().into());
            self.destinations.len() - 1
        });
        let place = Place {
            round: letter.round,
            destination: u32::try_from(destination).unwrap_or(u32::MAX),
            partition: letter.partition,
            offset: letter.offset,
        };
        self.letters.insert(letter.id, place);
        self.changed = true;
    }

    fn marks(&mut self, record: &crate::record::Record) {
        for (id, round) in marks::entries_of(record) {
            match self.letters.get(&id) {
                Some(known) if known.round < round => drop(self.letters.remove(&id)),
                Some(_) => {}
                None => {
                    self.early.push_back((id, round));
                    if self.early.len() > EARLY_MAX {
                        self.early.pop_front();
                    }
                }
            }
            self.changed = true;
        }
    }

    fn forget_below(&mut self, partition: i32, low: i64) {
        let before = self.letters.len();
        self.letters
            .retain(|_, place| place.partition != partition || place.offset >= low);
        self.changed |= before != self.letters.len();
    }

    fn counts(&self) -> OpenCounts {
        let mut counts = OpenCounts::new();
        for place in self.letters.values() {
            let destination = usize::try_from(place.destination).unwrap_or(usize::MAX);
            if let Some(id) = self.destinations.get(destination) {
                *counts.entry(Arc::clone(id)).or_default() += 1;
            }
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lane::Shed;
    use crate::record::Record;

    fn record(key: Option<String>, value: Option<Vec<u8>>) -> Record {
        Record {
            topic: "t".into(),
            partition: 0,
            offset: 0,
            timestamp: None,
            key: key.map(Into::into),
            value: value.map(Into::into),
            headers: Vec::new(),
        }
    }

    fn letter(n: u8, round: u32, offset: i64) -> Letter {
        Letter {
            partition: 0,
            offset,
            written: None,
            id: DeliveryId([n; 16]),
            destination: "hook".to_owned(),
            rule: None,
            reason: "rejected".to_owned(),
            status: None,
            error: String::new(),
            excerpt: Default::default(),
            attempts: 1,
            first_attempt: None,
            last_attempt: None,
            cluster_id: String::new(),
            round,
            shed: Shed::Nothing,
            record: record(None, None),
        }
    }

    fn mark(n: u8, round: u32) -> Record {
        let (key, value) = marks::record("x", "anna", 1, &[(DeliveryId([n; 16]), round)]);
        record(Some(key), Some(value))
    }

    #[test]
    fn what_was_neither_replayed_nor_deleted_is_open() {
        let mut open = Open::default();
        let count = |open: &Open| open.counts().get("hook").copied().unwrap_or(0);
        for (n, offset) in [(1, 0), (2, 1), (3, 2), (1, 3)] {
            open.add(&letter(n, 0, offset));
        }
        assert_eq!(count(&open), 3, "one was written twice");
        open.marks(&mark(2, 1));
        assert_eq!(count(&open), 2);
        open.add(&letter(2, 1, 4));
        assert_eq!(count(&open), 3, "it died again");
        open.marks(&mark(2, 1));
        assert_eq!(count(&open), 3, "the old mark says nothing of it");
        open.forget_below(0, 3);
        assert_eq!(count(&open), 2, "the second copy is still there");
        open.forget_below(1, 99);
        open.forget_below(0, 5);
        assert_eq!(count(&open), 0);
    }

    #[test]
    fn a_mark_that_comes_before_its_letter_counts() {
        let mut open = Open::default();
        open.marks(&mark(1, 1));
        open.add(&letter(1, 0, 0));
        assert!(open.counts().is_empty());
        open.add(&letter(1, 1, 1));
        assert_eq!(open.counts().len(), 1);
    }
}
