//! What a training step takes, on the clock and of the processors.

use std::time::Instant;

use serde_json::{Value, json};

/// Measures one step.
pub(crate) struct Stopwatch {
    started: Instant,
    processor: Option<f64>,
}

/// What a step took.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Took {
    /// By the clock.
    pub(crate) seconds: f64,
    /// Of all threads of the process together; none where the system does not tell. What else the
    /// machine does hardly changes it.
    pub(crate) processor_seconds: Option<f64>,
}

impl Stopwatch {
    pub(crate) fn start() -> Self {
        Self { started: Instant::now(), processor: processor_seconds() }
    }

    pub(crate) fn stop(self) -> Took {
        let seconds = self.started.elapsed().as_secs_f64();
        let spent = |before: f64| Some(processor_seconds()? - before);
        Took { seconds, processor_seconds: self.processor.and_then(spent) }
    }
}

impl Took {
    /// The object of a step in `times.jsonl`.
    pub(crate) fn at_step(self, step: usize) -> Value {
        let mut line = json!({ "step": step, "seconds": self.seconds });
        if let Some(seconds) = self.processor_seconds {
            line["processor_seconds"] = seconds.into();
        }
        line
    }
}

/// Processor time of this process so far, over all its threads.
fn processor_seconds() -> Option<f64> {
    #[cfg(unix)]
    {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        Some(time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9)
    }
    #[cfg(not(unix))]
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_takes_time_of_both_kinds_and_sleep_none_of_the_processor() {
        let stopwatch = Stopwatch::start();
        std::thread::sleep(std::time::Duration::from_millis(20));
        let took = stopwatch.stop();
        assert!(took.seconds >= 0.02, "{took:?}");
        if let Some(processor) = took.processor_seconds {
            assert!(processor >= 0.0, "{took:?}");
        }
        assert_eq!(took.at_step(3)["step"], 3);
    }

    #[cfg(unix)]
    #[test]
    fn the_processor_time_grows_with_work_and_is_in_seconds() {
        let before = processor_seconds().expect("known here");
        let started = Instant::now();
        let mut sum = 0_u64;
        while started.elapsed().as_millis() < 50 {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        let spent = processor_seconds().expect("known here") - before;
        // Other threads of the test program may work too; a busy machine may give less.
        assert!((1e-4..50.0).contains(&spent), "{spent}");
    }
}
