//! `postrider check`: every problem of a file at once.

use std::path::{Path, PathBuf};

use super::{exit, load, say};

/// Check a configuration file.
#[derive(Debug, clap::Args)]
pub(super) struct CheckArguments {
    /// The file; the one of `--config` when it is not given.
    file: Option<PathBuf>,
}

pub(super) fn main(config: &Path, arguments: CheckArguments) -> u8 {
    let path = arguments.file.unwrap_or_else(|| config.to_owned());
    match load(&path) {
        Ok(config) => {
            let (destinations, rules) = (config.destinations.len(), config.rules.len());
            let file = path.display();
            let counts = format!("destinations: {destinations}, rules: {rules}");
            say(&format!("{file}: valid; {counts}\n"));
            exit::OK
        }
        Err(code) => code,
    }
}
