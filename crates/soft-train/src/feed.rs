//! The examples of a run, cut into the micro-batches of each optimizer step.

use std::sync::Arc;

use soft_core::{Schedule, SoftPipeline};
use soft_model::Feedback;

use crate::batch::Batch;
use crate::config::{Config, Curriculum, Estimator, GuidanceOver, RolloutKind, RolloutPlan};
use crate::data::Sampler;
use crate::error::Error;
use crate::example::Example;
use crate::learner::{By, MicroBatch};
use crate::objective::StepTotals;
use crate::rollout::StepContext;

/// Steps between looks at where the mixtures lie, the first one included.
const LOCATE_EVERY: usize = 10;

/// Random access to the steps of a run: step i is the same however the run got there.
#[derive(Debug)]
pub(crate) struct StepFeed {
    /// The examples of each stage of the curriculum, in the order in which they are drawn.
    stages: Vec<(Vec<Arc<Example>>, Sampler)>,
    curriculum: Curriculum,
    micro_batch: usize,
    grad_accum: usize,
    /// Columns of a packed row; 0 where every example has a row of its own.
    pack: usize,
    guidance: Schedule,
    plan: RolloutPlan,
    sweeps: bool,
    estimator: Estimator,
    relaxation: Schedule,
    context: StepContext,
}

impl StepFeed {
    /// The feed of a configuration over the examples of each stage of its curriculum; there is one
    /// stage where it has none.
    ///
    /// # Errors
    /// A stage without examples, or pipeline settings out of range.
    pub(crate) fn new(
        config: &Config,
        stages: Vec<Vec<Example>>,
        plan: RolloutPlan,
    ) -> Result<Self, Error> {
        if stages.iter().any(Vec::is_empty) {
            return Err(Error::Data { report: "there is no example to train on".into() });
        }
        let train = &config.train;
        let sampled = |examples: Vec<Example>| {
            let sampler = Sampler::new(examples.len(), config.run.seed);
            (examples.into_iter().map(Arc::new).collect(), sampler)
        };
        Ok(Self {
            stages: stages.into_iter().map(sampled).collect(),
            curriculum: config.curriculum.clone(),
            micro_batch: train.micro_batch,
            grad_accum: train.grad_accum,
            pack: config.data.pack,
            guidance: config.guidance.schedule_over(train.steps),
            plan,
            estimator: config.estimator.clone(),
            relaxation: config.estimator.temperature_over(train.steps),
            sweeps: config.guidance.over == GuidanceOver::Position,
            context: StepContext {
                pipeline: SoftPipeline::new(config.soft.pipeline())?,
                feedback: config.soft.feedback(),
                form: config.guidance.form.into(),
                seed: config.run.seed,
                dropout: config.model.dropout,
                loss_chunk: train.loss_chunk,
                recompute: train.recompute,
                ..StepContext::default()
            },
        })
    }

    /// Examples in one optimizer step.
    pub(crate) fn rows_per_step(&self) -> usize {
        self.micro_batch * self.grad_accum
    }

    /// Share of truth at a step, counted from 0; teacher forcing feeds the truth, whatever the
    /// schedule says.
    pub(crate) fn guidance(&self, step: usize) -> f64 {
        if self.is_teacher(step) { 1.0 } else { self.guidance.at(step) }
    }

    /// Whether the clamp has a say at a step.
    pub(crate) fn clamps(&self, step: usize) -> bool {
        self.context.form == soft_core::GuidanceForm::Clamp && self.guidance(step) < 1.0
    }

    fn is_teacher(&self, step: usize) -> bool {
        self.plan.kind_at(step) == RolloutKind::Teacher
    }

    /// Whether what soft positions are fed is made of tokens.
    pub(crate) fn feeds_mixtures(&self) -> bool {
        self.context.feedback == Feedback::Mixture
    }

    /// The stage of the curriculum at a step, where there is one.
    pub(crate) fn stage(&self, step: usize) -> Option<usize> {
        self.curriculum.is_on().then(|| self.curriculum.stage_at(step, self.stages.len()))
    }

    /// Whether the optimizer begins anew at a step.
    pub(crate) fn resets_at(&self, step: usize) -> bool {
        self.curriculum.resets_at(step, self.stages.len())
    }

    /// The examples of each micro-batch of a step, counted from 0, by their place in the data of
    /// the step's stage.
    pub(crate) fn rows(&mut self, step: usize) -> Vec<Vec<usize>> {
        let stage = self.stage(step).unwrap_or(0);
        let (first, micro_batch) = (step * self.rows_per_step(), self.micro_batch);
        let sampler = &mut self.stages[stage].1;
        let micro = |number| {
            let start = first + number * micro_batch;
            (start..start + micro_batch).map(|row| sampler.index_at(row as u64)).collect()
        };
        (0..self.grad_accum).map(micro).collect()
    }

    /// The micro-batches of a step, counted from 0; all know the totals of the whole step.
    pub(crate) fn step(&mut self, step: usize) -> Vec<MicroBatch> {
        let indices = self.rows(step);
        // A recurrence has a pass for each column with a soft input: a packed batch has fewer rows and
        // more such columns, and which of the two wins depends on the data.
        let packs = self.pack > 0 && self.plan.kind_at(step) != RolloutKind::Sequential;
        let stage = self.stage(step).unwrap_or(0);
        let examples = &self.stages[stage].0;
        let batches: Vec<Batch> = indices
            .into_iter()
            .enumerate()
            .map(|(micro_step, indices)| {
                let start = micro_step * self.micro_batch;
                let rows = start..start + self.micro_batch;
                let examples = indices.into_iter().map(|index| Arc::clone(&examples[index]));
                let batch = Batch::with_rows(examples, rows.map(|row| row as u32).collect());
                if packs { batch.packed(self.pack) } else { batch }
            })
            .collect();
        let totals = StepTotals::of(&batches);
        let guidance = self.guidance(step);
        let context = StepContext {
            guidance,
            sweep: (self.sweeps && !self.is_teacher(step)).then_some(self.guidance),
            estimator: self.estimator.at(self.relaxation.at(step)),
            locate: step.is_multiple_of(LOCATE_EVERY),
            step: step as u64,
            ..self.context.clone()
        };
        let micro = |batch| MicroBatch { batch, totals, context: context.clone(), by: By::Truth };
        batches.into_iter().map(micro).collect()
    }
}
