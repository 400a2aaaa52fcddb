//! The exit of the process: its exit code, without the cleanup that C libraries register for the
//! end.
//!
//! OpenSSL frees its state at the exit, while threads of librdkafka may still end and use it: then
//! a process that had drained in good order died of SIGSEGV. Everything that must be kept is
//! written by then, and memory goes with the process.

#![allow(
    unsafe_code,
    reason = "the standard library has no exit without handlers"
)]

use std::io::{self, Write as _};

/// Ends the process with this exit code at once, after what was printed is written. No destructor
/// and no exit handler runs.
pub fn with(code: u8) -> ! {
    // Where it cannot be written, nobody can be told any more.
    drop(io::stdout().flush());
    drop(io::stderr().flush());
    // SAFETY: it takes no memory of ours and does not return.
    unsafe { libc::_exit(i32::from(code)) }
}
