//! `postrider log-level`: from which level on the running daemon logs.

use std::time::Duration;

use tracing::Level;

use crate::admin::api::{LogLevelRequest, OrderReport};

use super::client::{Client, SocketArguments};
use super::common::Common;
use super::orders::{me, millis, reported, span};

/// Change from which level on the running daemon logs
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  postrider log-level debug --for 10m     and then as before
  postrider log-level warn                until the next start

This one daemon is meant, not other instances. The file stays as it is. The libraries below speak from
warnings on whatever the level is, for at `debug` they would print URLs and the secrets in them.")]
pub(super) struct LogLevelArguments {
    /// error, warn, info, debug or trace
    #[arg(value_name = "LEVEL", value_parser = level)]
    level: Level,
    /// So long, and then as at the start: 90s, 10m, 1h30m
    #[arg(long = "for", value_name = "DURATION", value_parser = span)]
    span: Option<Duration>,
    #[command(flatten)]
    socket: SocketArguments,
}

fn level(text: &str) -> Result<Level, String> {
    // The parser behind it takes numbers too.
    match text.parse() {
        Ok(level) if text.parse::<u8>().is_err() => Ok(level),
        Ok(_) | Err(_) => Err("is none of error, warn, info, debug, trace".to_owned()),
    }
}

pub(super) fn main(common: &Common, arguments: LogLevelArguments) -> u8 {
    let request = LogLevelRequest {
        level: arguments.level.as_str().to_ascii_lowercase(),
        for_ms: arguments.span.map(millis),
        who: me(),
    };
    let answer = Client::new(common, &arguments.socket)
        .and_then(|client| client.post("/api/v1/log-level", &request))
        .and_then(|answer| Ok((answer.read::<OrderReport>()?, answer.body)));
    match answer {
        Ok((report, body)) => reported(common, &report, &body),
        Err(code) => code,
    }
}
