//! What a person reads. An answer that cannot be written is no answer: the exit code then says so; that nobody reads any more is none of our
//! business.

use std::io::{self, ErrorKind, Write as _};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use super::exit;

/// Why an answer was lost; the first reason counts.
static LOST: OnceLock<String> = OnceLock::new();
/// Whether the reader has gone.
static GONE: AtomicBool = AtomicBool::new(false);

/// Writes an answer.
pub(super) fn say(text: &str) {
    say_bytes(text.as_bytes());
}

pub(super) fn say_bytes(text: &[u8]) {
    let mut out = io::stdout().lock();
    let written = out.write_all(text).and_then(|()| out.flush());
    note(written);
}

/// Notes what became of an answer. Behind `| head` the reader goes early, and has what it wants.
pub(super) fn note(written: io::Result<()>) {
    match written {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::BrokenPipe => {
            GONE.store(true, Ordering::Relaxed);
        }
        Err(error) => drop(LOST.get_or_init(|| error.to_string())),
    }
}

/// Whether answers are still read: what would go on for ever ends when they are not.
pub(super) fn is_read() -> bool {
    !GONE.load(Ordering::Relaxed) && LOST.get().is_none()
}

/// Writes what is not the answer: errors, notes, questions.
pub(super) fn complain(text: &str) {
    let mut text = text.to_owned();
    text.push('\n');
    // Where not even this can be written, nobody can be told.
    drop(io::stderr().lock().write_all(text.as_bytes()));
}

/// The exit code of a command that ended with `code`: an answer that was lost is no success.
pub(super) fn settled(code: u8) -> u8 {
    match LOST.get() {
        Some(why) => {
            complain(&format!("error: the answer cannot be written: {why}"));
            if code == exit::OK {
                exit::UNAVAILABLE
            } else {
                code
            }
        }
        None => code,
    }
}
