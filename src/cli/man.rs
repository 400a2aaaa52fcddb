//! `postrider man`: the manual, from the same words as `--help`.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::CommandFactory as _;
use clap_mangen::Man;

use crate::admin::DEFAULT_SOCKET;

use super::common::DEFAULT_CONFIG;
use super::{Arguments, complain, exit, say_bytes};

/// Print the manual page, or write one for each verb
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  postrider man | man -l -                     read it
  postrider man /usr/local/share/man/man1      write postrider.1, postrider-check.1, ...")]
pub(super) struct ManArguments {
    /// The folder for the pages, one for each verb; without it the first page is printed
    folder: Option<PathBuf>,
}

/// What every page says of what is set outside.
const ENVIRONMENT: [(&str, &str); 4] = [
    (
        "POSTRIDER_CONFIG",
        "The configuration file, where -c does not name one. Empty counts as not set.",
    ),
    (
        "POSTRIDER_SOCKET",
        "The daemon's socket, where --socket does not name one. Empty counts as not set.",
    ),
    (
        "NO_COLOR",
        "Set to anything: no colours, unless --color says otherwise.",
    ),
    (
        "CREDENTIALS_DIRECTORY",
        "Where systemd puts the secrets that the file names as credentials.",
    ),
];

const FILES: [(&str, &str); 2] = [
    (
        DEFAULT_CONFIG,
        "The configuration file, where no other is named.",
    ),
    (
        DEFAULT_SOCKET,
        "Where operators reach the daemon, unless [admin] socket says otherwise.",
    ),
];

const EXIT_STATUS: [(&str, &str); 8] = [
    (
        "0",
        "Done. Of run also when the drain ran out of time: nothing is lost, and the log says how many records come back.",
    ),
    (
        "1",
        "The answer is no: a test failed, the daemon is not well, a replay left some.",
    ),
    ("2", "What was typed makes no sense."),
    (
        "69",
        "Something needed could not be reached: Kafka, the socket, what check --live asks, or the file or device that the answer goes to.",
    ),
    ("70", "A panic, or a task that ended unasked."),
    ("78", "The configuration is wrong, or is not there."),
    (
        "130",
        "Ctrl-C. An interrupted replay goes on with the same command.",
    ),
    ("143", "A second SIGTERM."),
];

pub(super) fn main(arguments: &ManArguments) -> u8 {
    let mut command = Arguments::command().disable_help_subcommand(true);
    command.build();
    let Some(folder) = &arguments.folder else {
        let mut text = Vec::new();
        // Writing into memory does not fail.
        page(&command, &mut text).ok();
        say_bytes(&text);
        return exit::OK;
    };
    match pages(&command, folder) {
        Ok(()) => exit::OK,
        Err(error) => {
            let folder = folder.display();
            complain(&format!("error: cannot write to {folder}: {error}"));
            complain("  name a folder that is there and that you may write to");
            exit::NO
        }
    }
}

/// A page for this command and for each below it.
fn pages(command: &clap::Command, folder: &Path) -> io::Result<()> {
    for below in command
        .get_subcommands()
        .filter(|below| !below.is_hide_set())
    {
        pages(below, folder)?;
    }
    let mut text = Vec::new();
    page(command, &mut text)?;
    let name = Man::new(command.clone()).get_filename();
    std::fs::write(folder.join(name), text)
}

fn page(command: &clap::Command, out: &mut Vec<u8>) -> io::Result<()> {
    let man = Man::new(command.clone());
    man.render_title(out)?;
    man.render_name_section(out)?;
    man.render_synopsis_section(out)?;
    man.render_description_section(out)?;
    man.render_options_section(out)?;
    if command.get_subcommands().any(|below| !below.is_hide_set()) {
        man.render_subcommands_section(out)?;
    }
    let help = command.get_after_help().map(ToString::to_string);
    let (examples, notes) = split(help.as_deref().unwrap_or_default());
    if !notes.is_empty() {
        writeln!(out, ".SH NOTES\n{}", escaped(notes))?;
    }
    if !examples.is_empty() {
        writeln!(out, ".SH EXAMPLES\n.nf\n{}\n.fi", escaped(examples))?;
    }
    list(out, "ENVIRONMENT", &ENVIRONMENT)?;
    list(out, "FILES", &FILES)?;
    list(out, "EXIT STATUS", &EXIT_STATUS)?;
    if command.get_version().is_none() {
        return Ok(());
    }
    man.render_version_section(out)
}

/// The examples of a help text, and what stands behind them.
fn split(help: &str) -> (&str, &str) {
    match help.strip_prefix("Examples:\n") {
        Some(rest) => rest.split_once("\n\n").unwrap_or((rest, "")),
        None => ("", help),
    }
}

fn list(out: &mut Vec<u8>, title: &str, items: &[(&str, &str)]) -> io::Result<()> {
    writeln!(out, ".SH \"{title}\"")?;
    for (name, text) in items {
        writeln!(out, ".TP\n\\fB{}\\fR\n{}", escaped(name), escaped(text))?;
    }
    Ok(())
}

/// Text that roff prints as it is.
fn escaped(text: &str) -> String {
    let lines = text.lines().map(|line| {
        let line = line.replace('\\', "\\e").replace('-', "\\-");
        match line.starts_with(['.', '\'']) {
            true => format!("\\&{line}"),
            false => line,
        }
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_roff_would_obey_is_only_text() {
        assert_eq!(escaped(".nf\na\\b -c"), "\\&.nf\na\\eb \\-c");
    }

    #[test]
    fn examples_and_notes_are_told_apart() {
        assert_eq!(split("Examples:\n  a\n  b\n\nMore."), ("  a\n  b", "More."));
        assert_eq!(split("Examples:\n  a"), ("  a", ""));
        assert_eq!(split("More."), ("", "More."));
    }
}
