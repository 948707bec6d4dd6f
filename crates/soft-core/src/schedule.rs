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
    /// `end + (start - end) * (f(i) - f(n)) / (f(0) - f(n))` with `f(i) = k / (k + exp(i / k))`
    /// (scheduled sampling, Bengio et al. 2015, arXiv:1506.03099), rescaled so that both ends are
    /// reached; k is such that the curve before rescaling falls to a half of 1 at `n / 2`.
    InverseSigmoid,
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
        self.value(self.progress(step))
    }

    /// The value at `step` for a position that lies at `place` of its span, from 0 (first) to 1
    /// (last): the change sweeps over the span, first positions first. With the progress f of the
    /// step, from 0 to 1, a position has the progress `min(max(2 f - place, 0), 1)`.
    pub fn swept(&self, step: usize, place: f64) -> f64 {
        self.value((2.0 * self.progress(step) - place).clamp(0.0, 1.0))
    }

    /// How much of the change is over at `step`: 0 up to and including `hold`, 1 from
    /// `hold + steps` on.
    fn progress(&self, step: usize) -> f64 {
        if step <= self.hold {
            return 0.0;
        }
        let done = step - self.hold;
        if done >= self.steps { 1.0 } else { done as f64 / self.steps as f64 }
    }

    fn value(&self, progress: f64) -> f64 {
        if self.kind == ScheduleKind::Constant || progress <= 0.0 {
            return self.start;
        }
        if progress >= 1.0 {
            return self.end;
        }
        let remaining = match self.kind {
            ScheduleKind::Constant => 1.0,
            ScheduleKind::Linear => 1.0 - progress,
            ScheduleKind::Cosine => (1.0 + (std::f64::consts::PI * progress).cos()) / 2.0,
            ScheduleKind::InverseSigmoid => inverse_sigmoid(progress, self.steps),
        };
        self.end + (self.start - self.end) * remaining
    }
}

/// The rescaled inverse sigmoid at a share of its `steps`: 1 at 0, and 0 at 1.
fn inverse_sigmoid(progress: f64, steps: usize) -> f64 {
    let n = steps.max(1) as f64;
    let k = half_way(n / 2.0);
    let f = |i: f64| k / (k + (i / k).exp());
    (f(progress * n) - f(n)) / (f(0.0) - f(n))
}

/// The k over 1 with `k ln k = middle`, for a middle over 0: by Newton's method, which comes down
/// from above on a convex function.
fn half_way(middle: f64) -> f64 {
    let mut k = middle + 2.0;
    for _ in 0..50 {
        k -= (k * k.ln() - middle) / (k.ln() + 1.0);
    }
    k
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(kind: ScheduleKind) -> Schedule {
        Schedule { kind, start: 1.0, end: 0.2, hold: 5, steps: 10 }
    }

    #[test]
    fn the_ends_are_exact_and_the_way_between_never_rises() {
        for kind in [ScheduleKind::Linear, ScheduleKind::Cosine, ScheduleKind::InverseSigmoid] {
            let schedule = schedule(kind);
            assert_eq!((schedule.at(0), schedule.at(5)), (1.0, 1.0));
            assert_eq!((schedule.at(15), schedule.at(1000)), (0.2, 0.2));
            assert!((6..=15).all(|step| schedule.at(step) < schedule.at(step - 1)));
            let tolerance = if kind == ScheduleKind::InverseSigmoid { 0.05 } else { 1e-12 };
            assert!((schedule.at(10) - 0.6).abs() < tolerance, "half-way is about the mean");
        }
    }

    #[test]
    fn a_constant_schedule_never_moves() {
        assert_eq!(schedule(ScheduleKind::Constant).at(999), 1.0);
        assert_eq!(Schedule::constant(0.3).at(7), 0.3);
    }

    #[test]
    fn the_inverse_sigmoid_is_the_published_curve_between_its_own_ends() {
        // Bengio et al.: k / (k + exp(i / k)); at n = 1000, k ln k = 500 has the root 107.0.
        let long = Schedule {
            kind: ScheduleKind::InverseSigmoid,
            start: 1.0,
            end: 0.0,
            hold: 0,
            steps: 1000,
        };
        let k = 107.0013_f64;
        let f = |i: f64| k / (k + (i / k).exp());
        for i in [1, 250, 500, 750, 999] {
            let expected = (f(i as f64) - f(1000.0)) / (f(0.0) - f(1000.0));
            assert!((long.at(i) - expected).abs() < 1e-4, "{i}: {} {expected}", long.at(i));
        }
        assert!((long.at(500) - 0.5).abs() < 0.01);
        for steps in [1, 2, 3, 1_000_000] {
            let short = Schedule { steps, ..long };
            assert!((0..=steps.min(9)).all(|i| (0.0..=1.0).contains(&short.at(i))), "{steps}");
        }
    }

    #[test]
    fn a_sweep_changes_the_first_positions_first_and_ends_where_the_step_ends() {
        let schedule = schedule(ScheduleKind::Linear);
        for place in [0.0, 0.3, 1.0] {
            assert_eq!(schedule.swept(5, place), 1.0);
            assert_eq!(schedule.swept(15, place), 0.2);
        }
        let half: Vec<f64> =
            [0.0, 0.25, 0.5, 1.0].into_iter().map(|place| schedule.swept(10, place)).collect();
        assert!((half[0] - 0.2).abs() < 1e-12 && (half[3] - 1.0).abs() < 1e-12, "{half:?}");
        assert!(half.windows(2).all(|pair| pair[0] < pair[1]), "{half:?}");
    }
}
