//! What an operator may ask of the daemon: `pause`, `resume`, `retry-now`, `skip`, `retries`.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::Subcommand;

use crate::admin::api::{OrderReport, OrderRequest, OrderResult, RecordPlace, RetriesReport, Verb};

use super::client::{Client, SocketArguments};
use super::common::{Common, Format};
use super::{complain, exit, say};

/// A pause, and how it is.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  postrider pause -d shop --reason \"their deploy\"
  postrider pause -d shop --reason \"their deploy\" --for 15m    goes on by itself
  postrider pause -d shop --reason rewind --leave              then kafka-consumer-groups may reset its offsets

What waits stays in Kafka and loses nothing. It holds over restarts too.

Exit codes: 0 every instance obeys or will, 1 refused, 2 usage, 69 the daemon or Kafka is away")]
pub(super) struct PauseArguments {
    /// Leave the consumer group too, so that its offsets can be reset with Kafka's own tool.
    #[arg(long)]
    leave: bool,
    /// Go on by itself after this time: 90s, 15m, 1h30m.
    #[arg(long = "for", value_name = "DURATION", value_parser = span)]
    span: Option<Duration>,
    #[command(flatten)]
    order: OrderArguments,
}

/// One destination, and why.
#[derive(Debug, clap::Args)]
pub(super) struct OrderArguments {
    /// The destination.
    #[arg(short, long, value_name = "NAME")]
    destination: String,
    /// Its endpoint, as the status calls it. A destination has one, so this says the same twice.
    #[arg(short, long, value_name = "ENDPOINT")]
    endpoint: Option<String>,
    /// Why: for those who read the status and the log
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    reason: String,
    #[command(flatten)]
    socket: SocketArguments,
}

/// One record of one destination.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  postrider skip -d shop --topic orders --partition 3 --offset 42 --reason \"breaks their parser\"

What it becomes is a dead letter, which can be replayed: postrider dead-letters list")]
pub(super) struct SkipArguments {
    /// The destination.
    #[arg(short, long, value_name = "NAME")]
    destination: String,
    /// The topic that the record was read from first.
    #[arg(long)]
    topic: String,
    /// Its partition there.
    #[arg(long)]
    partition: i32,
    /// Its offset there.
    #[arg(long)]
    offset: i64,
    /// Why.
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    reason: Option<String>,
    #[command(flatten)]
    socket: SocketArguments,
}

/// One key of one destination.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  postrider release -d shop --key customer-7

Which keys wait for that: postrider status --format json | jq .destinations[].held_keys")]
pub(super) struct ReleaseArguments {
    /// The destination.
    #[arg(short, long, value_name = "NAME")]
    destination: String,
    /// The key whose records wait.
    #[arg(long, value_name = "KEY")]
    key: String,
    /// The key is written in base64.
    #[arg(long)]
    base64: bool,
    /// Why.
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    reason: Option<String>,
    #[command(flatten)]
    socket: SocketArguments,
}

/// What waits in the ladder.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  postrider retries list -d shop
  postrider retries release -d shop       try it now
  postrider retries cancel -d shop        make dead letters of it

The ladder is the retry topics, where records wait for a minute or longer.")]
pub(super) struct RetriesArguments {
    #[command(subcommand)]
    what: Retries,
}

#[derive(Debug, Subcommand)]
enum Retries {
    /// Show what waits in the ladder, what is due first at the top.
    List(ListArguments),
    /// Try now what waits in the ladder at this moment.
    Release(LadderArguments),
    /// Write to the dead letters what waits in the ladder at this moment.
    Cancel(LadderArguments),
}

#[derive(Debug, clap::Args)]
struct ListArguments {
    /// The destination, or the id of one that the file no longer has.
    #[arg(short, long, value_name = "NAME")]
    destination: String,
    #[command(flatten)]
    socket: SocketArguments,
}

#[derive(Debug, clap::Args)]
struct LadderArguments {
    /// The destination.
    #[arg(short, long, value_name = "NAME")]
    destination: String,
    /// Why.
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    reason: Option<String>,
    #[command(flatten)]
    socket: SocketArguments,
}

pub(super) fn order(common: &Common, verb: Verb, arguments: OrderArguments) -> u8 {
    let (request, socket) = arguments.request();
    ask(common, verb, &request, &socket)
}

pub(super) fn pause(common: &Common, arguments: PauseArguments) -> u8 {
    let (mut request, socket) = arguments.order.request();
    request.leave = arguments.leave;
    request.for_ms = arguments.span.map(millis);
    ask(common, Verb::Pause, &request, &socket)
}

impl OrderArguments {
    pub(super) fn request(self) -> (OrderRequest, SocketArguments) {
        let request = OrderRequest {
            endpoint: self.endpoint,
            ..request(self.destination, self.reason)
        };
        (request, self.socket)
    }
}

fn request(destination: String, reason: String) -> OrderRequest {
    OrderRequest {
        destination,
        who: me(),
        reason,
        ..OrderRequest::default()
    }
}

pub(super) fn span(text: &str) -> Result<Duration, String> {
    let span = crate::config::duration(text)?;
    // Whoever asks for nothing has made a mistake; and after a hundred years nobody knows why.
    match span.as_secs() {
        0 => Err("a second at least".to_owned()),
        seconds if seconds > 100 * 365 * 86_400 => Err("too long a time".to_owned()),
        _ => Ok(span),
    }
}

/// A reason that says nothing is none.
fn reason(text: &str) -> Result<String, String> {
    match text.trim() {
        "" => Err("say why: others read it in the status and the log".to_owned()),
        text => Ok(text.to_owned()),
    }
}

pub(super) fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

pub(super) fn skip(common: &Common, arguments: SkipArguments) -> u8 {
    let SkipArguments {
        destination,
        topic,
        partition,
        offset,
        reason,
        socket,
    } = arguments;
    let record = RecordPlace {
        topic,
        partition,
        offset,
    };
    let request = OrderRequest {
        record: Some(record),
        ..request(destination, reason.unwrap_or_default())
    };
    ask(common, Verb::Skip, &request, &socket)
}

pub(super) fn release(common: &Common, arguments: ReleaseArguments) -> u8 {
    let ReleaseArguments {
        destination,
        key,
        base64,
        reason,
        socket,
    } = arguments;
    let key = match base64 {
        true => key,
        false => STANDARD.encode(key),
    };
    let request = OrderRequest {
        key: Some(key),
        ..request(destination, reason.unwrap_or_default())
    };
    ask(common, Verb::Release, &request, &socket)
}

pub(super) fn retries(common: &Common, arguments: RetriesArguments) -> u8 {
    let (verb, arguments) = match arguments.what {
        Retries::List(arguments) => return list(common, &arguments),
        Retries::Release(arguments) => (Verb::ReleaseRetries, arguments),
        Retries::Cancel(arguments) => (Verb::CancelRetries, arguments),
    };
    let LadderArguments {
        destination,
        reason,
        socket,
    } = arguments;
    ask(
        common,
        verb,
        &request(destination, reason.unwrap_or_default()),
        &socket,
    )
}

fn list(common: &Common, arguments: &ListArguments) -> u8 {
    // Names are small letters, digits and dashes; another one is nobody's, and must not end the path.
    let name = arguments
        .destination
        .replace(|c: char| !c.is_ascii_alphanumeric() && c != '-', "_");
    let answer = Client::new(common, &arguments.socket)
        .and_then(|client| client.get(&format!("/api/v1/retries?destination={name}")))
        .and_then(|answer| Ok((answer.read::<RetriesReport>()?, answer.body)));
    let (report, body) = match answer {
        Ok(answer) => answer,
        Err(code) => return code,
    };
    if common.format == Format::Json {
        say(&format!("{body}\n"));
    }
    if let Some(problem) = &report.problem {
        complain(&format!("error: {problem}"));
        return code(report.result);
    }
    if common.format == Format::Human {
        say(&listed(&report));
    }
    exit::OK
}

/// A line for each record, and one for all.
fn listed(report: &RetriesReport) -> String {
    let mut text = String::new();
    for retry in &report.retries {
        let RecordPlace {
            topic,
            partition,
            offset,
        } = &retry.record;
        let status = retry.status.map(|status| format!("{status} "));
        text.push_str(&format!(
            "due {}  {topic} {partition} {offset}  attempts {}  {}{}\n",
            retry.due,
            retry.attempts,
            status.unwrap_or_default(),
            retry.error
        ));
    }
    let least = if report.complete { "" } else { "at least " };
    text.push_str(&match report.total {
        0 if report.complete => "nothing waits in the ladder\n".to_owned(),
        1 => format!("{least}1 record waits in the ladder\n"),
        total => format!("{least}{total} records wait in the ladder\n"),
    });
    text
}

fn ask(common: &Common, verb: Verb, request: &OrderRequest, socket: &SocketArguments) -> u8 {
    let answer = Client::new(common, socket).and_then(|client| give(&client, verb, request));
    match answer {
        Ok((report, body)) => reported(common, &report, &body),
        Err(code) => code,
    }
}

/// Hands an order to the daemon.
pub(super) fn give(
    client: &Client,
    verb: Verb,
    request: &OrderRequest,
) -> Result<(OrderReport, String), u8> {
    let answer = client.post(&format!("/api/v1/{}", verb.path()), request)?;
    Ok((answer.read::<OrderReport>()?, answer.body))
}

/// Says what became of an order, and gives the exit code.
pub(super) fn reported(common: &Common, report: &OrderReport, body: &str) -> u8 {
    match (common.format, report.result) {
        (Format::Json, _) => say(&format!("{body}\n")),
        (Format::Human, OrderResult::Done) => say(&format!("{}\n", report.text)),
        (Format::Human, OrderResult::Refused | OrderResult::Unknown | OrderResult::Unavailable) => {
            complain(&format!("error: {}", report.text));
        }
    }
    code(report.result)
}

/// The exit code of an answer.
pub(super) fn code(result: OrderResult) -> u8 {
    match result {
        OrderResult::Done => exit::OK,
        OrderResult::Refused => exit::NO,
        OrderResult::Unknown => exit::USAGE,
        OrderResult::Unavailable => exit::UNAVAILABLE,
    }
}

/// What the person is called on this machine; the daemon adds what the kernel knows.
pub(super) fn me() -> String {
    let names = ["SUDO_USER", "USER", "LOGNAME"];
    let mut found = names.iter().filter_map(|name| std::env::var(name).ok());
    found.find(|name| !name.is_empty()).unwrap_or_default()
}
