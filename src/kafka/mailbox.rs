//! What a lane tells its consumer thread. Bounded by its shape: every field holds the latest word, none queues.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::{Tick, Timestamp};
use crate::delivery::Epoch;
use crate::lane::{Place, Position};

use super::extent::LadderExtent;

/// The box between a lane's task, which writes, and its consumer thread, which takes. Writing never waits.
#[derive(Debug, Default)]
pub struct Mailbox {
    mail: Mutex<Mail>,
    arrived: Condvar,
}

#[derive(Debug, Default)]
struct Mail {
    allowance: Allowance,
    commit: BTreeMap<Epoch, Position>,
    paused: BTreeMap<Epoch, bool>,
    topics: Option<Vec<String>>,
    look_again: bool,
    ladder: Option<Arc<LadderExtent>>,
    away: Option<bool>,
    release: Option<Timestamp>,
    step_over: BTreeSet<Place>,
    revoked: Option<Vec<Position>>,
    close: Option<(Vec<Position>, Tick)>,
    /// Whether there is something that the thread has not seen: here, or in a queue of its client.
    stirred: bool,
    /// Whether the thread waits for room. Else it need not be woken for more of it.
    is_full: bool,
}

/// How much the thread may have read since it started, all told. Totals, not remainders: so nothing is counted twice however the two sides
/// interleave.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Allowance {
    /// Records.
    pub records: u64,
    /// Bytes, by weight.
    pub bytes: u64,
}

/// What was in the box.
#[derive(Debug, Default)]
pub(super) struct Orders {
    pub(super) allowance: Allowance,
    /// Positions to commit.
    pub(super) commit: Vec<Position>,
    /// Partitions to pause (true) or resume.
    pub(super) paused: BTreeMap<Epoch, bool>,
    /// The topics to read, when they have changed.
    pub(super) topics: Option<Vec<String>>,
    /// Whether a topic that was missing may be there now.
    pub(super) look_again: bool,
    /// How far the ladder goes, for whoever does not read it.
    pub(super) ladder: Option<Arc<LadderExtent>>,
    /// Whether to stay out of the group, when that was said.
    pub(super) away: Option<bool>,
    /// Records of the ladder that were written until then go in, whatever their step says.
    pub(super) release: Option<Timestamp>,
    /// The batches to step over that do not read, by the place that was said.
    pub(super) step_over: BTreeSet<Place>,
    /// The last positions before the consumer is closed, and until when their commit may be tried.
    pub(super) close: Option<(Vec<Position>, Tick)>,
}

impl Mailbox {
    /// Says how much may be read in total.
    pub fn allow(&self, allowance: Allowance) {
        let mut mail = self.lock();
        if mail.allowance != allowance {
            mail.allowance = allowance;
            if mail.is_full {
                self.arrived.notify_one();
            }
        }
    }

    /// Wakes the thread: something has come into a queue of its client, or nobody will write here any more.
    pub fn stir(&self) {
        self.write(|_| ());
    }

    fn write(&self, write: impl FnOnce(&mut Mail)) {
        let mut mail = self.lock();
        write(&mut mail);
        mail.stirred = true;
        self.arrived.notify_one();
    }

    /// Asks for a commit; a newer position of a partition replaces an older one that is still in the box.
    pub fn commit(&self, positions: &[Position]) {
        let positions = positions.iter().map(|p| (p.epoch, p.clone()));
        self.write(|mail| mail.commit.extend(positions));
    }

    /// Asks for a partition to be paused or resumed.
    pub fn pause(&self, epoch: Epoch, paused: bool) {
        self.write(|mail| mail.paused.extend([(epoch, paused)]));
    }

    /// Says which topics are to be read. The partitions of those that stay are not touched.
    pub fn subscribe(&self, topics: Vec<String>) {
        self.write(|mail| mail.topics = Some(topics));
    }

    /// Says that a topic which was missing is there now.
    pub fn look_again(&self) {
        self.write(|mail| mail.look_again = true);
    }

    /// Says how far the ladder goes: the thread tells the lane when it has to be read.
    pub fn look_at_ladder(&self, extent: &Arc<LadderExtent>) {
        self.write(|mail| mail.ladder = Some(Arc::clone(extent)));
    }

    /// Says whether to leave the group and stay out of it, after a hand-over like any other, or to be in it.
    pub fn stay_away(&self, away: bool) {
        self.write(|mail| mail.away = Some(away));
    }

    /// Lets the records of the ladder in that were written until `until`, whatever their step says.
    pub fn release(&self, until: Timestamp) {
        self.write(|mail| mail.release = mail.release.max(Some(until)));
    }

    /// Has a batch stepped over that does not read, if it stands there.
    pub fn step_over(&self, place: Place) {
        self.write(|mail| mail.step_over.extend([place]));
    }

    /// Answers a revocation with the last positions of what is taken away.
    pub fn revoked(&self, positions: Vec<Position>) {
        self.write(|mail| mail.revoked = Some(positions));
    }

    /// Asks for a last commit of these positions and the end of the consumer. A commit that the group takes only later is tried until `patience`
    /// ends.
    pub fn close(&self, positions: Vec<Position>, patience: Tick) {
        self.write(|mail| mail.close = Some((positions, patience)));
    }

    pub(super) fn take(&self) -> Orders {
        let mut mail = self.lock();
        mail.stirred = false;
        let commit = std::mem::take(&mut mail.commit);
        Orders {
            allowance: mail.allowance,
            commit: commit.into_values().collect(),
            paused: std::mem::take(&mut mail.paused),
            topics: mail.topics.take(),
            look_again: std::mem::take(&mut mail.look_again),
            ladder: mail.ladder.take(),
            away: mail.away.take(),
            release: mail.release.take(),
            step_over: std::mem::take(&mut mail.step_over),
            close: mail.close.take(),
        }
    }

    /// Waits until something has come since the last look, or the time is up. More room is something where what there was, `full`, is
    /// used up. Says whether something has come.
    pub(super) fn wait(&self, full: Option<Allowance>, time: Duration) -> bool {
        let mut mail = self.lock();
        mail.is_full = full.is_some();
        let unchanged = |mail: &mut Mail| {
            !mail.stirred && full.is_none_or(|allowance| mail.allowance == allowance)
        };
        let waited = self.arrived.wait_timeout_while(mail, time, unchanged);
        let (mut mail, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        mail.is_full = false;
        !timeout.timed_out()
    }

    /// Whether there is an order to leave the group that is not obeyed yet.
    pub(super) fn sends_away(&self) -> bool {
        self.lock().away == Some(true)
    }

    /// Throws away an answer that came too late for the revocation it belongs to.
    pub(super) fn forget_revoked(&self) {
        self.lock().revoked = None;
    }

    /// Waits for the answer to a revocation; `None` when the time is up. A lane that has ended already has said the last positions when it
    /// asked for the end of the consumer.
    pub(super) fn wait_for_revoked(&self, time: Duration) -> Option<Vec<Position>> {
        let unanswered = |mail: &mut Mail| mail.revoked.is_none();
        let waited = self
            .arrived
            .wait_timeout_while(self.lock(), time, unanswered);
        let (mut mail, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let mut positions = mail.revoked.take()?;
        let last = mail.close.iter().flat_map(|(positions, _)| positions);
        positions.extend(last.cloned());
        Some(positions)
    }

    /// A poisoned lock means a panic in the other thread, which ends the process anyway; the mail itself is always whole.
    fn lock(&self) -> MutexGuard<'_, Mail> {
        self.mail.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_to_leave_is_seen_until_it_is_obeyed() {
        let mailbox = Mailbox::default();
        assert!(!mailbox.sends_away());
        mailbox.stay_away(true);
        assert!(mailbox.sends_away());
        assert_eq!(mailbox.take().away, Some(true));
        assert!(!mailbox.sends_away());
        mailbox.stay_away(false);
        assert!(!mailbox.sends_away(), "to join is no reason not to read");
    }

    const LONG: Duration = Duration::from_secs(60);

    /// Whether the thread would go on waiting.
    fn waits(mailbox: &Mailbox, full: Option<Allowance>) -> bool {
        !mailbox.wait(full, Duration::from_millis(20))
    }

    #[test]
    fn whatever_comes_for_the_thread_wakes_it() {
        let words: [fn(&Mailbox); 8] = [
            |mailbox| mailbox.commit(&[]),
            |mailbox| mailbox.pause(Epoch(0), true),
            |mailbox| mailbox.subscribe(Vec::new()),
            Mailbox::look_again,
            |mailbox| mailbox.look_at_ladder(&Arc::default()),
            |mailbox| mailbox.stay_away(true),
            |mailbox| mailbox.release(Timestamp(1)),
            |mailbox| mailbox.close(Vec::new(), Tick::default()),
        ];
        for (number, say) in words.into_iter().enumerate() {
            let mailbox = Mailbox::default();
            say(&mailbox);
            assert!(!waits(&mailbox, None), "word {number}");
            mailbox.take();
            assert!(waits(&mailbox, None), "word {number} was seen");
        }
        let mailbox = std::sync::Arc::new(Mailbox::default());
        let other = std::sync::Arc::clone(&mailbox);
        let queue = std::thread::spawn(move || other.stir());
        assert!(mailbox.wait(None, LONG));
        queue.join().unwrap();
    }

    #[test]
    fn more_room_wakes_only_the_thread_that_has_none() {
        let mailbox = std::sync::Arc::new(Mailbox::default());
        let [some, more] = [1, 2].map(|records| Allowance { records, bytes: 1 });
        mailbox.allow(some);
        assert!(waits(&mailbox, None));
        assert!(!waits(&mailbox, Some(Allowance::default())));
        let other = std::sync::Arc::clone(&mailbox);
        let lane = std::thread::spawn(move || other.allow(more));
        assert!(mailbox.wait(Some(some), LONG));
        assert_eq!(mailbox.take().allowance, more);
        lane.join().unwrap();
    }
}
