//! The clipped policy gradient over what was drawn.

use burn::tensor::{Gradients, Tensor};
use soft_core::{entropy_nats, float_tensor, host_values};
use soft_model::{DrawnStep, Scores, Transformer, Use};

use super::drawing::Experience;
use super::value::ValueHead;
use crate::config::{RlKl, RlLoss};

/// The largest logarithm of a ratio.
const FURTHEST: f64 = 60.0;

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
    /// Weight of the divergence from the reference.
    pub beta: f64,
    /// How that is measured.
    pub kl: RlKl,
    /// Weight of the values' loss, and how far a value may move.
    pub value: [f64; 2],
    /// Draws of all micro-batches of the update.
    pub draws: f64,
    /// Rows of all micro-batches of the update.
    pub rows: f64,
}

/// Who is updated, and what it is compared with.
#[derive(Debug, Clone, Copy)]
pub struct Actors<'a> {
    /// The model that is trained.
    pub model: &'a Transformer,
    /// Its value head, of PPO.
    pub value: Option<&'a ValueHead>,
    /// The model that training began with, without gradients.
    pub reference: Option<&'a Transformer>,
}

/// Gradients of an update, and what it shows; all shares of those of the whole update.
#[allow(missing_debug_implementations, reason = "Burn's gradients have none")]
pub struct Update {
    /// Gradient of the loss.
    pub gradients: Gradients,
    /// The loss.
    pub loss: f64,
    /// Mean entropy of what is drawn from, in nats.
    pub entropy: f64,
    /// Share of the draws whose ratio is clipped from under and from above.
    pub clipped: [f64; 2],
    /// Mean of `log pi_old - log pi`.
    pub kl_old: f64,
    /// Mean divergence from the reference, in nats; 0 without one.
    pub kl: f64,
    /// Mean loss of the values; 0 without.
    pub value: f64,
    /// Least and largest ratio.
    pub ratio: [f64; 2],
}

/// ```text
/// L = - sum_t w_t [min(r_t A_t, clip(r_t, 1 - low, 1 + high) A_t) - beta KL_t]
///     - entropy sum_t H_t / draws + value_weight sum_t V_t / draws
/// ```
///
/// `r_t = pi(a_t) / pi_old(a_t)` is the ratio of a draw, `A_t` its advantage, and the weight w 1 over
/// all draws ("token"), or 1 over the draws of its row and over the rows ("sequence"). `KL_t` is the
/// divergence of the policy from that of the reference at the state of the draw, in closed form or by
/// the draw alone (k3), and `V_t = 1/2 max((v - R)^2, (clip(v, v_old - c, v_old + c) - R)^2)`.
///
/// # Gradient
/// In everything that is trained, through the log-probabilities and through the rows of the embedding
/// that the stored draws feed.
///
/// # Source
/// PPO (Schulman et al. 2017, arXiv:1707.06347, eq. 7) on the densities of thoughts (SofT-GRPO,
/// arXiv:2511.06411), with a range that need not be symmetric (DAPO, arXiv:2503.14476).
pub fn differentiate(actors: Actors<'_>, experience: &Experience, loss: &PolicyLoss) -> Update {
    let scores = experience.drawn.score(actors.model);
    let weights = Weights::of(experience, loss);
    let divergence =
        actors.reference.map(|model| divergence(actors, &scores, model, experience, loss));
    let values = actors.value.zip(experience.values.as_ref());
    let values = values.map(|(head, known)| value_loss(head, &scores, known, loss.value[1]));
    let constant = |values: &[Vec<f64>]| Experience::constant(values, &scores.log_probs);
    let shares = constant(&weights.shares);

    let difference = scores.log_probs.clone() - constant(&experience.log_probs);
    // Beyond this a ratio says nothing more, and infinity times a weight of 0 would be no number.
    let ratio = difference.clone().clamp(-FURTHEST, FURTHEST).exp();
    let gain = constant(&experience.advantages);
    let free = ratio.clone() * gain.clone();
    let held = ratio.clone().clamp(1.0 - loss.clip.low, 1.0 + loss.clip.high) * gain;
    let mut surrogate = free.min_pair(held);
    if let (Some(divergence), true) = (&divergence, loss.beta != 0.0) {
        surrogate = surrogate - divergence.clone() * loss.beta;
    }
    let mut total = -(surrogate * constant(&weights.losses)).sum();
    let entropy = entropy(&scores, experience, loss, &weights.shares);
    if loss.entropy != 0.0 {
        total = total - entropy.clone() * loss.entropy;
    }
    let mean = |of: Tensor<2>| (of * shares.clone()).sum();
    let value = values.map(mean);
    if let Some(value) = &value {
        total = total + value.clone() * loss.value[0];
    }
    let number = |of: Option<Tensor<1>>| of.map_or(0.0, |of| host_values(of.detach())[0]);
    let (ratios, differences) = (host_values(ratio.detach()), host_values(difference.detach()));
    let mut update = Update {
        loss: number(Some(total.clone())),
        entropy: number(Some(entropy)),
        kl: number(divergence.map(|of| (of.detach() * shares.clone()).sum())),
        value: number(value),
        clipped: [0.0; 2],
        kl_old: 0.0,
        ratio: [f64::INFINITY, f64::NEG_INFINITY],
        gradients: crate::rollout::backward(total),
    };
    let gains = experience.advantages.concat();
    let shares = weights.shares.concat();
    if experience.draws() == 0 {
        update.ratio = [1.0; 2];
    }
    for (at, share) in shares.iter().enumerate().filter(|(_, share)| **share > 0.0) {
        let (ratio, gain) = (ratios[at], gains[at]);
        update.kl_old -= share * differences[at];
        update.ratio = [update.ratio[0].min(ratio), update.ratio[1].max(ratio)];
        update.clipped[0] += if gain < 0.0 && ratio < 1.0 - loss.clip.low { *share } else { 0.0 };
        update.clipped[1] += if gain > 0.0 && ratio > 1.0 + loss.clip.high { *share } else { 0.0 };
    }
    update
}

/// What every draw counts for: `[step][row]`.
struct Weights {
    /// In the loss.
    losses: Vec<Vec<f64>>,
    /// In means over the draws of the update.
    shares: Vec<Vec<f64>>,
}

impl Weights {
    fn of(experience: &Experience, loss: &PolicyLoss) -> Self {
        let counts = &experience.counts;
        let draws_of = |row: usize| counts.iter().filter(|step| step[row]).count().max(1) as f64;
        let share = 1.0 / loss.draws.max(1.0);
        let weight = |row: usize| match loss.normalize {
            RlLoss::Token => share,
            RlLoss::Sequence => 1.0 / (draws_of(row) * loss.rows.max(1.0)),
        };
        let own: Vec<f64> = (0..experience.rows()).map(weight).collect();
        let all = |of: &dyn Fn(usize) -> f64| -> Vec<Vec<f64>> {
            let counted = |(row, &counted): (usize, &bool)| if counted { of(row) } else { 0.0 };
            counts.iter().map(|step| step.iter().enumerate().map(counted).collect()).collect()
        };
        Self { losses: all(&|row| own[row]), shares: all(&|_| share) }
    }
}

/// Mean entropy of what is drawn from, at the temperature of each draw and before any filter; with
/// gradients where it has a weight.
fn entropy(
    scores: &Scores,
    experience: &Experience,
    loss: &PolicyLoss,
    shares: &[Vec<f64>],
) -> Tensor<1> {
    let logits = match loss.entropy == 0.0 {
        true => scores.logits.clone().detach(),
        false => scores.logits.clone(),
    };
    let drawn = &experience.drawn;
    let of = |temperature: f64, shares: &[Vec<f64>]| {
        let entropies = entropy_nats(logits.clone(), temperature);
        let shares = Experience::constant(shares, &scores.log_probs);
        (entropies.reshape(scores.log_probs.dims()) * shares).sum()
    };
    let [thoughts, answers] = drawn.temperatures;
    if thoughts == answers {
        return of(thoughts, shares);
    }
    let own = |wanted: bool| -> Vec<Vec<f64>> {
        let step = |(step, shares): (&DrawnStep, &Vec<f64>)| {
            let share = |(used, share): (&Use, &f64)| match used.is_thought() == wanted {
                true => *share,
                false => 0.0,
            };
            step.uses.iter().zip(shares).map(share).collect()
        };
        drawn.steps.iter().zip(shares).map(step).collect()
    };
    of(thoughts, &own(true)) + of(answers, &own(false))
}

/// Divergence from the reference at every draw: `[steps, batch]`.
fn divergence(
    actors: Actors<'_>,
    scores: &Scores,
    reference: &Transformer,
    experience: &Experience,
    loss: &PolicyLoss,
) -> Tensor<2> {
    let drawn = &experience.drawn;
    let other = drawn.score(reference);
    match loss.kl {
        RlKl::Exact => drawn.kl([actors.model, reference], [scores, &other]),
        RlKl::K3 => {
            let (device, dtype) = (scores.log_probs.device(), scores.log_probs.dtype());
            let dims = scores.log_probs.dims();
            let other = float_tensor(host_values(other.log_probs), dims, &device, dtype);
            let difference = other - scores.log_probs.clone();
            difference.clone().clamp(-FURTHEST, FURTHEST).exp() - difference - 1.0
        }
    }
}

/// `1/2 max((v - R)^2, (clip(v, v_old - c, v_old + c) - R)^2)` of every draw: `[steps, batch]`.
fn value_loss(
    head: &ValueHead,
    scores: &Scores,
    [old, returns]: &[Vec<Vec<f64>>; 2],
    clip: f64,
) -> Tensor<2> {
    let constant = |values: &[Vec<f64>]| Experience::constant(values, &scores.log_probs);
    let values = head.forward(scores.hidden.clone()).reshape(scores.log_probs.dims());
    let (old, returns) = (constant(old), constant(returns));
    let held = old.clone() + (values.clone() - old).clamp(-clip, clip);
    let free = (values - returns.clone()).square();
    free.max_pair((held - returns).square()) * 0.5
}
