//! Warm-up, then a constant, cosine or linear learning rate, or one that decays at the end.

use burn::lr_scheduler::{LrScheduler, LrSchedulerRecord};
use soft_core::Schedule;

use crate::config::{LrSchedule, Train};

/// `lr * (i + 1) / warmup` for the first `warmup` steps, then the schedule over the rest: a pure
/// function of the step, so that a resumed run needs only the step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct LearningRate {
    warmup: usize,
    after: Schedule,
    /// The step whose rate is given next, counted from 0.
    next: usize,
}

impl LearningRate {
    /// The learning rate of a run, which goes on at `step`.
    pub(crate) fn new(train: &Train, step: usize) -> Self {
        let kind = match train.schedule {
            LrSchedule::Constant => soft_core::ScheduleKind::Constant,
            LrSchedule::Cosine => soft_core::ScheduleKind::Cosine,
            LrSchedule::Linear | LrSchedule::WarmupStableDecay => soft_core::ScheduleKind::Linear,
        };
        // The last step that has the full rate.
        let hold = match train.schedule {
            LrSchedule::WarmupStableDecay => train.steps.saturating_sub(train.decay + 1),
            _ => train.warmup,
        };
        let after = Schedule {
            kind,
            start: train.lr,
            end: train.min_lr,
            hold,
            steps: train.steps.saturating_sub(hold + 1).max(1),
        };
        Self { warmup: train.warmup, after, next: step }
    }

    /// The same rate times a factor, at every step.
    pub(crate) fn times(self, factor: f64) -> Self {
        let Schedule { start, end, .. } = self.after;
        Self { after: Schedule { start: factor * start, end: factor * end, ..self.after }, ..self }
    }

    /// The rate of `step`, counted from 0.
    pub(crate) fn at(&self, step: usize) -> f64 {
        if step < self.warmup {
            return self.after.start * (step + 1) as f64 / self.warmup as f64;
        }
        self.after.at(step)
    }
}

impl LrScheduler for LearningRate {
    fn step(&mut self) -> f64 {
        self.next += 1;
        self.at(self.next - 1)
    }

    fn to_record(&self) -> LrSchedulerRecord {
        LrSchedulerRecord::new().with_scalar("next", self.next as u64)
    }

    fn load_record(&mut self, record: LrSchedulerRecord) {
        if let Some(next) = record.scalar::<u64>("next") {
            self.next = next as usize;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_rises_to_its_top_and_falls_to_its_end() {
        let train = Train {
            lr: 0.1,
            warmup: 4,
            steps: 10,
            schedule: LrSchedule::Cosine,
            min_lr: 0.01,
            ..Train::default()
        };
        let rate = LearningRate::new(&train, 0);
        assert!((rate.at(0) - 0.025).abs() < 1e-12);
        assert_eq!(rate.at(3), 0.1);
        assert_eq!(rate.at(4), 0.1);
        assert!((5..10).all(|step| rate.at(step) < rate.at(step - 1)));
        assert_eq!(rate.at(9), 0.01);
    }

    #[test]
    fn a_resumed_schedule_goes_on_where_it_stood() {
        let train = Train { warmup: 3, steps: 9, ..Train::default() };
        let mut whole = LearningRate::new(&train, 0);
        let rates: Vec<f64> = (0..9).map(|_| LrScheduler::step(&mut whole)).collect();
        let mut resumed = LearningRate::new(&train, 5);
        assert_eq!(LrScheduler::step(&mut resumed), rates[5]);
    }

    #[test]
    fn a_rate_that_decays_at_the_end_is_full_until_then() {
        let train = Train {
            lr: 0.1,
            warmup: 2,
            steps: 10,
            schedule: LrSchedule::WarmupStableDecay,
            decay: 4,
            min_lr: 0.02,
            ..Train::default()
        };
        let rate = LearningRate::new(&train, 0);
        assert!((2..=5).all(|step| rate.at(step) == 0.1), "stable");
        assert!((rate.at(7) - 0.06).abs() < 1e-12, "half of the decay");
        assert_eq!(rate.at(9), 0.02, "the last step is at the end");
        let half = rate.times(0.5);
        assert!((0..10).all(|step| (half.at(step) - 0.5 * rate.at(step)).abs() < 1e-15));
    }
}
