//! What a segment of the recurrence predicts: its loss, and the way from hidden states to mixtures.

use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::tensor::{Gradients, Tensor};
use soft_core::{Distribution, at_least_f32, int_tensor};
use soft_model::{Feedback, OutputHead, Transformer, zero_leaf};

use super::backward;
use super::feed::Feed;
use crate::batch::Place;
use crate::objective::{BatchLoss, LossParts};

/// The predictions of one segment.
///
/// Whatever is as large as the vocabulary is differentiated once for all positions where it can be:
/// the loss from the hidden states of all of them, and the embedding and the head, where they are
/// trained, from what was fed and scored. Only what leads from a hidden state to the next mixture
/// is part of the recurrence.
pub(super) struct Predicted<'a> {
    feed: &'a Feed<'a>,
    model: &'a Transformer,
    /// The model with constant matrices, and its head.
    recurrent: &'a Transformer,
    head: OutputHead,
    trains_tokens: bool,
    /// Hidden states `[places, d_model]` that the loss needs, and these places.
    scored: Vec<(Tensor<2>, Vec<Place>)>,
    /// Hidden states behind the mixtures, as constants, and leaves with the gradients of their logits.
    logits: Vec<(Tensor<2>, Tensor<2>)>,
    /// What was fed, as a constant, and leaves with the gradients of its mixtures.
    mixtures: Vec<(Distribution, Tensor<2>)>,
}

/// The loss of some hidden states, differentiated.
pub(super) struct RowsLoss {
    pub(super) parts: LossParts,
    /// Gradients of the output head.
    pub(super) gradients: GradientsParams,
    /// Gradient of the hidden states, without autodiff: `[places, d_model]`.
    pub(super) hidden: Tensor<2>,
}

impl<'a> Predicted<'a> {
    pub(super) fn new(
        feed: &'a Feed<'a>,
        model: &'a Transformer,
        recurrent: &'a Transformer,
    ) -> Self {
        Self {
            feed,
            model,
            recurrent,
            head: recurrent.output_head(),
            trains_tokens: model.trains_tokens(),
            scored: Vec::new(),
            logits: Vec::new(),
            mixtures: Vec::new(),
        }
    }

    /// Hidden states that the loss needs, as rows in the order of `places`.
    pub(super) fn score(&mut self, hidden: Tensor<2>, places: Vec<Place>) {
        self.scored.push((hidden, places));
    }

    /// What the soft places that these hidden states predict are fed: mixtures, or the hidden states
    /// themselves, `[places, d_model]`.
    pub(super) fn next(&mut self, hidden: Tensor<2>, places: &[Place]) -> Tensor<2> {
        if self.feed.context.feedback == Feedback::Hidden {
            return self.feed.hidden(hidden, places);
        }
        let logits = self.logits(hidden);
        let fed = self.feed.distribution(logits, places);
        let constant = fed.clone().detach();
        let mixtures = self.feed.mixtures(self.recurrent, fed, places);
        if !self.trains_tokens {
            return mixtures;
        }
        let offset = zero_leaf(&mixtures);
        self.mixtures.push((constant, offset.clone()));
        mixtures + offset
    }

    fn logits(&mut self, hidden: Tensor<2>) -> Tensor<2> {
        if self.trains_tokens {
            let constant = hidden.clone().inner();
            let logits = self.head.logits(hidden);
            let offset = zero_leaf(&logits);
            self.logits.push((constant, offset.clone()));
            return logits + offset;
        }
        let pipeline = &self.feed.context.pipeline;
        // Learned filters are differentiated at every token that they weigh.
        if !pipeline.filters() || pipeline.learnable().is_some() {
            return self.head.logits(hidden);
        }
        // Only the tokens that the filters keep are differentiated: a few rows of the head in place
        // of the whole. Their logits are computed once more, and what is added is 0.
        let logits = self.head.logits(hidden.clone().detach());
        let Distribution::Sparse { ids, .. } = pipeline.probs(logits.clone()) else {
            return self.head.logits(hidden);
        };
        let kept = self.head.logits_at(hidden, ids.clone());
        let zeros = kept.clone() - kept.detach();
        logits.scatter(1, ids, zeros, burn::tensor::IndexingUpdateOp::Add)
    }

    /// The loss of what was scored, and the inner product of its hidden states with their gradients;
    /// `None` where nothing was.
    pub(super) fn loss(&mut self, loss: &BatchLoss<'_>) -> Option<(RowsLoss, Tensor<1>)> {
        let (rows, places): (Vec<_>, Vec<_>) = std::mem::take(&mut self.scored).into_iter().unzip();
        if rows.is_empty() {
            return None;
        }
        let (rows, places) = (Tensor::cat(rows, 0), places.concat());
        let chunk = self.feed.context.loss_chunk;
        let found = loss_of_rows(self.model, loss, rows.clone().inner(), &places, chunk);
        let term = at_least_f32((rows * Tensor::from_inner(found.hidden.clone())).sum());
        Some((found, term))
    }

    /// Gradients of the embedding and the head from the mixtures and what they were made of, after
    /// the segment's backward pass; none where they are not trained.
    pub(super) fn tokens(self, grads: &mut Gradients) -> GradientsParams {
        let mut terms = Vec::new();
        let reached = self.logits.into_iter();
        let (hidden, gradients): (Vec<_>, Vec<_>) =
            reached.filter_map(|(x, offset)| Some((x, offset.grad_remove(grads)?))).unzip();
        if !hidden.is_empty() {
            let [hidden, gradients] =
                [hidden, gradients].map(|rows| Tensor::from_inner(Tensor::cat(rows, 0)));
            terms.push((self.model.output_head().logits(hidden) * gradients).sum());
        }
        let (mut dense, mut sparse) = (Vec::new(), Vec::new());
        for (fed, offset) in self.mixtures {
            let Some(gradient) = offset.grad_remove(grads) else { continue };
            let gradient: Tensor<2> = Tensor::from_inner(gradient);
            match fed {
                Distribution::Dense(weights) => dense.push((weights, gradient)),
                Distribution::Sparse { ids, weights } => sparse.push((ids, weights, gradient)),
            }
        }
        let pipeline = &self.feed.context.pipeline;
        if !dense.is_empty() {
            let (weights, gradients): (Vec<_>, Vec<_>) = dense.into_iter().unzip();
            let fed = Distribution::Dense(Tensor::cat(weights, 0));
            terms.push(at_least_f32(
                (self.model.mix(pipeline, fed) * Tensor::cat(gradients, 0)).sum(),
            ));
        }
        if !sparse.is_empty() {
            let widest = sparse.iter().map(|(ids, ..)| ids.dims()[1]).max().unwrap_or(0);
            let (mut all_ids, mut all_weights, mut gradients) =
                (Vec::new(), Vec::new(), Vec::new());
            for (ids, weights, gradient) in sparse {
                let [rows, width] = ids.dims();
                let more = [rows, widest - width];
                // A weight of 0 is padding, whatever token it names.
                let padding = int_tensor(&vec![0; more[0] * more[1]], more, &ids.device());
                let zeros = Tensor::zeros(more, (&weights.device(), weights.dtype()));
                let padded = more[1] > 0;
                all_ids.push(if padded { Tensor::cat(vec![ids, padding], 1) } else { ids });
                all_weights.push(if padded {
                    Tensor::cat(vec![weights, zeros], 1)
                } else {
                    weights
                });
                gradients.push(gradient);
            }
            let fed = Distribution::Sparse {
                ids: Tensor::cat(all_ids, 0),
                weights: Tensor::cat(all_weights, 0),
            };
            terms.push(at_least_f32(
                (self.model.mix(pipeline, fed) * Tensor::cat(gradients, 0)).sum(),
            ));
        }
        match terms.into_iter().reduce(|a, b| a + b) {
            Some(total) => GradientsParams::from_grads(backward(total), self.model),
            None => GradientsParams::new(),
        }
    }
}

/// The loss of hidden states, whose logits are made, differentiated and dropped `chunk` places at a
/// time, all at once where it is 0.
///
/// # Shapes
/// - hidden: `[places, d_model]`, at least one place, without autodiff
pub(super) fn loss_of_rows(
    model: &Transformer,
    loss: &BatchLoss<'_>,
    hidden: Tensor<2>,
    places: &[Place],
    chunk: usize,
) -> RowsLoss {
    let chunk = if chunk == 0 { places.len() } else { chunk };
    let mut reduced = GradientsAccumulator::new();
    let mut total: Option<LossParts> = None;
    let mut gradient = Vec::new();
    for (index, places) in places.chunks(chunk).enumerate() {
        let rows = hidden.clone().narrow(0, index * chunk, places.len());
        let rows: Tensor<2> = Tensor::from_inner(rows).require_grad();
        // A head of its own: what a backward pass has used is gone.
        let parts = loss.parts(model.output_head().logits(rows.clone()), places);
        let mut grads = parts.loss.backward();
        gradient.push(rows.grad_remove(&mut grads).unwrap_or_else(|| rows.inner().zeros_like()));
        reduced.accumulate(model, GradientsParams::from_grads(grads, model));
        let parts = LossParts {
            loss: parts.loss.inner(),
            cross_entropy: parts.cross_entropy.inner(),
            answer: parts.answer.inner(),
            entropy: parts.entropy.inner(),
        };
        total = Some(match total {
            Some(total) => total.plus(parts),
            None => parts,
        });
    }
    RowsLoss {
        parts: total.expect("at least one place"),
        gradients: reduced.grads(),
        hidden: Tensor::cat(gradient, 0),
    }
}
