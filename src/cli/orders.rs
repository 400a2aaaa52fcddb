//! What an operator may ask of the daemon: `pause`, `resume`, `retry-now`, `skip`, `retries`.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::Subcommand;

use crate::admin::api::{OrderReport, OrderRequest, OrderResult, RecordPlace, RetriesReport, Verb};

use super::client::{Client, Format, SocketArguments, say};
use super::exit;

/// One destination, and why.
#[derive(Debug, clap::Args)]
pub(super) struct OrderArguments {
    /// The destination.
    #[arg(short, long, value_name = "NAME")]
    destination: String,
    /// Why: for those who read the status and the log.
    #[arg(long, value_name = "TEXT")]
    reason: String,
    #[command(flatten)]
    socket: SocketArguments,
}

/// One record of one destination.
#[derive(Debug, clap::Args)]
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
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
    #[command(flatten)]
    socket: SocketArguments,
}

/// One key of one destination.
#[derive(Debug, clap::Args)]
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
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
    #[command(flatten)]
    socket: SocketArguments,
}

/// What waits in the ladder.
#[derive(Debug, clap::Args)]
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
    /// The destination.
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
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
    #[command(flatten)]
    socket: SocketArguments,
}

pub(super) fn order(config: &Path, verb: Verb, arguments: OrderArguments) -> u8 {
    let OrderArguments {
        destination,
        reason,
        socket,
    } = arguments;
    ask(config, verb, destination, reason, None, &socket)
}

pub(super) fn skip(config: &Path, arguments: SkipArguments) -> u8 {
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
    ask(
        config,
        Verb::Skip,
        destination,
        reason,
        Some(record),
        &socket,
    )
}

pub(super) fn release(config: &Path, arguments: ReleaseArguments) -> u8 {
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
        destination,
        reason,
        key: Some(key),
        ..OrderRequest::default()
    };
    send(config, Verb::Release, request, &socket)
}

pub(super) fn retries(config: &Path, arguments: RetriesArguments) -> u8 {
    let (verb, arguments) = match arguments.what {
        Retries::List(arguments) => return list(config, &arguments),
        Retries::Release(arguments) => (Verb::ReleaseRetries, arguments),
        Retries::Cancel(arguments) => (Verb::CancelRetries, arguments),
    };
    let LadderArguments {
        destination,
        reason,
        socket,
    } = arguments;
    ask(config, verb, destination, reason, None, &socket)
}

#[expect(clippy::print_stdout, reason = "this is what a person reads")]
fn list(config: &Path, arguments: &ListArguments) -> u8 {
    // Names are small letters, digits and dashes; another one is nobody's, and must not end the path.
    let name = arguments
        .destination
        .replace(|c: char| !c.is_ascii_alphanumeric() && c != '-', "_");
    let answer = Client::new(config, &arguments.socket)
        .and_then(|client| client.get(&format!("/api/v1/retries?destination={name}")))
        .and_then(|answer| Ok((answer.read::<RetriesReport>()?, answer.body)));
    let (report, body) = match answer {
        Ok(answer) => answer,
        Err(code) => return code,
    };
    if arguments.socket.format == Format::Json {
        println!("{body}");
    }
    if let Some(problem) = &report.problem {
        say(&format!("error: {problem}"));
        return exit::NO;
    }
    if arguments.socket.format == Format::Human {
        print!("{}", listed(&report));
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

fn ask(
    config: &Path,
    verb: Verb,
    destination: String,
    reason: String,
    record: Option<RecordPlace>,
    socket: &SocketArguments,
) -> u8 {
    let request = OrderRequest {
        destination,
        reason,
        record,
        ..OrderRequest::default()
    };
    send(config, verb, request, socket)
}

#[expect(clippy::print_stdout, reason = "this is what a person reads")]
fn send(config: &Path, verb: Verb, mut request: OrderRequest, socket: &SocketArguments) -> u8 {
    request.who = me();
    let answer = Client::new(config, socket)
        .and_then(|client| client.post(&format!("/api/v1/{}", verb.path()), &request))
        .and_then(|answer| Ok((answer.read::<OrderReport>()?, answer.body)));
    let (report, body) = match answer {
        Ok(answer) => answer,
        Err(code) => return code,
    };
    match (socket.format, report.result) {
        (Format::Json, _) => println!("{body}"),
        (Format::Human, OrderResult::Done) => println!("{}", report.text),
        (Format::Human, OrderResult::Refused | OrderResult::Unavailable) => {
            say(&format!("error: {}", report.text));
        }
    }
    match report.result {
        OrderResult::Done => exit::OK,
        OrderResult::Refused => exit::NO,
        OrderResult::Unavailable => exit::UNAVAILABLE,
    }
}

/// What the person is called on this machine; the daemon adds what the kernel knows.
fn me() -> String {
    let names = ["SUDO_USER", "USER", "LOGNAME"];
    let mut found = names.iter().filter_map(|name| std::env::var(name).ok());
    found.find(|name| !name.is_empty()).unwrap_or_default()
}
