//! The clipped policy gradient over what was drawn.

use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use soft_core::{entropy_nats, float_tensor, host_values};
use soft_model::Transformer;

use super::drawing::Experience;
use crate::config::RlLoss;

/// How far a ratio may lead.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Clip {
    /// Under 1.
    pub low: f64,
    /// Over 1.
    pub high: f64,
}

/// What an update minimises.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PolicyLoss {
    /// Range of the ratio.
    pub clip: Clip,
    /// What the losses of the draws are divided by.
    pub normalize: RlLoss,
    /// Weight of the entropy.
    pub entropy: f64,
    /// Draws of all micro-batches of the update.
    pub draws: f64,
    /// Rows of all micro-batches of the update.
    pub rows: f64,
}

/// Gradients of an update, and what it shows; all shares of those of the whole update.
#[derive(Debug)]
pub struct Update {
    /// Gradient of the loss in each trainable parameter.
    pub gradients: GradientsParams,
    /// The loss.
    pub loss: f64,
    /// Mean entropy of what is drawn from, in nats.
    pub entropy: f64,
    /// Share of the draws whose ratio is clipped from under and from above.
    pub clipped: [f64; 2],
    /// Mean of `log pi_old - log pi`.
    pub kl: f64,
    /// Least and largest ratio.
    pub ratio: [f64; 2],
}

/// `L = -sum_t w_t min(r_t A, clip(r_t, 1 - low, 1 + high) A) - entropy sum_t H_t / draws`, where
/// `r_t = pi(a_t) / pi_old(a_t)` is the ratio of a draw, A the advantage of its row, and the weight w
/// 1 over all draws ("token"), or 1 over the draws of its row and over the rows ("sequence").
///
/// # Gradient
/// In everything that the model trains, through the log-probabilities and through the rows of the
/// embedding that the stored draws feed.
///
/// # Source
/// PPO (Schulman et al. 2017, arXiv:1707.06347, eq. 7) on the densities of thoughts (SofT-GRPO,
/// arXiv:2511.06411), with a range that need not be symmetric (DAPO, arXiv:2503.14476).
pub fn differentiate(model: &Transformer, experience: &Experience, loss: &PolicyLoss) -> Update {
    let scores = experience.drawn.score(model);
    let [steps, batch] = scores.log_probs.dims();
    let (device, dtype) = (scores.log_probs.device(), scores.log_probs.dtype());
    let constant =
        |values: Vec<f64>| -> Tensor<2> { float_tensor(values, [steps, batch], &device, dtype) };
    let counts = experience.drawn.counts();
    let draws_of = |row: usize| counts.iter().filter(|step| step[row]).count().max(1) as f64;
    let weight = |row: usize| match loss.normalize {
        RlLoss::Token => 1.0 / loss.draws.max(1.0),
        RlLoss::Sequence => 1.0 / (draws_of(row) * loss.rows.max(1.0)),
    };
    let all = |of: &dyn Fn(usize, usize) -> f64| -> Vec<f64> {
        (0..steps).flat_map(|step| (0..batch).map(move |row| of(step, row))).collect()
    };
    let counted = |step: usize, row: usize| f64::from(u8::from(counts[step][row]));
    let weights = all(&|step, row| counted(step, row) * weight(row));
    let shares = all(&|step, row| counted(step, row) / loss.draws.max(1.0));
    let gains = all(&|_, row| experience.advantages[row]);
    let old = experience.log_probs.concat();

    let difference = scores.log_probs - constant(old);
    let ratio = difference.clone().exp();
    let gain = constant(gains.clone());
    let free = ratio.clone() * gain.clone();
    let held = ratio.clone().clamp(1.0 - loss.clip.low, 1.0 + loss.clip.high) * gain;
    let surrogate = free.min_pair(held);
    let mut total = -(surrogate * constant(weights)).sum();
    let thoughts = experience.drawn.temperatures[0];
    let entropies = entropy_nats(scores.logits, thoughts).reshape([steps, batch]);
    let entropies = if loss.entropy == 0.0 { entropies.detach() } else { entropies };
    let entropy = (entropies * constant(shares.clone())).sum();
    if loss.entropy != 0.0 {
        total = total - entropy.clone() * loss.entropy;
    }
    let (ratios, differences) = (host_values(ratio.detach()), host_values(difference.detach()));
    let told = [host_values(total.clone().detach())[0], host_values(entropy.detach())[0]];
    let grads = crate::rollout::backward(total);
    let mut update = Update {
        gradients: GradientsParams::from_grads(grads, model),
        loss: told[0],
        entropy: told[1],
        clipped: [0.0; 2],
        kl: 0.0,
        ratio: [f64::INFINITY, f64::NEG_INFINITY],
    };
    for (at, share) in shares.iter().enumerate().filter(|(_, share)| **share > 0.0) {
        let (ratio, gain) = (ratios[at], gains[at]);
        update.kl -= share * differences[at];
        update.ratio = [update.ratio[0].min(ratio), update.ratio[1].max(ratio)];
        update.clipped[0] += if gain < 0.0 && ratio < 1.0 - loss.clip.low { *share } else { 0.0 };
        update.clipped[1] += if gain > 0.0 && ratio > 1.0 + loss.clip.high { *share } else { 0.0 };
    }
    update
}
