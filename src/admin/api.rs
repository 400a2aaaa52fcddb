//! What operators may see and ask, as it crosses the socket: JSON, the same for the daemon and for the command line.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

/// What the daemon does, by destination. Times are RFC 3339.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusReport {
    /// The version that runs.
    pub version: String,
    /// When this was so.
    pub at: String,
    /// Whether a broker has answered lately.
    pub kafka_connected: bool,
    /// In words, that none has.
    #[serde(default)]
    pub kafka_silence: Option<String>,
    /// Whether it is known who is paused.
    pub state_known: bool,
    /// The file that is in force.
    #[serde(default)]
    pub configuration: ConfigurationReport,
    /// Every destination of the file, the disabled ones too.
    pub destinations: Vec<DestinationReport>,
}

/// The file that is in force, and the last one if it is not.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigurationReport {
    /// When it was taken over.
    pub loaded: String,
    /// The one that was read since, if that was refused.
    pub refused: Option<RefusedReport>,
}

/// A file that was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedReport {
    /// When.
    pub at: String,
    /// Why, in several lines.
    pub why: String,
}

/// What became of a reload, or would.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadReport {
    /// Whether the file is in force; of a question, whether it would be.
    pub result: OrderResult,
    /// What changes, a line each.
    pub plan: Vec<String>,
    /// What else is to be said: why the file is refused, what could not be asked.
    pub notes: Vec<String>,
    /// How many destinations go on as they are.
    pub unchanged: usize,
    /// Whether Kafka was asked for something and did not answer.
    #[serde(default)]
    pub kafka_away: bool,
}

/// A file that is not in force, to be compared with the one that is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiffRequest {
    /// Its path: secrets in files are looked for beside it.
    pub path: String,
    /// Its text.
    pub text: String,
}

/// What one destination does, and why.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DestinationReport {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: String,
    /// What its endpoint is called.
    #[serde(default)]
    pub endpoint: String,
    /// What it is doing: `running`, `open`, `paused`, ...
    pub state: String,
    /// The same in words, with the reason.
    pub words: String,
    /// Records read and not settled, by what they wait for.
    pub waiting: BTreeMap<String, u64>,
    /// All of them.
    pub waiting_total: u64,
    /// How many partitions this instance reads for it.
    #[serde(default)]
    pub partitions: u64,
    /// With those that are not read yet, where that is known.
    pub lag: Option<u64>,
    /// The timestamp of the oldest record that waits.
    pub oldest_waiting: Option<String>,
    /// Since when it is in this state, where that is known.
    pub since: Option<String>,
    /// When it is tried next, where that is known.
    pub next_attempt: Option<String>,
    /// The last attempt that failed.
    pub last_failure: Option<FailureReport>,
    /// Who paused it.
    pub paused: Option<PauseReport>,
    /// With an order by key: the keys whose records wait behind one that has failed, or for a person; those with most of them first, and not all of many.
    #[serde(default)]
    pub held_keys: Vec<HeldKeyReport>,
}

/// A key whose records wait.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldKeyReport {
    /// The key, as a text to read.
    pub key: String,
    /// The same in base64, as it is.
    pub key_base64: String,
    /// Where the first of its records stands.
    pub record: RecordPlace,
    /// How many wait.
    pub waiting: u64,
    /// Whether they wait for `postrider release`.
    pub for_a_person: bool,
}

/// The last attempt that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailureReport {
    /// The HTTP status.
    pub status: Option<u16>,
    /// The reason, as in the metrics.
    pub reason: Option<String>,
    /// In words.
    pub error: String,
    /// When it ended.
    pub at: String,
}

/// Who paused a destination.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PauseReport {
    /// Who.
    pub who: String,
    /// Why.
    pub reason: String,
    /// When.
    pub at: String,
    /// Whether the consumer group is left too.
    #[serde(default)]
    pub left: bool,
    /// When it ends by itself.
    #[serde(default)]
    pub until: Option<String>,
}

/// Whether the daemon is well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthReport {
    /// As `/livez` says.
    pub alive: bool,
    /// As `/readyz` says.
    pub ready: bool,
    /// What is wrong, and what a person must mend though the process is ready.
    pub problems: Vec<String>,
}

/// What waits on the ladder for a destination.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetriesReport {
    /// How many there are.
    pub total: u64,
    /// Whether the time was enough to look at all of them.
    pub complete: bool,
    /// Some of them, those that are due first at the front.
    pub retries: Vec<RetryReport>,
    /// Why it is not known.
    pub problem: Option<String>,
    /// What became of the question.
    #[serde(default)]
    pub result: OrderResult,
}

/// A record that waits on the ladder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetryReport {
    /// The delivery's id.
    pub id: String,
    /// Where the record was first.
    pub record: RecordPlace,
    /// The rule that wants it delivered.
    pub rule: String,
    /// Attempts spent.
    pub attempts: u32,
    /// When it is tried next.
    pub due: String,
    /// What the last attempt came back with.
    pub status: Option<u16>,
    /// The last error, in words.
    pub error: String,
}

/// What is asked for: a destination, and why.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderRequest {
    /// The destination's name.
    pub destination: String,
    /// Who asks. What the socket knows of that is added to it.
    #[serde(default)]
    pub who: String,
    /// Why.
    #[serde(default)]
    pub reason: String,
    /// Which record, where one is meant.
    #[serde(default)]
    pub record: Option<RecordPlace>,
    /// Which of its endpoints, where not all are meant.
    #[serde(default)]
    pub endpoint: Option<String>,
    /// Of a pause: leave the consumer group too.
    #[serde(default)]
    pub leave: bool,
    /// Of a pause: so many milliseconds, and then it ends by itself.
    #[serde(default)]
    pub for_ms: Option<u64>,
    /// Which key, where one is meant: in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

/// Where a record was first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordPlace {
    /// Its topic.
    pub topic: String,
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
}

/// What may be asked for; in the path, behind `/api/v1/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Begin nothing new.
    Pause,
    /// Go on.
    Resume,
    /// Try what waits now.
    RetryNow,
    /// One record to the dead letters.
    Skip,
    /// The records of a key go on.
    Release,
    /// What waits in the ladder is due now.
    ReleaseRetries,
    /// What waits in the ladder goes to the dead letters.
    CancelRetries,
}

impl Verb {
    /// Every verb.
    pub const ALL: [Self; 7] = [
        Self::Pause,
        Self::Resume,
        Self::RetryNow,
        Self::Skip,
        Self::Release,
        Self::ReleaseRetries,
        Self::CancelRetries,
    ];

    /// The end of its path.
    #[must_use]
    pub fn path(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::RetryNow => "retry-now",
            Self::Skip => "skip",
            Self::Release => "release",
            Self::ReleaseRetries => "retries/release",
            Self::CancelRetries => "retries/cancel",
        }
    }
}

/// What became of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderReport {
    /// What became of it.
    pub result: OrderResult,
    /// In words.
    pub text: String,
}

/// What became of an order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OrderResult {
    /// It is kept, and every instance obeys.
    #[default]
    Done,
    /// It makes no sense as it is.
    Refused,
    /// There is no such destination.
    Unknown,
    /// It is not known to be kept.
    Unavailable,
}

/// From which level on the daemon logs. This instance alone is meant: what its neighbours log is their own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLevelRequest {
    /// `error`, `warn`, `info`, `debug` or `trace`.
    pub level: String,
    /// After so many milliseconds it is as the file says again.
    #[serde(default)]
    pub for_ms: Option<u64>,
    /// Who asks. What the socket knows of that is added to it.
    #[serde(default)]
    pub who: String,
}

/// A question of the admin server to whoever knows the lanes.
#[derive(Debug)]
pub enum Ask {
    /// What does everything do?
    Status(oneshot::Sender<StatusReport>),
    /// Is everything well?
    Health(oneshot::Sender<HealthReport>),
    /// What waits on the ladder for this destination?
    Retries(String, oneshot::Sender<RetriesReport>),
    /// Read the file again, and take it over; for whom.
    Reload(String, oneshot::Sender<ReloadReport>),
    /// What would this file change?
    Diff(DiffRequest, oneshot::Sender<ReloadReport>),
    /// Do this.
    Order(Verb, OrderRequest, oneshot::Sender<OrderReport>),
    /// Log from this level on.
    LogLevel(LogLevelRequest, oneshot::Sender<OrderReport>),
}
