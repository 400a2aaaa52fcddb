//! From the file to its text: what stands in the way is a problem like any other.

use std::fs::{File, Metadata};
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::clock::Timestamp;

use super::context::Context;
use super::problem::{Problems, Severity};
use super::syntax::FILE_BYTES_MAX;

/// The text of the file at `origin`; else why there is none.
pub(super) fn read(origin: &Path) -> Result<String, Problems> {
    let bytes = bytes(origin).map_err(|error| unreadable(origin, &error))?;
    if bytes.len() > FILE_BYTES_MAX {
        // It is refused for its length alone, and that may have cut a character in two.
        return Ok(String::from_utf8_lossy(&bytes).into_owned());
    }
    if is_utf_16(&bytes) {
        let message = "the file is not UTF-8 but UTF-16, or no text at all";
        let hint = "save it as UTF-8; some editors on Windows call UTF-16 \"Unicode\"";
        return Err(problem(origin, "", None, message, hint));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let shown = String::from_utf8_lossy(error.as_bytes());
        let message = "a byte that is not UTF-8";
        let hint = "save the file as UTF-8; where this stands, it is in another encoding";
        problem(origin, &shown, Some(at), message, hint)
    })
}

/// When the file was put in its place: the time of the last change of its inode or of a link to it, which a copy that keeps the times of its
/// original does not keep.
pub(super) fn placed(origin: &Path) -> Option<Timestamp> {
    let of = |found: Metadata| {
        let ms = found.ctime_nsec() / 1_000_000;
        Timestamp(found.ctime().saturating_mul(1000).saturating_add(ms))
    };
    let link = std::fs::symlink_metadata(origin).ok().map(of);
    let file = std::fs::metadata(origin).ok().map(of)?;
    link.max(Some(file))
}

/// What is in the file, and of one that is too long a byte too much.
fn bytes(origin: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let limit = FILE_BYTES_MAX as u64 + 1;
    File::open(origin)?.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Whether it begins with UTF-16's mark, or with a letter of two bytes. No TOML has a zero byte.
fn is_utf_16(bytes: &[u8]) -> bool {
    let begin = &bytes[..bytes.len().min(2)];
    matches!(begin, [0xff, 0xfe] | [0xfe, 0xff]) || begin.contains(&0)
}

/// What stands in the way of reading a file, and what to do.
const REASONS: [(ErrorKind, &str, &str); 3] = [
    (
        ErrorKind::NotFound,
        "there is no such file",
        "name the file with -c FILE or POSTRIDER_CONFIG; config.example.toml shows what stands in it",
    ),
    (
        ErrorKind::PermissionDenied,
        "this user may not",
        "let the user that Postrider runs as read it, and enter every folder on the way",
    ),
    (
        ErrorKind::IsADirectory,
        "it is a folder",
        "name the file in it",
    ),
];

fn unreadable(origin: &Path, error: &io::Error) -> Problems {
    let known = REASONS.iter().find(|(kind, ..)| *kind == error.kind());
    let (reason, hint) = match known {
        Some((_, reason, hint)) => ((*reason).to_owned(), *hint),
        None => (error.to_string(), "name another file with -c FILE"),
    };
    let message = format!("cannot read {}: {reason}", origin.display());
    problem(origin, "", None, &message, hint)
}

fn problem(origin: &Path, text: &str, at: Option<usize>, message: &str, hint: &str) -> Problems {
    let context = Context::new(origin, text, &|_| None);
    let span = at.map(|at| at..at + 1);
    context.report(Severity::Error, span, "", message, hint);
    context.finish().0
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::clock::Clock;

    #[test]
    fn a_copy_that_keeps_the_time_of_its_original_is_placed_when_it_is_made() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("postrider.toml");
        // File systems look at a clock that is some milliseconds behind.
        let before = Clock::wall().0 - 100;
        std::fs::write(&path, "text").unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        let first = placed(&path).unwrap();
        assert!(first.0 >= before && first <= Clock::wall());
        let link = folder.path().join("link.toml");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(placed(&link).unwrap() >= first, "a link that is changed");
        assert_eq!(placed(&folder.path().join("none")), None);
    }
}
