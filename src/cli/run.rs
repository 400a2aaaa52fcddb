//! `postrider run`: the daemon in the foreground.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::admin::api::ReloadReport;
use crate::clock::Clock;
use crate::config::Config;
use crate::descriptors;
use crate::kafka::StartError;
use crate::logging::{self, LogFormat};
use crate::relay::{Drained, Loader, Reading, Relay, RelayError, ReloadAsk};
use crate::signal::{Asked, EndSignal, Signals};
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
    arguments.apply(&mut config);
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
    let path = path.to_owned();
    let loader: Loader = Arc::new(move |what| {
        let environment = |name: &str| std::env::var(name).ok();
        let mut config = match what {
            Reading::File => Config::load(&path, &environment)?,
            Reading::Sources(config) => config.read_sources_again(&environment)?,
        };
        arguments.apply(&mut config);
        Ok(config)
    });
    let code = runtime.block_on(run(config, loader));
    // What has not ended by now never will, and a process that was asked to end must end.
    runtime.shutdown_background();
    code
}

impl RunArguments {
    /// What was typed wins over what the file says, also when that is read again.
    fn apply(&self, config: &mut Config) {
        config.log.format = self.log_format.unwrap_or(config.log.format);
        config.log.level = self.log_level.unwrap_or(config.log.level);
    }
}

/// How one relay ended, and what follows.
enum End {
    /// The process ends with this code.
    Process(u8),
    /// Everything begins anew with this file.
    Anew(Box<Config>),
}

async fn run(mut config: Config, loader: Loader) -> u8 {
    let mut signals = match Signals::listen() {
        Ok(signals) => signals,
        Err(error) => {
            error!(%error, "no signal handlers");
            return exit::UNAVAILABLE;
        }
    };
    let mut before: Option<Config> = None;
    let mut refused: Option<String> = None;
    loop {
        let stop = CancellationToken::new();
        let clock = Clock::start();
        let relay = match Relay::start(&config, clock, stop.clone()).await {
            Ok(relay) => relay,
            Err(error) => {
                let code = failed(&error);
                // Half of a new file would be worse than all of the old one.
                let Some(old) = before.take() else {
                    return code;
                };
                error!("the file that was in force before is taken up again");
                refused = Some(error.text());
                config = old;
                continue;
            }
        };
        if let Some(why) = refused.take() {
            relay.stands_in(&why);
        }
        match serve(&config, relay, stop, clock, &mut signals, &loader).await {
            End::Process(code) => return code,
            End::Anew(new) => before = Some(std::mem::replace(&mut config, *new)),
        }
    }
}

/// Runs one relay to its end.
async fn serve(
    config: &Config,
    mut relay: Relay,
    stop: CancellationToken,
    clock: Clock,
    signals: &mut Signals,
    loader: &Loader,
) -> End {
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
            return End::Process(exit::UNAVAILABLE);
        }
    };
    relay.reload_by(Arc::clone(loader));
    let (reloads, in_force) = (relay.reloads(), relay.in_force());
    let lanes = relay.wait();
    tokio::pin!(lanes);
    let mut reloading: Option<oneshot::Receiver<ReloadReport>> = None;
    let mut first: Option<EndSignal> = None;
    loop {
        let asked = tokio::select! {
            ended = &mut lanes => {
                return match ended {
                    // Whoever asked for the end meanwhile gets it.
                    Ok(Drained { anew: Some(new), .. }) if first.is_none() => End::Anew(new),
                    Ok(_) => End::Process(exit::OK),
                    Err(error) => End::Process(failed(&error)),
                };
            }
            () = answered(&mut reloading) => {
                systemd::ready();
                continue;
            }
            asked = signals.next() => asked,
        };
        match asked {
            Asked::Reload => {
                systemd::reloading();
                let (reply, answer) = oneshot::channel();
                let (who, what) = ("SIGHUP".to_owned(), Reading::File);
                if reloads.try_send(ReloadAsk { who, what, reply }).is_err() {
                    warn!("SIGHUP: too many reloads wait already");
                }
                reloading = Some(answer);
            }
            Asked::End(signal) if first.is_some() => {
                warn!(
                    "second signal: ending at once; what is in flight is sent again after the next start"
                );
                return End::Process(signal.exit_code());
            }
            Asked::End(signal) => {
                first = Some(signal);
                let drain = in_force.drain();
                let drain_s = drain.as_secs();
                info!(drain_s, "draining; a second signal ends at once");
                systemd::stopping();
                systemd::status(&format!(
                    "draining: what is in flight may end, for {drain_s} s at most"
                ));
                notifier.drain(clock.now().tick + drain + AFTER_DRAIN);
                stop.cancel();
            }
        }
    }
}

/// Waits for the end of the last reload that was asked for by a signal; for ever when there is none.
async fn answered(reloading: &mut Option<oneshot::Receiver<ReloadReport>>) {
    match reloading {
        // Without a word the process is ending, and that is said by others.
        Some(answer) => drop(answer.await),
        None => std::future::pending().await,
    }
    *reloading = None;
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
    error!("{}", error.text());
    code
}
