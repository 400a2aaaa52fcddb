//! `postrider drain`: the deliveries of a destination end in good order. It is `pause --leave`, and waits until this daemon has nothing of it.

use std::sync::mpsc::sync_channel;
use std::time::Duration;

use crate::admin::api::{DestinationReport, OrderResult, StatusReport, Verb};
use crate::clock::Clock;

use super::client::Client;
use super::common::Common;
use super::orders::{self, OrderArguments};
use super::progress::spinner;
use super::{complain, exit};

/// How often it is asked how far it is.
const LOOK: Duration = Duration::from_millis(250);

/// End the deliveries of a destination in good order, and wait for that
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  postrider drain -d shop --reason \"shop moves\"                 returns when nothing of it is under way
  postrider drain -d shop --reason \"shop moves\" --timeout 5m
  postrider resume -d shop --reason \"shop has moved\"

Nothing new is begun, on every instance; attempts under way end; what is settled is committed, and the
consumer group is left, so that its offsets can be reset. What waits stays in Kafka. It holds over
restarts too, until `postrider resume`.

Exit codes: 0 drained, 1 not within the time (the order stands), 2 usage, 69 the daemon or Kafka is away")]
pub(super) struct DrainArguments {
    /// How long to wait
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = orders::span)]
    timeout: Duration,
    #[command(flatten)]
    order: OrderArguments,
}

pub(super) fn main(common: &Common, arguments: DrainArguments) -> u8 {
    let (mut request, socket) = arguments.order.request();
    request.leave = true;
    let answer = Client::new(common, &socket).and_then(|client| {
        let (report, body) = orders::give(&client, Verb::Pause, &request)?;
        Ok((client, report, body))
    });
    let (client, report, body) = match answer {
        Ok(answer) => answer,
        Err(code) => return code,
    };
    if report.result != OrderResult::Done {
        return orders::reported(common, &report, &body);
    }
    match wait(&client, &request.destination, arguments.timeout) {
        Ok(true) => orders::reported(common, &report, &body),
        Ok(false) => {
            complain(&format!(
                "error: {} is not drained within {} s; the order stands: `postrider status` shows how far it is",
                request.destination,
                arguments.timeout.as_secs()
            ));
            exit::NO
        }
        Err(code) => code,
    }
}

/// Waits until this daemon has nothing of the destination any more; whether that came to be in time.
fn wait(client: &Client, name: &str, time: Duration) -> Result<bool, u8> {
    let clock = Clock::start();
    let spinner = spinner(format!("draining {name}"));
    // Nobody ever sends: it is a pause between two looks.
    let (_keep, pause) = sync_channel::<()>(0);
    loop {
        let status: StatusReport = client.get("/api/v1/status")?.read()?;
        let found = status.destinations.iter().find(|d| d.name == name);
        let Some(found) = found else { return Ok(true) };
        if is_drained(found) {
            return Ok(true);
        }
        if clock.now().tick.0 >= time {
            return Ok(false);
        }
        spinner.say(format!(
            "draining {name}: {} records are still here",
            found.waiting_total
        ));
        pause.recv_timeout(LOOK).ok();
    }
}

fn is_drained(found: &DestinationReport) -> bool {
    let left = found.paused.as_ref().is_some_and(|paused| paused.left);
    left && found.waiting_total == 0 && found.partitions == 0
}
