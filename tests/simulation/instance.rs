//! A model instance of the daemon: for each destination a shell around a real lane, and how it starts, stops, freezes and dies.

use std::collections::BTreeMap;
use std::sync::Arc;

use postrider::delivery::{Attempt, DeliveryKey, Epoch, Outcome};
use postrider::lane::{Event, Order, Position};

use crate::broker::{CommitPurpose, PartitionAnswer, Tp};
use crate::budget::Suspicion;
use crate::coverage::Seen;
use crate::mutant::Subject;
use crate::plan::{Class, Step};
use crate::watch::Watch;
use crate::world::{MILLISECOND, SECOND, Time, What, World, tick, trace};

/// One lane and the consumer around it.
pub(crate) struct Shell {
    pub(crate) instance: usize,
    pub(crate) destination: usize,
    /// Grows at every end of the process. What was meant for an earlier life reaches nobody.
    pub(crate) life: u32,
    pub(crate) running: Option<Running>,
    pub(crate) frozen_until: Time,
    /// Its name in the group, as far as it knows.
    pub(crate) member: Option<u32>,
    pub(crate) generation: u32,
    /// It is started again as soon as it has ended.
    pub(crate) reloads: bool,
}

/// What a living process has.
pub(crate) struct Running {
    pub(crate) subject: Subject,
    pub(crate) watch: Watch,
    pub(crate) suspicions: BTreeMap<Option<Arc<str>>, Suspicion>,
    pub(crate) owned: BTreeMap<Epoch, Owned>,
    /// What it had in its hands and gave away.
    pub(crate) gone: BTreeMap<Epoch, Owned>,
    pub(crate) epochs_ever: u64,
    /// The consumer thread is in a rebalance callback.
    pub(crate) callback: Option<Callback>,
    /// Commits that the lane asked for while the thread was in a callback.
    pub(crate) commits_waiting: Vec<Vec<Position>>,
    /// What goes one way goes in order: from the lane to the thread, to the broker, and back.
    pub(crate) last_commit_told: Time,
    pub(crate) last_commit_arrives: Time,
    pub(crate) last_commit_answered: Time,
    pub(crate) found_out: bool,
    pub(crate) stopping: bool,
    pub(crate) drained: Option<Vec<Position>>,
    pub(crate) wake_at: Option<Time>,
    pub(crate) poll_due: bool,
}

/// A partition in the hands of the consumer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Owned {
    pub(crate) tp: Tp,
    /// The next offset to fetch.
    pub(crate) position: i64,
    pub(crate) paused: bool,
    pub(crate) end_told: Option<i64>,
    pub(crate) fresh: bool,
    pub(crate) licence: i64,
    /// The next record of the ladder is kept back until then.
    pub(crate) kept_until: Option<Time>,
    /// The offset of the record that is looked at, and since when.
    pub(crate) at_the_gate: (i64, Time),
}

/// A rebalance callback: first what goes, then what comes.
#[derive(Debug)]
pub(crate) struct Callback {
    pub(crate) revoke: Vec<Epoch>,
    pub(crate) assign: Vec<Tp>,
    pub(crate) revoked: Option<Vec<Position>>,
    pub(crate) questions: u32,
}

/// Something for one shell.
#[derive(Debug)]
pub(crate) enum Note {
    Join,
    Stop,
    Callback {
        revoke: Vec<Tp>,
        assign: Vec<Tp>,
        generation: u32,
    },
    RevokeAnswered,
    QuestionAnswered(Option<Vec<PartitionAnswer>>),
    Leave,
    Commit(Vec<Position>),
    CommitAnswered {
        purpose: CommitPurpose,
        accepted: Vec<Position>,
    },
    Poll,
    /// A record that was kept back comes up.
    ComesUp,
    Wake(Time),
    FindsOut {
        member: u32,
    },
    TopicGone,
    RequestEnds(usize),
    RequestAborted(DeliveryKey),
    WriteEnds(usize),
    Order(Order),
}

impl Shell {
    pub(crate) fn new(instance: usize, destination: usize) -> Self {
        Self {
            instance,
            destination,
            life: 0,
            running: None,
            frozen_until: 0,
            member: None,
            generation: 0,
            reloads: false,
        }
    }

    /// Nothing waits in it.
    pub(crate) fn is_idle(&self) -> bool {
        self.running.as_ref().is_none_or(|running| {
            running.subject.waiting().total() == 0 && running.callback.is_none()
        })
    }

    pub(crate) fn describe(&self) -> String {
        let Some(running) = &self.running else {
            return "not running".into();
        };
        format!(
            "instance {} destination {}: {:?}, owned {:?}, callback {:?}",
            self.instance,
            self.destination,
            running.subject.waiting(),
            running.owned,
            running.callback
        )
    }
}

impl World {
    /// Hands a note to a shell, unless the process that it was meant for is gone. A frozen process gets it when it goes on.
    pub(crate) fn deliver(&mut self, shell: usize, life: u32, note: Note) {
        let Shell {
            life: living,
            frozen_until,
            ref running,
            ..
        } = self.shells[shell];
        if life != living || running.is_none() {
            return;
        }
        if frozen_until > self.now {
            return self.at(frozen_until, What::Note { shell, life, note });
        }
        match note {
            Note::Join => self.join(shell),
            Note::Stop => self.stop(shell),
            Note::Callback {
                revoke,
                assign,
                generation,
            } => self.callback(shell, &revoke, assign, generation),
            Note::RevokeAnswered => self.commit_revoked(shell),
            Note::QuestionAnswered(answers) => self.question_answered(shell, answers),
            Note::Leave => self.commit_last(shell),
            Note::Commit(positions) => self.commit_soon(shell, positions),
            Note::CommitAnswered { purpose, accepted } => {
                self.commit_answered(shell, purpose, accepted)
            }
            Note::Poll => self.poll(shell),
            Note::ComesUp => self.want_poll(shell),
            Note::Wake(at) => self.wake(shell, at),
            Note::FindsOut { member } => self.finds_out(shell, member),
            Note::TopicGone => self.drop_gone(shell),
            Note::Order(order) => {
                if order == Order::Resume
                    && let Some(running) = &mut self.shells[shell].running
                {
                    for suspicion in running.suspicions.values_mut() {
                        suspicion.resumed();
                    }
                }
                self.tell(shell, Event::Ordered(order));
            }
            Note::RequestEnds(request) if self.is_aborted(request) => {}
            Note::RequestEnds(request) => self.request_ends(shell, request),
            Note::RequestAborted(key) => self.tell(shell, Event::Aborted { key }),
            Note::WriteEnds(write) => {
                let (key, result) = (self.writes[write].key, self.writes[write].result.clone());
                self.tell(shell, Event::WriteEnded { key, result });
            }
        }
    }

    fn request_ends(&mut self, shell: usize, request: usize) {
        let request = &self.requests[request];
        let (key, number, in_outage) = (request.key, request.number, request.in_outage);
        let answer = request.answer.clone();
        if self.broker.log(self.oracle.produced[number].tp).is_none() {
            self.coverage.see(Seen::LateForDeletedTopic);
        }
        let attempt = answer.unwrap_or_else(|| Attempt::delivered(200));
        let (now, owns) = (self.now, self.owns(shell, key));
        let destination = self.shells[shell].destination;
        let breaker = self.options[destination].breaker;
        let endpoint = self.oracle.fate(destination, number).endpoint.clone();
        let open = self.shells[shell]
            .running
            .as_ref()
            .and_then(|running| running.suspicions.get(&endpoint))
            .is_some_and(Suspicion::is_left_alone);
        self.oracle.fate(destination, number).spent_in_outages += u32::from(in_outage && !open);
        if let Some(running) = &mut self.shells[shell].running
            && running
                .suspicions
                .entry(endpoint)
                .or_default()
                .surely_spends(now, number, &attempt, &breaker)
            && owns
        {
            self.coverage.see(Seen::SurelySpent);
            let fate = self.oracle.fate(destination, number);
            fate.spent += 1;
        }
        if attempt.outcome == Outcome::Delivered
            && let Some(running) = &self.shells[shell].running
        {
            let judged = running.watch.waited(now, key);
            self.judge(judged);
        }
        self.tell(shell, Event::AttemptEnded { key, attempt });
    }

    /// How long the good records of a destination may wait for what the bad ones do: an open lane probes the eight that wait in
    /// turns, and a push-back holds it for a while.
    fn patience(&self, destination: usize) -> Option<Time> {
        let plan = &self.plan.destinations[destination];
        let well = self.plan.class == Class::Long && self.oracle.is_calm();
        let longest = plan.options.breaker.probe_interval_max.as_nanos() as Time;
        (well && plan.outages.is_empty() && plan.keys == 0).then_some(8 * longest + 120 * SECOND)
    }

    // === Beginning and end ===

    pub(crate) fn start(&mut self, shell: usize) {
        let destination = self.shells[shell].destination;
        let too_many = self.alone && self.shells[shell].instance > 0;
        if self.shells[shell].running.is_some() || self.removed.contains(&destination) || too_many {
            return;
        }
        let options = self.options[destination].clone();
        self.shells[shell].running = Some(Running {
            subject: Subject::new(
                options.clone(),
                Arc::clone(&self.plan.destinations[destination].id),
                self.watching.mutant,
            ),
            watch: Watch::new(
                options,
                Arc::clone(&self.plan.destinations[destination].id),
                self.patience(destination),
                self.plan.class == Class::Long
                    && self.oracle.is_calm()
                    && self.plan.destinations[destination].keys == 0,
            ),
            suspicions: BTreeMap::new(),
            owned: BTreeMap::new(),
            gone: BTreeMap::new(),
            epochs_ever: 0,
            callback: None,
            commits_waiting: Vec::new(),
            last_commit_told: 0,
            last_commit_arrives: 0,
            last_commit_answered: 0,
            found_out: false,
            stopping: false,
            drained: None,
            wake_at: None,
            poll_due: false,
        });
        trace!(
            self,
            "shell {shell} starts, life {}", self.shells[shell].life
        );
        let wait = self.wait(0, 300);
        self.note(shell, wait, Note::Join);
    }

    /// The process ends, whatever it was doing. What it has sent goes on without it.
    fn end_process(&mut self, shell: usize) {
        let shell = &mut self.shells[shell];
        shell.running = None;
        shell.member = None;
        shell.life += 1;
        shell.frozen_until = 0;
    }

    pub(crate) fn crash_instance(&mut self, instance: usize) {
        let session = self.plan.session;
        self.each(instance, |world, shell| {
            let Shell {
                destination,
                member,
                ref running,
                ..
            } = world.shells[shell];
            if running.is_none() {
                return;
            }
            world.coverage.see(Seen::Crashes);
            world.end_process(shell);
            if let Some(member) = member {
                world.after(
                    session,
                    What::SessionEnds {
                        group: destination,
                        member,
                    },
                );
            }
        });
        let wait = self.wait(100, 60_000);
        self.after(wait, What::Step(Step::Start(instance)));
    }

    /// The process stands still; requests and commits on their way do not.
    pub(crate) fn freeze_instance(&mut self, instance: usize, time: Time) {
        let until = self.now + time;
        let session = self.plan.session;
        self.each(instance, |world, shell| {
            let Shell {
                destination,
                member,
                ref running,
                frozen_until,
                ..
            } = world.shells[shell];
            if running.is_none() || frozen_until > world.now {
                return;
            }
            world.coverage.see(Seen::Freezes);
            world.shells[shell].frozen_until = until;
            if let Some(member) = member
                && time > session
            {
                world.after(
                    session,
                    What::SessionEnds {
                        group: destination,
                        member,
                    },
                );
            }
        });
    }

    // === Draining ===

    /// A graceful end: drain, commit, leave the group.
    fn stop(&mut self, shell: usize) {
        let Shell {
            destination,
            member,
            ref running,
            ..
        } = self.shells[shell];
        let Some(running) = running else { return };
        if running.stopping {
            return;
        }
        let group = &self.broker.groups[destination];
        let busy = member
            .and_then(|member| group.members.get(&member))
            .is_some_and(|member| member.busy);
        let in_callback = running.callback.is_some();
        // A signal can come in the middle of a callback, but not between the broker's decision and the callback that tells of it.
        let waits = if in_callback {
            self.oracle.is_calm() || self.rng.chance(50)
        } else {
            busy
        };
        if waits {
            return self.note(shell, 5 * MILLISECOND, Note::Stop);
        }
        if in_callback {
            self.coverage.see(Seen::DrainsDuringRevoke);
        }
        if let Some(running) = &mut self.shells[shell].running {
            running.stopping = true;
        }
        let deadline = tick(self.now + self.plan.drain_wait);
        self.tell(shell, Event::Drain { deadline });
    }

    /// The last commit, once the lane is drained and no callback is under way.
    fn commit_last(&mut self, shell: usize) {
        let Some(running) = &mut self.shells[shell].running else {
            return;
        };
        if running.callback.is_some() {
            return;
        }
        let Some(positions) = running.drained.take() else {
            return;
        };
        if !self.send_commit(shell, &positions, CommitPurpose::Leave) {
            self.leave(shell);
        }
    }

    pub(crate) fn leave(&mut self, shell: usize) {
        let Shell {
            destination,
            member,
            ..
        } = self.shells[shell];
        trace!(self, "shell {shell} leaves");
        if let Some(member) = member {
            self.broker.groups[destination].remove_member(member);
            self.want_rebalance(destination, 10 * MILLISECOND);
        }
        self.end_process(shell);
        if std::mem::take(&mut self.shells[shell].reloads) || self.faults_over {
            let Shell { instance, .. } = self.shells[shell];
            self.after(SECOND, What::Step(Step::Start(instance)));
        }
    }
}
