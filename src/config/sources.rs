//! The other files that a file was read from: secrets and texts. They are looked at again, and read again when they have changed.

use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A file that something was read from, and how it was then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    path: PathBuf,
    mark: Option<Mark>,
}

/// What tells a file that was changed, or another in its place, from what it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

/// Where a file came from, and its text, in which there may be secrets.
#[derive(Clone, PartialEq, Eq)]
pub struct Origin {
    /// Its path.
    pub path: PathBuf,
    pub(super) text: Arc<str>,
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Origin")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl Source {
    /// As it is before it is read.
    pub(super) fn of(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            mark: mark(path),
        }
    }

    /// As it is now.
    #[must_use]
    pub fn look(&self) -> Self {
        Self::of(&self.path)
    }
}

fn mark(path: &Path) -> Option<Mark> {
    let found = fs::metadata(path).ok()?;
    Some(Mark {
        inode: found.ino(),
        size: found.size(),
        changed: (found.ctime(), found.ctime_nsec()),
    })
}
