//! `postrider status` and `postrider health`: what the daemon does, and why.

use std::sync::mpsc::sync_channel;
use std::time::Duration;

use crate::admin::api::{DestinationReport, HealthReport, RefusedReport, StatusReport};

use super::client::{Client, SocketArguments};
use super::common::{Common, Format, no_destination};
use super::{complain, exit, output, say};

/// How often a watched status is asked for.
const WATCH: Duration = Duration::from_secs(2);

/// Show what each destination does, and why.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  postrider status
  postrider status -d shop --watch
  postrider status --format json | jq '.destinations[] | {name, state, lag}'

Exit codes: 0 shown, 2 there is no such destination, 69 the daemon is away")]
pub(super) struct StatusArguments {
    /// One destination only.
    #[arg(short, long, value_name = "NAME")]
    destination: Option<String>,
    /// One endpoint only.
    #[arg(short, long, value_name = "ENDPOINT")]
    endpoint: Option<String>,
    /// Show it again every two seconds.
    #[arg(long)]
    watch: bool,
    #[command(flatten)]
    socket: SocketArguments,
}

/// Say whether the daemon is well; the exit code says it too.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  postrider health
  postrider health --format json | jq .problems

Exit codes: 0 well, 1 not well, 69 the daemon is away")]
pub(super) struct HealthArguments {
    #[command(flatten)]
    socket: SocketArguments,
}

pub(super) fn status(common: &Common, arguments: &StatusArguments) -> u8 {
    let client = match Client::new(common, &arguments.socket) {
        Ok(client) => client,
        Err(code) => return code,
    };
    if !arguments.watch {
        return show(common, &client, arguments).map_or_else(
            |code| code,
            |text| {
                say(&text);
                exit::OK
            },
        );
    }
    // Nobody ever sends: it is a pause between two looks.
    let (_keep, pause) = sync_channel::<()>(0);
    loop {
        match show(common, &client, arguments) {
            Ok(text) if common.format == Format::Human => {
                say(&format!("\x1b[H\x1b[2J{text}"));
            }
            Ok(text) => {
                say(&text);
            }
            Err(code) => return code,
        }
        if !output::is_read() || pause.recv_timeout(WATCH).is_ok() {
            return exit::OK;
        }
    }
}

pub(super) fn health(common: &Common, arguments: &HealthArguments) -> u8 {
    let answer = Client::new(common, &arguments.socket)
        .and_then(|client| client.get("/api/v1/health"))
        .and_then(|answer| Ok((answer.read::<HealthReport>()?, answer.body)));
    let (report, body) = match answer {
        Ok(answer) => answer,
        Err(code) => return code,
    };
    let well = report.alive && report.ready && report.problems.is_empty();
    match common.format {
        Format::Json => say(&format!("{body}\n")),
        Format::Human if well => say("well\n"),
        Format::Human => say(&format!("not well:\n  {}\n", report.problems.join("\n  "))),
    };
    if well { exit::OK } else { exit::NO }
}

/// One look at the daemon, as it is to be shown.
fn show(common: &Common, client: &Client, arguments: &StatusArguments) -> Result<String, u8> {
    let answer = client.get("/api/v1/status")?;
    let mut report: StatusReport = answer.read()?;
    if let Some(wanted) = &arguments.destination {
        let names: Vec<String> = report.destinations.iter().map(|d| d.name.clone()).collect();
        report.destinations.retain(|found| found.name == *wanted);
        if report.destinations.is_empty() {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            return Err(no_destination(wanted, &names));
        }
    }
    if let Some(wanted) = &arguments.endpoint {
        let all = report.destinations.iter().map(|d| d.endpoint.clone());
        let endpoints: Vec<String> = all.collect();
        report
            .destinations
            .retain(|found| found.endpoint == *wanted);
        if report.destinations.is_empty() {
            let endpoints = endpoints.join(", ");
            complain(&format!(
                "error: no endpoint {wanted}; there are: {endpoints}"
            ));
            return Err(exit::USAGE);
        }
    }
    match common.format {
        Format::Json => Ok(serde_json::to_string(&report).unwrap_or_default() + "\n"),
        Format::Human => Ok(table(&report)),
    }
}

/// A line for each destination, its words last because they are as long as they must be.
fn table(report: &StatusReport) -> String {
    let mut text = String::new();
    if let Some(silence) = &report.kafka_silence {
        text.push_str(&format!("{silence}\n"));
    }
    if !report.state_known {
        text.push_str("it is not known yet which destinations are paused\n");
    }
    if let Some(RefusedReport { at, why }) = &report.configuration.refused {
        let why = why.trim_end().replace('\n', "\n  ");
        text.push_str(&format!(
            "file refused at {at}: the one of {} is in force\n  {why}\n",
            report.configuration.loaded
        ));
    }
    let row = |d: &DestinationReport| {
        let waiting = d.lag.unwrap_or(d.waiting_total).max(d.waiting_total);
        [
            d.name.clone(),
            d.state.clone(),
            waiting.to_string(),
            d.words.clone(),
        ]
    };
    let head = ["DESTINATION", "STATE", "WAITING", "WHY"].map(str::to_owned);
    let rows: Vec<_> = std::iter::once(head)
        .chain(report.destinations.iter().map(row))
        .collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let [name, state, waiting] = [0, 1, 2].map(|column| width(column).unwrap_or(0));
    for [a, b, c, d] in &rows {
        text.push_str(&format!("{a:name$}  {b:state$}  {c:>waiting$}  {d}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_lines_up() {
        let destination = |name: &str, state: &str, waiting_total| DestinationReport {
            name: name.to_owned(),
            state: state.to_owned(),
            waiting_total,
            words: format!("words of {name}"),
            ..DestinationReport::default()
        };
        let report = StatusReport {
            version: "1".to_owned(),
            at: String::new(),
            kafka_connected: true,
            kafka_silence: None,
            state_known: true,
            configuration: Default::default(),
            destinations: vec![
                destination("shop", "running", 7),
                destination("a-longer-name", "open", 12_345),
            ],
        };
        let expected = "\
DESTINATION    STATE    WAITING  WHY
shop           running        7  words of shop
a-longer-name  open       12345  words of a-longer-name
";
        assert_eq!(table(&report), expected);
    }
}
