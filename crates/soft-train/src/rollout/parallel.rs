//! Full-width passes: teacher forcing, and Jacobi iteration towards the recurrence.

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use soft_core::Distribution;
use soft_model::{Dropout, Transformer};

use super::feed::{Feed, predictions};
use super::{Differentiated, Rollout, StepContext};
use crate::batch::Place;
use crate::objective::{BatchLoss, LossParts};

/// `passes` full-width passes: the first feeds the truth, pass r feeds mixtures made from the
/// output of pass r-1. One pass is teacher forcing.
///
/// After pass r the first r-1 soft inputs of a row are exact, so S+1 passes equal the sequential
/// rollout, S being the soft inputs before the last scored position.
///
/// # Gradient
/// Through all passes, or the last `grad_passes` of them: then the distribution that enters the
/// first of these is a constant, its lookup of embeddings is not.
///
/// # Source
/// Jacobi iteration on the simplex; on hidden states: PCCoT (arXiv:2506.18582). Two passes are
/// two-pass scheduled sampling (Mihaylova and Martins 2019, arXiv:1906.07651).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parallel {
    /// Passes in all, at least 1.
    pub passes: usize,
    /// Last passes with gradient; 0 is all.
    pub grad_passes: usize,
}

impl Parallel {
    /// Teacher forcing: one pass that feeds the truth.
    pub const TEACHER: Self = Self { passes: 1, grad_passes: 0 };

    /// Loss of the last pass; differentiable in the model where it is on an autodiff device.
    pub fn forward(
        &self,
        model: &Transformer,
        loss: &BatchLoss<'_>,
        context: &StepContext,
    ) -> LossParts {
        self.run(model, loss, context, &Feed::new(loss.batch, context))
    }

    fn run(
        &self,
        model: &Transformer,
        loss: &BatchLoss<'_>,
        context: &StepContext,
        feed: &Feed<'_>,
    ) -> LossParts {
        let scored = loss.batch.places(1..loss.batch.columns() + 1, |row, position| {
            loss.counts(Place { row, position })
        });
        let run = Run {
            feed,
            dropout: context.dropout(loss.batch),
            soft: loss.batch.soft_inputs(1..loss.batch.columns()),
            width: loss.batch.columns(),
        };
        let hidden = self.last_hidden(&run, model);
        let logits = model.output_head().logits(predictions(hidden, &scored, 0, run.width));
        loss.parts(logits, &scored)
    }

    fn last_hidden(&self, run: &Run<'_>, model: &Transformer) -> Tensor<2> {
        let passes = if run.soft.is_empty() { 1 } else { self.passes };
        let with_gradient =
            if self.grad_passes == 0 { passes } else { self.grad_passes.min(passes) };
        let constant = passes - with_gradient;
        let mut fed = run.truth(model);
        if constant > 0 {
            let frozen = model.valid();
            for _ in 0..constant {
                fed = run.next(&frozen, run.pass(&frozen, &fed));
            }
        }
        for _ in 1..with_gradient {
            fed = run.next(model, run.pass(model, &fed));
        }
        run.pass(model, &fed)
    }
}

impl Rollout for Parallel {
    fn differentiate(
        &self,
        model: &Transformer,
        loss: &BatchLoss<'_>,
        context: &StepContext,
    ) -> Differentiated {
        let feed = Feed::new(loss.batch, context);
        let parts = self.run(model, loss, context, &feed);
        let gradients = GradientsParams::from_grads(parts.loss.backward(), model);
        Differentiated::new(gradients, parts, feed.observed.sums(&model.embedding()))
    }
}

/// What the passes of one batch share.
struct Run<'a> {
    feed: &'a Feed<'a>,
    dropout: Option<Dropout>,
    soft: Vec<Place>,
    width: usize,
}

impl Run<'_> {
    /// What the first pass feeds; a soft place without truth starts from its placeholder token.
    fn truth(&self, model: &Transformer) -> Option<Distribution> {
        let any = !self.soft.is_empty();
        any.then(|| self.feed.batch.truth(&self.soft, &model.device(), model.dtype()))
    }

    fn pass(&self, model: &Transformer, fed: &Option<Distribution>) -> Tensor<2> {
        let mixtures = fed.clone().map(|fed| self.feed.mixtures(model, fed, &self.soft));
        let embeds = self.feed.embeds(model, 0..self.width, &self.soft, mixtures);
        let mut cache = model.new_cache(self.feed.batch.len());
        let real = self.feed.batch.real(0..self.width);
        model.forward(embeds, &real, &mut cache, self.dropout.as_ref())
    }

    fn next(&self, model: &Transformer, hidden: Tensor<2>) -> Option<Distribution> {
        let rows = predictions(hidden, &self.soft, 0, self.width);
        Some(self.feed.distribution(model.output_head().logits(rows), &self.soft))
    }
}
