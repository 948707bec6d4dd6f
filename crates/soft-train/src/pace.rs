//! How fast a training goes and how long it will take, measured between finished steps.

use std::time::{Duration, Instant};

/// Steps over which the mean forgets: long enough that an evaluation hardly moves it.
const MEMORY: f64 = 1000.0;

/// The wall clock of one session: evaluations, samples and checkpoints count, as they take time.
#[derive(Debug)]
pub(crate) struct Pace {
    started: Instant,
    last: Instant,
    steps: f64,
    /// Mean seconds from one finished step to the next.
    mean: f64,
}

impl Pace {
    pub(crate) fn start() -> Self {
        let now = Instant::now();
        Self { started: now, last: now, steps: 0.0, mean: 0.0 }
    }

    /// A step is finished.
    pub(crate) fn step(&mut self) {
        let now = Instant::now();
        let took = now - self.last;
        self.last = now;
        self.add(took);
    }

    fn add(&mut self, took: Duration) {
        self.steps += 1.0;
        self.mean += (took.as_secs_f64() - self.mean) / self.steps.min(MEMORY);
    }

    /// Since the session began.
    pub(crate) fn elapsed(&self) -> Duration {
        self.last - self.started
    }

    /// What so many steps will take.
    pub(crate) fn left(&self, steps: usize) -> Duration {
        Duration::try_from_secs_f64(self.mean * steps as f64).unwrap_or_default()
    }
}

/// A time in at most two units: `8s`, `1m12s`, `2h05m`, `3d04h`.
pub(crate) fn in_words(time: Duration) -> String {
    let seconds = time.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m{:02}s", seconds % 60),
        (0, ..) => format!("{hours}h{:02}m", minutes % 60),
        _ => format!("{days}d{:02}h", hours % 24),
    }
}

/// Most memory that this process has had resident so far, in bytes; none where the system does not
/// tell.
pub(crate) fn peak_resident_bytes() -> Option<u64> {
    status_bytes(&std::fs::read_to_string("/proc/self/status").ok()?, "VmHWM:")
}

/// A line of Linux's `status`, `VmHWM:   123 kB`, in bytes.
fn status_bytes(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kibibytes| kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_two_units_at_most() {
        let words = |seconds| in_words(Duration::from_secs(seconds));
        let times = [0, 59, 60, 72, 3599, 3600, 7505, 86399, 86400, 273_600];
        let expected =
            ["0s", "59s", "1m00s", "1m12s", "59m59s", "1h00m", "2h05m", "23h59m", "1d00h", "3d04h"];
        assert_eq!(times.map(words), expected);
    }

    #[test]
    fn what_is_left_is_the_mean_step_times_the_steps() {
        let mut pace = Pace::start();
        assert_eq!(pace.left(100), Duration::ZERO, "nothing is known yet");
        for milliseconds in [100, 300] {
            pace.add(Duration::from_millis(milliseconds));
        }
        assert!((pace.left(10).as_secs_f64() - 2.0).abs() < 1e-9, "{:?}", pace.left(10));
    }

    #[test]
    fn a_training_that_becomes_slower_is_believed_after_a_while() {
        let mut pace = Pace::start();
        for _ in 0..5000 {
            pace.add(Duration::from_millis(10));
        }
        pace.add(Duration::from_secs(2));
        assert!(pace.left(1).as_secs_f64() < 0.0125, "one evaluation hardly counts");
        for _ in 0..5000 {
            pace.add(Duration::from_millis(100));
        }
        assert!(pace.left(1).as_secs_f64() > 0.099, "{:?}", pace.left(1));
    }

    #[test]
    fn the_peak_is_read_in_bytes() {
        assert_eq!(status_bytes("VmPeak:\t 9 kB\nVmHWM:\t   12 kB\n", "VmHWM:"), Some(12 * 1024));
        assert_eq!(status_bytes("VmHWM: 12 MB", "VmHWM:"), None, "another unit is no kilobyte");
        if cfg!(target_os = "linux") {
            assert!(peak_resident_bytes().expect("known here") > 1 << 20);
        }
    }
}
