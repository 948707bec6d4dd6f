//! Rollouts that take turns over a training.

use soft_model::Transformer;

use super::{Differentiated, Rollout, StepContext};
use crate::objective::BatchLoss;

/// The rollout of the stage that a step falls in: teacher forcing first, say, and the exact
/// recurrence once the model thinks well enough for it to be worth its cost.
#[derive(Debug)]
pub struct Stages {
    /// (first step after the stage, rollout) in order; the last goes on for ever.
    stages: Vec<(usize, Box<dyn Rollout>)>,
}

impl Stages {
    /// # Panics
    /// If there is no stage.
    pub fn new(stages: Vec<(usize, Box<dyn Rollout>)>) -> Self {
        assert!(!stages.is_empty(), "a training has at least one stage");
        Self { stages }
    }
}

impl Rollout for Stages {
    fn differentiate(
        &self,
        model: &Transformer,
        loss: &BatchLoss<'_>,
        context: &StepContext,
    ) -> Differentiated {
        let last = &self.stages[self.stages.len() - 1];
        let stage = self.stages.iter().find(|(end, _)| context.step < *end as u64).unwrap_or(last);
        stage.1.differentiate(model, loss, context)
    }
}
