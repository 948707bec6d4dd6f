//! What the loop watches: steps that are not finite, a loss that stays high, evaluations that no
//! longer get better, and the time.

use std::path::PathBuf;
use std::time::Instant;

use serde_json::{Value, json};

use super::HeldOut;
use crate::checkpoint_dir::{Best, Course};
use crate::config::{EarlyStop, Guard, HeldOutMetric, OnNan};
use crate::error::Error;
use crate::faults::Faults;
use crate::not_finite::NotFinite;
use crate::run_dir::JsonlWriter;

/// Steps in a row that are skipped at most: the last of them ends the training.
const MAX_SKIPPED_IN_ROW: u64 = 5;

/// The limits of a training.
#[derive(Debug)]
pub(crate) struct Watch {
    pub(crate) guard: Guard,
    pub(crate) early_stop: EarlyStop,
    /// Figure by which evaluations are compared.
    pub(crate) metric: HeldOutMetric,
    /// Best checkpoints that are kept.
    pub(crate) keep_best: usize,
    /// When the session is to end.
    pub(crate) deadline: Option<Instant>,
    /// The record of steps that were not finite; it appears with the first.
    pub(crate) nonfinite: PathBuf,
    /// For tests.
    pub(crate) faults: Faults,
}

/// What an evaluation comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Judged {
    /// It is the best so far, and its checkpoint is to be kept.
    pub(crate) keeps: bool,
    /// The patience is over.
    pub(crate) ended: bool,
}

/// A step that was not finite.
pub(super) struct BrokenStep<'a> {
    /// Counted from 1.
    pub(super) step: usize,
    pub(super) loss: f64,
    pub(super) grad_norm: f64,
    pub(super) found: &'a NotFinite,
    /// For each micro-batch its examples, by their place in the data.
    pub(super) rows: Vec<Vec<usize>>,
    /// The stage of the curriculum, whose data these are places in.
    pub(super) stage: Option<usize>,
}

impl BrokenStep<'_> {
    /// The first tensor that is not finite, in the order in which a step computes them.
    pub(super) fn first(&self) -> String {
        match &self.found.gradient {
            _ if !self.loss.is_finite() => "loss".to_owned(),
            Some(name) => format!("gradient of {name}"),
            // Each is finite, and the sum of their squares is not.
            None => "norm of all gradients".to_owned(),
        }
    }

    fn record(&self, action: OnNan) -> Value {
        let mut line = json!({
            "step": self.step,
            "action": action.as_str(),
            "first": self.first(),
            "loss": self.loss,
            "grad_norm": self.grad_norm,
            "gradient": self.found.gradient,
            "gradients_not_finite": self.found.broken,
            "gradients": self.found.gradients,
            "weight": self.found.weight,
            "rows": self.rows,
        });
        if let Some(stage) = self.stage {
            line["curriculum/stage"] = stage.into();
        }
        line
    }
}

impl Watch {
    /// Whether the session's time is over.
    pub(super) fn is_late(&self) -> bool {
        self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }

    /// Records a step that was not finite, and says whether it is skipped; `course` then counts it.
    ///
    /// # Errors
    /// A record that cannot be written.
    pub(super) fn skips(
        &self,
        course: &mut Course,
        broken: &BrokenStep<'_>,
    ) -> Result<bool, Error> {
        let skips =
            self.guard.on_nan == OnNan::Skip && course.skipped_in_row + 1 < MAX_SKIPPED_IN_ROW;
        let action = if skips { OnNan::Skip } else { OnNan::Stop };
        JsonlWriter::append_to(&self.nonfinite)?.append(&broken.record(action))?;
        if skips {
            course.skipped += 1;
            course.skipped_in_row += 1;
        }
        Ok(skips)
    }

    /// Why a training ends at a step that was not finite, and how it can go on.
    pub(super) fn stopped(
        &self,
        course: &Course,
        broken: &BrokenStep<'_>,
        checkpoint: &std::path::Path,
    ) -> Error {
        let first = match self.guard.on_nan {
            OnNan::Skip => format!(
                "the {} is not finite, for the {MAX_SKIPPED_IN_ROW}th step in a row ({} skipped in all)",
                broken.first(),
                course.skipped
            ),
            OnNan::Stop if broken.loss.is_finite() => {
                format!("the {} is not finite", broken.first())
            }
            OnNan::Stop => format!("the loss is {}", broken.loss),
        };
        let advice = match (&broken.found.weight, self.guard.on_nan) {
            (Some(weight), _) => format!(
                "{weight} was not finite before it: an earlier step has spoiled the weights, so begin \
                 anew, or go on from an earlier checkpoint with `--resume PATH --resume-anyway` and a \
                 lower train.lr"
            ),
            (None, OnNan::Stop) => "go on without it by `--resume auto guard.on_nan=skip`, or by \
                 `--resume auto --resume-anyway` with a lower train.lr or train.clip, or with another \
                 order of data (run.seed)"
                .to_owned(),
            (None, OnNan::Skip) => "go on by `--resume auto --resume-anyway` with a lower train.lr or \
                 train.clip, or with another order of data (run.seed)"
                .to_owned(),
        };
        Error::Diverged {
            step: broken.step as u64,
            what: format!(
                "{first}; the weights are as they were before that step, in {}, and {} names its rows; \
                 {advice}",
                checkpoint.display(),
                self.nonfinite.display()
            ),
        }
    }

    /// Counts a step by its loss, which one that was skipped has not; says why the training ends
    /// with it, if it does.
    pub(super) fn lost(&self, course: &mut Course, loss: Option<f64>) -> Option<String> {
        let loss = loss?;
        let (most, patience) = (self.guard.loss_max, self.guard.loss_patience);
        let is_high = most > 0.0 && loss > most;
        course.high_in_row = if is_high { course.high_in_row + 1 } else { 0 };
        (is_high && course.high_in_row >= patience as u64).then(|| {
            format!(
                "the loss is {loss}, over `guard.loss_max` {most} in {} steps in a row; lower \
                 train.lr or train.clip, or warm up",
                course.high_in_row
            )
        })
    }

    /// Compares an evaluation with those before; nothing where nothing was measured.
    pub(super) fn judge(&self, course: &mut Course, steps: usize, held_out: &[HeldOut]) -> Judged {
        let Some(HeldOut { key, value, .. }) = judged(self.metric, held_out) else {
            return Judged::default();
        };
        if course.metric.as_deref() != Some(key) {
            // Values of another figure do not compare.
            course.metric = Some((*key).to_owned());
            course.best.clear();
            course.reference = None;
            course.without_improvement = 0;
        }
        let gain = |over: f64| if higher_is_better(key) { value - over } else { over - value };
        let is_best = value.is_finite() && course.best.last().is_none_or(|b| gain(b.value) > 0.0);
        if is_best {
            course.best.push(Best { step: steps as u64, value: *value });
            let over = course.best.len().saturating_sub(self.keep_best.max(1));
            course.best.drain(..over);
        }
        let improves = |over: f64| gain(over) > self.early_stop.min_delta;
        if value.is_finite() && course.reference.is_none_or(improves) {
            course.reference = Some(*value);
            course.without_improvement = 0;
        } else {
            course.without_improvement += 1;
        }
        let ended = early_end(&self.early_stop, course).is_some();
        Judged { keeps: is_best && self.keep_best > 0, ended }
    }
}

/// Why a training has ended before its last step, if its evaluations have ended it.
pub(crate) fn early_end(early_stop: &EarlyStop, course: &Course) -> Option<String> {
    let patience = early_stop.patience as u64;
    let metric = course.metric.as_deref().unwrap_or("the evaluation");
    (patience > 0 && course.without_improvement >= patience).then(|| {
        let evaluations = match course.without_improvement {
            1 => "1 evaluation".to_owned(),
            count => format!("{count} evaluations"),
        };
        format!(
            "{metric} has not improved in {evaluations} (early_stop.patience {patience}, min_delta {})",
            early_stop.min_delta
        )
    })
}

/// Whether more is better of a figure on held-out data.
pub(crate) fn higher_is_better(key: &str) -> bool {
    key == ACCURACY
}

const ACCURACY: &str = "valid/accuracy";

/// The figure that evaluations are compared by, among those that were measured.
fn judged(metric: HeldOutMetric, held_out: &[HeldOut]) -> Option<&HeldOut> {
    let measured = |key: &str| held_out.iter().find(|held| held.key == key);
    let (cross_entropy, answer) = ("valid/cross_entropy", "valid/answer_cross_entropy");
    let text = "valid/text_perplexity";
    match metric {
        HeldOutMetric::Auto => {
            [ACCURACY, answer, cross_entropy, text].into_iter().find_map(measured)
        }
        HeldOutMetric::Accuracy => measured(ACCURACY),
        HeldOutMetric::CrossEntropy => measured(cross_entropy),
        HeldOutMetric::AnswerCrossEntropy => measured(answer),
        HeldOutMetric::TextPerplexity => measured(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch(patience: usize, min_delta: f64, keep_best: usize) -> Watch {
        Watch {
            guard: Guard { loss_max: 4.0, loss_patience: 2, ..Guard::default() },
            early_stop: EarlyStop { patience, min_delta },
            metric: HeldOutMetric::Auto,
            keep_best,
            deadline: None,
            nonfinite: PathBuf::new(),
            faults: Faults::default(),
        }
    }

    fn held(key: &'static str, value: f64) -> Vec<HeldOut> {
        vec![HeldOut { title: "", key, value }]
    }

    /// Evaluations in turn: the steps that were kept, and whether the last one ended the training.
    fn judge(watch: &Watch, key: &'static str, values: &[f64]) -> (Vec<usize>, Course, bool) {
        let (mut course, mut kept, mut ended) = (Course::default(), Vec::new(), false);
        for (step, &value) in values.iter().enumerate() {
            assert!(!ended, "it goes on after its end");
            let judged = watch.judge(&mut course, step, &held(key, value));
            kept.extend(judged.keeps.then_some(step));
            ended = judged.ended;
        }
        (kept, course, ended)
    }

    #[test]
    fn each_figure_has_its_direction() {
        let values = [0.5, 0.4, 0.6, 0.6, 0.3];
        let (kept, course, _) = judge(&watch(0, 0.0, 1), "valid/accuracy", &values);
        assert_eq!((kept, course.best), (vec![0, 2], vec![Best { step: 2, value: 0.6 }]));
        for key in ["valid/cross_entropy", "valid/answer_cross_entropy", "valid/text_perplexity"] {
            let (kept, course, ended) = judge(&watch(0, 0.0, 2), key, &values);
            assert_eq!(kept, [0, 1, 4], "{key}");
            let steps: Vec<u64> = course.best.iter().map(|best| best.step).collect();
            assert_eq!((steps, ended), (vec![1, 4], false), "{key}: the best last");
        }
    }

    #[test]
    fn patience_counts_evaluations_without_an_improvement_of_min_delta() {
        let key = "valid/cross_entropy";
        let (kept, course, ended) = judge(&watch(2, 0.1, 1), key, &[1.0, 0.95, 0.85, 0.8, 0.78]);
        assert_eq!(kept, [0, 1, 2, 3, 4], "the best is the best, by however little");
        assert_eq!((course.reference, course.without_improvement), (Some(0.85), 2));
        assert!(ended);
        let (.., ended) = judge(&watch(2, 0.1, 1), key, &[1.0, 0.95, 0.85, 0.8, 0.7]);
        assert!(!ended, "an improvement in time");
        let (kept, _, ended) = judge(&watch(1, 0.0, 0), key, &[1.0, 1.0]);
        assert!(kept.is_empty() && ended, "the same again is no improvement");
    }

    #[test]
    fn a_figure_that_is_no_number_is_never_the_best() {
        let (kept, course, ended) =
            judge(&watch(2, 0.0, 1), "valid/accuracy", &[f64::NAN, 0.1, f64::NAN, f64::INFINITY]);
        assert_eq!((kept, ended), (vec![1], true));
        assert_eq!(course.best, [Best { step: 1, value: 0.1 }]);
    }

    #[test]
    fn the_figure_is_that_of_the_task_or_the_one_that_is_named() {
        let both = [held("valid/cross_entropy", 2.0), held("valid/answer_cross_entropy", 1.0)];
        let both = both.concat();
        let of = |metric| judged(metric, &both).map(|held| held.value);
        assert_eq!(of(HeldOutMetric::Auto), Some(1.0));
        assert_eq!(of(HeldOutMetric::CrossEntropy), Some(2.0));
        assert_eq!(of(HeldOutMetric::Accuracy), None);
        // Another figure than before begins anew.
        let mut watch = watch(2, 0.0, 1);
        let mut course = Course::default();
        watch.judge(&mut course, 1, &both);
        watch.metric = HeldOutMetric::CrossEntropy;
        assert!(watch.judge(&mut course, 2, &both).keeps);
        assert_eq!(course.best, [Best { step: 2, value: 2.0 }]);
    }

    #[test]
    fn t40_a_loss_that_stays_over_its_limit_ends_the_training() {
        let (watch, mut course) = (watch(0, 0.0, 1), Course::default());
        for loss in [Some(5.0), Some(4.0), Some(4.1), None] {
            assert_eq!(watch.lost(&mut course, loss), None, "{loss:?}");
        }
        let why = watch.lost(&mut course, Some(4.2)).expect("twice in a row");
        assert!(why.contains("4.2") && why.contains("2 steps"), "{why}");
        let off = Watch { guard: Guard::default(), ..watch };
        assert_eq!(off.lost(&mut course, Some(1e9)), None);
    }
}
