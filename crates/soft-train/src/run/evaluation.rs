//! What is measured on held-out data while a model is trained.

use soft_core::SoftPipeline;
use soft_model::Transformer;

use super::arm::Training;
use super::forgetting::PlainText;
use super::{Problem, learned};
use crate::batch::Batch;
use crate::belief::answers_and_beliefs;
use crate::error::Error;
use crate::evaluate::Asking;
use crate::example::Example;
use crate::learner::metric_name;
use crate::objective::{BatchLoss, Objective, StepTotals};
use crate::rl::TextSource;
use crate::rollout::{Sequential, StepContext};
use crate::strategy::{Evaluate, HeldOut};

/// Key of the share of right answers in `metrics.jsonl`.
pub(super) const ACCURACY_KEY: &str = "valid/accuracy";

/// The first of all, as many as `eval.limit` says; 0 is all.
pub(super) fn limited<T>(all: &[T], limit: usize) -> &[T] {
    if limit == 0 { all } else { &all[..limit.min(all.len())] }
}

impl Training<'_> {
    /// What is measured while training: exact answers, or the cross-entropy of held-out rows.
    ///
    /// Examples of text are answered as well where `answers` are there to be compared with.
    ///
    /// # Errors
    /// Settings out of range, or a text that cannot be read.
    pub(super) fn evaluation(&self, answers: Vec<TextSource>) -> Result<Evaluate, Error> {
        let pipeline = SoftPipeline::new(self.config.soft.pipeline())?;
        let (seed, limit) = (self.config.run.seed, self.config.eval.limit);
        match self.problem {
            Problem::Task(task) => {
                let task = task.clone();
                let curriculum = self.config.curriculum.clone();
                let stages = self.problem.num_stages(self.config);
                let asking = self.asking(self.arm, 0, None)?;
                Ok(Box::new(move |learner, steps| {
                    let problems = limited(&task.validation, limit);
                    let cut = curriculum.cut_after(steps, stages);
                    let mut asking = Asking { cut, ..asking.clone() };
                    let filters = learner.filters.as_ref();
                    asking.thoughts.pipeline = learned::decoded(&pipeline, filters);
                    let model = &learner.model;
                    let (right, beliefs) = answers_and_beliefs(model, &task, problems, &asking)?;
                    let correct = right.into_iter().filter(|&right| right).count();
                    let value = correct as f64 / problems.len() as f64;
                    let title = metric_name::ACCURACY;
                    let mut figures = vec![HeldOut { title, key: ACCURACY_KEY, value }];
                    if !beliefs.steps.is_empty() {
                        let (kl, mass) = (beliefs.kl(), beliefs.mass());
                        let title = metric_name::BELIEF_KL;
                        figures.push(HeldOut { title, key: "valid/belief_kl", value: kl });
                        let title = metric_name::BELIEF_MASS;
                        figures.push(HeldOut { title, key: "valid/belief_mass", value: mass });
                    }
                    Ok(figures)
                }))
            }
            Problem::Examples { valid, .. } => {
                let valid = limited(valid, limit).to_vec();
                let text = PlainText::open(self.config)?;
                // As it is fed once it is trained.
                let estimator = &self.config.estimator;
                let estimator = estimator.at(estimator.last_temperature(self.config.train.steps));
                let context = StepContext {
                    pipeline,
                    feedback: self.config.soft.feedback(),
                    estimator,
                    seed,
                    ..StepContext::default()
                };
                let curriculum = self.config.curriculum.clone();
                Ok(Box::new(move |learner, steps| {
                    let model = &learner.model;
                    let pipeline = learned::decoded(&context.pipeline, learner.filters.as_ref());
                    let context = StepContext { pipeline, ..context.clone() };
                    let mut figures = Vec::new();
                    if !valid.is_empty() {
                        let (value, answer) = free_running_cross_entropy(model, &valid, &context);
                        let title = metric_name::CROSS_ENTROPY;
                        figures.push(HeldOut { title, key: "valid/cross_entropy", value });
                        let title = metric_name::ANSWER_CROSS_ENTROPY;
                        let key = "valid/answer_cross_entropy";
                        figures.extend(answer.map(|value| HeldOut { title, key, value }));
                    }
                    if !answers.is_empty() {
                        let stage = curriculum.stage_at(steps.saturating_sub(1), answers.len());
                        let learned =
                            |own: &SoftPipeline| learned::decoded(own, learner.filters.as_ref());
                        let value = answers[stage].accuracy(model, &learned)?;
                        let title = metric_name::ACCURACY;
                        figures.push(HeldOut { title, key: ACCURACY_KEY, value });
                    }
                    if let Some(text) = &text {
                        let title = metric_name::TEXT_PERPLEXITY;
                        let value = text.perplexity(model)?;
                        figures.push(HeldOut { title, key: "valid/text_perplexity", value });
                    }
                    Ok(figures)
                }))
            }
        }
    }
}

/// Rows of one batch of held-out examples.
const VALID_BATCH: usize = 16;

/// Mean cross-entropy of the scored positions when the model feeds itself, and of the answers
/// alone where there are some.
fn free_running_cross_entropy(
    model: &Transformer,
    examples: &[Example],
    context: &StepContext,
) -> (f64, Option<f64>) {
    let model = &model.clone().without_branch_dropout();
    let (mut sum, mut weight, mut answer, mut answer_weight) = (0.0, 0.0, 0.0, 0.0);
    let objective = Objective::default();
    for examples in examples.chunks(VALID_BATCH) {
        let batch = Batch::new(examples.to_vec());
        let totals = StepTotals::of([&batch]);
        let loss = BatchLoss { batch: &batch, objective, totals, temperature: 1.0, other: None };
        let parts = Sequential::forward(model, &loss, context);
        sum += soft_core::host_values(parts.cross_entropy)[0];
        answer += soft_core::host_values(parts.answer)[0];
        weight += totals.weight;
        answer_weight += totals.answer;
    }
    let mean = sum / f64::max(weight, f64::MIN_POSITIVE);
    (mean, (answer_weight > 0.0).then(|| answer / answer_weight))
}
