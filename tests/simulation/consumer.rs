//! The consumer thread of a model shell: it joins, lets partitions come and go, reads, and commits for what it owns.

use postrider::delivery::{Epoch, Verdict};
use postrider::lane::{
    AssignedPartition, Event, Incoming, PartitionFacts, Position, RecordsLostPolicy, StartReason,
    TopicFacts, start_position,
};

use crate::broker::{
    CommitEntry, CommitFate, CommitPurpose, CommitRequest, Member, PartitionAnswer, Tp,
};
use crate::coverage::Seen;
use crate::instance::{Callback, Note, Owned, Running, Shell};
use crate::mutant::Mutant;
use crate::world::{MILLISECOND, World, tick, trace};

impl World {
    pub(crate) fn join(&mut self, shell: usize) {
        let Shell {
            destination,
            life,
            member,
            ref running,
            ..
        } = self.shells[shell];
        if member.is_some() || running.as_ref().is_none_or(|running| running.stopping) {
            return;
        }
        let group = &mut self.broker.groups[destination];
        group.members_ever += 1;
        let member = group.members_ever;
        group.members.insert(
            member,
            Member {
                shell,
                life,
                busy: false,
            },
        );
        self.shells[shell].member = Some(member);
        let wait = self.wait(50, 3000);
        self.want_rebalance(destination, wait);
    }

    // === Rebalances ===

    pub(crate) fn callback(
        &mut self,
        shell: usize,
        revoke: &[Tp],
        assign: Vec<Tp>,
        generation: u32,
    ) {
        self.shells[shell].generation = generation;
        self.drop_gone(shell);
        let deadline = self.now + self.plan.revoke_wait;
        let Some(running) = &mut self.shells[shell].running else {
            return;
        };
        let goes = |(_, owned): &(&Epoch, &Owned)| revoke.contains(&owned.tp);
        let revoke: Vec<Epoch> = running
            .owned
            .iter()
            .filter(goes)
            .map(|(epoch, _)| *epoch)
            .collect();
        let nothing_goes = revoke.is_empty();
        running.callback = Some(Callback {
            revoke: revoke.clone(),
            assign,
            revoked: None,
            questions: 0,
        });
        if nothing_goes {
            return self.ask(shell);
        }
        self.coverage
            .add(Seen::PartitionsRevoked, revoke.len() as u64);
        self.tell(
            shell,
            Event::Revoking {
                epochs: revoke,
                deadline: tick(deadline),
            },
        );
    }

    /// The lane has given its positions: they are committed before anything else.
    pub(crate) fn commit_revoked(&mut self, shell: usize) {
        let Some(callback) = self
            .running(shell)
            .and_then(|running| running.callback.as_mut())
        else {
            return;
        };
        let positions = callback.revoked.take().unwrap_or_default();
        if !self.send_commit(shell, &positions, CommitPurpose::Revoke) {
            self.let_go(shell);
        }
    }

    /// The partitions go, committed or not.
    pub(crate) fn let_go(&mut self, shell: usize) {
        let Shell {
            destination,
            member,
            ref mut running,
            ..
        } = self.shells[shell];
        let Some(running) = running else { return };
        let Some(callback) = &mut running.callback else {
            return;
        };
        for epoch in std::mem::take(&mut callback.revoke) {
            let Some(owned) = running.owned.remove(&epoch) else {
                continue;
            };
            running.gone.insert(epoch, owned);
            let owner = &mut self.broker.groups[destination].owner;
            if owner.get(&owned.tp).copied() == member {
                owner.remove(&owned.tp);
            }
        }
        self.want_rebalance(destination, MILLISECOND);
        self.ask(shell);
    }

    /// Asks the broker where the new partitions begin.
    fn ask(&mut self, shell: usize) {
        let Some(callback) = self
            .running(shell)
            .and_then(|running| running.callback.as_ref())
        else {
            return;
        };
        if callback.assign.is_empty() {
            return self.end_callback(shell);
        }
        let life = self.shells[shell].life;
        let wait = self.wait(5, 100);
        self.after(wait, crate::world::What::QuestionArrives { shell, life });
    }

    pub(crate) fn question_answered(
        &mut self,
        shell: usize,
        answers: Option<Vec<PartitionAnswer>>,
    ) {
        let Some(running) = self.running(shell) else {
            return;
        };
        let stopping = running.stopping;
        let Some(callback) = &mut running.callback else {
            return;
        };
        if stopping {
            return self.end_callback(shell);
        }
        let Some(answers) = answers else {
            callback.questions += 1;
            if callback.questions < 3 {
                return self.ask(shell);
            }
            // Never guess: out of the group, and in again.
            self.coverage.see(Seen::GroupsLeftUnanswered);
            let Shell {
                destination,
                member,
                ..
            } = self.shells[shell];
            if let Some(member) = member {
                self.broker.groups[destination].remove_member(member);
                self.want_rebalance(destination, 10 * MILLISECOND);
            }
            if let Some(running) = self.running(shell) {
                running.found_out = true;
            }
            return self.end_callback(shell);
        };
        let partitions = answers
            .into_iter()
            .map(|answer| self.begin(shell, answer))
            .collect();
        self.tell(
            shell,
            Event::Assigned {
                cluster_id: "simulated".into(),
                partitions,
            },
        );
        self.end_callback(shell);
    }

    fn begin(&mut self, shell: usize, answer: PartitionAnswer) -> AssignedPartition {
        let PartitionAnswer {
            tp,
            any_committed,
            committed,
            low,
            high,
            at_time,
            licence,
        } = answer;
        let forgetful = self.watching.mutant == Some(Mutant::LatestAfterRestart);
        let facts = TopicFacts {
            owned: false,
            any_committed: any_committed && !forgetful,
        };
        let partition = PartitionFacts {
            committed,
            low,
            high,
            at_time,
        };
        let start = start_position(
            facts,
            partition,
            self.plan.start_at,
            RecordsLostPolicy::Earliest,
        );
        self.coverage.see(match start.reason {
            StartReason::Committed => Seen::StartsCommitted,
            StartReason::StartAt => Seen::StartsAtFile,
            StartReason::NewPartition | StartReason::Owned => Seen::StartsNewPartition,
            StartReason::Expired | StartReason::BeyondEnd => Seen::StartsExpired,
        });
        let topic = self.broker.topics[tp.topic].name.clone();
        let base = start.offset;
        let owned = Owned {
            tp,
            position: base,
            paused: false,
            end_told: None,
            fresh: true,
            licence,
        };
        let mut epoch = Epoch(0);
        if let Some(running) = self.running(shell) {
            running.epochs_ever += 1;
            epoch = Epoch(running.epochs_ever);
            running.owned.insert(epoch, owned);
        }
        trace!(
            self,
            "shell {shell} begins {tp:?} at {base} as {epoch:?} ({:?})", start.reason
        );
        AssignedPartition {
            epoch,
            topic,
            partition: tp.partition as i32,
            base,
            committed: committed == Some(base),
        }
    }

    fn end_callback(&mut self, shell: usize) {
        let Shell {
            destination,
            member,
            ref mut running,
            ..
        } = self.shells[shell];
        let Some(running) = running else { return };
        running.callback = None;
        let commits = std::mem::take(&mut running.commits_waiting);
        let (found_out, drained) = (running.found_out, running.drained.is_some());
        if let Some(member) =
            member.and_then(|member| self.broker.groups[destination].members.get_mut(&member))
        {
            member.busy = false;
        }
        if found_out {
            return self.lose_everything(shell);
        }
        self.drop_gone(shell);
        for positions in commits {
            self.commit_soon(shell, positions);
        }
        if drained {
            self.note(shell, 0, Note::Leave);
        }
        self.want_poll(shell);
    }

    // === Losses ===

    /// The member has been expelled, and hears of it.
    pub(crate) fn finds_out(&mut self, shell: usize, expelled: u32) {
        if self.shells[shell].member != Some(expelled) {
            return;
        }
        let Some(running) = self.running(shell) else {
            return;
        };
        running.found_out = true;
        if running.callback.is_none() {
            self.lose_everything(shell);
        }
    }

    fn lose_everything(&mut self, shell: usize) {
        self.shells[shell].member = None;
        let Some(running) = self.running(shell) else {
            return;
        };
        running.found_out = false;
        running.commits_waiting.clear();
        let epochs: Vec<Epoch> = std::mem::take(&mut running.owned).into_keys().collect();
        let drained = running.drained.is_some();
        self.coverage.see(Seen::AssignmentsLost);
        self.tell(shell, Event::Lost { epochs });
        let wait = self.wait(1, 2000);
        self.note(shell, wait, Note::Join);
        if drained {
            self.note(shell, 0, Note::Leave);
        }
    }

    /// Topics that are no longer there take their assignments with them.
    pub(crate) fn drop_gone(&mut self, shell: usize) {
        let Self { shells, broker, .. } = self;
        let Some(running) = &mut shells[shell].running else {
            return;
        };
        if running.callback.is_some() {
            return;
        }
        let gone = |(_, owned): &(&Epoch, &Owned)| broker.log(owned.tp).is_none();
        let epochs: Vec<Epoch> = running
            .owned
            .iter()
            .filter(gone)
            .map(|(epoch, _)| *epoch)
            .collect();
        if !epochs.is_empty() {
            running.owned.retain(|epoch, _| !epochs.contains(epoch));
            self.tell(shell, Event::Lost { epochs });
        }
    }

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
                Verdict::Deliver { .. } | Verdict::DeadLetter { .. } => {}
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
                position: *position,
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

    pub(crate) fn running(&mut self, shell: usize) -> Option<&mut Running> {
        self.shells[shell].running.as_mut()
    }
}

fn incoming(produced: &crate::oracle::Produced, destination: usize) -> Incoming {
    Incoming {
        record: produced.record.clone(),
        verdict: produced.fates[destination].verdict.clone(),
    }
}
