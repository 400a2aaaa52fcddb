//! Hands events to the real lane, checks every step of it, and does what it asks.

use postrider::clock::Now;
use postrider::delivery::{DeliveryKey, Epoch};
use postrider::lane::{Action, Event};

use crate::check::{Check, Violation, ensure};
use crate::coverage::Seen;
use crate::instance::{Note, Running, Shell};
use crate::world::{Time, World, time_of, trace};

impl World {
    /// The lane hears of something.
    pub(crate) fn tell(&mut self, shell: usize, event: Event) {
        let late = match &event {
            Event::AttemptEnded { key, .. } => Some((*key, Seen::StaleAttempts)),
            Event::WriteEnded { key, .. } => Some((*key, Seen::StaleWrites)),
            _ => None,
        };
        match late {
            Some((key, seen))
                if self.shells[shell]
                    .running
                    .as_ref()
                    .is_some_and(|r| r.watch.is_over(key.epoch)) =>
            {
                self.tell_late(shell, key, seen, event);
            }
            _ => {
                self.tell_now(shell, event);
            }
        }
    }

    /// A result of an assignment that is over must change nothing that is settled.
    fn tell_late(&mut self, shell: usize, key: DeliveryKey, seen: Seen, event: Event) {
        self.coverage.see(seen);
        self.see_what_it_could_hit(shell, key);
        // Whatever time alone brings about happens first.
        self.tell_now(shell, Event::TimePassed);
        let counts = |world: &Self| {
            world.shells[shell]
                .running
                .as_ref()
                .map(|running| running.subject.counts().clone())
        };
        let Some(before) = counts(self) else { return };
        let words = if self.watching.steps {
            format!("{event:?}")
        } else {
            String::new()
        };
        self.tell_now(shell, event);
        let Some(after) = counts(self) else { return };
        let same = before.settled == after.settled
            && before.released == after.released
            && before.dead_letters == after.dead_letters;
        if self.watching.steps && !same {
            self.fail(Violation::new(
                Check::Fence,
                format!("a late result changed something: {words}"),
            ));
        }
    }

    /// Notes how much harm a late result could do.
    fn see_what_it_could_hit(&mut self, shell: usize, key: DeliveryKey) {
        let Some(running) = &self.shells[shell].running else {
            return;
        };
        let there = |epoch: &Epoch| {
            running.watch.is_in_flight(DeliveryKey {
                epoch: *epoch,
                offset: key.offset,
            })
        };
        if running.owned.keys().any(there) {
            self.coverage.see(Seen::StaleWhileSameOffsetInFlight);
        }
    }

    fn tell_now(&mut self, shell: usize, event: Event) {
        if self.has_failed() {
            return;
        }
        trace!(self, "shell {shell} <- {}", brief(&event));
        let now = self.now(shell);
        let steps = self.watching.steps;
        let Some(running) = &mut self.shells[shell].running else {
            return;
        };
        let at_deadline = matches!(event, Event::TimePassed) && running.busy_handover();
        running.watch.told(now, &event);
        running.subject.handle(now, event);
        let mut actions = Vec::new();
        while let Some(action) = running.subject.poll_action() {
            actions.push(action);
        }
        let checked = if steps {
            running.check(now, &actions)
        } else {
            running.note(now, &actions)
        };
        self.judge(checked);
        for action in actions {
            trace!(self, "shell {shell} -> {}", brief_action(&action));
            self.perform(shell, action, at_deadline);
        }
        self.set_alarm(shell);
        self.want_poll(shell);
    }

    fn perform(&mut self, shell: usize, action: Action, busy: bool) {
        let (now, wait) = (self.now, self.wait(0, 30));
        let Shell {
            destination,
            member,
            ref mut running,
            ..
        } = self.shells[shell];
        let Some(running) = running else { return };
        match action {
            Action::Send(send) => {
                let tp = running.owned.get(&send.key.epoch).map(|owned| owned.tp);
                let group = &self.broker.groups[destination];
                let expelled = member.is_none_or(|member| !group.members.contains_key(&member));
                let uncommitted = tp.is_some_and(|tp| {
                    self.broker.log(tp).is_some() && !group.committed.contains_key(&tp)
                });
                if expelled {
                    self.coverage.see(Seen::SendsByExpelledMembers);
                }
                if uncommitted {
                    let words = format!(
                        "{:?} is sent although nothing of {tp:?} is committed",
                        send.key
                    );
                    self.fail(Violation::new(Check::Start, words));
                }
                self.send(shell, send);
            }
            Action::Abort { keys } => self.abort(shell, &keys),
            Action::WriteDeadLetter(letter) => self.write(shell, *letter),
            Action::WriteLadder(record) => self.write_ladder(shell, *record),
            Action::Tell(notice) => self.told_of(shell, &notice),
            Action::Commit { positions } => {
                let told = (now + wait).max(running.last_commit_told);
                running.last_commit_told = told;
                self.note(shell, told - now, Note::Commit(positions));
            }
            Action::Revoked { positions, .. } => {
                if let Some(callback) = &mut running.callback {
                    callback.revoked = Some(positions);
                }
                if busy {
                    self.coverage.see(Seen::RevokesAtDeadline);
                }
                let told = now.max(running.last_commit_told);
                self.note(shell, told - now, Note::RevokeAnswered);
            }
            Action::Drained { positions } => {
                running.drained = Some(positions);
                let told = now.max(running.last_commit_told);
                self.coverage.see(if busy {
                    Seen::DrainsAtDeadline
                } else {
                    Seen::DrainsAnswered
                });
                self.note(shell, told - now, Note::Leave);
            }
            Action::Pause(epoch) => {
                if let Some(owned) = running.owned.get_mut(&epoch) {
                    owned.paused = true;
                    self.coverage.see(Seen::Pauses);
                }
            }
            Action::Resume(epoch) => {
                if let Some(owned) = running.owned.get_mut(&epoch) {
                    owned.paused = false;
                    self.coverage.see(Seen::Resumes);
                }
            }
        }
    }

    // === Time ===

    /// Wakes the lane when it asked for it. A clock may be a little late, but not when somebody waits for an answer.
    fn set_alarm(&mut self, shell: usize) {
        let lag = self.plan.wake_lag;
        let now = self.now;
        let Some(running) = &mut self.shells[shell].running else {
            return;
        };
        let Some(due) = running.subject.poll_timeout() else {
            return;
        };
        let waited_for = running.stopping || running.callback.is_some();
        let at = time_of(due).max(now) + if waited_for { 0 } else { lag };
        if running.wake_at.is_none_or(|wake_at| at < wake_at) {
            running.wake_at = Some(at);
            self.note(shell, at - now, Note::Wake(at));
        }
    }

    pub(crate) fn wake(&mut self, shell: usize, at: Time) {
        let now = self.now;
        let Some(running) = self.running(shell) else {
            return;
        };
        if running.wake_at != Some(at) {
            return;
        }
        running.wake_at = None;
        if running
            .subject
            .poll_timeout()
            .is_none_or(|due| time_of(due) > now)
        {
            return self.set_alarm(shell);
        }
        self.tell(shell, Event::TimePassed);
        let Some(running) = self.running(shell) else {
            return;
        };
        let due = running.subject.poll_timeout();
        let idle = due.is_some_and(|due| time_of(due) <= now);
        if idle {
            let words = format!(
                "shell {shell} was told that it is {now}, and wants to be told again by {due:?}"
            );
            self.fail(Violation::new(Check::Busy, words));
        }
    }
}

impl Running {
    /// Whether something is under way that a revoke or a drain waits for.
    fn busy_handover(&self) -> bool {
        let all: Vec<Epoch>;
        let epochs = match &self.callback {
            Some(callback) if !callback.revoke.is_empty() => &callback.revoke,
            _ if self.stopping => {
                all = self.owned.keys().copied().collect();
                &all
            }
            _ => return false,
        };
        self.watch.is_busy(epochs)
    }

    fn check(&mut self, now: Now, actions: &[Action]) -> Result<(), Violation> {
        for action in actions {
            self.watch.asked(now, action)?;
        }
        self.watch.after(now, &self.subject)?;
        let expected = self.owned.len();
        ensure!(expected < 1000, Bounds, "{expected} assignments");
        Ok(())
    }

    /// Keeps the book without judging.
    fn note(&mut self, now: Now, actions: &[Action]) -> Result<(), Violation> {
        for action in actions {
            let _judged_elsewhere = self.watch.asked(now, action);
        }
        Ok(())
    }
}

fn brief(event: &Event) -> String {
    match event {
        Event::Read { epoch, records } => {
            let offsets: Vec<i64> = records.iter().map(|incoming| incoming.offset).collect();
            format!("Read {epoch:?} {offsets:?}")
        }
        Event::AttemptEnded { key, attempt } => {
            format!(
                "AttemptEnded {key:?} {:?} {:?} {:?}",
                attempt.outcome, attempt.reason, attempt.retry_after
            )
        }
        other => format!("{other:?}"),
    }
}

fn brief_action(action: &Action) -> String {
    match action {
        Action::Send(send) => format!("Send {:?} {} attempt {}", send.key, send.id, send.attempt),
        Action::WriteDeadLetter(letter) => format!(
            "WriteDeadLetter {:?} {:?} {:?}",
            letter.key, letter.reason, letter.shed
        ),
        other => format!("{other:?}"),
    }
}
