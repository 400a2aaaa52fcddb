//! How far it is, for a person at a terminal; nothing anywhere else.

use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A narrower terminal gets words without a bar.
const BAR_COLUMNS: u16 = 60;

/// A bar at the foot of the terminal, which goes when it is dropped.
pub(super) struct Bar(ProgressBar);

impl Bar {
    /// Shows how much of `what` is done, as soon as there is something to show.
    pub(super) fn new(what: &str) -> Self {
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::hidden());
        let drawn = if columns() < BAR_COLUMNS {
            ""
        } else {
            " [{bar:30}]"
        };
        let template = format!("{what}{drawn} {{pos}} of {{len}}, {{elapsed}}");
        if let (true, Ok(style)) = (is_seen(), ProgressStyle::with_template(&template)) {
            bar.set_style(style.progress_chars("=> "));
            bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        Self(bar)
    }

    pub(super) fn show(&self, done: u64, total: u64) {
        self.0.set_length(total);
        self.0.set_position(done);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// That something is being done whose length nobody knows. It goes when it is dropped.
pub(super) struct Spinner(ProgressBar);

impl Spinner {
    pub(super) fn say(&self, what: impl Into<String>) {
        self.0.set_message(what.into());
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

pub(super) fn spinner(what: impl Into<String>) -> Spinner {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
    let style = ProgressStyle::with_template("{spinner} {msg}, {elapsed}");
    bar.set_message(what.into());
    if let (true, Ok(style)) = (is_seen(), style) {
        bar.set_style(style);
        bar.set_draw_target(ProgressDrawTarget::stderr());
        bar.enable_steady_tick(Duration::from_millis(200));
    }
    Spinner(bar)
}

fn is_seen() -> bool {
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    std::io::stderr().is_terminal() && !dumb
}

fn columns() -> u16 {
    let size = terminal_size::terminal_size_of(std::io::stderr());
    size.map_or(u16::MAX, |(width, _)| width.0)
}
