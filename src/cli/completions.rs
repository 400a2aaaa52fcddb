//! `postrider completions`: what a shell needs to know to complete what is typed.

use clap::CommandFactory as _;
use clap_complete::Shell;

use super::{Arguments, exit, say_bytes};

/// Print the completions of a shell.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  postrider completions bash > /etc/bash_completion.d/postrider
  postrider completions zsh > \"${fpath[1]}/_postrider\"
  postrider completions fish > ~/.config/fish/completions/postrider.fish")]
pub(super) struct CompletionsArguments {
    /// The shell.
    #[arg(value_enum)]
    shell: Shell,
}

pub(super) fn main(arguments: &CompletionsArguments) -> u8 {
    let mut text = Vec::new();
    let mut command = Arguments::command();
    clap_complete::generate(arguments.shell, &mut command, "postrider", &mut text);
    say_bytes(&text);
    exit::OK
}
