//! Full-width passes whose activations are computed again in the backward pass.

use burn::module::Module;
use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::tensor::Tensor;

use super::feed::Feed;
use super::parallel::{Passes, Run, of_head};
use super::{Learned, StepContext, backward};
use crate::objective::{BatchLoss, LossParts};

/// Loss and gradients of the passes with the memory of one group of [`StepContext::recompute`]
/// blocks (gradient checkpointing, Chen et al. 2016, arXiv:1604.06174).
///
/// The passes are a chain: groups of blocks, and between two passes the mixtures that the next one
/// feeds. It runs once without gradients, and what enters each group is recorded. Then it is
/// differentiated link by link from the end: each is run again from a leaf, the inner product of
/// its output with the gradient that arrived for it is differentiated, and the gradient of the
/// leaf goes to the link before. The last group is not run twice. The result is exact: drop-out,
/// noise and coins are functions of their place.
pub(super) fn differentiate(
    plan: &Passes,
    run: &Run<'_>,
    learned: &Learned,
    loss: &BatchLoss<'_>,
) -> (GradientsParams, LossParts) {
    let model = &learned.0;
    let size = run.feed.context.recompute;
    let n_layers = model.config().n_layers;
    let group = |first: usize| first..n_layers.min(first.saturating_add(size));
    let groups: Vec<_> = (0..n_layers).step_by(size).map(group).collect();

    let frozen = model.valid();
    let first_fed = run.before_gradient(plan, &frozen, &|| frozen.clone());
    let mut fed = first_fed.clone();
    let mut entering = Vec::new();
    for pass in 1..=plan.with_gradient {
        let mut x = run.embeds(&frozen, &fed);
        for (index, group) in groups.iter().enumerate() {
            entering.push(x.clone());
            if pass < plan.with_gradient || index + 1 < groups.len() {
                x = run.blocks(&frozen, group.clone(), x);
            }
        }
        if pass < plan.with_gradient {
            fed = run.next(&frozen, x);
        }
    }

    // Everything was watched on the way here.
    let context = StepContext { locate: false, ..run.feed.context.clone() };
    let feed = Feed::new(run.feed.batch, &context);
    let again = Run::new(&feed, loss);
    let mut reduced = GradientsAccumulator::new();
    let mut parts = BatchLoss::nothing(&frozen.device(), frozen.dtype());
    let mut arrived: Option<Tensor<2>> = None;
    while let Some(x) = entering.pop() {
        let group = &groups[entering.len() % groups.len()];
        let leaf: Tensor<2> = Tensor::from_inner(x).require_grad();
        let mut output = again.blocks(model, group.clone(), leaf.clone());
        let gradient = match arrived.take() {
            Some(gradient) => {
                if group.end == n_layers {
                    output = again.embeds(model, &again.next(model, output));
                }
                gradient
            }
            None => {
                output = again.predictions(output);
                let (gradient, all) = of_head(learned, loss, &output, &again, &mut reduced);
                parts = all;
                gradient
            }
        };
        let mut grads = backward((output * gradient).sum());
        arrived = leaf.grad_remove(&mut grads).map(Tensor::from_inner);
        reduced.accumulate(learned, GradientsParams::from_grads(grads, learned));
    }
    let embeds = again.embeds(model, &first_fed);
    // The embeddings may all be frozen.
    if let Some(gradient) = arrived.filter(|_| embeds.is_tracked()) {
        let grads = backward((embeds * gradient).sum());
        reduced.accumulate(learned, GradientsParams::from_grads(grads, learned));
    }
    (reduced.grads(), parts)
}
