//! The consumer thread of a model shell: it joins, and lets partitions come and go. What it reads and commits is in `reader.rs`.

use std::sync::Arc;

use postrider::delivery::Epoch;
use postrider::lane::{
    AssignedPartition, Event, PartitionFacts, RecordsLostPolicy, Source, StartReason, TopicFacts,
    TopicId, start_position,
};

use crate::broker::{CommitPurpose, Member, PartitionAnswer, Topic, Tp};
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
                self.throw_out(destination, member);
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
        let Topic { name, source, .. } = &self.broker.topics[tp.topic];
        let (topic, source) = (Arc::clone(name), *source);
        let Shell {
            destination,
            member,
            ..
        } = self.shells[shell];
        // The answer to a member that was expelled in the meantime is out of date.
        let owner = self.broker.groups[destination].owner.get(&tp).copied();
        if let Some(log) = self.broker.log(tp)
            && owner == member
        {
            let judged = self
                .oracle
                .begins(destination, (tp, &topic), log, committed.as_ref());
            self.judge(judged);
        }
        let forgetful = self.watching.mutant == Some(Mutant::LatestAfterRestart);
        let facts = TopicFacts {
            owned: source != Source::Topic,
            any_committed: any_committed && !forgetful,
        };
        let partition = PartitionFacts {
            committed: committed.as_ref().map(|committed| committed.offset),
            low,
            high,
            at_time,
            made_again: false,
            leader_known: false,
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
            StartReason::Expired
            | StartReason::Stopped
            | StartReason::BeyondEnd
            | StartReason::MadeAgain => Seen::StartsExpired,
        });
        let base = start.offset;
        let owned = Owned {
            tp,
            position: base,
            paused: false,
            end_told: None,
            fresh: true,
            licence,
            kept_until: None,
            at_the_gate: (-1, 0),
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
            source,
            base,
            committed: committed
                .as_ref()
                .is_some_and(|committed| committed.offset == base),
            metadata: committed.map(|committed| committed.metadata),
            topic_id: TopicId::new(u128::from(tp.incarnation) + 1),
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

    pub(crate) fn running(&mut self, shell: usize) -> Option<&mut Running> {
        self.shells[shell].running.as_mut()
    }
}
