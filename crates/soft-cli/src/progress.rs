//! A line on the terminal for what takes seconds; nothing where stderr is a file.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// Shows `what` with a moving sign and the time until it is dropped.
pub(crate) struct Progress(ProgressBar);

impl Progress {
    pub(crate) fn new(what: impl Into<String>) -> Self {
        // indicatif draws on stderr, and only where that is a terminal.
        let bar = ProgressBar::new_spinner();
        bar.set_message(what.into());
        bar.enable_steady_tick(Duration::from_millis(120));
        Self(bar)
    }

    /// A bar that counts to `total`, with the time that is left; one thing alone gets no bar.
    pub(crate) fn counting(total: u64, what: &'static str) -> Self {
        if total < 2 {
            return Self::new(what);
        }
        let bar = ProgressBar::new(total);
        let shape = "{spinner} {prefix} {bar:30} {pos}/{len}, {eta} left, {msg}";
        if let Ok(style) = ProgressStyle::with_template(shape) {
            bar.set_style(style);
        }
        bar.set_prefix(what);
        bar.enable_steady_tick(Duration::from_millis(120));
        Self(bar)
    }

    pub(crate) fn set(&self, to: u64) {
        self.0.set_position(to);
    }

    pub(crate) fn advance(&self, by: u64) {
        self.0.inc(by);
    }

    pub(crate) fn note(&self, text: String) {
        self.0.set_message(text);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
