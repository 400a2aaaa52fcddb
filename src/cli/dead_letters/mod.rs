//! `postrider dead-letters`: records that could not be delivered. They are read from Kafka itself, so that it matters to nobody whether a
//! daemon runs.
//!
//! [`filter`] says which are meant, [`reading`] reads them, [`row`] is what is shown of one; [`plan`] says which are replayed, in which order.

mod filter;
#[cfg(test)]
mod fixtures;
mod list;
mod plan;
mod purge;
mod reading;
mod replay;
mod row;
mod show;
mod stop;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use clap::Subcommand;

use crate::clock::Clock;
use crate::config::Config;
use crate::kafka::{AUDIT, Complaints, Letters, LettersError, consumer_config, producer_config};

use super::common::{Common, Format, no_destination};
use super::output::complain as say;
use super::progress::spinner;
use super::{exit, look};

use filter::FilterArguments;
use stop::Stop;

/// Records that could not be delivered.
#[derive(Debug, clap::Args)]
#[command(
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "Examples:
  postrider dead-letters stats                        how many, where and why
  postrider dead-letters list -d shop --since 2h      those of the last two hours
  postrider dead-letters show msg_2f6c                the record, and what was answered
  postrider dead-letters replay -d shop --dry-run     what a replay would do
  postrider dead-letters replay -d shop --rate 50/s   deliver them again, under their old ids
  postrider dead-letters purge --before 30d           delete the oldest

All of them read from the Kafka of the configuration file, whether a daemon runs or not. What is
replayed is delivered by the daemon; without one it waits for the next start."
)]
pub(super) struct DeadLettersArguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// List dead letters, the oldest first; those that were replayed are left out.
    List(list::ListArguments),
    /// Count dead letters by destination and reason.
    Stats(list::StatsArguments),
    /// Show one dead letter: the record, why it ended, and what the receiver answered.
    Show(show::ShowArguments),
    /// Deliver dead letters again, to the destination that they did not reach and to no other.
    Replay(replay::ReplayArguments),
    /// Delete the oldest dead letters for good.
    Purge(purge::PurgeArguments),
}

pub(super) fn main(common: &Common, arguments: DeadLettersArguments) -> u8 {
    let environment = |name: &str| std::env::var(name).ok();
    let config = match Config::load(common.config(), &environment) {
        Ok(config) => config,
        Err(problems) => {
            let colours = look::colours(&std::io::stderr());
            say(problems.render(colours).trim_end());
            return exit::CONFIG;
        }
    };
    let stop = match Stop::listen() {
        Ok(stop) => stop,
        Err(error) => {
            say(&format!("error: Ctrl-C cannot be listened for: {error}"));
            return exit::UNAVAILABLE;
        }
    };
    let desk = Desk::new(config, stop, common.format);
    let done = match arguments.what {
        What::List(arguments) => list::list(&desk, &arguments),
        What::Stats(arguments) => list::stats(&desk, &arguments),
        What::Show(arguments) => show::show(&desk, &arguments),
        What::Replay(arguments) => replay::replay(&desk, &arguments),
        What::Purge(arguments) => purge::purge(&desk, &arguments),
    };
    done.unwrap_or_else(|failure| failure.code())
}

/// What every command needs.
struct Desk {
    config: Config,
    letters: Letters,
    stop: Stop,
    clock: Clock,
    format: Format,
    /// The names of destinations by their ids.
    names: BTreeMap<Arc<str>, Arc<str>>,
}

impl Desk {
    fn new(config: Config, stop: Stop, format: Format) -> Self {
        let clock = Clock::start();
        let complaints = Arc::new(Complaints::new(clock));
        let letters = Letters {
            consumer: consumer_config(&config.kafka),
            producer: producer_config(&config.kafka),
            prefix: config.kafka.prefix.clone(),
            complaints,
            stop: stop.flag(),
        };
        let enabled = config.destinations.iter();
        let names = enabled.map(|d| (Arc::clone(&d.id), Arc::clone(&d.name)));
        Self {
            names: names.collect(),
            format,
            config,
            letters,
            stop,
            clock,
        }
    }

    /// Says why at once when Kafka is away: each question by itself would only wait for its answer.
    fn reach(&self) -> Result<(), Failure> {
        let _spinner = spinner("asking Kafka");
        Ok(self.letters.reach(self.clock)?)
    }

    /// Refuses a name that neither the file nor any of the letters has: an answer about nothing would look like a good one.
    fn check_names(
        &self,
        filter: &FilterArguments,
        seen: &BTreeSet<Arc<str>>,
    ) -> Result<(), Failure> {
        let enabled = self.names.values().map(|name| &**name);
        let disabled = self.config.disabled.iter().map(|name| &**name);
        let names: Vec<&str> = enabled.chain(disabled).collect();
        let ids = &self.config.ids;
        for wanted in filter.destinations() {
            let in_file = names.contains(&&**wanted) || ids.iter().any(|id| **id == **wanted);
            if !in_file && *wanted != *AUDIT && !seen.iter().any(|id| **id == **wanted) {
                return Err(Failure::Said(no_destination(wanted, &names)));
            }
        }
        Ok(())
    }

    /// What a destination is called in the file; its id when the file does not have it, or has it disabled.
    fn name<'a>(&'a self, id: &'a str) -> &'a str {
        self.names.get(id).map_or(id, |name| name)
    }
}

/// Why a command did not do what was asked.
enum Failure {
    /// Kafka, or Ctrl-C; and what a person should know of what was done by then.
    Letters(LettersError, String),
    /// It was said already.
    Said(u8),
}

impl From<LettersError> for Failure {
    fn from(error: LettersError) -> Self {
        let done = match error {
            LettersError::Interrupted => "; nothing was changed",
            LettersError::Unreachable(_)
            | LettersError::Fenced
            | LettersError::Unreadable(_)
            | LettersError::Refused(_) => "",
        };
        Self::Letters(error, done.to_owned())
    }
}

impl Failure {
    /// Says it, and gives the exit code.
    fn code(self) -> u8 {
        let (error, done) = match self {
            Self::Said(code) => return code,
            Self::Letters(error, done) => (error, done),
        };
        match &error {
            LettersError::Interrupted => say(&format!("interrupted{done}")),
            LettersError::Unreachable(_)
            | LettersError::Fenced
            | LettersError::Unreadable(_)
            | LettersError::Refused(_) => say(&format!("error: {error}{done}")),
        }
        match error {
            LettersError::Interrupted => exit::INTERRUPTED,
            LettersError::Unreachable(_) => exit::UNAVAILABLE,
            LettersError::Fenced | LettersError::Unreadable(_) | LettersError::Refused(_) => {
                exit::NO
            }
        }
    }
}

/// Says what is wrong with what was typed.
fn usage(text: &str) -> Failure {
    say(&format!("error: {text}"));
    Failure::Said(exit::USAGE)
}

/// Asks a person; `yes` has answered already. Where no person is, nothing is done.
fn asked(desk: &Desk, question: &str, yes: bool) -> Result<bool, Failure> {
    use std::io::{BufRead as _, IsTerminal as _, Write as _};
    if yes {
        return Ok(true);
    }
    if !std::io::stdin().is_terminal() {
        return Err(usage(&format!(
            "{question} There is no terminal to ask on: say --yes, or --dry-run to see what it would do"
        )));
    }
    let mut err = std::io::stderr().lock();
    drop(write!(err, "{question} [y/N] ").and_then(|()| err.flush()));
    drop(err);
    let mut answer = String::new();
    let read = desk
        .stop
        .while_asking(|| std::io::stdin().lock().read_line(&mut answer));
    let answer = answer.trim().to_ascii_lowercase();
    Ok(read.is_ok() && matches!(&*answer, "y" | "yes"))
}

/// `1 dead letter`, `2 dead letters`.
fn letters(count: usize) -> String {
    match count {
        1 => "1 dead letter".to_owned(),
        _ => format!("{count} dead letters"),
    }
}
