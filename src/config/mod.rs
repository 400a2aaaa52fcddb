//! The file: from text to a [`Config`] that every room can take its options from, or to every problem at once.
//!
//! `syntax` makes a tree with places of the text, and `reader` walks it by hand: a key that nobody asked for, a value of the wrong kind, a
//! name that leads nowhere are written down, and the reading goes on. The sections have a file each. The rooms own their
//! options and what may stand in them; here is only how they are written. No room imports this one.
//!
//! `run`, `check` and reload share [`Config::load`]. It reads no clock and no environment but the one it is given; other files are read
//! only where a secret, a text or a certificate is in one.

mod breaker;
mod conditions;
mod context;
mod contract;
mod destinations;
mod email;
mod file;
mod guesses;
mod interpolate;
mod kafka;
mod limits;
mod mask;
mod newer;
mod notification;
mod number;
mod order;
mod plan;
mod problem;
mod process;
mod properties;
mod rate;
mod reader;
mod recipes;
mod refusal;
mod render;
mod rules;
mod secret;
mod signing;
mod sources;
mod success;
mod syntax;
mod template;
mod tls;
mod topics;
mod units;
mod value;
mod webhook;

#[cfg(test)]
mod schema_tests;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::admin::AdminOptions;
use crate::clock::Timestamp;
use crate::kafka::{AUDIT, KafkaOptions};
use crate::lane::LaneOptions;
use crate::logging::LogOptions;
use crate::rules::{
    ContentOptions, Matcher, ReadOptions, ReadOverride, RuleFile, RuleOptions, SequenceOptions,
};
use crate::send::WebhookOptions;

pub use limits::{IN_FLIGHT, LimitOptions, WINDOW_BYTES, WINDOW_BYTES_MIN};
pub use plan::{Change, LaneChange, Plan};
pub use problem::{Problem, Problems, Severity};
pub use recipes::{RecipeSummary, recipes};
pub use refusal::unknown_destination;
pub use sources::{Origin, Source};

/// The JSON Schema of the file, for editors. A test holds it to the keys that are read.
pub const SCHEMA: &str = include_str!("schema.json");

/// A duration as people write it in the file: `15s`, `1h30m`.
///
/// # Errors
/// What is wrong with it, and how it is written.
pub fn duration(text: &str) -> Result<Duration, String> {
    units::duration(text).map_err(|refusal| format!("{}; {}", refusal.message, refusal.hint))
}

use context::Context;
use reader::{Place, Reader};

/// A whole file, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// `[kafka]`.
    pub kafka: KafkaOptions,
    /// `[limits]`.
    pub limits: LimitOptions,
    /// `[notification]`.
    pub read: ReadOptions,
    /// `[[notification.override]]`, in the order of the file.
    pub overrides: Vec<ReadOverride>,
    /// Every destination that is enabled, by name.
    pub destinations: Vec<DestinationConfig>,
    /// The names of those that are not.
    pub disabled: Vec<Arc<str>>,
    /// The id of every destination, disabled ones too.
    pub ids: Vec<Arc<str>>,
    /// `[[rules]]`, in the order of the file. They may name disabled destinations.
    pub rules: Vec<RuleOptions>,
    /// `[admin]`.
    pub admin: AdminOptions,
    /// `[log]`.
    pub log: LogOptions,
    /// Tells its text from others: 48 bits, which a number of JSON and of Prometheus holds.
    pub hash: u64,
    /// Where it came from.
    pub origin: Origin,
    /// The other files that were read for it.
    pub sources: Vec<Source>,
    /// When the file was put in its place; `None`: it is no file, or that cannot be told.
    pub placed: Option<Timestamp>,
    /// What is legal and probably not what was meant.
    pub warnings: Problems,
}

/// One `[destinations.NAME]`: a lane and its sender.
#[derive(Debug, Clone, PartialEq)]
pub struct DestinationConfig {
    /// Its name in the file.
    pub name: Arc<str>,
    /// What goes into its group and its delivery ids: the name unless set.
    pub id: Arc<str>,
    /// The lane.
    pub lane: LaneOptions,
    /// By what its records are put in order; `None`: in none.
    pub sequence: Option<SequenceOptions>,
    /// How much of an answer a dead letter keeps.
    pub excerpt_bytes: usize,
    /// How long before its topic deletes the oldest waiting record this is said.
    pub retention_warning: Duration,
    /// What is sent for a record.
    pub content: ContentOptions,
    /// The sender.
    pub webhook: WebhookOptions,
}

/// A rate as the file writes them: after how long another one may go.
///
/// # Errors
/// What is wrong with it, and what to write instead.
pub fn rate(text: &str) -> Result<Duration, String> {
    rate::requests(text).map_err(|refusal| format!("{}; {}", refusal.message, refusal.hint))
}

impl Config {
    /// What the file says about records.
    #[must_use]
    pub fn rule_file(&self) -> RuleFile<'_> {
        RuleFile::new(&self.rules, &self.read, &self.overrides)
    }

    /// What judges the records of each lane, by its id.
    pub fn matchers(&self) -> impl Iterator<Item = (Arc<str>, Matcher)> {
        let file = self.rule_file();
        let audit = (file.needs_audit() && !self.destinations.is_empty())
            .then(|| (AUDIT.into(), Matcher::for_audit(&file)));
        let lanes = self.destinations.iter();
        lanes
            .map(move |of| (Arc::clone(&of.id), self.matcher(&file, &of.name)))
            .chain(audit)
    }

    /// What judges the records of a destination. What no rule takes is counted by the first destination that reads the topic, or by the audit.
    #[must_use]
    pub fn matcher(&self, file: &RuleFile<'_>, destination: &str) -> Matcher {
        let names: Vec<&str> = self.destinations.iter().map(|d| &*d.name).collect();
        let counting = (!file.needs_audit()).then_some(&names[..]);
        Matcher::for_destination(file, destination, counting)
    }

    /// Reads the file at `origin`, as [`Config::parse`] does its text.
    ///
    /// # Errors
    ///
    /// Why it cannot be read, or every problem of the file.
    pub fn load(
        origin: &Path,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, Problems> {
        // Before the text: a text that comes in between would else look newer than it is to those who have it not.
        let placed = file::placed(origin);
        let config = Self::parse(&file::read(origin)?, origin, environment)?;
        Ok(Self { placed, ..config })
    }

    /// Reads the same text again, and the other files as they are now.
    ///
    /// # Errors
    ///
    /// As [`Config::parse`].
    pub fn read_sources_again(
        &self,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, Problems> {
        let Origin { path, text } = &self.origin;
        let placed = self.placed;
        Self::parse(text, path, environment).map(|config| Self { placed, ..config })
    }

    /// Reads the file `text` that came from `origin`. Variables and credentials come from `environment`; files of secrets are found relative
    /// to the folder of `origin`.
    ///
    /// # Errors
    ///
    /// Every problem of the file, in its order, warnings included.
    pub fn parse(
        text: &str,
        origin: &Path,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, Problems> {
        Self::parse_and_list(text, origin, environment).0
    }

    /// What the file says about the operators' side, whatever else stands in it: for commands that need no more, and may not be allowed to
    /// read its secrets. `None` when it is no TOML.
    #[must_use]
    pub fn admin_of(
        text: &str,
        origin: &Path,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Option<AdminOptions> {
        let context = Context::new(origin, text, environment);
        let tree = syntax::parse(&context)?;
        let root = Reader::new(&context, Place::default(), &tree, 0..0);
        Some(process::admin(&root))
    }

    /// The same, and every key that was asked for, as the contract writes it.
    fn parse_and_list(
        text: &str,
        origin: &Path,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> (Result<Self, Problems>, BTreeSet<String>) {
        // Editors on Windows put this mark before the first character.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let context = Context::new(origin, text, environment);
        let config = read(&context);
        let failed = context.failed();
        let (problems, known) = context.finish();
        let result = match config {
            Some(config) if !failed => Ok(Self {
                warnings: problems,
                ..config
            }),
            _ => Err(problems),
        };
        (result, known)
    }
}

fn hash(text: &str) -> u64 {
    let digest = Sha256::digest(text);
    digest
        .iter()
        .take(6)
        .fold(0, |hash, byte| hash << 8 | u64::from(*byte))
}

/// What the file says; where it says something wrong, a default stands in and the context knows.
fn read(context: &Context<'_>) -> Option<Config> {
    let tree = syntax::parse(context)?;
    let root = Reader::new(context, Place::default(), &tree, 0..0);
    let kafka = kafka::read(&root);
    let (read, overrides) = notification::read(&root, &kafka.prefix);
    let mut destinations = destinations::read(&root, kafka.commit_interval);
    let rules = rules::read(&root, &kafka.prefix);
    let enabled = destinations.iter().filter(|found| found.enabled).count();
    let limits = limits::read(&root, enabled);
    let (admin, log) = (process::admin(&root), process::log(&root));
    root.finish();
    rules::check_names(context, &destinations, &rules);
    if overrides.is_empty() {
        rules::check_formats(context, &read, &rules);
    }
    destinations::check_any(&root, &destinations, &rules);
    let disabled = destinations
        .iter()
        .filter(|found| !found.enabled)
        .map(|found| Arc::clone(&found.name));
    let ids = destinations.iter().filter_map(|found| found.id.as_ref());
    Some(Config {
        ids: ids.map(|(id, _)| Arc::clone(id)).collect(),
        disabled: disabled.collect(),
        kafka,
        limits,
        read,
        overrides,
        rules: rules.into_iter().map(|rule| rule.options).collect(),
        destinations: destinations
            .iter_mut()
            .filter(|found| found.enabled)
            .filter_map(|found| found.config.take())
            .collect(),
        admin,
        log,
        hash: hash(context.text),
        origin: Origin {
            path: context.origin.to_owned(),
            text: context.text.into(),
        },
        sources: context.sources(),
        placed: None,
        warnings: Problems::new("", "", Vec::new()),
    })
}
