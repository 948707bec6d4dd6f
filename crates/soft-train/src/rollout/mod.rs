//! Rollouts: three ways to compute the same training step at different cost.

mod feed;
mod observed;
mod parallel;
mod predicted;
mod recompute;
mod sequential;
mod stages;

use burn::optim::GradientsParams;
use burn::tensor::{Gradients, Tensor};
use soft_core::{Estimator, GuidanceForm, LearnableFilters, Schedule, SoftPipeline};
use soft_model::{Dropout, Feedback, Transformer};

pub(crate) use feed::Feed;
pub use observed::FedInputs;
pub use parallel::Parallel;
pub use sequential::Sequential;
pub use stages::Stages;

use crate::batch::Batch;
use crate::objective::{BatchLoss, LossParts};

/// What a step's passes share besides the batch and the model.
#[derive(Debug, Clone, Default)]
pub struct StepContext {
    /// From logits to the distribution that is fed, the same object as in generation. Settings of
    /// it that are learned get gradients beside the model's.
    pub pipeline: SoftPipeline,
    /// What soft positions are fed: mixtures, or hidden states, which only [`Sequential`] can feed
    /// and which know no estimator and no truth.
    pub feedback: Feedback,
    /// How the gradient passes what is fed.
    pub estimator: Estimator,
    /// How truth enters it.
    pub form: GuidanceForm,
    /// Share of truth `a`: 1 is teacher forcing, 0 runs free.
    pub guidance: f64,
    /// Where set, each soft position of a row has the share of its own place in the row's span
    /// ([`Schedule::swept`]) in place of `guidance`.
    pub sweep: Option<Schedule>,
    /// Whether soft positions of an answer are fed their heaviest token, with the gradient of the
    /// mixture ([`soft_core::feed_heaviest`]).
    pub answers_in_tokens: bool,
    /// Whether to look where the mixtures lie: as dear as one more output head.
    pub locate: bool,
    /// Places whose logits full-width passes hold at once for the loss; 0 is all of them.
    pub loss_chunk: usize,
    /// Blocks of full-width passes whose activations are held at once in the backward pass, which
    /// computes them again; 0 holds all of them from the forward pass on.
    pub recompute: usize,
    /// Seed of the run: noise, coins and drop-out are functions of it.
    pub seed: u64,
    /// Optimizer step.
    pub step: u64,
    /// Drop-out rate.
    pub dropout: f64,
}

/// What gradients are collected for: the model, and the learnable settings of the pipeline.
pub(crate) type Learned = (Transformer, Option<LearnableFilters>);

impl StepContext {
    pub(crate) fn learned(&self, model: &Transformer) -> Learned {
        (model.clone(), self.pipeline.learnable().cloned())
    }

    pub(crate) fn dropout(&self, batch: &Batch) -> Option<Dropout> {
        // At a rate of 0 too: low-rank branches have rates of their own.
        let rows = batch.rows.clone();
        Some(Dropout { rate: self.dropout, seed: self.seed, step: self.step, rows })
    }
}

/// Loss and gradients of a micro-batch.
#[derive(Debug)]
pub struct Differentiated {
    /// Gradient of the loss in each trainable parameter.
    pub gradients: GradientsParams,
    /// The share of the step's loss.
    pub loss: f64,
    /// `sum w CE` in nats.
    pub cross_entropy: f64,
    /// `sum w CE` of the answers alone, in nats.
    pub answer: f64,
    /// `sum m H` in nats.
    pub entropy: f64,
    /// What was watched of the soft inputs.
    pub fed: FedInputs,
}

impl Differentiated {
    pub(crate) fn new(gradients: GradientsParams, parts: LossParts, fed: FedInputs) -> Self {
        let read = |x: Tensor<1>| soft_core::host_values(x.detach())[0];
        Self {
            gradients,
            loss: read(parts.loss),
            cross_entropy: read(parts.cross_entropy),
            answer: read(parts.answer),
            entropy: read(parts.entropy),
            fed,
        }
    }
}

/// Differentiates a scalar, though nothing that is trained may have gone into it: additions that
/// act on soft inputs have no part in a run of tokens.
pub(crate) fn backward(loss: Tensor<1>) -> Gradients {
    let root = Tensor::zeros([1], (&loss.device(), loss.dtype())).require_grad();
    (loss + root).backward()
}

/// A way to run a batch forward and backward. The model must be on an autodiff device.
///
/// At guidance 1 the inputs of every rollout are those of `teacher`; at guidance 0 and
/// temperature near 0 a rollout is greedy decoding.
pub trait Rollout: Send + Sync + std::fmt::Debug {
    /// Loss and gradients of one micro-batch.
    fn differentiate(
        &self,
        model: &Transformer,
        loss: &BatchLoss<'_>,
        context: &StepContext,
    ) -> Differentiated;
}
