//! The command line: what a person types, and what the exit code says.

mod check;
mod client;
mod completions;
mod dead_letters;
mod demo;
mod init;
mod keys;
mod live;
mod look;
mod man;
mod notifier;
mod orders;
mod recipes;
mod reload;
mod run;
mod schema;
mod status;

use std::io::Write as _;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing::Level;

use crate::admin::api::Verb;
use crate::config::{Config, Problems};
use crate::journal;

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

const DEFAULT_CONFIG: &str = "/etc/postrider/postrider.toml";

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
    /// The configuration file.
    #[arg(short, long, value_name = "FILE", env = "POSTRIDER_CONFIG", default_value = DEFAULT_CONFIG, global = true)]
    config: PathBuf,
    /// Whether answers have colours.
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = look::Colour::Auto, global = true)]
    color: look::Colour,
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
    /// Go on delivering to a destination.
    Resume(orders::OrderArguments),
    /// Try now what waits for a destination.
    RetryNow(orders::OrderArguments),
    /// Write one record to the dead letters instead of trying it on.
    Skip(orders::SkipArguments),
    /// Let the records of a key go on that wait because one of them is a dead letter.
    Release(orders::ReleaseArguments),
    /// What waits in the ladder for a destination.
    Retries(orders::RetriesArguments),
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

/// Parses the command line and does what it says.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = std::panic::catch_unwind(AssertUnwindSafe(|| obey(arguments)));
    ExitCode::from(done.unwrap_or(exit::SOFTWARE))
}

fn obey(arguments: Arguments) -> u8 {
    look::choose(arguments.color);
    let config = &arguments.config;
    match arguments.command {
        Command::Run(run) => run::main(config, run),
        Command::Check(check) => check::main(config, check),
        Command::Demo(demo) => demo::main(demo),
        Command::Status(status) => status::status(config, &status),
        Command::Health(health) => status::health(config, &health),
        Command::Reload(reload) => reload::reload(config, &reload),
        Command::Diff(diff) => reload::diff(config, &diff),
        Command::Pause(pause) => orders::pause(config, pause),
        Command::Resume(order) => orders::order(config, Verb::Resume, order),
        Command::RetryNow(order) => orders::order(config, Verb::RetryNow, order),
        Command::Skip(skip) => orders::skip(config, skip),
        Command::Release(release) => orders::release(config, release),
        Command::Retries(retries) => orders::retries(config, retries),
        Command::DeadLetters(letters) => dead_letters::main(config, letters),
        Command::Init(init) => init::main(&init),
        Command::Schema(schema) => schema::main(&schema),
        Command::Recipes(recipes) => recipes::main(&recipes),
        Command::Keys(keys) => keys::main(&keys),
        Command::Completions(completions) => completions::main(&completions),
        Command::Man(man) => man::main(&man),
        Command::Version => {
            say(concat!("postrider ", env!("CARGO_PKG_VERSION"), "\n"));
            exit::OK
        }
    }
}

/// Writes what a person reads. That nobody reads any more, as behind `| head`, is no failure: the exit code tells the same.
fn say(text: &str) {
    say_bytes(text.as_bytes());
}

fn say_bytes(text: &[u8]) {
    drop(std::io::stdout().write_all(text));
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
