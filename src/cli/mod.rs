//! The command line: what a person types, and what the exit code says.

mod check;
mod client;
mod common;
mod completions;
mod dead_letters;
mod demo;
mod drain;
mod explain;
mod init;
mod keys;
mod listen;
mod live;
mod log_level;
mod look;
mod man;
mod notifier;
mod orders;
mod output;
mod progress;
mod recipes;
mod reload;
mod run;
mod schema;
mod status;
mod test;
mod trial;

use std::ffi::OsString;
use std::io::Write as _;
use std::panic::AssertUnwindSafe;
use std::path::Path;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use tracing::Level;

use crate::admin::api::Verb;
use crate::config::{Config, Problems};
use crate::journal;

use common::{Common, CommonArguments};
use output::{complain, say, say_bytes};

/// The exit codes of the contract.
pub(crate) mod exit {
    /// Done.
    pub(crate) const OK: u8 = 0;
    /// The answer is no.
    pub(crate) const NO: u8 = 1;
    /// What was typed makes no sense.
    pub(crate) const USAGE: u8 = 2;
    /// Something needed could not be reached.
    pub(crate) const UNAVAILABLE: u8 = 69;
    /// A panic, or a task that ended unasked.
    pub(crate) const SOFTWARE: u8 = 70;
    /// The configuration is wrong.
    pub(crate) const CONFIG: u8 = 78;
    /// Ctrl-C.
    pub(crate) const INTERRUPTED: u8 = 130;
}

/// Carries notifications from Kafka topics to webhooks, and loses none of them silently.
#[derive(Debug, Parser)]
#[command(
    version,
    about,
    max_term_width = 100,
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "Examples:
  postrider init                       write a file to begin with
  postrider check postrider.toml       every problem of the file at once
  postrider check --live               whether Kafka and the receivers let us in
  postrider -c postrider.toml run      run in the foreground; Ctrl-C drains and ends
  postrider diff postrider.toml        what a reload would change
  postrider reload                     read the file again, and take it over
  postrider status                     what the running daemon does, and why
  postrider dead-letters list          what could not be delivered
  postrider demo                       see it work, with nothing to install"
)]
struct Arguments {
    #[command(flatten)]
    common: CommonArguments,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon in the foreground.
    #[command(override_usage = "postrider [-c FILE] run [OPTIONS]")]
    Run(run::RunArguments),
    /// Check a configuration file and say everything that is wrong with it.
    Check(check::CheckArguments),
    /// Show where a record goes, why it goes nowhere else, and what is sent there.
    Explain(explain::ExplainArguments),
    /// Hold the rules against files of expectations.
    Test(test::TestArguments),
    /// A receiver to try things with: shows what comes, and checks its signature.
    Listen(listen::ListenArguments),
    /// See it work: a broker, two webhooks and the relay between them, all in this process, for some seconds.
    Demo(demo::DemoArguments),
    /// Show what each destination of the running daemon does, and why.
    Status(status::StatusArguments),
    /// Say whether the running daemon is well.
    Health(status::HealthArguments),
    /// Have the running daemon read its file again, and take it over whole or not at all.
    Reload(reload::ReloadArguments),
    /// Say what a reload with this file would change.
    Diff(reload::DiffArguments),
    /// Stop delivering to a destination, on every instance, until it is resumed.
    Pause(orders::PauseArguments),
    /// End the deliveries of a destination in good order, on every instance, and wait for that.
    Drain(drain::DrainArguments),
    /// Go on delivering to a destination.
    #[command(after_help = "Examples:
  postrider resume -d shop --reason \"they are back\"

It ends a pause, a drain, and that an endpoint is gone (410).")]
    Resume(orders::OrderArguments),
    /// Try now what waits for a destination.
    #[command(after_help = "Examples:
  postrider retry-now -d shop --reason \"they have mended it\"

What waits in the ladder is not meant: postrider retries release")]
    RetryNow(orders::OrderArguments),
    /// Write one record to the dead letters instead of trying it on.
    Skip(orders::SkipArguments),
    /// Let the records of a key go on that wait because one of them is a dead letter.
    Release(orders::ReleaseArguments),
    /// What waits in the ladder for a destination.
    Retries(orders::RetriesArguments),
    /// Change from which level on the running daemon logs, for good or for a while.
    LogLevel(log_level::LogLevelArguments),
    /// Records that could not be delivered: look at them, replay them, delete them.
    DeadLetters(dead_letters::DeadLettersArguments),
    /// Write a configuration file to begin with.
    Init(init::InitArguments),
    /// Print the JSON Schema of the configuration file, for editors.
    Schema(schema::SchemaArguments),
    /// The recipes for mail services.
    Recipes(recipes::RecipesArguments),
    /// Secrets for signatures.
    Keys(keys::KeysArguments),
    /// Print the completions of a shell.
    Completions(completions::CompletionsArguments),
    /// Print the manual page, or write one for each verb.
    Man(man::ManArguments),
    /// Print the version.
    Version,
}

/// Parses the command line and does what it says; the result is the exit code of the process.
#[must_use]
pub fn main() -> u8 {
    let words: Vec<OsString> = std::env::args_os().collect();
    // What clap itself has to say comes before anything is known of the options.
    let command = Arguments::command().color(look::of_words(&words).for_clap());
    let parsed = command.try_get_matches_from(words);
    let code = match parsed.and_then(|matches| Arguments::from_arg_matches(&matches)) {
        Ok(arguments) => {
            let done = std::panic::catch_unwind(AssertUnwindSafe(|| obey(arguments)));
            done.unwrap_or(exit::SOFTWARE)
        }
        Err(answer) => {
            output::note(answer.print());
            u8::try_from(answer.exit_code()).unwrap_or(exit::USAGE)
        }
    };
    output::settled(code)
}

fn obey(arguments: Arguments) -> u8 {
    let common = &arguments.common.settle();
    look::choose(common.color);
    match arguments.command {
        Command::Run(run) => run::main(common.config(), run),
        Command::Check(check) => check::main(common, check),
        Command::Explain(explain) => explain::main(common, &explain),
        Command::Test(test) => test::main(common, &test),
        Command::Listen(listen) => listen::main(common, &listen),
        Command::LogLevel(level) => log_level::main(common, level),
        Command::Drain(drain) => drain::main(common, drain),
        Command::Demo(demo) => demo::main(demo),
        Command::Status(status) => status::status(common, &status),
        Command::Health(health) => status::health(common, &health),
        Command::Reload(reload) => reload::reload(common, &reload),
        Command::Diff(diff) => reload::diff(common, &diff),
        Command::Pause(pause) => orders::pause(common, pause),
        Command::Resume(order) => orders::order(common, Verb::Resume, order),
        Command::RetryNow(order) => orders::order(common, Verb::RetryNow, order),
        Command::Skip(skip) => orders::skip(common, skip),
        Command::Release(release) => orders::release(common, release),
        Command::Retries(retries) => orders::retries(common, retries),
        Command::DeadLetters(letters) => dead_letters::main(common, letters),
        Command::Init(init) => init::main(common, init),
        Command::Schema(schema) => schema::main(&schema),
        Command::Recipes(recipes) => recipes::main(common, &recipes),
        Command::Keys(keys) => keys::main(common, &keys),
        Command::Completions(completions) => completions::main(&completions),
        Command::Man(man) => man::main(&man),
        Command::Version => version(common),
    }
}

fn version(common: &Common) -> u8 {
    let version = env!("CARGO_PKG_VERSION");
    say(&match common.is_json() {
        true => format!("{{\"version\":\"{version}\"}}\n"),
        false => format!("postrider {version}\n"),
    });
    exit::OK
}

/// Reads and checks the file: the one way for `run` and `check`. What is wrong is printed, warnings too; the error is then the exit code.
fn load(path: &Path) -> Result<Config, u8> {
    let environment = |name: &str| std::env::var(name).ok();
    let colour = look::colours(&std::io::stderr());
    let show = |problems: &Problems, level| {
        if !problems.is_empty() {
            let mut text = problems.render(colour).into_bytes();
            if journal::is_listening() {
                text = journal::with_priority(level, &text);
            }
            // As with `say`; and a daemon whose log cannot be written has its work to do all the same.
            drop(std::io::stderr().write_all(&text));
        }
    };
    match Config::load(path, &environment) {
        Ok(config) => {
            show(&config.warnings, Level::WARN);
            Ok(config)
        }
        Err(problems) => {
            show(&problems, Level::ERROR);
            Err(exit::CONFIG)
        }
    }
}
