//! The consumer thread of a model shell at work: it reads as much as the lane has room for, and commits for what it owns.

use std::sync::Arc;

use postrider::delivery::{Epoch, Verdict};
use postrider::lane::{Event, Incoming, Position, Source};

use crate::broker::{CommitEntry, CommitFate, CommitPurpose, CommitRequest, Stored, Tp};
use crate::coverage::Seen;
use crate::instance::{Note, Owned, Shell};
use crate::ladder::Turn;
use crate::mutant::Mutant;
use crate::world::{World, tick};

/// What was taken of a partition.
struct Chunk {
    records: Vec<Incoming>,
    /// The end of the partition, if it was reached and the lane has not heard of it.
    end: Option<i64>,
    /// It is the first of its assignment.
    fresh: bool,
    tp: Tp,
}

impl World {
    // === Reading ===

    /// Lets the thread look for records, if there is something to find.
    pub(crate) fn want_poll(&mut self, shell: usize) {
        let stranded: Vec<Tp> = self.stranded(shell);
        let waits_for_others =
            self.watching.mutant == Some(Mutant::SharesAQueue) && self.others_wait(shell);
        let now = self.now;
        let Self { shells, broker, .. } = self;
        let Some(running) = &mut shells[shell].running else {
            return;
        };
        if running.poll_due || running.callback.is_some() || running.stopping {
            return;
        }
        let readable = |owned: &Owned| {
            !owned.paused
                && !stranded.contains(&owned.tp)
                && owned.kept_until.is_none_or(|until| until <= now)
                && broker
                    .log(owned.tp)
                    .is_some_and(|log| log.end > owned.position || owned.end_told != Some(log.end))
        };
        let room = running.subject.room();
        if waits_for_others {
            return;
        }
        if room.records == 0 || room.bytes == 0 {
            self.coverage.see(Seen::RoomZero);
        } else if running.owned.values().any(readable) {
            running.poll_due = true;
            let wait = self.wait(2, 50);
            self.note(shell, wait, Note::Poll);
        }
    }

    fn others_wait(&self, shell: usize) -> bool {
        let Shell {
            instance,
            destination,
            ..
        } = self.shells[shell];
        let others = self
            .shells
            .iter()
            .filter(|other| other.instance == instance && other.destination != destination);
        others
            .filter_map(|other| other.running.as_ref())
            .any(|running| running.subject.waiting().total() > 0)
    }

    pub(crate) fn poll(&mut self, shell: usize) {
        let Some(running) = self.running(shell) else {
            return;
        };
        running.poll_due = false;
        if running.callback.is_some() || running.stopping {
            return;
        }
        let mut epochs: Vec<Epoch> = running.owned.keys().copied().collect();
        self.rng.shuffle(&mut epochs);
        for epoch in epochs {
            if self.has_failed() {
                return;
            }
            self.read_chunk(shell, epoch);
        }
        self.want_poll(shell);
    }

    fn read_chunk(&mut self, shell: usize, epoch: Epoch) {
        let Some(Chunk {
            mut records,
            end,
            fresh,
            tp,
        }) = self.take_chunk(shell, epoch)
        else {
            return;
        };
        let source = self.broker.topics[tp.topic].source;
        if records.len() > 1 && self.plan.shuffle {
            self.coverage.see(Seen::ChunksOutOfOrder);
            self.rng.shuffle(&mut records);
        }
        if fresh && self.plan.below_base && source == Source::Topic {
            self.put_below_base(tp, self.shells[shell].destination, &mut records);
        }
        for Incoming { verdict, .. } in &records {
            match verdict {
                Verdict::NotMatched => self.coverage.see(Seen::NotMatched),
                Verdict::Dropped => self.coverage.see(Seen::DroppedByRule),
                Verdict::Deliver { .. } | Verdict::DeadLetter { .. } | Verdict::Foreign => {}
            }
        }
        if !records.is_empty() {
            self.tell(shell, Event::Read { epoch, records });
        }
        if let Some(offset) = end {
            self.coverage.see(Seen::EndsOfPartition);
            self.tell(shell, Event::EndOfPartition { epoch, offset });
        }
    }

    /// Takes as much of a partition as the lane has room for, up to a record of the ladder that is kept back.
    fn take_chunk(&mut self, shell: usize, epoch: Epoch) -> Option<Chunk> {
        let now = self.now;
        let running = self.shells[shell].running.as_ref()?;
        let room = running.subject.room();
        let mut owned = *running.owned.get(&epoch)?;
        let tp = owned.tp;
        if self.stranded(shell).contains(&tp) {
            return None;
        }
        let log = self.broker.log(tp)?;
        let kept = owned.kept_until.is_some_and(|until| until > now);
        if owned.paused || kept || room.records == 0 || room.bytes == 0 {
            return None;
        }
        owned.kept_until = None;
        let most = room.records.min(self.plan.chunk);
        let (log_end, available) = (log.end, log.from(owned.position).len());
        let stored: Vec<Stored> = log.from(owned.position)[..available.min(most)].to_vec();
        let source = self.broker.topics[tp.topic].source;
        let mut records: Vec<Incoming> = Vec::new();
        let mut bytes = 0;
        for stored in stored {
            let (offset, arrived) = owned.at_the_gate;
            if offset != stored.offset {
                owned.at_the_gate = (stored.offset, now);
            }
            let arrived = if offset == stored.offset {
                arrived
            } else {
                now
            };
            match self.gate(shell, source, stored, tick(arrived)) {
                Turn::GoesIn(incoming) => {
                    bytes += incoming.record.weight();
                    records.push(incoming);
                    owned.position = stored.offset + 1;
                }
                Turn::Waits(left) => {
                    owned.kept_until = Some(now + left);
                    self.note(shell, left, Note::ComesUp);
                    break;
                }
            }
            if bytes >= room.bytes {
                break;
            }
        }
        let at_end = records.len() == available;
        if at_end {
            owned.position = owned.position.max(log_end);
        }
        let end = (at_end && owned.end_told != Some(log_end)).then_some(log_end);
        owned.end_told = end.or(owned.end_told);
        let fresh = std::mem::take(&mut owned.fresh);
        let running = self.shells[shell].running.as_mut()?;
        running.owned.insert(epoch, owned);
        Some(Chunk {
            records,
            end,
            fresh,
            tp,
        })
    }

    /// The bug of retry topics that belong to a schedule: another schedule has no use for them.
    fn stranded(&self, shell: usize) -> Vec<Tp> {
        if self.watching.mutant != Some(Mutant::StrandedByNewSchedule) {
            return Vec::new();
        }
        let schedule = &self.options[self.shells[shell].destination].retry.schedule;
        let longest = schedule.iter().max().copied().unwrap_or_default();
        let unused = |tp: &Tp| match self.broker.topics[tp.topic].source {
            Source::Topic => false,
            Source::Ladder(step) => step.delay() > longest,
        };
        self.broker
            .partitions()
            .into_iter()
            .filter(unused)
            .collect()
    }

    /// The chunk begins with records that come before the first one asked for.
    fn put_below_base(&mut self, tp: Tp, destination: usize, records: &mut Vec<Incoming>) {
        let first = records.iter().map(|incoming| incoming.offset).min();
        let (Some(first), Some(log)) = (first, self.broker.log(tp)) else {
            return;
        };
        let upto = log.records.partition_point(|stored| stored.offset < first);
        for stored in &log.records[upto.saturating_sub(3)..upto] {
            self.coverage.see(Seen::RecordsBelowBase);
            records.push(incoming(&self.oracle.produced[stored.number], destination));
        }
    }

    // === Commits ===

    /// The lane wants positions committed: done at once, or after the callback that the thread is in.
    pub(crate) fn commit_soon(&mut self, shell: usize, positions: Vec<Position>) {
        let Some(running) = self.running(shell) else {
            return;
        };
        if running.callback.is_some() {
            running.commits_waiting.push(positions);
        } else {
            self.send_commit(shell, &positions, CommitPurpose::Timer);
        }
    }

    /// Sends a commit for those of the positions whose partitions are owned at this moment. False: there was none.
    pub(crate) fn send_commit(
        &mut self,
        shell: usize,
        positions: &[Position],
        purpose: CommitPurpose,
    ) -> bool {
        let mood = self.plan.broker;
        let fate = match self.rng.below(100) {
            drawn if drawn < mood.commit_fails => CommitFate::Fails,
            drawn if drawn < mood.commit_fails + mood.commit_answer_lost => CommitFate::AnswerLost,
            _ => CommitFate::Works,
        };
        let slow = if self.rng.chance(mood.commit_slow) {
            self.wait(500, 8000)
        } else {
            0
        };
        let (there, answer_after) = (slow + self.wait(2, 100), self.wait(2, 100));
        let now = self.now;
        let Shell {
            destination,
            life,
            member,
            generation,
            ref mut running,
            ..
        } = self.shells[shell];
        let (Some(running), Some(member)) = (running, member) else {
            return false;
        };
        let careless = self.watching.mutant == Some(Mutant::CommitsWhatIsNotOwned);
        let entry = |position: &Position| {
            let gone = running.gone.get(&position.epoch).filter(|_| careless);
            let owned = running.owned.get(&position.epoch).or(gone)?;
            Some(CommitEntry {
                tp: owned.tp,
                position: position.clone(),
                licence: owned.licence,
            })
        };
        let entries: Vec<CommitEntry> = positions.iter().filter_map(entry).collect();
        self.coverage.add(
            Seen::CommitsNotOwned,
            (positions.len() - entries.len()) as u64,
        );
        if entries.is_empty() {
            return false;
        }
        // One connection: what is sent later does not arrive earlier.
        let arrives = (now + there).max(running.last_commit_arrives + 1);
        running.last_commit_arrives = arrives;
        let answered = (arrives + answer_after).max(running.last_commit_answered + 1);
        running.last_commit_answered = answered;
        let request = CommitRequest {
            group: destination,
            shell,
            life,
            member,
            generation,
            entries,
            purpose,
            fate,
            answered,
        };
        self.at(
            arrives,
            crate::world::What::CommitArrives(Box::new(request)),
        );
        true
    }

    pub(crate) fn commit_answered(
        &mut self,
        shell: usize,
        purpose: CommitPurpose,
        accepted: Vec<Position>,
    ) {
        match purpose {
            CommitPurpose::Timer if accepted.is_empty() => {}
            CommitPurpose::Timer => self.tell(
                shell,
                Event::Committed {
                    positions: accepted,
                },
            ),
            CommitPurpose::Revoke => self.let_go(shell),
            CommitPurpose::Leave => self.leave(shell),
        }
    }
}

fn incoming(produced: &crate::oracle::Produced, destination: usize) -> Incoming {
    Incoming {
        endpoint: produced.fates[destination].endpoint.clone(),
        order_key: produced.fates[destination].order_key.clone(),
        offset: produced.record.offset,
        record: Arc::clone(&produced.record),
        verdict: produced.fates[destination].verdict.clone(),
        carried: None,
    }
}
