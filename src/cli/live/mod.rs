//! `postrider check --live`: whether what the file names is there and lets us in. Only `--send-test` changes anything anywhere.
//!
//! [`cluster`] asks Kafka, [`rights`] what we may do there, [`receivers`] the destinations; [`finding`] is what comes of it.

mod cluster;
mod finding;
mod receivers;
mod rights;

use crate::config::{Config, DestinationConfig};

use super::common::{Format, no_destination};
use super::progress::spinner;
use super::{complain, exit, look, say};

use finding::Findings;

/// How it is asked for.
#[derive(Debug, clap::Args)]
pub(super) struct LiveArguments {
    /// Also ask Kafka and the receivers: brokers, topics, rights, retention, DNS, TLS, authentication. Changes nothing.
    #[arg(long)]
    live: bool,
    /// One destination only.
    #[arg(short, long, value_name = "NAME", requires = "live")]
    destination: Option<String>,
    /// Send each destination one record that says it is a test. The receivers see it.
    #[arg(long, requires = "live")]
    send_test: bool,
}

impl LiveArguments {
    pub(super) fn wanted(&self) -> bool {
        self.live
    }
}

/// Looks at everything, says what was found, and gives the exit code.
pub(super) fn main(config: &Config, arguments: &LiveArguments, format: Format) -> u8 {
    let destinations = match selected(config, arguments.destination.as_deref()) {
        Ok(destinations) => destinations,
        Err(code) => return code,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(&format!("error: no runtime: {error}"));
            return exit::UNAVAILABLE;
        }
    };
    let mut findings = Findings::default();
    let spinner = spinner("asking Kafka");
    cluster::look(config, &destinations, &runtime, &mut findings);
    spinner.say("asking the receivers");
    let asked = receivers::look(config, &destinations, arguments.send_test);
    findings.findings.extend(runtime.block_on(asked));
    drop(spinner);
    runtime.shutdown_background();
    match format {
        Format::Json => say(&findings.json()),
        Format::Human => {
            let colours = look::colours(&std::io::stdout());
            say(&findings.table(look::width(), colours));
        }
    }
    findings.exit_code()
}

/// The destinations that are meant.
fn selected<'a>(
    config: &'a Config,
    wanted: Option<&str>,
) -> Result<Vec<&'a DestinationConfig>, u8> {
    let all = config.destinations.iter();
    let Some(wanted) = wanted else {
        return Ok(all.collect());
    };
    let found: Vec<_> = all.filter(|d| &*d.name == wanted).collect();
    if !found.is_empty() {
        return Ok(found);
    }
    if config.disabled.iter().any(|name| &**name == wanted) {
        complain(&format!(
            "error: destination {wanted} has enabled = false: nothing is sent there"
        ));
    } else {
        let names: Vec<&str> = config.destinations.iter().map(|d| &*d.name).collect();
        return Err(no_destination(wanted, &names));
    }
    Err(exit::USAGE)
}
