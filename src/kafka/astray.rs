//! A partition that cannot be read on where it was left: retention was faster than its reader, or the topic was cut.
//!
//! librdkafka would begin at another offset by itself and tell nobody, and records would be gone without a word.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tracing::{error, info, warn};

use crate::lane::RecordsLostPolicy;

use super::consumer::{ConsumerThread, FromConsumer, TopicPartition};
use super::leaders::end_of_old_log;

/// How long the broker may take to say what there is.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where to go on.
#[derive(Debug, PartialEq, Eq)]
enum Way {
    /// Where it was left: what was missing is there again.
    On,
    /// At this offset; so many records expired before they were read.
    Behind { offset: i64, lost: u64 },
    /// Nowhere until a person decides; so many records expired before they were read.
    Nowhere { lost: u64 },
    /// At this offset, as another log: the one that was read is gone from there on.
    Anew { offset: i64 },
}

/// What is known of how far the log is still the one that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    /// All of it, or nothing is known.
    No,
    /// Up to this offset; what stands there now is new.
    At(i64),
    /// Not as far as it was read.
    Somewhere,
}

impl Cut {
    /// By what librdkafka says.
    pub(super) fn of(was_cut: bool, why: &str) -> Self {
        match (was_cut, end_of_old_log(why)) {
            (_, Some(end)) => Self::At(end),
            (true, None) => Self::Somewhere,
            (false, None) => Self::No,
        }
    }
}

/// Which way leads on from `next`, where the partition has `low` and would write at `high` (pure).
fn way_on(next: i64, cut: Cut, (low, high): (i64, i64), policy: RecordsLostPolicy) -> Way {
    match cut {
        Cut::At(offset) if offset < next => {
            return Way::Anew {
                offset: offset.max(low),
            };
        }
        Cut::Somewhere => return Way::Anew { offset: low },
        Cut::No | Cut::At(_) if next > high => return Way::Anew { offset: low },
        Cut::No | Cut::At(_) => {}
    }
    if next >= low {
        return Way::On;
    }
    let lost = |offset: i64| offset.abs_diff(next);
    match policy {
        RecordsLostPolicy::Earliest => Way::Behind {
            offset: low,
            lost: lost(low),
        },
        RecordsLostPolicy::Latest => Way::Behind {
            offset: high,
            lost: lost(high),
        },
        RecordsLostPolicy::Stop => Way::Nowhere { lost: lost(low) },
    }
}

impl ConsumerThread {
    /// Finds out where partitions can be read on, and goes there. What was read of them before stays in the lane's hands.
    pub(super) fn find_ways(&mut self, astray: &[(TopicPartition, Cut)]) {
        for (tp, cut) in astray {
            self.beat(PATIENCE);
            if let Err(error) = self.find_way(tp, *cut) {
                // All that it has will be asked about at the next assignment.
                self.lose(std::slice::from_ref(tp));
                return self.leave_and_join_again(&error.to_string());
            }
        }
    }

    fn find_way(&mut self, tp: &TopicPartition, cut: Cut) -> Result<(), KafkaError> {
        let (topic, partition) = (&tp.0, tp.1);
        let epoch = self.assigned.get(tp).copied();
        let Some((epoch, next)) =
            epoch.and_then(|epoch| Some((epoch, *self.next_offsets.get(&epoch)?)))
        else {
            return Ok(());
        };
        let there = self.consumer.fetch_watermarks(topic, partition, PATIENCE)?;
        let policy = match topic.starts_with(&self.plan.owned_prefix) {
            true => RecordsLostPolicy::Earliest,
            false => self.plan.on_records_lost,
        };
        let destination = &self.plan.destination;
        let way = way_on(next, cut, there, policy);
        if way != Way::On && self.damages.forget(std::slice::from_ref(tp)) {
            self.pauses.by_damage(epoch, false);
            self.tell_damaged();
        }
        let (offset, lost) = match way {
            Way::Anew { offset } => {
                self.lose(std::slice::from_ref(tp));
                self.own_anew(tp, offset);
                return self.go_to(tp, offset);
            }
            Way::On => {
                info!(%destination, %topic, partition, offset = next, "the partition is read on where it was left");
                (Some(next), 0)
            }
            Way::Behind { offset, lost } => {
                warn!(%destination, %topic, partition, offset, lost, "records expired before they were read");
                (Some(offset), lost)
            }
            Way::Nowhere { lost } => {
                error!(
                    %destination, %topic, partition, offset = next, lost,
                    "records expired before they were read, and on_records_lost is \"stop\": nothing more of this partition is read until somebody decides: write \"earliest\" or \"latest\" and restart, or `postrider pause --leave` and reset the offset of the group"
                );
                (None, lost)
            }
        };
        let more = self.losses.count(tp, next, lost);
        if more > 0 {
            self.tell(FromConsumer::Expired(Arc::clone(topic), more));
        }
        match offset {
            Some(offset) => {
                self.next_offsets.insert(epoch, offset);
                self.go_to(tp, offset)
            }
            None => {
                self.stand_still(tp, lost);
                Ok(())
            }
        }
    }

    /// librdkafka has stopped reading the partition, and begins where it is told only when it is given it anew.
    pub(super) fn go_to(&mut self, tp: &TopicPartition, offset: i64) -> Result<(), KafkaError> {
        let done = self.assign_anew(tp, offset);
        self.pauses.resumed(std::slice::from_ref(tp));
        self.pauses.assigned();
        done?;
        self.apply_pauses();
        Ok(())
    }

    fn assign_anew(
        &mut self,
        (topic, partition): &TopicPartition,
        offset: i64,
    ) -> Result<(), KafkaError> {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, *partition, Offset::Offset(offset))?;
        self.consumer.incremental_unassign(&list)?;
        self.queues.take_over(topic, *partition);
        self.consumer.incremental_assign(&list)?;
        // librdkafka answers before it has stopped reading, and the stop takes the forwarding away. Behind the assignment it is over, and
        // what was fetched since then comes with the queue.
        self.queues.take_over(topic, *partition);
        self.consumer.resume(&list)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_expired_is_counted_from_where_the_reader_stood() {
        let way = |next, policy| way_on(next, Cut::No, (10, 20), policy);
        let behind = |offset, lost| Way::Behind { offset, lost };
        assert_eq!(way(4, RecordsLostPolicy::Earliest), behind(10, 6));
        assert_eq!(way(4, RecordsLostPolicy::Latest), behind(20, 16));
        assert_eq!(way(4, RecordsLostPolicy::Stop), Way::Nowhere { lost: 6 });
    }

    #[test]
    fn a_log_that_was_cut_is_read_on_where_it_was_cut_though_it_has_grown_since() {
        let way = |cut| way_on(15, cut, (10, 20), RecordsLostPolicy::Stop);
        assert_eq!(way(Cut::At(12)), Way::Anew { offset: 12 });
        assert_eq!(way(Cut::At(3)), Way::Anew { offset: 10 });
        assert_eq!(way(Cut::At(15)), Way::On);
        assert_eq!(way(Cut::Somewhere), Way::Anew { offset: 10 });
        assert_eq!(Cut::of(true, "broker end offset is 12 (x)"), Cut::At(12));
        assert_eq!(Cut::of(true, "log truncation"), Cut::Somewhere);
        assert_eq!(Cut::of(false, "out of range"), Cut::No);
    }

    #[test]
    fn within_the_partition_nothing_is_lost_and_beyond_its_end_it_is_another() {
        for policy in [RecordsLostPolicy::Earliest, RecordsLostPolicy::Stop] {
            for next in [10, 15, 20] {
                assert_eq!(way_on(next, Cut::No, (10, 20), policy), Way::On);
            }
            let way = way_on(21, Cut::No, (10, 20), policy);
            assert_eq!(way, Way::Anew { offset: 10 });
        }
    }
}
