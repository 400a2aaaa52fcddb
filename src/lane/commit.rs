//! What is committed, and when: positions, and with each what is known beyond it.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Tick;
use crate::delivery::{DeliveryKey, Epoch};

use super::delivery::{Delivery, State};
use super::event::{Action, Notice, Position};
use super::machine::Lane;
use super::options::OrderOptions;
use super::progress::{Budget, Caution, Owner, Progress};
use super::window::{Partition, Phase};

/// A record whose next attempt is due so soon does not go to the ladder to make room: there it
/// would wait much longer.
const SOON_MS: i64 = 2000;

/// How long the broker may take for the acknowledgement of a commit before it is asked again.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// How many records a partition whose progress has become too long hands to the ladder at each commit.
const GIVE_WAY: usize = 64;

impl Lane {
    /// Something may have become committable.
    pub(super) fn want_commit(&mut self) {
        if self.commit_due.is_none() {
            let earliest = self
                .last_commit
                .map(|last| last + self.options.commit_interval);
            self.commit_due = Some(earliest.map_or(self.now.tick, |due| due.max(self.now.tick)));
        }
    }

    /// Asks for a commit when its time has come, or when a window's worth of records has been settled since the last one. What the
    /// broker has not acknowledged after a while is asked for again.
    pub(super) fn commit(&mut self) {
        let Some(due) = self.commit_due else { return };
        if self.handover.is_drained() {
            self.commit_due = None;
            return;
        }
        let now = self.now.tick;
        let many = self.settled_since_commit >= self.options.window.records;
        if due > now && !many {
            return;
        }
        let mut positions = self.positions(|_| true);
        if positions.is_empty() {
            self.commit_due = None;
            return;
        }
        self.commit_due = Some(now + self.options.commit_interval);
        positions.retain(|position| self.ask(position));
        if !positions.is_empty() {
            self.settled_since_commit = 0;
            self.last_commit = Some(now);
            self.actions.push_back(Action::Commit { positions });
        }
    }

    /// Whether this position is to be asked for now.
    fn ask(&mut self, position: &Position) -> bool {
        let now = self.now.tick;
        let Some(partition) = self.partitions.get_mut(&position.epoch) else {
            return false;
        };
        let on_the_way = |(asked, then): &(Position, Tick)| {
            asked == position && now.since(*then) < ASK_AGAIN_AFTER
        };
        if partition.asked.as_ref().is_some_and(on_the_way) {
            return false;
        }
        partition.asked = Some((position.clone(), now));
        true
    }

    /// The positions of the chosen partitions, where they or what is known beyond them differ from what the broker has acknowledged.
    pub(super) fn positions(&mut self, chosen: impl Fn(Epoch) -> bool) -> Vec<Position> {
        let epochs: Vec<Epoch> = self
            .partitions
            .keys()
            .copied()
            .filter(|e| chosen(*e))
            .collect();
        let mut positions = Vec::new();
        for epoch in epochs {
            let Some(metadata) = self.metadata(epoch) else {
                continue;
            };
            let Some(partition) = self.partitions.get(&epoch) else {
                continue;
            };
            let offset = partition.position();
            let acknowledged = partition
                .committed
                .as_ref()
                .is_some_and(|(at, text)| *at == offset && **text == *metadata);
            if !acknowledged {
                positions.push(Position {
                    epoch,
                    offset,
                    metadata: metadata.into(),
                });
            }
        }
        positions
    }

    /// What is known of a partition beyond its position, as a text. What would not fit is left out, which costs repeats and no records, and the
    /// partition gives way until it fits.
    fn metadata(&mut self, epoch: Epoch) -> Option<String> {
        let now = self.now.tick;
        let partition = self.partitions.get_mut(&epoch)?;
        let base = partition.position();
        let settled = partition.settled_beyond();
        let caution = partition.ends.worth_committing(base, total(&settled));
        let stopped = |delivery: &Delivery| self.endpoints[delivery.endpoint].stopwatch.total(now);
        let owner = Owner {
            cluster_id: &self.cluster_id,
            destination_id: &self.destination_id,
            topic: &partition.topic,
            partition: partition.partition,
        };
        let mut progress = Progress {
            settled,
            budgets: partition.budgets_spent(stopped),
            caution,
            topic_id: partition.topic_id,
        };
        let mut text = progress.encode(owner, base);
        let crowded = text.is_none();
        while text.is_none() {
            if progress.settled.is_empty() && progress.budgets.is_empty() {
                progress.caution = Caution::default();
            }
            shorten(&mut progress);
            text = progress.encode(owner, base);
        }
        if crowded {
            self.give_way(epoch);
        } else if partition.crowded {
            self.has_room_again(epoch);
        }
        text
    }

    /// Stops reading a partition of which no more can be committed, and hands the oldest of its
    /// waiting records to the ladder before their time, but for those that are due soon.
    fn give_way(&mut self, epoch: Epoch) {
        let Some(partition) = self.partitions.get_mut(&epoch) else {
            return;
        };
        let in_order = self.options.order != OrderOptions::None;
        if !std::mem::replace(&mut partition.crowded, true) && in_order {
            self.actions.push_back(Action::Tell(Notice::ReadsNoFurther {
                topic: Arc::clone(&partition.topic),
                partition: partition.partition,
            }));
        }
        let consuming = partition.phase == Phase::Consuming;
        let soon = self.now.wall.0.saturating_add(SOON_MS);
        let waiting = partition.unsettled().filter(|(_, d)| {
            let is_near = d.due.is_some_and(|due| due.0 <= soon);
            d.state == State::Retry && d.order_key.is_none() && !is_near
        });
        let oldest: Vec<i64> = waiting.map(|(offset, _)| offset).take(GIVE_WAY).collect();
        self.check_distance(epoch);
        if consuming && !self.handover.is_draining() {
            for offset in oldest {
                let key = DeliveryKey { epoch, offset };
                self.timers.retain(|(_, waiting)| *waiting != key);
                self.make_room(key);
            }
        }
        self.want_commit();
    }

    fn has_room_again(&mut self, epoch: Epoch) {
        if let Some(partition) = self.partitions.get_mut(&epoch) {
            partition.crowded = false;
        }
        self.check_distance(epoch);
    }
}

/// How many offsets these are.
pub(super) fn total(ranges: &[Range<i64>]) -> u64 {
    ranges
        .iter()
        .map(|range| range.end.abs_diff(range.start))
        .sum()
}

/// Makes a progress say less: first of what is settled far ahead, then of what was spent on the newest records.
fn shorten(progress: &mut Progress) {
    if progress.settled.is_empty() {
        progress.budgets.truncate(progress.budgets.len() / 2);
    } else {
        progress.settled.truncate(progress.settled.len() / 2);
    }
}

impl Partition {
    /// The settled offsets beyond the position. An offset that was not received is not in them: its record may still come.
    fn settled_beyond(&self) -> Vec<Range<i64>> {
        let position = self.position();
        let mut ranges: Vec<Range<i64>> = Vec::new();
        let mut add = |offset: i64, end: i64| match ranges.last_mut() {
            Some(last) if last.end >= offset => last.end = last.end.max(end),
            _ => ranges.push(offset..end),
        };
        let mut before = self.settled_before.iter().peekable();
        let settled = self.entries().filter(|(_, delivery)| delivery.is_none());
        for (offset, _) in settled {
            while let Some(range) = before.next_if(|range| range.start <= offset) {
                if range.end > position {
                    add(range.start.max(position), range.end);
                }
            }
            add(offset, offset + 1);
        }
        for range in before.filter(|range| range.end > position) {
            add(range.start.max(position), range.end);
        }
        ranges
    }

    /// What was spent on the records that are not settled, in the order of their offsets; those that were not read yet among them.
    fn budgets_spent(&self, stopped: impl Fn(&Delivery) -> Duration) -> Vec<Budget> {
        let position = self.position();
        let mut budgets: Vec<Budget> = self
            .unsettled()
            .filter_map(|(offset, delivery)| delivery.budget(offset, stopped(delivery)))
            .collect();
        let unread = self.budgets.range(position..);
        budgets.extend(unread.map(|(_, budget)| *budget));
        budgets.sort_unstable_by_key(|budget| budget.offset);
        budgets
    }
}
