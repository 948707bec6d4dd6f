//! Full-width passes: teacher forcing, and Jacobi iteration towards the recurrence.

use burn::module::Module;
use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::tensor::Tensor;
use soft_core::Distribution;
use soft_model::{Dropout, Transformer};

use super::feed::{Feed, predictions};
use super::predicted::loss_of_rows;
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
        let feed = Feed::new(loss.batch, context);
        let (hidden, scored) = self.scored(model, loss, &feed);
        loss.parts(model.output_head().logits(hidden), &scored)
    }

    /// Hidden states `[places, d_model]` of the last pass that predict what the loss needs, and
    /// these places: nothing as wide as the vocabulary is made of the others.
    fn scored(
        &self,
        model: &Transformer,
        loss: &BatchLoss<'_>,
        feed: &Feed<'_>,
    ) -> (Tensor<2>, Vec<Place>) {
        let width = loss.batch.columns();
        let counts = |row, position| loss.counts(Place { row, position });
        let scored = loss.batch.places(1..width + 1, counts);
        let run = Run {
            feed,
            dropout: feed.context.dropout(loss.batch),
            soft: loss.batch.soft_inputs(1..width),
            width,
        };
        let hidden = self.last_hidden(&run, model);
        (predictions(hidden, &scored, 0, width), scored)
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
        let (hidden, scored) = self.scored(model, loss, &feed);
        let (gradients, parts) = match context.loss_chunk {
            chunk if chunk > 0 && chunk < scored.len() => {
                in_chunks(model, loss, hidden, &scored, chunk)
            }
            _ => {
                let parts = loss.parts(model.output_head().logits(hidden), &scored);
                (GradientsParams::from_grads(parts.loss.backward(), model), parts)
            }
        };
        Differentiated::new(gradients, parts, feed.observed.sums(model))
    }
}

/// Gradients of a loss whose logits are made, differentiated and dropped `chunk` places at a time:
/// the gradient of the hidden states is put together first, and the blocks see it once.
///
/// # Shapes
/// - hidden: `[places, d_model]`
fn in_chunks(
    model: &Transformer,
    loss: &BatchLoss<'_>,
    hidden: Tensor<2>,
    places: &[Place],
    chunk: usize,
) -> (GradientsParams, LossParts) {
    let found = loss_of_rows(model, loss, hidden.clone().inner(), places, chunk);
    let mut reduced = GradientsAccumulator::new();
    reduced.accumulate(model, found.gradients);
    let grads = (hidden * Tensor::from_inner(found.hidden)).sum().backward();
    reduced.accumulate(model, GradientsParams::from_grads(grads, model));
    (reduced.grads(), found.parts)
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
