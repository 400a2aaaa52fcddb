//! What can be said to every verb: the file, and how answers are shown.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::config;

use super::exit;
use super::look::Colour;
use super::output::complain;

/// Where a package puts the file.
pub(super) const DEFAULT_CONFIG: &str = "/etc/postrider/postrider.toml";
/// Names the file where no option does.
pub(super) const CONFIG_VARIABLE: &str = "POSTRIDER_CONFIG";

/// How an answer is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    // For people. (A comment of clap's own here would spread every help text over twice as many lines.)
    Human,
    // For programs.
    Json,
}

/// As it is typed, before the verb or behind it.
#[derive(Debug, clap::Args)]
pub(super) struct CommonArguments {
    /// The configuration file [env: POSTRIDER_CONFIG] [default: /etc/postrider/postrider.toml]
    #[arg(
        short,
        long,
        value_name = "FILE",
        global = true,
        help_heading = "Common options"
    )]
    config: Option<PathBuf>,
    /// How answers are shown: for people, or as JSON for programs
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = Format::Human, global = true, help_heading = "Common options")]
    format: Format,
    /// Whether answers, help and errors have colours
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = Colour::Auto, global = true, help_heading = "Common options")]
    color: Colour,
}

/// What was said, or holds without a word.
#[derive(Debug, Clone)]
pub(super) struct Common {
    /// The configuration file.
    pub(super) config: PathBuf,
    /// Whether somebody named it, by option or environment.
    pub(super) named: bool,
    pub(super) format: Format,
    pub(super) color: Colour,
}

impl CommonArguments {
    pub(super) fn settle(self) -> Common {
        let named = self.config.or_else(|| variable(CONFIG_VARIABLE));
        Common {
            named: named.is_some(),
            config: named.unwrap_or_else(|| PathBuf::from(DEFAULT_CONFIG)),
            format: self.format,
            color: self.color,
        }
    }
}

impl Common {
    pub(super) fn config(&self) -> &Path {
        &self.config
    }

    pub(super) fn is_json(&self) -> bool {
        self.format == Format::Json
    }
}

/// A path that the environment names; an empty one names nothing.
pub(super) fn variable(name: &str) -> Option<PathBuf> {
    let set: Option<OsString> = std::env::var_os(name);
    set.filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// Says that there is no destination of that name, and which there are.
pub(super) fn no_destination(wanted: &str, names: &[&str]) -> u8 {
    complain(&format!(
        "error: {}",
        config::unknown_destination(wanted, names)
    ));
    exit::USAGE
}

/// `text` as one word of a command line.
pub(super) fn shell_word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:@%,".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_of_a_command_line_is_quoted_where_it_must_be() {
        assert_eq!(shell_word("/etc/p.toml"), "/etc/p.toml");
        assert_eq!(shell_word("my file"), "'my file'");
        assert_eq!(shell_word("it's"), "'it'\\''s'");
        assert_eq!(shell_word(""), "''");
    }
}
