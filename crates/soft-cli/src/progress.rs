//! A line on the terminal for what takes seconds; nothing where stderr is a file.

use std::time::Duration;

use indicatif::ProgressBar;

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
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
