//! `postrider check`: every problem of a file at once.

use std::path::{Path, PathBuf};

use super::{exit, load};

/// Check a configuration file.
#[derive(Debug, clap::Args)]
pub(super) struct CheckArguments {
    /// The file; the one of `--config` when it is not given.
    file: Option<PathBuf>,
}

#[expect(clippy::print_stdout, reason = "this is what a person reads")]
pub(super) fn main(config: &Path, arguments: CheckArguments) -> u8 {
    let path = arguments.file.unwrap_or_else(|| config.to_owned());
    match load(&path) {
        Ok(config) => {
            let (destinations, rules) = (config.destinations.len(), config.rules.len());
            println!(
                "{}: valid; destinations: {destinations}, rules: {rules}",
                path.display()
            );
            exit::OK
        }
        Err(code) => code,
    }
}
