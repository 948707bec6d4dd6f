//! What a run is asked to do while it trains: keys and signals ask, the loop takes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::terminal;

/// Exit code of a program that was interrupted.
const INTERRUPTED: i32 = 130;

/// Requests to one run; a clone reaches the same run. Nothing is done before the loop looks, which
/// it does between micro-batches (stop) and between steps (all of them).
#[derive(Debug, Clone, Default)]
pub struct Control(Arc<Requests>);

#[derive(Debug, Default)]
struct Requests {
    stop: AtomicBool,
    save: AtomicBool,
    sample: AtomicBool,
}

impl Control {
    /// Asks the run to end with a checkpoint of its last finished step. Says whether it had been
    /// asked before.
    pub fn request_stop(&self) -> bool {
        self.0.stop.swap(true, Ordering::Relaxed)
    }

    /// Whether the run was asked to end.
    #[must_use]
    pub fn stop_requested(&self) -> bool {
        self.0.stop.load(Ordering::Relaxed)
    }

    /// An interrupt. The first asks the run to end, as [`Control::request_stop`] does; a further
    /// one ends the process at once with code 130, on a terminal as it was before.
    pub fn interrupt(&self) {
        if self.request_stop() {
            terminal::leave();
            std::process::exit(INTERRUPTED);
        }
    }

    /// Asks for a checkpoint after the step in progress.
    pub fn request_save(&self) {
        self.0.save.store(true, Ordering::Relaxed);
    }

    /// Whether a checkpoint is asked for and not yet begun.
    pub(crate) fn save_requested(&self) -> bool {
        self.0.save.load(Ordering::Relaxed)
    }

    /// Takes the request for a checkpoint: it is asked for once.
    pub(crate) fn take_save(&self) -> bool {
        self.0.save.swap(false, Ordering::Relaxed)
    }

    /// Asks for samples after the step in progress.
    pub fn request_sample(&self) {
        self.0.sample.store(true, Ordering::Relaxed);
    }

    /// Whether samples are asked for and not yet begun.
    pub(crate) fn sample_requested(&self) -> bool {
        self.0.sample.load(Ordering::Relaxed)
    }

    /// Takes the request for samples.
    pub(crate) fn take_sample(&self) -> bool {
        self.0.sample.swap(false, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_reaches_every_clone_and_is_taken_once() {
        let control = Control::default();
        let clone = control.clone();
        assert!(!control.stop_requested() && !control.take_save() && !control.take_sample());
        clone.request_save();
        clone.request_sample();
        assert!(control.take_save() && !clone.take_save());
        assert!(control.take_sample() && !clone.take_sample());
    }

    #[test]
    fn a_stop_is_final_and_tells_who_asked_first() {
        let control = Control::default();
        assert!(!control.request_stop(), "the first");
        assert!(control.stop_requested());
        assert!(control.request_stop(), "a further one");
    }
}
