//! What a person sees: at most 80 columns, plain text when it goes into a pipe, colour and a progress bar on a terminal.

use std::io::{IsTerminal as _, Write as _};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::clock::Clock;

/// Lines end here at the latest.
const WIDTH: usize = 80;
/// `   3.2 s  `.
const TIME_WIDTH: usize = 10;

/// What a line is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    Title,
    Quiet,
    Good,
    Trouble,
}

/// Standard output, and the bar at its end.
pub(super) struct Page {
    clock: Clock,
    colour: bool,
    has_bar: bool,
    bar: ProgressBar,
}

impl Page {
    /// `plain`: without the bar, because something else writes on the same screen.
    pub(super) fn new(clock: Clock, plain: bool) -> Self {
        let variable = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let terminal = std::io::stdout().is_terminal() && !dumb;
        Self {
            clock,
            colour: terminal && !variable("NO_COLOR"),
            has_bar: terminal && !plain,
            // Seen once there is progress to show.
            bar: ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::hidden()),
        }
    }

    /// Whether progress is seen as a bar; else it is for [`Page::moment`] to say.
    pub(super) fn has_bar(&self) -> bool {
        self.has_bar
    }

    /// Begins to show progress towards `length`.
    pub(super) fn begin_progress(&self, length: u64) {
        self.bar.set_length(length);
        let bar = if self.colour {
            "{bar:22.green}"
        } else {
            "{bar:22}"
        };
        let template = format!("  [{bar}] {{msg}}");
        if let (true, Ok(style)) = (self.has_bar, ProgressStyle::with_template(&template)) {
            self.bar.set_style(style.progress_chars("=> "));
            self.bar.set_draw_target(ProgressDrawTarget::stdout());
        }
    }

    pub(super) fn progress(&self, position: u64, message: String) {
        self.bar.set_position(position);
        self.bar.set_message(message);
    }

    pub(super) fn end_progress(&self) {
        self.bar.finish_and_clear();
    }

    pub(super) fn title(&self, text: &str) {
        self.put("");
        self.line(Tone::Title, text);
    }

    /// Text that keeps its lines.
    pub(super) fn line(&self, tone: Tone, text: &str) {
        self.put(&self.paint(tone, text));
    }

    /// Text that is broken where it must be, each line after `indent` columns.
    pub(super) fn text(&self, tone: Tone, indent: usize, text: &str) {
        for line in wrap(text, WIDTH - indent) {
            self.put(&format!("{:indent$}{}", "", self.paint(tone, &line)));
        }
    }

    /// Something that happened at this moment.
    pub(super) fn moment(&self, tone: Tone, text: &str) {
        let seconds = self.clock.now().tick.0.as_secs_f64();
        let mut time = self.paint(Tone::Quiet, &format!("{seconds:>6.1} s  "));
        for line in wrap(text, WIDTH - TIME_WIDTH) {
            self.put(&format!("{time}{}", self.paint(tone, &line)));
            time = " ".repeat(TIME_WIDTH);
        }
    }

    fn paint(&self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Plain => return text.to_owned(),
            Tone::Title => "1",
            Tone::Quiet => "2",
            Tone::Good => "32",
            Tone::Trouble => "33",
        };
        if self.colour {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    /// A reader that has gone away, as `head` does, is no reason to end: the story goes on unseen.
    fn put(&self, line: &str) {
        self.bar.suspend(|| {
            let mut out = std::io::stdout().lock();
            drop(writeln!(out, "{line}").and_then(|()| out.flush()));
        });
    }
}

/// Breaks `text` between words into lines of at most `width` characters. A word that is longer is cut.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let letters: Vec<char> = word.chars().collect();
        for (part, piece) in letters.chunks(width).enumerate() {
            let line = lines.last_mut().expect("there is always a line");
            let used = line.chars().count();
            let space = usize::from(used > 0 && part == 0);
            if used + space + piece.len() > width {
                lines.push(piece.iter().collect());
            } else {
                line.extend(std::iter::repeat_n(' ', space).chain(piece.iter().copied()));
            }
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_break_between_words_and_nothing_is_lost() {
        assert_eq!(wrap("", 10), [""]);
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("  one \n two ", 80), ["one two"]);
        assert_eq!(wrap("a bcdefghij k", 4), ["a", "bcde", "fghi", "j k"]);
        assert_eq!(wrap("größe größe", 5), ["größe", "größe"]);
    }
}
