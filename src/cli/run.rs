//! `postrider run`: the daemon in the foreground.

use std::path::Path;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::clock::Clock;
use crate::config::Config;
use crate::descriptors;
use crate::kafka::StartError;
use crate::logging::{self, LogFormat};
use crate::relay::{Relay, RelayError};
use crate::signal::{EndSignal, Signals};
use crate::systemd;

use super::notifier::Notifier;
use super::{exit, load};

/// What an end may take beyond its drain: leaving the groups, and the last words in the state topic.
const AFTER_DRAIN: Duration = Duration::from_secs(15);

/// Run the daemon in the foreground.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  postrider -c postrider.toml run
  postrider run --log-level debug --log-format text

The first Ctrl-C or SIGTERM drains: attempts in flight may end, and what is settled is committed. The
second one ends at once. It never ends because Kafka or a receiver is away.")]
pub(super) struct RunArguments {
    /// How lines of the log look: auto (text on a terminal, JSON elsewhere), text or json; wins over the file.
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<LogFormat>,
    /// The least level that is logged: error, warn, info, debug or trace; wins over the file.
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<tracing::Level>,
}

pub(super) fn main(path: &Path, arguments: RunArguments) -> u8 {
    let mut config = match load(path) {
        Ok(config) => config,
        Err(code) => return code,
    };
    config.log.format = arguments.log_format.unwrap_or(config.log.format);
    config.log.level = arguments.log_level.unwrap_or(config.log.level);
    logging::start(config.log);
    descriptors::raise();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            error!(%error, "the runtime cannot be started");
            return exit::UNAVAILABLE;
        }
    };
    let code = runtime.block_on(run(&config));
    // What has not ended by now never will, and a process that was asked to end must end.
    runtime.shutdown_background();
    code
}

async fn run(config: &Config) -> u8 {
    let mut signals = match Signals::listen() {
        Ok(signals) => signals,
        Err(error) => {
            error!(%error, "no signal handlers");
            return exit::UNAVAILABLE;
        }
    };
    let stop = CancellationToken::new();
    let clock = Clock::start();
    let relay = match Relay::start(config, clock, stop.clone()).await {
        Ok(relay) => relay,
        Err(error) => return failed(&error),
    };
    info!(
        version = env!("CARGO_PKG_VERSION"),
        destinations = config.destinations.len(),
        rules = config.rules.len(),
        admin = %config.admin.listen,
        "postrider runs"
    );
    systemd::ready();
    let notifier = match Notifier::start(relay.health(), clock) {
        Ok(notifier) => notifier,
        Err(error) => {
            error!(%error, "the thread that tells systemd of us cannot be started");
            return exit::UNAVAILABLE;
        }
    };
    let lanes = relay.wait();
    tokio::pin!(lanes);
    let mut first: Option<EndSignal> = None;
    let code = loop {
        tokio::select! {
            ended = &mut lanes => break match ended {
                Ok(_) => exit::OK,
                Err(error) => failed(&error),
            },
            signal = signals.next() => {
                if first.is_some() {
                    warn!("second signal: ending at once; what is in flight is sent again after the next start");
                    break signal.exit_code();
                }
                first = Some(signal);
                let drain_s = config.limits.drain.as_secs();
                info!(drain_s, "draining; a second signal ends at once");
                systemd::stopping();
                systemd::status(&format!("draining: what is in flight may end, for {drain_s} s at most"));
                notifier.drain(clock.now().tick + config.limits.drain + AFTER_DRAIN);
                stop.cancel();
            }
        }
    };
    drop(notifier);
    code
}

fn failed(error: &RelayError) -> u8 {
    let code = match error {
        RelayError::Kafka(_)
        | RelayError::Consumer(StartError::Client { .. })
        | RelayError::Descriptors(_)
        | RelayError::Webhook { .. } => exit::CONFIG,
        RelayError::Consumer(StartError::Thread(_))
        | RelayError::Admin(_)
        | RelayError::Thread(_) => exit::UNAVAILABLE,
        RelayError::Metrics(_) | RelayError::Unasked(_) => exit::SOFTWARE,
    };
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    error!("{text}");
    code
}
