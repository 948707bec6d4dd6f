//! What a step on rewards takes: its draws, the models beside, and the passes over both.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::passes::Passes;
use super::workload::Sizes;
use super::{EVALUATED, Part, part};
use crate::config::{Config, RewardKind, RlPolicy};

/// Tensors as wide as the vocabulary that an update keeps of each draw: logits, what a density makes of
/// them, the entropy's, and the gradients. Measured.
const DRAWN_COPIES: f64 = 7.0;
/// Those of the reference: its logits, their logarithms, and what the divergence is made of.
const REFERENCE_COPIES: f64 = 4.0;
/// Tensors as wide as the vocabulary at a step of the drawing, on the device and on the host.
const DRAWING_COPIES: f64 = 8.0;

/// Models that are held beside the one in training, with the head of PPO left out.
pub(super) fn held(config: &Config, weights: f64) -> Vec<Part> {
    let rl = &config.rl;
    if !rl.is_on() {
        return Vec::new();
    }
    let reference = match (rl.beta > 0.0, rl.reference.is_empty(), config.trains_branches_alone()) {
        (false, ..) | (true, true, true) => 0.0,
        (true, true, false) => weights,
        (true, false, _) => weight_bytes(Path::new(&rl.reference)),
    };
    let judge = match rl.rewards(RewardKind::Model) || rl.pathwise > 0.0 {
        true => weight_bytes(Path::new(&rl.reward_model)),
        false => 0.0,
    };
    vec![part("weights of the reference", reference), part("weights of the reward model", judge)]
}

/// Bytes of the weights in a folder or file, in f32; 0 where they cannot be looked at, which is found
/// elsewhere.
fn weight_bytes(path: &Path) -> f64 {
    if path.is_file() {
        return fs::metadata(path).map_or(0.0, |file| file.len() as f64);
    }
    let Ok(files) = fs::read_dir(path) else { return 0.0 };
    let files =
        files.flatten().filter(|file| file.path().extension() == Some("safetensors".as_ref()));
    let bytes: u64 = files.filter_map(|file| Some(file.metadata().ok()?.len())).sum();
    let json = fs::read_to_string(path.join("config.json")).unwrap_or_default();
    let json: Value = serde_json::from_str(&json).unwrap_or_default();
    let dtype = json["dtype"].as_str().or(json["torch_dtype"].as_str());
    let widened = matches!(dtype, Some("bfloat16" | "float16"));
    bytes as f64 * if widened { 2.0 } else { 1.0 }
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
    passes: &Passes<'_>,
    sizes: &Sizes,
) -> Vec<(&'static str, f64)> {
    vec![
        ("keys, values and one block's work", passes.running(sizes)),
        ("logits and noise", passes.rows(sizes.rows, DRAWING_COPIES)),
        ("draws of the step", draws(config, passes, sizes)),
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

/// The reading of the reward model that is differentiated: as dear as the rows of the model itself.
pub(super) fn reading(passes: &Passes<'_>, sizes: &Sizes) -> f64 {
    let reads = Sizes { rows: sizes.rows.min(EVALUATED), ..sizes.clone() };
    passes.full_width(&reads, 1, 0)
}
