//! Waiting for a thing to become true, with a message that says what did not.

use std::time::{Duration, Instant};

/// Looks at `condition` until it holds; panics in the caller's name when `timeout` is over.
#[track_caller]
pub fn wait_until(timeout: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    wait_for(timeout, what, || condition().then_some(()));
}

/// Looks until `look` finds something and returns it; panics in the caller's name when `timeout` is over.
#[track_caller]
pub fn wait_for<T>(timeout: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    let mut looks = 0_u32;
    loop {
        if let Some(found) = look() {
            return found;
        }
        looks += 1;
        assert!(
            begin.elapsed() < timeout,
            "waited {timeout:?} in vain, {looks} looks: {what}"
        );
        // Quick at first, patient later.
        std::thread::sleep(Duration::from_millis(u64::from(looks).clamp(2, 50)));
    }
}
