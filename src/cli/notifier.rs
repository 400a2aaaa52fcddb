//! Tells systemd that the process is alive, from a thread of its own: one that shared the runtime could not say that the runtime stands still.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use tracing::{debug, error, info};

use crate::admin::Health;
use crate::clock::{Clock, Tick};
use crate::systemd;

/// How often systemd hears of a drain, and for how much longer it then waits at most.
const EXTEND_EVERY: Duration = Duration::from_secs(5);
const EXTEND_BY: Duration = Duration::from_secs(15);

/// The thread; it ends when this is dropped.
pub(super) struct Notifier {
    drain: SyncSender<Tick>,
}

/// What systemd is told at one moment.
#[derive(Debug, PartialEq, Eq)]
struct Words {
    /// That the process is alive.
    alive: bool,
    /// That what it does needs this much longer.
    longer: Option<Duration>,
}

impl Notifier {
    /// Starts it.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(super) fn start(health: Arc<Health>, clock: Clock) -> std::io::Result<Self> {
        let (drain, drains) = sync_channel(1);
        std::thread::Builder::new()
            .name("notifier".to_owned())
            .spawn(move || run(&health, clock, &drains))?;
        Ok(Self { drain })
    }

    /// A drain has begun, and everything has its time until then.
    pub(super) fn drain(&self, until: Tick) {
        // There is room for it: it is asked once.
        if self.drain.try_send(until).is_err() {
            debug!("the thread that tells systemd of us is gone");
        }
    }
}

fn run(health: &Health, clock: Clock, drains: &Receiver<Tick>) {
    // A quarter: one look that finds somebody overdue may pass, for a machine that was asleep, and the next is still in time.
    let every = systemd::watchdog_time().map_or(EXTEND_EVERY, |time| time / 4);
    let every = every.min(EXTEND_EVERY);
    let mut draining: Option<Tick> = None;
    let mut said: Vec<String> = Vec::new();
    loop {
        let overdue = health.overdue();
        if overdue != said {
            match overdue.is_empty() {
                true => info!("everything turns again"),
                false => error!(
                    ?overdue,
                    "threads are stuck: systemd's watchdog is not fed until they turn"
                ),
            }
        }
        tell(&words(&overdue, draining, clock.now().tick));
        said = overdue;
        match drains.recv_timeout(every) {
            Ok(until) => draining = Some(until),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// Nothing is said for a process in which anybody is overdue, and no drain gets more time than it asked for at its beginning.
fn words(overdue: &[String], draining: Option<Tick>, now: Tick) -> Words {
    let alive = overdue.is_empty();
    let left = draining.map_or(Duration::ZERO, |until| until.since(now));
    let longer = (alive && !left.is_zero()).then(|| left.min(EXTEND_BY));
    Words { alive, longer }
}

fn tell(words: &Words) {
    if words.alive && systemd::watchdog_time().is_some() {
        systemd::watchdog();
    }
    if let Some(time) = words.longer {
        systemd::extend(time);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Tick {
        Tick(Duration::from_secs(seconds))
    }

    fn said(overdue: &[&str], draining: Option<u64>, now: u64) -> (bool, Option<u64>) {
        let overdue: Vec<String> = overdue.iter().map(ToString::to_string).collect();
        let Words { alive, longer } = words(&overdue, draining.map(at), at(now));
        (alive, longer.map(|time| time.as_secs()))
    }

    #[test]
    fn alive_is_said_only_when_nobody_is_overdue() {
        assert_eq!(said(&[], None, 10), (true, None));
        assert_eq!(said(&["the runtime"], None, 10), (false, None));
        assert_eq!(
            said(&["the lane of a", "the consumer of b"], None, 10),
            (false, None)
        );
    }

    #[test]
    fn a_drain_is_given_time_in_steps_and_no_more_than_it_has() {
        assert_eq!(said(&[], Some(300), 10), (true, Some(15)));
        assert_eq!(said(&[], Some(300), 290), (true, Some(10)));
        assert_eq!(said(&[], Some(300), 300), (true, None));
        assert_eq!(said(&[], Some(300), 400), (true, None));
        assert_eq!(said(&["the runtime"], Some(300), 10), (false, None));
    }
}
