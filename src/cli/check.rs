//! `postrider check`: every problem of a file at once, and with `--live` of what it names.

use std::path::{Path, PathBuf};

use super::client::Format;
use super::live::{self, LiveArguments};
use super::{exit, load, say};

/// Check a configuration file.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  postrider check postrider.toml                  every problem of the file at once
  postrider check --live                          also Kafka and the receivers; changes nothing
  postrider check --live -d shop --send-test      send one record to `shop` that says it is a test

Exit codes: 0 fine, 1 something was reached and does not do, 69 something could not be reached,
78 the file is wrong")]
pub(super) struct CheckArguments {
    /// The file; the one of `--config` when it is not given.
    file: Option<PathBuf>,
    /// Warnings of the file are errors.
    #[arg(long)]
    deny_warnings: bool,
    /// How the answer of --live is shown.
    #[arg(long, value_enum, default_value_t = Format::Human)]
    format: Format,
    #[command(flatten)]
    live: LiveArguments,
}

pub(super) fn main(config: &Path, arguments: CheckArguments) -> u8 {
    let path = arguments.file.unwrap_or_else(|| config.to_owned());
    let config = match load(&path) {
        Ok(config) => config,
        Err(code) => return code,
    };
    if arguments.deny_warnings && !config.warnings.is_empty() {
        return exit::CONFIG;
    }
    if arguments.live.wanted() {
        return live::main(&config, &arguments.live, arguments.format);
    }
    let (destinations, rules) = (config.destinations.len(), config.rules.len());
    let file = path.display();
    let counts = format!("destinations: {destinations}, rules: {rules}");
    say(&format!("{file}: valid; {counts}\n"));
    exit::OK
}
