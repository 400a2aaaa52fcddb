//! Who may be connected: so many at once, and when all places are taken, whoever has waited longest for a request of its own goes.
//!
//! So a crowd that connects and says nothing keeps out nobody who asks at once, a probe above all.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// The places of one listener.
#[derive(Debug)]
pub(super) struct Places {
    max: usize,
    state: Mutex<State>,
    /// Somebody has left, or waits for a request.
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// The last number given out, to a place or to a wait.
    last: u64,
    taken: BTreeMap<u64, Taken>,
}

#[derive(Debug)]
struct Taken {
    doing: Doing,
    leave: CancellationToken,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doing {
    /// No request of it is under way, since this turn.
    Waiting(u64),
    /// Its request is being answered.
    Working,
    /// It has been told to leave.
    Leaving,
}

impl State {
    fn turn(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// Tells whoever has waited longest to leave, unless somebody is about to.
    fn make_room(&mut self) {
        if self
            .taken
            .values()
            .any(|taken| taken.doing == Doing::Leaving)
        {
            return;
        }
        let waiting = self
            .taken
            .values_mut()
            .filter_map(|taken| match taken.doing {
                Doing::Waiting(since) => Some((since, taken)),
                Doing::Working | Doing::Leaving => None,
            });
        if let Some((_, longest)) = waiting.min_by_key(|(since, _)| *since) {
            longest.doing = Doing::Leaving;
            longest.leave.cancel();
        }
    }
}

impl Places {
    pub(super) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self {
            max,
            state: Mutex::default(),
            changed: Notify::new(),
        })
    }

    /// A place as soon as there is one. One at a time may wait for it.
    pub(super) async fn take(self: &Arc<Self>) -> Place {
        loop {
            if let Some(place) = self.take_or_make_room() {
                return place;
            }
            self.changed.notified().await;
        }
    }

    fn take_or_make_room(self: &Arc<Self>) -> Option<Place> {
        let mut state = self.lock();
        if state.taken.len() >= self.max {
            state.make_room();
            return None;
        }
        let (number, leave) = (state.turn(), CancellationToken::new());
        let taken = Taken {
            doing: Doing::Waiting(number),
            leave: leave.clone(),
        };
        state.taken.insert(number, taken);
        Some(Place {
            places: Arc::clone(self),
            number,
            leave,
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection's place; dropped, it is free.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    number: u64,
    leave: CancellationToken,
}

impl Place {
    /// Somebody else needs the place.
    pub(super) fn leave(&self) -> &CancellationToken {
        &self.leave
    }

    /// A request has come.
    pub(super) fn works(&self) {
        self.set(|_| Doing::Working);
    }

    /// It is answered; what comes next is up to the other side.
    pub(super) fn waits(&self) {
        self.set(|state| Doing::Waiting(state.turn()));
        self.places.changed.notify_one();
    }

    fn set(&self, doing: impl FnOnce(&mut State) -> Doing) {
        let mut state = self.places.lock();
        let doing = doing(&mut state);
        if let Some(taken) = state.taken.get_mut(&self.number)
            && taken.doing != Doing::Leaving
        {
            taken.doing = doing;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.lock().taken.remove(&self.number);
        self.places.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left(place: &Place) -> bool {
        place.leave().is_cancelled()
    }

    #[test]
    fn whoever_has_waited_longest_leaves_and_one_for_each_that_comes() {
        let places = Places::new(3);
        let mut taken: Vec<Place> = (0..3)
            .map(|_| places.take_or_make_room().unwrap())
            .collect();
        taken[0].works();
        taken[1].works();
        taken[1].waits();
        assert!(places.take_or_make_room().is_none());
        let told: Vec<bool> = taken.iter().map(left).collect();
        assert_eq!(told, [false, false, true]);
        assert!(places.take_or_make_room().is_none());
        assert!(!left(&taken[1]), "one is on its way already");
        drop(taken.remove(2));
        let next = places.take_or_make_room().unwrap();
        assert!(places.take_or_make_room().is_none());
        assert!(left(&taken[1]) && !left(&taken[0]) && !left(&next));
    }

    #[tokio::test]
    async fn where_all_work_the_next_waits_for_one_to_end() {
        let places = Places::new(1);
        let first = places.take().await;
        first.works();
        let waiting = Arc::clone(&places);
        let second = tokio::spawn(async move { waiting.take().await });
        tokio::task::yield_now().await;
        assert!(!second.is_finished() && !left(&first));
        first.waits();
        first.leave().cancelled().await;
        drop(first);
        second.await.unwrap();
        assert_eq!(places.lock().taken.len(), 0);
    }
}
