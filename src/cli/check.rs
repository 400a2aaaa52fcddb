//! `postrider check`: every problem of a file at once, and with `--live` of what it names.

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::config::{Config, Problem};

use super::live::{self, LiveArguments};
use super::{Common, exit, load, say};

/// Check a configuration file
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  postrider check postrider.toml                  every problem of the file at once
  postrider check --format json | jq .problems    the same for programs: file, line, column, hint
  postrider check --live                          also Kafka and the receivers; changes nothing
  postrider check --live -d shop --send-test      send one record to `shop` that says it is a test

Exit codes: 0 fine, 1 something was reached and does not do, 69 something could not be reached,
78 the file is wrong")]
pub(super) struct CheckArguments {
    /// The file; the one of `--config` when it is not given
    file: Option<PathBuf>,
    /// Warnings of the file are errors
    #[arg(long)]
    deny_warnings: bool,
    #[command(flatten)]
    live: LiveArguments,
}

/// What is said of a file, for programs.
#[derive(Debug, Serialize)]
struct Report<'a> {
    file: String,
    valid: bool,
    problems: &'a [Problem],
    #[serde(skip_serializing_if = "Option::is_none")]
    destinations: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rules: Option<usize>,
}

pub(super) fn main(common: &Common, arguments: CheckArguments) -> u8 {
    let path = arguments.file.unwrap_or_else(|| common.config.clone());
    let deny = arguments.deny_warnings;
    if common.is_json() && !arguments.live.wanted() {
        return as_json(&path, deny);
    }
    let config = match load(&path) {
        Ok(config) => config,
        Err(code) => return code,
    };
    if deny && !config.warnings.is_empty() {
        return exit::CONFIG;
    }
    if arguments.live.wanted() {
        return live::main(&config, &arguments.live, common.format);
    }
    let (destinations, rules) = (config.destinations.len(), config.rules.len());
    let file = path.display();
    let counts = format!("destinations: {destinations}, rules: {rules}");
    say(&format!("{file}: valid; {counts}\n"));
    exit::OK
}

fn as_json(path: &Path, deny_warnings: bool) -> u8 {
    let environment = |name: &str| std::env::var(name).ok();
    let loaded = Config::load(path, &environment);
    let (problems, config) = match &loaded {
        Ok(config) => (&config.warnings, Some(config)),
        Err(problems) => (problems, None),
    };
    let valid = config.is_some() && (problems.is_empty() || !deny_warnings);
    let report = Report {
        file: path.display().to_string(),
        valid,
        problems: problems.list(),
        destinations: config.map(|config| config.destinations.len()),
        rules: config.map(|config| config.rules.len()),
    };
    say(&(serde_json::to_string(&report).unwrap_or_default() + "\n"));
    if valid { exit::OK } else { exit::CONFIG }
}
