//! Panics: where in the code, never their text, which may hold what a record or the file holds.

use std::cell::RefCell;
use std::panic::PanicHookInfo;
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};

use tracing::error;

thread_local! {
    /// Where this thread last panicked.
    static PLACE: RefCell<Option<String>> = const { RefCell::new(None) };
}

static COUNT: AtomicU64 = AtomicU64::new(0);
static HOOK: Once = Once::new();

/// From here on panics are logged with their place, and [`place`] knows it.
pub(super) fn watch() {
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            hook(info);
            // A test that fails shows its text.
            if cfg!(test) {
                before(info);
            }
        }));
    });
}

/// How many there were.
pub(super) fn count() -> u64 {
    COUNT.load(Ordering::Relaxed)
}

/// ` at FILE:LINE`, where this thread last panicked; to be asked once for each. Empty when that is not known.
pub(super) fn place() -> String {
    let place = PLACE.try_with(RefCell::take).ok().flatten();
    place.map_or_else(String::new, |place| format!(" at {place}"))
}

fn hook(info: &PanicHookInfo<'_>) {
    COUNT.fetch_add(1, Ordering::Relaxed);
    let place = info
        .location()
        .map(|place| format!("{}:{}", shortened(place.file()), place.line()))
        .unwrap_or_default();
    let current = std::thread::current();
    // A text without parts that were filled in stands in the code as it is.
    let text = info.payload().downcast_ref::<&'static str>().copied();
    let trace = std::backtrace::Backtrace::capture();
    let trace = matches!(trace.status(), std::backtrace::BacktraceStatus::Captured)
        .then(|| trace.to_string());
    error!(
        place,
        thread = current.name(),
        text,
        trace,
        "the code panicked"
    );
    if let Ok(mut kept) = PLACE.try_with(|kept| kept.replace(Some(place))) {
        kept.take();
    }
}

/// The path from the crate on: where it was built is nobody's business.
fn shortened(file: &str) -> &str {
    if let Some((_, rest)) = file.split_once("/registry/src/") {
        return rest.split_once('/').map_or(rest, |(_, path)| path);
    }
    file.split_once("/library/").map_or(file, |(_, path)| path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_of_a_panic_is_known_once() {
        watch();
        let before = count();
        let line = line!() + 1;
        let caught = std::panic::catch_unwind(|| panic!("{}", "hunter2"));
        assert!(caught.is_err());
        assert_eq!(place(), format!(" at src/relay/panics.rs:{line}"));
        assert_eq!(place(), "");
        assert!(count() > before);
    }

    #[test]
    fn where_it_was_built_does_not_show() {
        let crates = "/home/a/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/minijinja-3.0.0/src/vm.rs";
        assert_eq!(shortened(crates), "minijinja-3.0.0/src/vm.rs");
        assert_eq!(
            shortened("/rustc/90b35a6/library/core/src/str.rs"),
            "core/src/str.rs"
        );
        assert_eq!(shortened("src/lane/admit.rs"), "src/lane/admit.rs");
    }
}
