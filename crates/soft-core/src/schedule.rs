//! A number that changes over the optimizer steps: guidance, learning rate, entropy weight.

use serde::{Deserialize, Serialize};

/// Form of the change from `start` to `end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScheduleKind {
    /// `start` for ever.
    #[default]
    Constant,
    /// `start + (end - start) * i / n`.
    Linear,
    /// `end + (start - end) * (1 + cos(pi i / n)) / 2`.
    Cosine,
}

/// A pure function of the step: `start` for `hold` steps, then to `end` within `steps` more.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// Form of the change.
    pub kind: ScheduleKind,
    /// Value up to and including step `hold`.
    pub start: f64,
    /// Value from step `hold + steps` on.
    pub end: f64,
    /// Steps before the change begins.
    pub hold: usize,
    /// Length of the change, in steps.
    pub steps: usize,
}

impl Schedule {
    /// The same value at every step.
    pub fn constant(value: f64) -> Self {
        Self { kind: ScheduleKind::Constant, start: value, end: value, hold: 0, steps: 0 }
    }

    /// The value at `step`, counted from 0. Both ends are exact.
    pub fn at(&self, step: usize) -> f64 {
        if self.kind == ScheduleKind::Constant || step <= self.hold {
            return self.start;
        }
        let done = step - self.hold;
        if done >= self.steps {
            return self.end;
        }
        let fraction = done as f64 / self.steps as f64;
        let remaining = match self.kind {
            ScheduleKind::Constant => 1.0,
            ScheduleKind::Linear => 1.0 - fraction,
            ScheduleKind::Cosine => (1.0 + (std::f64::consts::PI * fraction).cos()) / 2.0,
        };
        self.end + (self.start - self.end) * remaining
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(kind: ScheduleKind) -> Schedule {
        Schedule { kind, start: 1.0, end: 0.2, hold: 5, steps: 10 }
    }

    #[test]
    fn the_ends_are_exact_and_the_way_between_never_rises() {
        for kind in [ScheduleKind::Linear, ScheduleKind::Cosine] {
            let schedule = schedule(kind);
            assert_eq!((schedule.at(0), schedule.at(5)), (1.0, 1.0));
            assert_eq!((schedule.at(15), schedule.at(1000)), (0.2, 0.2));
            assert!((6..=15).all(|step| schedule.at(step) < schedule.at(step - 1)));
            assert!((schedule.at(10) - 0.6).abs() < 1e-12, "half-way is the mean");
        }
    }

    #[test]
    fn a_constant_schedule_never_moves() {
        assert_eq!(schedule(ScheduleKind::Constant).at(999), 1.0);
        assert_eq!(Schedule::constant(0.3).at(7), 0.3);
    }
}
