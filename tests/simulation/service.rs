//! What the model broker does with requests over time: rebalances, sessions, commits, questions.

use bytes::Bytes;

use crate::broker::{CommitFate, CommitPurpose, CommitRequest, Committed, PartitionAnswer, Tp};
use crate::coverage::Seen;
use crate::instance::{Note, Shell};
use crate::world::{MILLISECOND, Time, What, World, trace};
use postrider::lane::{Source, StartAt};

impl World {
    // === Groups ===

    pub(crate) fn want_rebalance(&mut self, group: usize, wait: Time) {
        if !self.broker.groups[group].rebalance_pending {
            self.broker.groups[group].rebalance_pending = true;
            self.after(wait, What::Rebalance { group });
        }
    }

    /// Gives partitions to members, cooperatively: only what moves is revoked, and what is revoked is given away the next time.
    pub(crate) fn rebalance(&mut self, number: usize) {
        if !self.all_can_join(number) {
            return self.after(20 * MILLISECOND, What::Rebalance { group: number });
        }
        let partitions = self.broker.partitions();
        let group = &mut self.broker.groups[number];
        group.rebalance_pending = false;
        let target = group.target(&partitions, &mut self.rng);
        let unchanged = target == group.owner;
        if unchanged
            && group
                .members
                .values()
                .all(|member| self.shells[member.shell].generation > 0)
        {
            return;
        }
        self.coverage.see(Seen::Rebalances);
        group.generation += 1;
        let generation = group.generation;
        let members: Vec<u32> = group.members.keys().copied().collect();
        for member in members {
            let group = &mut self.broker.groups[number];
            let is_mine = |tp: &&Tp| target.get(*tp) == Some(&member);
            let revoke: Vec<Tp> = group
                .owner
                .iter()
                .filter(|(tp, owner)| **owner == member && !is_mine(tp))
                .map(|(tp, _)| *tp)
                .collect();
            let assign: Vec<Tp> = target
                .keys()
                .filter(|tp| is_mine(tp) && !group.owner.contains_key(tp))
                .copied()
                .collect();
            for tp in &assign {
                group.owner.insert(*tp, member);
            }
            let Some(joined) = group.members.get_mut(&member) else {
                continue;
            };
            joined.busy = true;
            let shell = joined.shell;
            trace!(
                self,
                "group {number} generation {generation}: member {member} (shell {shell}) -{revoke:?} +{assign:?}"
            );
            let wait = self.wait(5, 150);
            self.note(
                shell,
                wait,
                Note::Callback {
                    revoke,
                    assign,
                    generation,
                },
            );
        }
    }

    /// A rebalance waits for every member to come, or for its session to end.
    fn all_can_join(&self, group: usize) -> bool {
        self.broker.groups[group].members.values().all(|member| {
            let Shell {
                life,
                frozen_until,
                ref running,
                ..
            } = self.shells[member.shell];
            let stopping = running.as_ref().is_none_or(|running| running.stopping);
            !member.busy && life == member.life && frozen_until <= self.now && !stopping
        })
    }

    /// A member was not heard of for a session: because it crashed, or because it is still frozen.
    pub(crate) fn session_ends(&mut self, group: usize, member: u32) {
        let Some(known) = self.broker.groups[group].members.get(&member) else {
            return;
        };
        let Shell {
            life, frozen_until, ..
        } = self.shells[known.shell];
        if life != known.life || frozen_until > self.now {
            self.expel(group, member);
        }
    }

    /// Takes a member out of its group. It finds out late.
    pub(crate) fn expel(&mut self, group: usize, member: u32) {
        let Some(known) = self.broker.groups[group].members.get(&member).copied() else {
            return;
        };
        trace!(
            self,
            "group {group} expels member {member} (shell {})", known.shell
        );
        self.throw_out(group, member);
        let wait = self.wait(10, 20_000);
        self.after(
            wait,
            What::Note {
                shell: known.shell,
                life: known.life,
                note: Note::FindsOut { member },
            },
        );
        self.want_rebalance(group, 10 * MILLISECOND);
    }

    /// What a member had goes to others without a last word of it.
    pub(crate) fn throw_out(&mut self, group: usize, member: u32) {
        let members = &mut self.broker.groups[group];
        let had = members.owner.iter().filter(|(_, owner)| **owner == member);
        self.oracle.unclean.extend(had.map(|(tp, _)| (group, *tp)));
        members.remove_member(member);
    }

    // === Commits ===

    /// A commit is taken from any member of the generation, for any partition, the owner's or not: so does Kafka.
    pub(crate) fn commit_arrives(&mut self, request: CommitRequest) {
        let CommitRequest {
            group: number,
            shell,
            life,
            member,
            generation,
            entries,
            purpose,
            fate,
            answered,
        } = request;
        let group = &self.broker.groups[number];
        let known = group.members.contains_key(&member) && group.generation == generation;
        let mut accepted = Vec::new();
        if known && fate != CommitFate::Fails {
            for entry in &entries {
                if self.broker.log(entry.tp).is_none() {
                    continue;
                }
                let committed = Committed {
                    offset: entry.position.offset,
                    metadata: Bytes::copy_from_slice(entry.position.metadata.as_bytes()),
                };
                let before = self.broker.groups[number]
                    .committed
                    .insert(entry.tp, committed)
                    .map(|before| before.offset);
                let Some(log) = self.broker.log(entry.tp) else {
                    continue;
                };
                let topic = &self.broker.topics[entry.tp.topic].name;
                let result = self.oracle.committed(number, entry, before, topic, log);
                self.judge(result);
                accepted.push(entry.position.clone());
            }
        }
        if purpose != CommitPurpose::Timer && (!known || fate == CommitFate::Fails) {
            let unclean = entries.iter().map(|entry| (number, entry.tp));
            self.oracle.unclean.extend(unclean);
        }
        self.coverage.see(match fate {
            _ if !known => Seen::CommitsRefused,
            CommitFate::Fails => Seen::CommitsFailed,
            CommitFate::AnswerLost => Seen::CommitAnswersLost,
            CommitFate::Works => Seen::CommitsAccepted,
        });
        trace!(
            self,
            "  broker: shell {shell} commits {entries:?}, {purpose:?} {fate:?}, known {known}"
        );
        if fate == CommitFate::AnswerLost {
            accepted.clear();
        }
        if purpose != CommitPurpose::Timer || !accepted.is_empty() {
            self.at(
                answered,
                What::Note {
                    shell,
                    life,
                    note: Note::CommitAnswered { purpose, accepted },
                },
            );
        }
    }

    // === Questions ===

    /// A member asks where its new partitions begin.
    pub(crate) fn question_arrives(&mut self, shell: usize, life: u32) {
        let Shell {
            destination,
            life: living,
            ref running,
            ..
        } = self.shells[shell];
        let Some(callback) = running
            .as_ref()
            .and_then(|running| running.callback.as_ref())
        else {
            return;
        };
        if life != living {
            return;
        }
        let fails = self.rng.chance(self.plan.broker.question_fails);
        let answers = if fails {
            self.coverage.see(Seen::QuestionsFailed);
            None
        } else {
            let group = &self.broker.groups[destination];
            let answer = |tp: &Tp| {
                let log = self.broker.log(*tp)?;
                let owned = self.broker.topics[tp.topic].source != Source::Topic;
                let at_time = match self.plan.start_at {
                    StartAt::Time(time) => self.oracle.first_not_before(log, time),
                    StartAt::Earliest | StartAt::Latest => None,
                };
                Some(PartitionAnswer {
                    tp: *tp,
                    any_committed: group.committed.keys().any(|other| other.topic == tp.topic),
                    committed: group.committed.get(tp).cloned(),
                    low: log.low,
                    high: log.end,
                    at_time,
                    licence: self.oracle.licence(group, *tp, log, owned),
                })
            };
            Some(callback.assign.iter().filter_map(answer).collect())
        };
        let wait = self.wait(2, 100);
        self.note(shell, wait, Note::QuestionAnswered(answers));
    }
}
