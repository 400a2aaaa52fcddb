//! How an answer looks: in colours or not, and how wide.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::sync::OnceLock;

use clap::ValueEnum as _;

/// What `--color` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Colour {
    // On a terminal, unless NO_COLOR is set.
    Auto,
    Always,
    Never,
}

impl Colour {
    pub(super) fn for_clap(self) -> clap::ColorChoice {
        match self {
            Self::Auto => clap::ColorChoice::Auto,
            Self::Always => clap::ColorChoice::Always,
            Self::Never => clap::ColorChoice::Never,
        }
    }
}

/// What `--color` says among words that nobody has parsed, the last one counting; what it says wrong is found later.
pub(super) fn of_words(words: &[OsString]) -> Colour {
    let mut found = Colour::Auto;
    for (at, word) in words.iter().enumerate() {
        let said = match word.to_str() {
            Some("--") => break,
            Some("--color") => words.get(at + 1).and_then(|next| next.to_str()),
            Some(word) => word.strip_prefix("--color="),
            None => None,
        };
        let colour = said.and_then(|said| Colour::from_str(said, false).ok());
        found = colour.unwrap_or(found);
    }
    found
}

static CHOICE: OnceLock<Colour> = OnceLock::new();

/// What was chosen, for the rest of the process; the first word counts.
pub(super) fn choose(colour: Colour) {
    CHOICE.get_or_init(|| colour);
}

/// Whether what goes to `stream` has colours.
pub(super) fn colours(stream: &impl IsTerminal) -> bool {
    match CHOICE.get().copied().unwrap_or(Colour::Auto) {
        Colour::Always => true,
        Colour::Never => false,
        Colour::Auto => {
            let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
            let dumb = set("TERM").is_some_and(|term| term == "dumb");
            stream.is_terminal() && set("NO_COLOR").is_none() && !dumb
        }
    }
}

/// How many characters fit into a line of the answer; where no terminal is, as many as there are.
pub(super) fn width() -> usize {
    let size = terminal_size::terminal_size_of(std::io::stdout());
    size.map_or(usize::MAX, |(width, _)| usize::from(width.0))
}

/// `text` in lines of at most `width` characters, as far as its words allow. Its own lines stay apart; one that begins with a space is a
/// command, and is left whole so that it can be copied.
pub(super) fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for line in text.lines() {
        if line.starts_with(' ') {
            lines.push(line.to_owned());
            continue;
        }
        let mut now = String::new();
        for word in line.split_whitespace() {
            let longer = now.chars().count() + 1 + word.chars().count();
            if !now.is_empty() && longer > width {
                lines.push(std::mem::take(&mut now));
            }
            if !now.is_empty() {
                now.push(' ');
            }
            now.push_str(word);
        }
        lines.push(now);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stay_whole_and_commands_too() {
        let wrapped = wrap("one two three\n  a command of many words", 8);
        assert_eq!(wrapped, ["one two", "three", "  a command of many words"]);
        assert_eq!(wrap("unbreakable", 3), ["unbreakable"]);
        assert_eq!(wrap("one two", usize::MAX), ["one two"]);
    }
}
