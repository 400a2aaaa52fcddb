//! Ctrl-C: the first one is a wish, which is obeyed between two steps; the second one ends at once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use crate::cli::exit;
use crate::process_exit;
use crate::signal::{EndSignal, Signals};

/// Whether somebody wants an end.
pub(super) struct Stop(Arc<Shared>);

#[derive(Default)]
struct Shared {
    wanted: Arc<AtomicBool>,
    /// Nobody can be heard between two steps while a question waits for its answer.
    asking: AtomicBool,
    lock: Mutex<()>,
    woken: Condvar,
}

impl Stop {
    /// Listens from here on, on a thread of its own.
    pub(super) fn listen() -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let heard = Arc::clone(&shared);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (say, listening) = sync_channel(1);
        std::thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || {
                runtime.block_on(async {
                    let signals = Signals::listen();
                    say.send(()).ok();
                    if let Ok(mut signals) = signals {
                        loop {
                            heard.signal(signals.next_end().await);
                        }
                    }
                });
            })?;
        // Without handlers a signal ends the process at once, which does no harm either.
        listening.recv().ok();
        Ok(Self(shared))
    }

    /// What is set when an end is wanted.
    pub(super) fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.0.wanted)
    }

    pub(super) fn is_wanted(&self) -> bool {
        self.0.wanted.load(Ordering::Relaxed)
    }

    /// Waits; less when an end is wanted.
    pub(super) fn wait(&self, time: Duration) {
        let guard = self.0.lock.lock().unwrap_or_else(PoisonError::into_inner);
        let unwanted = |(): &mut ()| !self.is_wanted();
        drop(self.0.woken.wait_timeout_while(guard, time, unwanted));
    }

    /// Does what waits for a person, who may end it at once.
    pub(super) fn while_asking<T>(&self, ask: impl FnOnce() -> T) -> T {
        self.0.asking.store(true, Ordering::Relaxed);
        let answer = ask();
        self.0.asking.store(false, Ordering::Relaxed);
        answer
    }
}

impl Shared {
    fn signal(&self, signal: EndSignal) {
        let again = self.wanted.swap(true, Ordering::Relaxed);
        if signal == EndSignal::Terminate {
            process_exit::with(signal.exit_code());
        }
        if again || self.asking.load(Ordering::Relaxed) {
            process_exit::with(exit::INTERRUPTED);
        }
        let guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        self.woken.notify_all();
        drop(guard);
    }
}
