//! Full-width passes: teacher forcing, and Jacobi iteration towards the recurrence.

use std::ops::Range;

use burn::module::Module;
use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::tensor::Tensor;
use soft_core::Distribution;
use soft_model::{Cells, Dropout, Feedback, Transformer};

use super::feed::{Feed, predictions};
use super::predicted::loss_of_rows;
use super::{Differentiated, Learned, Rollout, StepContext, backward, recompute};
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
    ///
    /// # Panics
    /// If hidden states were to be fed.
    pub fn forward(
        &self,
        model: &Transformer,
        loss: &BatchLoss<'_>,
        context: &StepContext,
    ) -> LossParts {
        let feed = Feed::new(loss.batch, context);
        let run = Run::new(&feed, loss);
        let hidden = run.predictions(self.last_hidden(&run, model));
        loss.parts(model.output_head().logits(hidden), &run.scored)
    }

    fn last_hidden(&self, run: &Run<'_>, model: &Transformer) -> Tensor<2> {
        let plan = self.plan(run);
        let mut fed = run.before_gradient(&plan, model, &|| model.valid());
        for _ in 1..plan.with_gradient {
            fed = run.next(model, run.pass(model, &fed));
        }
        run.pass(model, &fed)
    }

    /// The passes that a batch needs: without a soft input one is as good as many.
    pub(super) fn plan(&self, run: &Run<'_>) -> Passes {
        let feedback = run.feed.context.feedback;
        assert!(
            run.soft.is_empty() || feedback == Feedback::Mixture,
            "hidden states are fed by the sequential rollout"
        );
        let passes = if run.soft.is_empty() { 1 } else { self.passes };
        let with_gradient =
            if self.grad_passes == 0 { passes } else { self.grad_passes.min(passes) };
        Passes { constant: passes - with_gradient, with_gradient }
    }
}

/// How many passes are made without gradients, and how many with them after those.
pub(super) struct Passes {
    pub(super) constant: usize,
    pub(super) with_gradient: usize,
}

impl Rollout for Parallel {
    fn differentiate(
        &self,
        model: &Transformer,
        loss: &BatchLoss<'_>,
        context: &StepContext,
    ) -> Differentiated {
        let feed = Feed::new(loss.batch, context);
        let run = Run::new(&feed, loss);
        let learned = context.learned(model);
        let (chunk, scored) = (context.loss_chunk, run.scored.len());
        let (gradients, parts) = if context.recompute > 0 && scored > 0 {
            recompute::differentiate(&self.plan(&run), &run, &learned, loss)
        } else if chunk > 0 && chunk < scored {
            let hidden = run.predictions(self.last_hidden(&run, model));
            let mut reduced = GradientsAccumulator::new();
            let (gradient, parts) = of_head(&learned, loss, &hidden, &run, &mut reduced);
            let grads = backward((hidden * gradient).sum());
            reduced.accumulate(&learned, GradientsParams::from_grads(grads, &learned));
            (reduced.grads(), parts)
        } else {
            let hidden = run.predictions(self.last_hidden(&run, model));
            let parts = loss.parts(model.output_head().logits(hidden), &run.scored);
            (GradientsParams::from_grads(backward(parts.loss.clone()), &learned), parts)
        };
        Differentiated::new(gradients, parts, feed.observed.sums(model))
    }
}

/// The gradient of the loss in the hidden states that it is made from, and its parts. The logits
/// are made, differentiated and dropped [`StepContext::loss_chunk`] places at a time, and the
/// gradients of the output head go to `reduced`: so the blocks see one gradient, once.
///
/// # Shapes
/// - hidden: `[places, d_model]`; output: the same
pub(super) fn of_head(
    learned: &Learned,
    loss: &BatchLoss<'_>,
    hidden: &Tensor<2>,
    run: &Run<'_>,
    reduced: &mut GradientsAccumulator<Learned>,
) -> (Tensor<2>, LossParts) {
    let (rows, chunk) = (hidden.clone().inner(), run.feed.context.loss_chunk);
    let found = loss_of_rows(&learned.0, loss, rows, &run.scored, chunk);
    reduced.accumulate(learned, found.gradients);
    (Tensor::from_inner(found.hidden), found.parts)
}

/// What the passes of one batch share.
pub(super) struct Run<'a> {
    pub(super) feed: &'a Feed<'a>,
    pub(super) scored: Vec<Place>,
    dropout: Option<Dropout>,
    soft: Vec<Place>,
    width: usize,
}

impl<'a> Run<'a> {
    pub(super) fn new(feed: &'a Feed<'a>, loss: &BatchLoss<'_>) -> Self {
        let batch = feed.batch;
        let width = batch.columns();
        Self {
            feed,
            scored: batch.predicted(0..width, |place| loss.counts(place)),
            dropout: feed.context.dropout(batch),
            soft: batch.soft_inputs(0..width),
            width,
        }
    }

    /// What the first pass with gradients feeds: the truth, where it is the first of all; a soft
    /// place without truth starts from its placeholder token. `frozen` is the model without
    /// gradients, for the passes before.
    pub(super) fn before_gradient(
        &self,
        plan: &Passes,
        model: &Transformer,
        frozen: &dyn Fn() -> Transformer,
    ) -> Option<Distribution> {
        let any = !self.soft.is_empty();
        let mut fed =
            any.then(|| self.feed.batch.truth(&self.soft, &model.device(), model.dtype()));
        if plan.constant > 0 {
            let frozen = frozen();
            for _ in 0..plan.constant {
                fed = self.next(&frozen, self.pass(&frozen, &fed));
            }
        }
        fed
    }

    fn pass(&self, model: &Transformer, fed: &Option<Distribution>) -> Tensor<2> {
        self.blocks(model, 0..model.config().n_layers, self.embeds(model, fed))
    }

    /// The inputs of a pass: `[cells, d_model]`.
    pub(super) fn embeds(&self, model: &Transformer, fed: &Option<Distribution>) -> Tensor<2> {
        let mixtures = fed.clone().map(|fed| self.feed.mixtures(model, fed, &self.soft));
        let embeds = self.feed.embeds(model, 0..self.width, &self.soft, mixtures);
        let [rows, columns, d_model] = embeds.dims();
        embeds.reshape([rows * columns, d_model])
    }

    /// Some of the blocks of a pass.
    pub(super) fn blocks(
        &self,
        model: &Transformer,
        blocks: Range<usize>,
        x: Tensor<2>,
    ) -> Tensor<2> {
        let batch = self.feed.batch;
        let (real, soft) = (batch.real(0..self.width), batch.soft(0..self.width));
        let cells = Cells { real: &real, soft: Some(&soft) };
        let mut cache = batch.cache(model);
        model.forward_blocks(blocks, x, cells, &mut cache, self.dropout.as_ref())
    }

    /// What the next pass feeds after the hidden states of one.
    pub(super) fn next(&self, model: &Transformer, hidden: Tensor<2>) -> Option<Distribution> {
        let rows = predictions(self.feed.batch, hidden, &self.soft, 0..self.width);
        Some(self.feed.distribution(model.output_head().logits(rows), &self.soft))
    }

    /// Hidden states `[places, d_model]` that predict what the loss needs: nothing as wide as the
    /// vocabulary is made of the others.
    pub(super) fn predictions(&self, hidden: Tensor<2>) -> Tensor<2> {
        predictions(self.feed.batch, hidden, &self.scored, 0..self.width)
    }
}
