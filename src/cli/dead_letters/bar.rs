//! How far it is, for a person at a terminal; nothing anywhere else.

use std::io::IsTerminal as _;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar at the foot of the terminal, which goes when it is dropped.
pub(super) struct Bar(ProgressBar);

impl Bar {
    /// Shows how much of `what` is done, as soon as there is something to show.
    pub(super) fn new(what: &str) -> Self {
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::hidden());
        let template = format!("{what} [{{bar:30}}] {{pos}} of {{len}}, {{elapsed}}");
        if let (true, Ok(style)) = (
            std::io::stderr().is_terminal() && !dumb,
            ProgressStyle::with_template(&template),
        ) {
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
