//! One record alone in the whole process: a lane asks for it, the others end their requests and begin none until it is over.
//!
//! That happens after the process has ended uncleanly, again and again, with that record under way, and never otherwise.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::lane::Event;

use super::lane_task::LaneTask;

/// Who asks for stillness, and who is still.
#[derive(Debug)]
pub(super) struct Stillness {
    state: Mutex<State>,
    /// Whether anybody asks: so that a lane with nothing to learn takes no lock.
    asked: AtomicBool,
    /// A lane has found the record that ended the process before.
    explained: AtomicBool,
    changed: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    /// Every lane, and whether it is still for the one that asks.
    lanes: BTreeMap<u64, bool>,
    /// The first has its turn.
    asking: VecDeque<u64>,
}

impl State {
    fn turn_ends(&mut self) {
        self.lanes.values_mut().for_each(|still| *still = false);
    }
}

/// What a lane is to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word {
    Hush,
    GoOn,
    Still,
}

impl Stillness {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            asked: AtomicBool::new(false),
            explained: AtomicBool::new(false),
            changed: watch::Sender::new(()),
        })
    }

    /// A place for one more lane.
    pub(super) fn seat(self: &Arc<Self>) -> Seat {
        let number = {
            let mut state = self.lock();
            state.next += 1;
            let number = state.next;
            state.lanes.insert(number, false);
            number
        };
        Seat {
            number,
            changed: self.changed.subscribe(),
            told: Word::GoOn,
            told_why: false,
            stillness: Arc::clone(self),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One lane's place.
#[derive(Debug)]
pub(super) struct Seat {
    number: u64,
    stillness: Arc<Stillness>,
    changed: watch::Receiver<()>,
    /// What the lane was told last.
    told: Word,
    /// Whether it knows why the process ended before.
    told_why: bool,
}

impl Seat {
    /// Ends when something has changed since the last look.
    pub(super) async fn changed(&mut self) {
        // The sender lives as long as the seat.
        if self.changed.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    pub(super) fn ask(&mut self) {
        let mut state = self.stillness.lock();
        if !state.asking.contains(&self.number) {
            state.asking.push_back(self.number);
        }
        self.stillness.asked.store(true, Ordering::Release);
        drop(state);
        self.stillness.changed.send_replace(());
    }

    pub(super) fn end(&mut self) {
        let mut state = self.stillness.lock();
        if state.asking.front() == Some(&self.number) {
            state.turn_ends();
        }
        state.asking.retain(|asking| *asking != self.number);
        let asked = !state.asking.is_empty();
        self.stillness.asked.store(asked, Ordering::Release);
        drop(state);
        // Who was hushed meanwhile is still to hear that it is over.
        if self.told == Word::Still {
            self.told = Word::GoOn;
        }
        self.stillness.changed.send_replace(());
    }

    /// This lane has found what ended the process before.
    pub(super) fn explain(&self) {
        self.stillness.explained.store(true, Ordering::Release);
        self.stillness.changed.send_replace(());
    }

    /// Whether it is known since the last look why the process ended before.
    fn hears_why(&mut self) -> bool {
        let explained = !self.told_why && self.stillness.explained.load(Ordering::Acquire);
        self.told_why |= explained;
        explained
    }

    /// What is to be told to a lane that is still, or is not; `None`: nothing new.
    fn look(&mut self, is_still: bool) -> Option<Word> {
        if self.told == Word::GoOn && !self.stillness.asked.load(Ordering::Acquire) {
            return None;
        }
        let mut state = self.stillness.lock();
        let first = state.asking.front().copied();
        let word = match first {
            None => Word::GoOn,
            Some(first) if first != self.number => {
                let is_still = is_still && self.told == Word::Hush;
                if is_still && state.lanes.insert(self.number, true) == Some(false) {
                    self.stillness.changed.send_replace(());
                }
                Word::Hush
            }
            Some(_) => {
                let others = state.lanes.iter().filter(|(n, _)| **n != self.number);
                let all = others.into_iter().all(|(_, still)| *still);
                if all { Word::Still } else { Word::GoOn }
            }
        };
        let before = std::mem::replace(&mut self.told, word);
        (before != word).then_some(word)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.end();
        self.stillness.lock().lanes.remove(&self.number);
        self.stillness.changed.send_replace(());
    }
}

impl LaneTask {
    /// Tells the machine what others ask for, and others whether this lane is still.
    pub(super) fn look_around(&mut self) {
        if self.parts.seat.hears_why() {
            self.tell(Event::Explained);
        }
        while let Some(word) = self.parts.seat.look(self.parts.lane.is_still()) {
            self.tell(match word {
                Word::Hush => Event::Hush(true),
                Word::GoOn => Event::Hush(false),
                Word::Still => Event::Still,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_finds_the_cause_tells_everybody_once() {
        let stillness = Stillness::new();
        let [mut one, mut two] = [(); 2].map(|()| stillness.seat());
        assert!(!two.hears_why());
        one.explain();
        assert!(one.hears_why() && two.hears_why());
        assert!(!two.hears_why());
    }

    #[test]
    fn who_takes_its_question_back_while_hushed_hears_when_that_is_over() {
        let stillness = Stillness::new();
        let [mut one, mut two] = [(); 2].map(|()| stillness.seat());
        two.ask();
        one.ask();
        assert_eq!(one.look(true), Some(Word::Hush));
        two.end();
        one.end();
        assert_eq!(one.look(true), Some(Word::GoOn));
    }

    #[test]
    fn the_first_to_ask_is_alone_when_the_others_have_ended_their_requests() {
        let stillness = Stillness::new();
        let [mut one, mut two, mut three] = [(); 3].map(|()| stillness.seat());
        assert_eq!(one.look(false), None);
        one.ask();
        two.ask();
        assert_eq!(one.look(false), None, "the others were not heard");
        assert_eq!(two.look(true), Some(Word::Hush));
        assert_eq!(two.look(true), None);
        assert_eq!(three.look(false), Some(Word::Hush));
        assert_eq!(three.look(false), None);
        assert_eq!(one.look(true), None, "a request of the third is under way");
        assert_eq!(three.look(true), None);
        assert_eq!(one.look(true), Some(Word::Still));
        one.end();
        assert_eq!(one.look(true), Some(Word::Hush), "the second's turn");
        assert_eq!(one.look(true), None);
        assert_eq!(two.look(true), Some(Word::GoOn));
        drop(three);
        assert_eq!(two.look(true), Some(Word::Still));
        drop(two);
        assert_eq!(one.look(true), Some(Word::GoOn));
    }
}
