//! The journal of systemd, where standard error leads there: each line begins with its priority, so that `journalctl -p warning` finds what is one.

use std::fs::metadata;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt as _;

use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

/// Whether standard error is what systemd says that it has connected with the journal. It may have been led elsewhere since.
#[must_use]
pub fn is_listening() -> bool {
    let named = std::env::var("JOURNAL_STREAM").ok();
    let here = metadata("/proc/self/fd/2").ok();
    match (named.as_deref().and_then(stream), here) {
        (Some(stream), Some(here)) => stream == (here.dev(), here.ino()),
        _ => false,
    }
}

/// `$JOURNAL_STREAM`: a device and an inode.
fn stream(text: &str) -> Option<(u64, u64)> {
    let (device, inode) = text.split_once(':')?;
    Some((device.parse().ok()?, inode.parse().ok()?))
}

/// The same text, every line with the priority of this level.
#[must_use]
pub fn with_priority(level: Level, text: &[u8]) -> Vec<u8> {
    let mut lines = Vec::with_capacity(text.len() + 3);
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        lines.extend([b'<', priority(level), b'>']);
        lines.extend(line);
    }
    lines
}

/// As syslog counts: 3 is an error, 4 a warning, 6 information, 7 for those who debug.
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => b'3',
        Level::WARN => b'4',
        Level::INFO => b'6',
        Level::DEBUG | Level::TRACE => b'7',
    }
}

/// Standard error, with priorities.
pub(crate) struct Journal;

/// One entry of the log on its way there.
pub(crate) struct Entry(Level);

impl MakeWriter<'_> for Journal {
    type Writer = Entry;

    fn make_writer(&self) -> Entry {
        Entry(Level::INFO)
    }

    fn make_writer_for(&self, metadata: &Metadata<'_>) -> Entry {
        Entry(*metadata.level())
    }
}

impl Write for Entry {
    /// An entry comes in one piece.
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        io::stderr().write_all(&with_priority(self.0, text))?;
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_has_its_priority() {
        let text = with_priority(Level::WARN, b"first\nsecond\n");
        assert_eq!(text, b"<4>first\n<4>second\n");
        assert_eq!(with_priority(Level::ERROR, b"no end"), b"<3>no end");
        assert_eq!(with_priority(Level::TRACE, b""), b"");
    }

    #[test]
    fn the_stream_is_a_device_and_an_inode() {
        assert_eq!(stream("9:1234"), Some((9, 1234)));
        assert_eq!(stream("9"), None);
        assert_eq!(stream("a:b"), None);
    }
}
