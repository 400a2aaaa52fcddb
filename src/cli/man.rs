//! `postrider man`: the manual, from the same words as `--help`.

use std::path::PathBuf;

use clap::CommandFactory as _;

use super::client::say as complain;
use super::{Arguments, exit, say_bytes};

/// Print the manual page, or write one for each verb.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  postrider man | man -l -                     read it
  postrider man /usr/local/share/man/man1      write postrider.1, postrider-check.1, ...")]
pub(super) struct ManArguments {
    /// The folder for the pages, one for each verb; without it the first page is printed.
    folder: Option<PathBuf>,
}

pub(super) fn main(arguments: &ManArguments) -> u8 {
    let command = Arguments::command();
    let Some(folder) = &arguments.folder else {
        let mut text = Vec::new();
        // Writing into memory does not fail.
        clap_mangen::Man::new(command).render(&mut text).ok();
        say_bytes(&text);
        return exit::OK;
    };
    match clap_mangen::generate_to(command, folder) {
        Ok(()) => exit::OK,
        Err(error) => {
            let folder = folder.display();
            complain(&format!("error: cannot write to {folder}: {error}"));
            complain("  name a folder that is there and that you may write to");
            exit::NO
        }
    }
}
