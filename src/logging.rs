//! The log: what the file may say about it.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use tracing::Level;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::writer::BoxMakeWriter;

use crate::journal::{self, Journal};

/// The log of the process.
struct Started {
    /// The level that the file wants.
    level: Mutex<Level>,
    change: Box<dyn Fn(EnvFilter) -> bool + Send + Sync>,
}

impl Started {
    fn usual(&self) -> MutexGuard<'_, Level> {
        self.level.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

static STARTED: OnceLock<Started> = OnceLock::new();

/// The `[log]` section, already checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogOptions {
    /// How lines look.
    pub format: LogFormat,
    /// The least level that is written.
    pub level: Level,
}

/// How lines of the log look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    #[default]
    Auto,
    /// For people.
    Text,
    /// For machines.
    Json,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            format: LogFormat::default(),
            level: Level::INFO,
        }
    }
}

impl std::str::FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err("is none of auto, text, json".to_owned()),
        }
    }
}

/// Starts the log, on standard error. To be called once; a second call changes nothing.
///
/// The libraries below speak from warnings on, whatever the level: at `debug` they would print URLs, and the secrets in them.
pub fn start(options: LogOptions) {
    let filter = filter(options.level);
    let terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let json = match options.format {
        LogFormat::Auto => !terminal,
        LogFormat::Text => false,
        LogFormat::Json => true,
    };
    // Without `log_internal_errors(false)` a line that cannot be written, to a full disk or a closed pipe, is a panic of whoever wrote it.
    let writer = match journal::is_listening() {
        true => BoxMakeWriter::new(Journal),
        false => BoxMakeWriter::new(std::io::stderr),
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .log_internal_errors(false)
        .with_writer(writer);
    let started = if json {
        let builder = builder.json().flatten_event(true).with_current_span(false);
        let builder = builder.with_filter_reloading();
        let handle = builder.reload_handle();
        builder.try_init().inspect(|()| {
            changes(options.level, move |filter| handle.reload(filter).is_ok());
        })
    } else {
        let colour = terminal && std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty());
        let builder = builder.with_ansi(colour).with_target(false);
        let builder = builder.with_filter_reloading();
        let handle = builder.reload_handle();
        builder.try_init().inspect(|()| {
            changes(options.level, move |filter| handle.reload(filter).is_ok());
        })
    };
    if started.is_err() {
        tracing::debug!("the log was started already");
    }
}

/// Remembers how the level of the log that was started is changed.
fn changes(level: Level, change: impl Fn(EnvFilter) -> bool + Send + Sync + 'static) {
    let change = Box::new(change);
    let level = Mutex::new(level);
    STARTED.get_or_init(|| Started { level, change });
}

/// Writes what is of this level or worse from here on, and gives the level of the file; `None` where no log was started.
pub fn set_level(level: Level) -> Option<Level> {
    let started = STARTED.get()?;
    let usual = *started.usual();
    (started.change)(filter(level)).then_some(usual)
}

/// The file has another level, or still this one: then what an operator has asked for stays.
pub fn set_usual_level(level: Level) {
    let Some(started) = STARTED.get() else { return };
    let before = std::mem::replace(&mut *started.usual(), level);
    if before != level && !(started.change)(filter(level)) {
        tracing::debug!("the level of the log stays as it is");
    }
}

/// Starts the log as text into a file, for a command whose screen belongs to something else. Changes nothing when the log was started already.
pub fn start_in_file(level: Level, file: std::fs::File) {
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter(level))
        .log_internal_errors(false);
    let writer = std::sync::Mutex::new(file);
    if builder
        .with_ansi(false)
        .with_target(false)
        .with_writer(writer)
        .try_init()
        .is_err()
    {
        tracing::debug!("the log was started already");
    }
}

fn filter(level: Level) -> EnvFilter {
    EnvFilter::new(format!("warn,postrider={level}"))
}
