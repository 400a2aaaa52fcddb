//! Divides the process's limits, requests in flight and bytes of windows, among its lanes; `lane/allotment.rs` decides who gets what.
//!
//! As long as there is enough for what all lanes' own settings allow, nobody looks: the decision is made when a lane begins, ends or
//! changes, and only where there is too little it is made anew ten times a second, while somebody asks for more.

use std::collections::BTreeMap;
use std::sync::atomic::{
    AtomicBool, AtomicUsize,
    Ordering::{Acquire, Relaxed, Release},
};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::config::{Config, WINDOW_BYTES_MIN};
use crate::descriptors;
use crate::lane::{Allotment, Claim, LaneOptions, Usage, allot};

/// How soon what was lent comes back.
const EVERY: Duration = Duration::from_millis(100);

/// The limits, and the lanes that share them.
#[derive(Debug)]
pub(super) struct Allotments {
    state: Mutex<State>,
    /// A lane has come, gone or changed, or the limits have.
    changed: Notify,
}

#[derive(Debug)]
struct State {
    limits: Limits,
    next: u64,
    lanes: BTreeMap<u64, Lane>,
    /// Whether the last decision may be followed by another, though nobody asks any more.
    is_moving: bool,
}

/// What there is to share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limits {
    /// Requests in flight.
    in_flight: usize,
    /// Bytes, with what waits inside librdkafka.
    window_bytes: usize,
}

#[derive(Debug)]
struct Lane {
    shown: Arc<Shown>,
    tell: watch::Sender<Allotment>,
    /// What its own settings allow.
    most: Allotment,
    /// How many bytes may wait for it inside librdkafka.
    queued_bytes: usize,
    allotted: Allotment,
}

/// What a lane shows of itself: its own thread writes it, and waits for nobody.
#[derive(Debug, Default)]
struct Shown {
    in_flight: AtomicUsize,
    wants_in_flight: AtomicBool,
    window_bytes: AtomicUsize,
    wants_window_bytes: AtomicBool,
    /// What it goes by.
    in_force: [AtomicUsize; 2],
}

/// A lane's place among them. It is given up when it is dropped.
#[derive(Debug)]
pub(super) struct Allotted {
    number: u64,
    shown: Arc<Shown>,
    heard: watch::Receiver<Allotment>,
    all: Arc<Allotments>,
}

impl Limits {
    /// What this file and the system allow. A connection needs a file descriptor, so where few are allowed there are fewer requests.
    pub(super) fn of(config: &Config) -> Self {
        let descriptors = descriptors::share(config.lanes());
        let descriptors = descriptors.map_or(usize::MAX, |share| share.requests);
        Self {
            in_flight: config.in_flight().min(descriptors),
            window_bytes: config.window_bytes(),
        }
    }

    /// Says so where the system allows less than the file.
    pub(super) fn say_what_is_missing(self, config: &Config) {
        let wanted = config.destinations.iter().map(|of| of.lane.concurrency);
        let wanted = wanted
            .fold(0, usize::saturating_add)
            .min(config.in_flight());
        if self.in_flight < wanted {
            warn!(
                allowed = descriptors::allowed(),
                "few file descriptors are allowed, so no more than {} requests are in flight; more are allowed by LimitNOFILE= of the unit, or ulimit -n",
                self.in_flight
            );
        }
    }
}

impl Allotments {
    pub(super) fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                limits,
                next: 0,
                lanes: BTreeMap::new(),
                is_moving: false,
            }),
            changed: Notify::new(),
        })
    }

    /// From here on these limits hold.
    pub(super) fn limit(&self, limits: Limits) {
        self.lock().limits = limits;
        self.changed.notify_one();
    }

    /// A place for a lane with these settings, that sends or does not, and for which so many bytes may wait inside librdkafka.
    pub(super) fn place(
        self: &Arc<Self>,
        options: &LaneOptions,
        sends: bool,
        queued_bytes: usize,
    ) -> Allotted {
        let shown = Arc::new(Shown::default());
        let none = Allotment {
            in_flight: 0,
            window_bytes: 0,
        };
        let (tell, heard) = watch::channel(none);
        let number = {
            let mut state = self.lock();
            state.next += 1;
            let number = state.next;
            let lane = Lane {
                shown: Arc::clone(&shown),
                tell,
                most: most(options, sends),
                queued_bytes,
                allotted: none,
            };
            state.lanes.insert(number, lane);
            state.allot();
            number
        };
        self.changed.notify_one();
        Allotted {
            number,
            shown,
            heard,
            all: Arc::clone(self),
        }
    }

    /// Looks after them until the end.
    pub(super) async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut has_changed = true;
        loop {
            let is_scarce = {
                let mut state = self.lock();
                if has_changed || state.is_due() {
                    state.allot();
                }
                state.is_scarce()
            };
            has_changed = tokio::select! {
                () = stop.cancelled() => return,
                () = self.changed.notified() => true,
                () = tokio::time::sleep(EVERY), if is_scarce => false,
            };
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the settings of a lane allow it.
fn most(options: &LaneOptions, sends: bool) -> Allotment {
    Allotment {
        in_flight: if sends { options.concurrency } else { 0 },
        window_bytes: options.window.bytes,
    }
}

impl State {
    /// What all windows may hold: what the queues of librdkafka leave.
    fn window_bytes(&self) -> usize {
        let queued: usize = self.lanes.values().map(|lane| lane.queued_bytes).sum();
        self.limits.window_bytes.saturating_sub(queued)
    }

    /// Whether there is less than the lanes' own settings allow.
    fn is_scarce(&self) -> bool {
        let wanted = |of: fn(&Allotment) -> usize| -> usize {
            let all = self.lanes.values().map(|lane| of(&lane.most));
            all.fold(0, usize::saturating_add)
        };
        wanted(|most| most.in_flight) > self.limits.in_flight
            || wanted(|most| most.window_bytes) > self.window_bytes()
    }

    /// Whether another decision may come out: somebody asks, or has just been told.
    fn is_due(&self) -> bool {
        self.is_moving || self.anybody_asks()
    }

    fn anybody_asks(&self) -> bool {
        self.lanes.values().any(|lane| {
            let usage = lane.shown.usage();
            usage.wants_in_flight || usage.wants_window_bytes
        })
    }

    fn allot(&mut self) {
        let in_flight = to_u64(self.limits.in_flight);
        let (requests, bytes): (Vec<_>, Vec<_>) = self.lanes.values().map(Lane::claims).unzip();
        let requests = allot(in_flight, 1, &requests);
        let window_bytes = to_u64(self.window_bytes());
        let bytes = allot(window_bytes, to_u64(WINDOW_BYTES_MIN), &bytes);
        self.is_moving = self.anybody_asks();
        for ((lane, in_flight), window_bytes) in self.lanes.values_mut().zip(requests).zip(bytes) {
            let now = Allotment {
                in_flight: to_usize(in_flight),
                window_bytes: to_usize(window_bytes),
            };
            if now != lane.allotted {
                lane.allotted = now;
                lane.tell.send_replace(now);
                self.is_moving = true;
            }
        }
    }
}

impl Lane {
    /// Its part in the requests, and in the bytes. What it goes by is looked at first: it takes that less may be used only when it has shown
    /// what it used until then.
    fn claims(&self) -> (Claim, Claim) {
        let in_force = self.shown.in_force();
        let usage = self.shown.usage();
        let requests = Claim {
            most: to_u64(self.most.in_flight),
            allotted: to_u64(self.allotted.in_flight),
            in_force: to_u64(in_force.in_flight),
            used: to_u64(usage.in_flight),
            wants_more: usage.wants_in_flight,
        };
        let bytes = Claim {
            most: to_u64(self.most.window_bytes),
            allotted: to_u64(self.allotted.window_bytes),
            in_force: to_u64(in_force.window_bytes),
            used: to_u64(usage.window_bytes),
            wants_more: usage.wants_window_bytes,
        };
        (requests, bytes)
    }
}

impl Shown {
    fn usage(&self) -> Usage {
        Usage {
            in_flight: self.in_flight.load(Relaxed),
            wants_in_flight: self.wants_in_flight.load(Relaxed),
            window_bytes: self.window_bytes.load(Relaxed),
            wants_window_bytes: self.wants_window_bytes.load(Relaxed),
        }
    }

    fn in_force(&self) -> Allotment {
        let [in_flight, window_bytes] = &self.in_force;
        Allotment {
            in_flight: in_flight.load(Acquire),
            window_bytes: window_bytes.load(Acquire),
        }
    }
}

impl Allotted {
    /// Waits for another allotment.
    pub(super) async fn changed(&mut self) {
        if self.heard.changed().await.is_err() {
            // Everything ends.
            std::future::pending::<()>().await;
        }
    }

    /// What the lane goes by from here on.
    pub(super) fn take(&mut self) -> Allotment {
        let now = *self.heard.borrow_and_update();
        let [in_flight, window_bytes] = &self.shown.in_force;
        in_flight.store(now.in_flight, Release);
        window_bytes.store(now.window_bytes, Release);
        now
    }

    /// Shows what the lane has.
    pub(super) fn show(&self, usage: Usage) {
        self.shown.in_flight.store(usage.in_flight, Relaxed);
        self.shown
            .wants_in_flight
            .store(usage.wants_in_flight, Relaxed);
        self.shown.window_bytes.store(usage.window_bytes, Relaxed);
        self.shown
            .wants_window_bytes
            .store(usage.wants_window_bytes, Relaxed);
    }

    /// Its own settings are these from here on.
    pub(super) fn set(&self, options: &LaneOptions, sends: bool) {
        if let Some(lane) = self.all.lock().lanes.get_mut(&self.number) {
            lane.most = most(options, sends);
        }
        self.all.changed.notify_one();
    }
}

impl Drop for Allotted {
    fn drop(&mut self) {
        self.all.lock().lanes.remove(&self.number);
        self.all.changed.notify_one();
    }
}

fn to_u64(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

fn to_usize(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    /// A lane that uses what it is given, as long as it has something to do.
    struct Worker {
        place: Allotted,
        busy: bool,
        in_force: Allotment,
        used: usize,
    }

    fn options(concurrency: usize) -> LaneOptions {
        LaneOptions {
            concurrency,
            ..LaneOptions::default()
        }
    }

    fn worker(all: &Arc<Allotments>, concurrency: usize, queued_bytes: usize) -> Worker {
        let mut place = all.place(&options(concurrency), true, queued_bytes);
        let in_force = place.take();
        Worker {
            place,
            busy: false,
            in_force,
            used: 0,
        }
    }

    impl Worker {
        /// One turn of its loop; requests that are under way end with it.
        fn turn(&mut self) {
            self.in_force = self.place.take();
            self.used = if self.busy {
                self.in_force.in_flight
            } else {
                0
            };
            self.place.show(Usage {
                in_flight: self.used,
                wants_in_flight: self.busy,
                ..Usage::default()
            });
        }
    }

    async fn pass(workers: &mut [Worker], turns: usize) {
        for _ in 0..turns {
            workers.iter_mut().for_each(Worker::turn);
            tokio::time::sleep(EVERY).await;
            let used: usize = workers.iter().map(|worker| worker.used).sum();
            assert!(used <= 64, "{used} in flight");
        }
    }

    fn used(workers: &[Worker]) -> Vec<usize> {
        workers.iter().map(|worker| worker.used).collect()
    }

    fn few() -> Arc<Allotments> {
        Allotments::new(Limits {
            in_flight: 64,
            window_bytes: 256 * MIB,
        })
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_lane_does_not_use_is_lent_and_comes_back() {
        let all = few();
        let stop = CancellationToken::new();
        let running = tokio::spawn(Arc::clone(&all).run(stop.clone()));
        let mut workers: Vec<Worker> = (0..4).map(|_| worker(&all, 64, 0)).collect();
        workers[0].busy = true;
        pass(&mut workers, 5).await;
        assert_eq!(used(&workers), [52, 0, 0, 0]);
        workers[3].busy = true;
        workers[3].turn();
        assert_eq!(workers[3].used, 4, "at once");
        pass(&mut workers, 5).await;
        assert_eq!(used(&workers), [28, 0, 0, 28]);
        workers.iter_mut().for_each(|worker| worker.busy = true);
        pass(&mut workers, 5).await;
        assert_eq!(used(&workers), [16; 4]);
        workers.truncate(2);
        pass(&mut workers, 5).await;
        assert_eq!(used(&workers), [32, 32]);
        all.limit(Limits {
            in_flight: 10,
            window_bytes: 256 * MIB,
        });
        pass(&mut workers, 5).await;
        assert_eq!(used(&workers), [5, 5]);
        workers[0].place.set(&options(2), true);
        pass(&mut workers, 5).await;
        assert_eq!(used(&workers), [2, 8]);
        stop.cancel();
        running.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn where_there_is_enough_nobody_looks() {
        let all = few();
        let workers = [worker(&all, 16, MIB), worker(&all, 48, MIB)];
        let most = |worker: &Worker| worker.in_force.in_flight;
        assert_eq!(workers.each_ref().map(most), [16, 48]);
        assert!(!all.lock().is_scarce());
        let third = worker(&all, 1, MIB);
        assert!(all.lock().is_scarce());
        assert_eq!(most(&third), 1, "what everybody is left with");
        drop(third);
        assert!(!all.lock().is_scarce());
    }

    #[test]
    fn what_waits_inside_librdkafka_is_counted_in() {
        let all = few();
        let queued = 15 * MIB;
        let workers: Vec<Worker> = (0..16).map(|_| worker(&all, 4, queued)).collect();
        all.lock().allot();
        let windows: usize = {
            let state = all.lock();
            state
                .lanes
                .values()
                .map(|lane| lane.allotted.window_bytes)
                .sum()
        };
        assert!(windows + 16 * queued <= 256 * MIB, "{windows}");
        drop(workers);
        assert!(all.lock().lanes.is_empty());
    }
}
