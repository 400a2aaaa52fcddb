//! `postrider demo`: the main job, seen. GraphSpace's notifications go from an embedded broker to two webhooks, one of which has trouble.
//!
//! Everything but the broker and the receivers is what `run` runs: the same reading of the file, the same relay. The numbers at the end
//! come from the relay's metrics, and are held against what the producer, the receivers and the broker know.

mod broker;
mod configuration;
mod notifications;
mod page;
mod receiver;
mod result;
mod story;
mod watch;

use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::clock::Clock;
use crate::logging::{self, LogFormat, LogOptions};

use super::exit;
use page::{Page, Tone};

/// The demo ends within this time, whatever happens.
const DEADLINE: Duration = Duration::from_secs(60);

/// See it work.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  postrider demo

Nothing is installed or left behind, and nothing outside this machine is asked.")]
pub(super) struct DemoArguments {
    /// Show the relay's own log between the lines.
    #[arg(short, long)]
    verbose: bool,
}

/// What is being waited for, for the message of a demo that did not end.
type Stage = Mutex<&'static str>;

#[expect(clippy::print_stderr, reason = "this is what a person reads")]
pub(super) fn main(arguments: DemoArguments) -> u8 {
    let log = start_log(arguments.verbose);
    let stage = Arc::new(Stage::default());
    let (ended, end) = sync_channel(1);
    let (the_stage, the_log) = (Arc::clone(&stage), log.clone());
    // The work has a thread of its own, so that nothing in it, not even a client that hangs while it is closed, can outlive the deadline.
    std::thread::spawn(move || {
        let result = run(&the_stage, arguments.verbose, the_log.as_deref());
        // The other side waits for this, or the process is at its end.
        drop(ended.send(result));
    });
    let mut code = exit::NO;
    let problem = match end.recv_timeout(DEADLINE) {
        Ok(Ok(true)) => return exit::OK,
        Ok(Ok(false)) => "the balance does not add up".to_owned(),
        Ok(Err(error)) => format!("{error:#}"),
        Err(RecvTimeoutError::Timeout) => {
            let stage = *stage.lock().unwrap_or_else(PoisonError::into_inner);
            format!(
                "not done after {} s; it waits for {stage}",
                DEADLINE.as_secs()
            )
        }
        Err(RecvTimeoutError::Disconnected) => {
            code = exit::SOFTWARE;
            "it panicked".to_owned()
        }
    };
    eprintln!("postrider demo: {problem}");
    if let Some(log) = log {
        eprintln!("the relay's log: {}", log.display());
    }
    code
}

/// Keeps the relay's log off the page: in a new file of the folder for temporary ones. Without a log file the demo goes on as well.
fn start_log(verbose: bool) -> Option<PathBuf> {
    if verbose {
        logging::start(LogOptions {
            format: LogFormat::Text,
            ..LogOptions::default()
        });
        return None;
    }
    let path = std::env::temp_dir().join(format!("postrider-demo-{}.log", std::process::id()));
    // Never a file that is there already: in a shared folder it may be a link to somewhere else.
    let file = std::fs::File::create_new(&path).ok()?;
    logging::start_in_file(LogOptions::default().level, file);
    Some(path)
}

fn run(stage: &Stage, verbose: bool, log: Option<&Path>) -> anyhow::Result<bool> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let clock = Clock::start();
    let page = Arc::new(Page::new(clock, verbose));
    let result = runtime.block_on(story::tell(stage, clock, &page));
    page.end_progress();
    if result.is_ok() {
        what_next(&page, log);
    }
    runtime.shutdown_background();
    result
}

fn what_next(page: &Page, log: Option<&Path>) {
    page.title("Where to look next");
    let next = [
        ("README.md", "what it does and how to run it"),
        (
            "config.example.toml",
            "every key that works, with its default",
        ),
        (
            "postrider check FILE",
            "everything that is wrong with a configuration, at once",
        ),
        ("postrider demo -v", "this again, with the relay's log"),
        ("make test", "every test, against a real Apache Kafka"),
    ];
    for (what, why) in next {
        page.line(Tone::Plain, &format!("  {what:<22}{why}"));
    }
    if let Some(log) = log {
        page.line(
            Tone::Quiet,
            &format!("  the relay's log of this run: {}", log.display()),
        );
    }
}
