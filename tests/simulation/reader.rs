//! The consumer thread of a model shell at work: it reads as much as the lane has room for, and commits for what it owns.

use std::sync::Arc;

use postrider::delivery::{Epoch, Verdict};
use postrider::lane::{Event, Incoming, Position};

use crate::broker::{CommitEntry, CommitFate, CommitPurpose, CommitRequest, Tp};
use crate::coverage::Seen;
use crate::instance::{Note, Owned, Shell};
use crate::mutant::Mutant;
use crate::world::World;

impl World {
    // === Reading ===

    /// Lets the thread look for records, if there is something to find.
    pub(crate) fn want_poll(&mut self, shell: usize) {
        let waits_for_others =
            self.watching.mutant == Some(Mutant::SharesAQueue) && self.others_wait(shell);
        let Self { shells, broker, .. } = self;
        let Some(running) = &mut shells[shell].running else {
            return;
        };
        if running.poll_due || running.callback.is_some() || running.stopping {
            return;
        }
        let readable = |owned: &Owned| {
            !owned.paused
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
        let Self { shells, broker, .. } = self;
        let Shell {
            destination,
            ref mut running,
            ..
        } = shells[shell];
        let Some(running) = running else { return };
        let room = running.subject.room();
        let Some(owned) = running.owned.get_mut(&epoch) else {
            return;
        };
        let Some(log) = broker.log(owned.tp) else {
            return;
        };
        if owned.paused || room.records == 0 || room.bytes == 0 {
            return;
        }
        let mut records: Vec<Incoming> = Vec::new();
        let mut bytes = 0;
        let most = room.records.min(self.plan.chunk);
        let available = log.from(owned.position);
        for stored in available.iter().take(most) {
            let produced = &self.oracle.produced[stored.number];
            bytes += produced.record.weight();
            records.push(incoming(produced, destination));
            owned.position = stored.offset + 1;
            if bytes >= room.bytes {
                break;
            }
        }
        let at_end = records.len() == available.len();
        if at_end {
            owned.position = owned.position.max(log.end);
        }
        let end = (at_end && owned.end_told != Some(log.end)).then_some(log.end);
        owned.end_told = end.or(owned.end_told);
        let (fresh, base) = (std::mem::take(&mut owned.fresh), owned.tp);
        if records.len() > 1 && self.plan.shuffle {
            self.coverage.see(Seen::ChunksOutOfOrder);
            self.rng.shuffle(&mut records);
        }
        if fresh && self.plan.below_base {
            self.put_below_base(base, destination, &mut records);
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

    /// The chunk begins with records that come before the first one asked for.
    fn put_below_base(&mut self, tp: Tp, destination: usize, records: &mut Vec<Incoming>) {
        let first = records.iter().map(|incoming| incoming.record.offset).min();
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
        offset: produced.record.offset,
        record: Arc::clone(&produced.record),
        verdict: produced.fates[destination].verdict.clone(),
        carried: None,
    }
}
