//! What a step on rewards takes: its draws, the models beside, and the passes over both.

use std::path::Path;

use soft_model::{ClassifierFiles, ModelConfig, ModelFiles};

use super::parameters::{Parameters, base};
use super::passes::Passes;
use super::workload::Sizes;
use super::{Part, part};
use crate::config::{Config, RewardKind, RlPolicy};

/// Tensors as wide as the vocabulary that an update keeps of each draw: logits, what a density makes of
/// them, the entropy's, and the gradients. Measured.
const DRAWN_COPIES: f64 = 7.0;
/// Those of the reference: its logits, their logarithms, and what the divergence is made of.
const REFERENCE_COPIES: f64 = 4.0;
/// Tensors as wide as the vocabulary at a step of the drawing, on the device and on the host.
const DRAWING_COPIES: f64 = 8.0;
/// Positions that a reward model reads at once.
const READ_AT_ONCE: usize = 4096;

/// Models that are held beside the one in training, with the head of PPO left out.
pub(super) fn held(config: &Config, judge: Option<&ModelConfig>, weights: f64) -> Vec<Part> {
    let rl = &config.rl;
    if !rl.is_on() {
        return Vec::new();
    }
    let reference = match (rl.beta > 0.0, rl.reference.is_empty(), config.trains_branches_alone()) {
        (false, ..) | (true, true, true) => 0.0,
        (true, true, false) => weights,
        (true, false, _) => {
            let files = ModelFiles::open(Path::new(&rl.reference)).ok();
            files.map_or(0.0, |files| weights_of(&files.config))
        }
    };
    let judge = judge.map_or(0.0, weights_of);
    vec![part("weights of the reference", reference), part("weights of the reward model", judge)]
}

/// Bytes of the weights of a shape in f32.
fn weights_of(shape: &ModelConfig) -> f64 {
    4.0 * base(shape).iter().map(|(_, numbers)| *numbers as f64).sum::<f64>()
}

/// The shape of the reward model, where one is used and can be opened; that it cannot is found elsewhere.
pub(super) fn reward_model(config: &Config) -> Option<ModelConfig> {
    let rl = &config.rl;
    let used = rl.pathwise > 0.0 || (rl.draws() && rl.rewards(RewardKind::Model));
    let files = used.then(|| ClassifierFiles::open(Path::new(&rl.reward_model)).ok());
    files.flatten().map(|files| files.config)
}

/// An update on what was drawn, without the gradients of the parameters.
pub(super) fn update(
    config: &Config,
    passes: &Passes<'_>,
    sizes: &Sizes,
) -> Vec<(&'static str, f64)> {
    let reference = if config.rl.beta > 0.0 { REFERENCE_COPIES } else { 0.0 };
    vec![
        // A score is one pass, whatever `train.recompute` and `train.loss_chunk` say.
        ("activations", passes.full_width(sizes, 1, 0)),
        ("logits and loss", passes.rows(sizes.scored, DRAWN_COPIES)),
        ("the reference's logits", passes.rows(sizes.scored, reference)),
    ]
}

/// The drawing itself.
pub(super) fn drawing(
    config: &Config,
    judge: Option<&ModelConfig>,
    passes: &Passes<'_>,
    sizes: &Sizes,
) -> Vec<(&'static str, f64)> {
    vec![
        ("keys, values and one block's work", passes.running(sizes)),
        ("logits and noise", passes.rows(sizes.rows, DRAWING_COPIES)),
        ("draws of the step", draws(config, passes, sizes)),
        ("reading of the reward model", reading(judge, sizes, false)),
    ]
}

/// Bytes of what the micro-batches of a step drew.
fn draws(config: &Config, passes: &Passes<'_>, sizes: &Sizes) -> f64 {
    let (soft, shape) = (&config.soft, passes.shape);
    let filters = soft_core::SoftPipeline::new(soft.pipeline()).is_ok_and(|p| p.filters());
    let most = [soft.top_k, soft.max_top_k].into_iter().filter(|&k| k > 0).min();
    let kept = match (filters, most) {
        (true, Some(k)) => k.min(shape.vocab_size),
        _ => shape.vocab_size,
    } as f64;
    let own = match config.rl.policy {
        RlPolicy::Token => 8.0,
        RlPolicy::Samples => 8.0 * config.rl.samples as f64,
        RlPolicy::Gumbel | RlPolicy::Dirichlet => 8.0 * kept,
        RlPolicy::Gaussian => 8.0 * shape.d_model as f64,
        RlPolicy::Hybrid => 8.0 + 4.0 * kept,
    };
    let places = if filters { 12.0 * kept } else { 0.0 };
    config.train.grad_accum as f64 * sizes.scored as f64 * (own + places)
}

/// What a reward model takes to read rows of these sizes: with gradients, where it is differentiated.
pub(super) fn reading(judge: Option<&ModelConfig>, sizes: &Sizes, with_gradients: bool) -> f64 {
    let Some(shape) = judge else { return 0.0 };
    let parameters = Parameters::default();
    let passes = Passes { shape, parameters: &parameters, drops: false, prefix: 0, number: 4.0 };
    if with_gradients {
        return passes.full_width(sizes, 1, 0);
    }
    // As many rows at once as have so many positions.
    let rows = (READ_AT_ONCE / sizes.columns.max(1)).clamp(1, sizes.rows.max(1));
    passes.running(&Sizes { rows, starts: vec![0, sizes.columns], ..sizes.clone() })
}
