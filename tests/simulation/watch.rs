//! A book kept beside each lane: what it was told, what it asked for, and whether the one follows from the other.
//!
//! The bounds, the law, the fences and the order of attempts are checked here, step by step.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use postrider::clock::Now;
use postrider::delivery::{Attempt, DeliveryKey, Epoch, Outcome};
use postrider::lane::{Action, Event, Incoming, LaneOptions, Position};

use crate::book::{Assignment, Book, least_wait, progress_of};
use crate::check::{Violation, ensure};
use crate::mutant::Subject;
use crate::pace::Pace;
use crate::world::{MILLISECOND, SECOND, Time, time_of};

/// Wall clocks show milliseconds, so what was meant for a moment may come that much before it.
const CLOCK_GRAIN: Time = 2 * MILLISECOND;

/// What is known of one lane.
#[derive(Debug)]
pub(crate) struct Watch {
    pub(crate) options: LaneOptions,
    /// How long a record may wait here that is taken at its first try; when nothing else goes wrong.
    patience: Option<Time>,
    /// Endpoints that are open, and since when; looked at when nothing else keeps a record in the window.
    pub(crate) open: BTreeMap<Arc<str>, Time>,
    pub(crate) looks_at_shares: bool,
    destination_id: Arc<str>,
    pace: Pace,
    pub(crate) epochs: BTreeMap<Epoch, Assignment>,
    /// Requests under way for assignments that are not over.
    in_flight: usize,
    unsettled: usize,
    unsettled_bytes: usize,
    /// The weight of the heaviest record of the last chunk: so much may be over the bound.
    over: usize,
    held_until: BTreeMap<Option<Arc<str>>, Time>,
    /// The endpoints of what was sent: an answer counts for its endpoint after the end of its assignment as well.
    endpoints_asked: BTreeMap<DeliveryKey, Option<Arc<str>>>,
    revoking: Vec<(Vec<Epoch>, Time)>,
    draining: Option<Time>,
    drained: bool,
}

impl Watch {
    pub(crate) fn new(
        options: LaneOptions,
        destination_id: Arc<str>,
        patience: Option<Time>,
        looks_at_shares: bool,
    ) -> Self {
        Self {
            pace: Pace::new(&options.rate),
            options,
            destination_id,
            patience,
            open: BTreeMap::new(),
            looks_at_shares,
            epochs: BTreeMap::new(),
            in_flight: 0,
            unsettled: 0,
            unsettled_bytes: 0,
            over: 0,
            held_until: BTreeMap::new(),
            endpoints_asked: BTreeMap::new(),
            revoking: Vec::new(),
            draining: None,
            drained: false,
        }
    }

    pub(crate) fn is_over(&self, epoch: Epoch) -> bool {
        !self.epochs.contains_key(&epoch)
    }

    pub(crate) fn is_busy(&self, epochs: &[Epoch]) -> bool {
        let busy = |book: &Book| book.in_flight || book.writing;
        epochs
            .iter()
            .filter_map(|epoch| self.epochs.get(epoch))
            .any(|a| a.unsettled.values().any(busy))
    }

    pub(crate) fn is_in_flight(&self, key: DeliveryKey) -> bool {
        let assignment = self.epochs.get(&key.epoch);
        assignment
            .and_then(|a| a.unsettled.get(&key.offset))
            .is_some_and(|book| book.in_flight)
    }

    /// The wall clock jumped. What is due by it may be due sooner.
    pub(crate) fn jumps(&mut self, ahead: Time) {
        for assignment in self.epochs.values_mut() {
            for book in assignment.unsettled.values_mut() {
                book.not_before = book.not_before.saturating_sub(ahead);
            }
        }
    }

    /// A record was taken. When it was its first try, nothing that is wrong with others may have kept it.
    pub(crate) fn waited(&self, now: Time, key: DeliveryKey) -> Result<(), Violation> {
        let assignment = self.epochs.get(&key.epoch);
        let book = assignment.and_then(|assignment| assignment.unsettled.get(&key.offset));
        let (Some(book), Some(patience)) = (book, self.patience) else {
            return Ok(());
        };
        let waited = now - book.read_at;
        ensure!(
            book.spent_at_most > 0 || book.last_ended > 0 || waited <= patience,
            Standstill,
            "{key:?} waited for {} s to be taken at its first try",
            waited / SECOND
        );
        Ok(())
    }

    // === What the lane is told ===

    pub(crate) fn told(&mut self, now: Now, event: &Event) {
        match event {
            Event::Assigned {
                cluster_id,
                partitions,
            } => {
                for partition in partitions {
                    let assignment = Assignment {
                        progress: progress_of(cluster_id, &self.destination_id, partition),
                        taken: BTreeSet::new(),
                        base: partition.base,
                        read_to: partition.base,
                        start_committed: partition.committed,
                        begun: false,
                        leaving: false,
                        paused: false,
                        unsettled: BTreeMap::new(),
                    };
                    self.epochs.insert(partition.epoch, assignment);
                }
            }
            Event::Committed { positions } => {
                for Position { epoch, .. } in positions {
                    if let Some(assignment) = self.epochs.get_mut(epoch) {
                        assignment.start_committed = true;
                    }
                }
            }
            Event::Revoking { epochs, deadline } => {
                for epoch in epochs {
                    if let Some(assignment) = self.epochs.get_mut(epoch) {
                        assignment.leaving = true;
                    }
                }
                self.revoking.push((epochs.clone(), time_of(*deadline)));
            }
            Event::Lost { epochs } => self.fence(epochs),
            Event::Read { epoch, records } => self.read(now, *epoch, records),
            Event::EndOfPartition { .. }
            | Event::SteppedOver { .. }
            | Event::Aborted { .. }
            | Event::Ordered(_)
            | Event::Hush(_)
            | Event::Still
            | Event::Explained
            | Event::Changed { .. }
            | Event::Allotted(_)
            | Event::TimePassed => {}
            Event::AttemptEnded { key, attempt } => self.attempt_ended(now, *key, attempt),
            Event::WriteEnded { key, result } => {
                if let Some(book) = self.book(*key) {
                    book.writing = false;
                    if result.is_ok() {
                        self.settle(*key);
                    }
                }
            }
            Event::Drain { deadline } => {
                self.draining.get_or_insert(time_of(*deadline));
                for assignment in self.epochs.values_mut() {
                    assignment.leaving = true;
                }
            }
        }
    }

    fn read(&mut self, now: Now, epoch: Epoch, records: &[Incoming]) {
        let Some(assignment) = self.epochs.get_mut(&epoch) else {
            return;
        };
        self.over = 0;
        for incoming in records {
            let Some(book) = assignment.takes(now, incoming) else {
                continue;
            };
            self.unsettled += 1;
            self.unsettled_bytes += book.weight;
            self.over = self.over.max(book.weight);
            assignment.unsettled.insert(incoming.offset, book);
        }
    }

    fn attempt_ended(&mut self, now: Now, key: DeliveryKey, attempt: &Attempt) {
        let now = time_of(now.tick);
        let longest_hold = self.options.retry.retry_after_max;
        let repeats = matches!(
            attempt.outcome,
            Outcome::Retry | Outcome::EndpointFault | Outcome::Gone
        );
        // A push-back that only this record gets holds nobody.
        if repeats && let Some(asked) = attempt.retry_after {
            let hold = asked.min(longest_hold).as_nanos() as Time;
            let endpoint = self.endpoints_asked.get(&key).cloned().flatten();
            let until = self.held_until.entry(endpoint).or_default();
            *until = (*until).max(now + hold);
        }
        let Some(book) = self.book(key) else { return };
        book.in_flight = false;
        book.last_ended = now;
        book.spent_at_most += 1;
        if !repeats && attempt.outcome != Outcome::PushBack {
            book.spent += 1;
        }
        self.in_flight -= 1;
        if matches!(attempt.outcome, Outcome::Delivered | Outcome::Dropped) {
            self.settle(key);
        }
    }

    fn book(&mut self, key: DeliveryKey) -> Option<&mut Book> {
        self.epochs
            .get_mut(&key.epoch)?
            .unsettled
            .get_mut(&key.offset)
    }

    fn settle(&mut self, key: DeliveryKey) {
        if let Some(book) = self
            .epochs
            .get_mut(&key.epoch)
            .and_then(|a| a.unsettled.remove(&key.offset))
        {
            self.unsettled -= 1;
            self.unsettled_bytes -= book.weight;
        }
    }

    fn fence(&mut self, epochs: &[Epoch]) {
        for epoch in epochs {
            let Some(assignment) = self.epochs.remove(epoch) else {
                continue;
            };
            for book in assignment.unsettled.values() {
                self.unsettled -= 1;
                self.unsettled_bytes -= book.weight;
                self.in_flight -= usize::from(book.in_flight);
            }
        }
    }

    // === What the lane asks for ===

    pub(crate) fn asked(&mut self, now: Now, action: &Action) -> Result<(), Violation> {
        // What is revoked after the drain is answered as well, though there is nothing left to say.
        ensure!(
            !self.drained || matches!(action, Action::Revoked { .. } | Action::Tell(_)),
            Handover,
            "the lane asks for something after it was drained: {action:?}"
        );
        match action {
            Action::Send(send) => self.sends(now, send.key, send.attempt),
            Action::Abort { .. } => Ok(()),
            Action::WriteDeadLetter(letter) => self.writes(letter.key, letter.attempts),
            Action::WriteLadder(rung) => self.writes(rung.key, rung.carried.attempts),
            Action::AskForStillness | Action::EndStillness => Ok(()),
            Action::Tell(notice) => {
                self.hears(now, notice);
                Ok(())
            }
            Action::Commit { positions } => self.commits(positions),
            Action::Revoked { epochs, positions } => {
                let asked = self.revoking.iter().position(|(asked, _)| asked == epochs);
                let Some(asked) = asked else {
                    return Err(Violation::new(
                        crate::check::Check::Handover,
                        format!("nobody asked for {action:?}"),
                    ));
                };
                self.revoking.remove(asked);
                self.commits(positions)?;
                self.fence(epochs);
                Ok(())
            }
            Action::Drained { positions } => {
                ensure!(
                    self.draining.is_some(),
                    Handover,
                    "nobody asked for {action:?}"
                );
                let unanswered = &self.revoking;
                ensure!(
                    unanswered.is_empty(),
                    Handover,
                    "drained, but the revoke {unanswered:?} was not answered"
                );
                self.commits(positions)?;
                let all: Vec<Epoch> = self.epochs.keys().copied().collect();
                self.fence(&all);
                self.drained = true;
                Ok(())
            }
            Action::Pause(epoch) => self.set_paused(*epoch, true),
            Action::Resume(epoch) => self.set_paused(*epoch, false),
        }
    }

    fn set_paused(&mut self, epoch: Epoch, paused: bool) -> Result<(), Violation> {
        if let Some(assignment) = self.epochs.get_mut(&epoch) {
            ensure!(
                assignment.paused != paused,
                Fence,
                "{epoch:?} is paused or resumed twice"
            );
            assignment.paused = paused;
        }
        Ok(())
    }

    fn sends(&mut self, now: Now, key: DeliveryKey, attempt: u32) -> Result<(), Violation> {
        let now = time_of(now.tick);
        let Some(assignment) = self.epochs.get_mut(&key.epoch) else {
            return Err(Violation::new(
                crate::check::Check::Fence,
                format!("{key:?} is sent after its assignment ended"),
            ));
        };
        ensure!(
            assignment.start_committed,
            Start,
            "{key:?} is sent before its partition's start is committed"
        );
        ensure!(
            !assignment.leaving,
            Fence,
            "{key:?} is sent while its partition is being given away"
        );
        assignment.begun = true;
        let Some(book) = assignment.unsettled.get_mut(&key.offset) else {
            return Err(Violation::new(
                crate::check::Check::Attempt,
                format!("{key:?} is sent, but it is settled or was never read"),
            ));
        };
        ensure!(
            !book.in_flight && !book.writing,
            Attempt,
            "{key:?} is sent while something else is under way for it: {book:?}"
        );
        ensure!(
            (book.spent..=book.spent_at_most).contains(&(attempt - 1)),
            Attempt,
            "{key:?} has spent {} to {} attempts, and this one has the number {attempt}",
            book.spent,
            book.spent_at_most
        );
        let held_until = self.held_until.get(&book.endpoint).copied().unwrap_or(0);
        self.endpoints_asked.insert(key, book.endpoint.clone());
        if attempt - 1 > book.spent {
            book.not_before = book.last_ended + least_wait(&self.options, attempt - 1);
        }
        book.spent = attempt - 1;
        book.spent_at_most = attempt - 1;
        ensure!(
            now + CLOCK_GRAIN >= book.not_before,
            Attempt,
            "{key:?} is sent at {now}, before its time {}",
            book.not_before
        );
        ensure!(
            now >= held_until,
            Attempt,
            "{key:?} is sent at {now}; the endpoint asked to be left alone until {held_until}"
        );
        self.pace.sends(now)?;
        book.in_flight = true;
        self.in_flight += 1;
        ensure!(
            self.in_flight <= self.options.concurrency,
            Bounds,
            "{} requests under way, {} allowed",
            self.in_flight,
            self.options.concurrency
        );
        Ok(())
    }

    fn writes(&mut self, key: DeliveryKey, attempts: u32) -> Result<(), Violation> {
        if let Some(assignment) = self.epochs.get_mut(&key.epoch) {
            assignment.begun = true;
        }
        let Some(book) = self.book(key) else {
            return Err(Violation::new(
                crate::check::Check::Fence,
                format!("a write for {key:?}, which is settled or not ours"),
            ));
        };
        ensure!(
            !book.in_flight && !book.writing,
            Attempt,
            "a write for {key:?} while something is under way: {book:?}"
        );
        ensure!(
            (book.spent..=book.spent_at_most).contains(&attempts),
            DeadLetter,
            "what is written of {key:?} says {attempts} attempts, there were {} to {}",
            book.spent,
            book.spent_at_most
        );
        book.writing = true;
        Ok(())
    }

    fn commits(&self, positions: &[Position]) -> Result<(), Violation> {
        for Position { epoch, offset, .. } in positions {
            let Some(assignment) = self.epochs.get(epoch) else {
                return Err(Violation::new(
                    crate::check::Check::Fence,
                    format!("{offset} is to be committed for {epoch:?}, which is over"),
                ));
            };
            ensure!(
                *offset >= assignment.base,
                CommitRange,
                "{epoch:?} is to be committed at {offset}, below its base {}",
                assignment.base
            );
            let max = assignment.position_max();
            ensure!(
                *offset <= max,
                Commit,
                "{epoch:?} is to be committed at {offset}, but {max} is not settled"
            );
        }
        Ok(())
    }

    // === After each step ===

    pub(crate) fn after(&self, now: Now, subject: &Subject) -> Result<(), Violation> {
        let now = time_of(now.tick);
        let (counts, waiting) = (subject.counts(), subject.waiting());
        let balance = counts.settled_total() + counts.released + waiting.total() as u64;
        ensure!(
            counts.read == balance,
            Balance,
            "read {} but {balance} settled, released or waiting: {counts:?} {waiting:?}",
            counts.read
        );
        ensure!(
            waiting.total() == self.unsettled,
            Balance,
            "{} records are unsettled, the lane says {waiting:?}",
            self.unsettled
        );
        let window = &self.options.window;
        ensure!(
            self.unsettled <= window.records,
            Bounds,
            "{} records in a window of {}",
            self.unsettled,
            window.records
        );
        ensure!(
            self.unsettled_bytes <= window.bytes + self.over,
            Bounds,
            "{} bytes in a window of {} with records of up to {}",
            self.unsettled_bytes,
            window.bytes,
            self.over
        );
        for (epochs, deadline) in &self.revoking {
            ensure!(
                now < *deadline,
                Handover,
                "the revoke of {epochs:?} was to be answered by {deadline}, it is {now}"
            );
            ensure!(
                subject
                    .poll_timeout()
                    .is_some_and(|t| time_of(t) <= *deadline),
                Handover,
                "the lane would sleep past a revoke's deadline"
            );
        }
        let late = !self.drained && self.draining.is_some_and(|deadline| now >= deadline);
        ensure!(
            !late,
            Handover,
            "the drain was to be answered by {:?}, it is {now}",
            self.draining
        );
        self.shares(now)?;
        self.distances()
    }

    fn distances(&self) -> Result<(), Violation> {
        for (epoch, assignment) in &self.epochs {
            let oldest = assignment.unsettled.keys().next().copied();
            let distance = assignment.read_to - oldest.unwrap_or(assignment.read_to);
            let limit = self.options.window.distance;
            ensure!(
                assignment.paused || distance <= limit,
                Bounds,
                "{epoch:?} is read {distance} ahead and goes on; {limit} allowed"
            );
            let stuck = assignment.paused && oldest.is_none();
            ensure!(
                !stuck,
                Bounds,
                "{epoch:?} is paused although nothing of it waits"
            );
        }
        Ok(())
    }
}
