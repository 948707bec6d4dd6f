//! The log-probability of a draw, as it is and relative to its value under the logits of the draw.

use std::f64::consts::PI;

use burn::tensor::Tensor;

use super::draw::{Action, Draw, beside};
use super::gamma::{ln_gamma, ln_gamma_rise};
use super::relative::exp_m1;
use crate::host_values;

impl Draw {
    /// The log-probability (tokens) or log-density of each row under `scores`. The tokens kept
    /// stay those of the draw, and p is the softmax over them alone, then as now: under the scores
    /// of the draw itself a ratio is exactly 1.
    ///
    /// Tokens count in their order; see [`Self::log_orders`]. For ratios of densities in f32 see
    /// [`Self::relative_log_prob`].
    ///
    /// # Shapes
    /// - scores: `[batch, vocab]`, logits over the temperature ([`tempered`](crate::tempered))
    /// - embedding: `[vocab, d_model]`, read by the Gaussian policy alone
    /// - output: `[batch]`
    ///
    /// # Gradient
    /// Flows to the scores, and of a Gaussian draw also to the embedding; never to what was drawn.
    pub fn log_prob(&self, scores: Tensor<2>, embedding: &Tensor<2>) -> Tensor<1> {
        let log_probs = self.log_probs(scores);
        let log_prob = match &self.action {
            Action::Tokens(tokens) | Action::Hybrid { tokens, .. } => {
                self.log_probs_at(log_probs, tokens).sum_dim(1)
            }
            Action::Scores { log_probs: drawn, noise, .. } => {
                let drawn = beside(drawn, &log_probs);
                let absent = drawn.clone().equal_elem(f64::NEG_INFINITY);
                let noise = drawn + beside(noise, &log_probs) - log_probs;
                let noise = noise.mask_fill(absent.clone(), 0.0);
                (-noise.clone() - (-noise).exp()).mask_fill(absent, 0.0).sum_dim(1)
            }
            Action::Vectors { noise, sigma, .. } => {
                let width = noise.dims()[1];
                let moved = self.moved(log_probs, embedding);
                (beside(noise, &moved) - moved).square().sum_dim(1) * -0.5
                    - normalizer(width, *sigma)
            }
            Action::Shares { log_shares, concentration, .. } => {
                dirichlet(log_probs, log_shares, *concentration)
            }
        };
        log_prob.squeeze_dim(1)
    }

    /// [`Self::log_prob`] less [`Self::base`], a constant of the draw: of a density, what it differs
    /// by from that under the logits of the draw; of tokens the log-probability itself.
    ///
    /// The difference of two densities over a large vocabulary is that of two large sums, which f32
    /// rounds to a few digits. Here the terms are differences already, so that a ratio of two
    /// policies, both near that of the draw, is the exponential of a difference of two small
    /// numbers, each with an error in proportion to itself (of a Gaussian draw with that of `p @ E`).
    /// What rounding in the scores themselves moves it by is no error of this kind, and stays: over
    /// n tokens a Gumbel density multiplies it by the root of n. With `d_i = log p_i - log p_i(draw)`:
    ///
    /// - Gumbel: `sum_i [d_i - exp(-g_i) (exp(d_i) - 1)]`
    /// - Gaussian: `u . (n - u / 2)` with `u = (p @ E - p(draw) @ E(draw)) / sigma`
    /// - Dirichlet: `sum_i [d_i + h_i log a_i - (log Gamma(1 + c p_i) - log Gamma(1 + c p_i(draw)))]`
    ///   with `h_i = c p_i - c p_i(draw)`
    ///
    /// # Shapes
    /// - as [`Self::log_prob`]; the scores of the tokens kept are finite
    ///
    /// # Gradient
    /// That of [`Self::log_prob`].
    pub fn relative_log_prob(&self, scores: Tensor<2>, embedding: &Tensor<2>) -> Tensor<1> {
        let relative = match &self.action {
            Action::Tokens(_) | Action::Hybrid { .. } => return self.log_prob(scores, embedding),
            Action::Scores { log_probs, noise, .. } => {
                let d = self.log_ratios(scores, log_probs);
                let weights = (-beside(noise, &d)).exp();
                d.clone() - weights * exp_m1(d)
            }
            Action::Vectors { noise, .. } => {
                let moved = self.moved(self.log_probs(scores), embedding);
                (beside(noise, &moved) - moved.clone() * 0.5) * moved
            }
            Action::Shares { log_probs, log_shares, concentration } => {
                let d = self.log_ratios(scores, log_probs);
                let drawn = beside(log_probs, &d).exp() * *concentration;
                let log_shares = beside(log_shares, &d);
                let absent = log_shares.clone().equal_elem(f64::NEG_INFINITY);
                let h = drawn.clone() * exp_m1(d.clone());
                d + h.clone() * log_shares.mask_fill(absent, 0.0) - ln_gamma_rise(drawn + 1.0, h)
            }
        };
        relative.sum_dim(1).squeeze_dim(1)
    }

    /// What [`Self::relative_log_prob`] leaves out of [`Self::log_prob`]: the log-density of each row
    /// under the logits of the draw; 0 for tokens. Waits for the device.
    pub fn base(&self) -> Vec<f64> {
        match &self.action {
            Action::Tokens(_) | Action::Hybrid { .. } => vec![0.0; self.batch()],
            Action::Scores { log_probs, noise, .. } => {
                let [log_probs, noise] = [log_probs, noise].map(|x| host_values(x.clone()));
                let of = |(r, g): (&f64, &f64)| if r.is_finite() { -g - (-g).exp() } else { 0.0 };
                let terms: Vec<f64> = log_probs.iter().zip(&noise).map(of).collect();
                terms.chunks_exact(terms.len() / self.batch()).map(|row| row.iter().sum()).collect()
            }
            Action::Vectors { noise, sigma, .. } => {
                let width = noise.dims()[1];
                let of = |row: &[f64]| row.iter().map(|n| n * n).sum::<f64>() * -0.5;
                let noise = host_values(noise.clone());
                noise.chunks_exact(width).map(|row| of(row) - normalizer(width, *sigma)).collect()
            }
            Action::Shares { log_probs, log_shares, concentration } => {
                host_values(dirichlet(log_probs.clone(), log_shares, *concentration))
            }
        }
    }

    /// How far the mean of a Gaussian policy is from that of the draw, in standard deviations:
    /// `[batch, d_model]`.
    fn moved(&self, log_probs: Tensor<2>, embedding: &Tensor<2>) -> Tensor<2> {
        let Action::Vectors { mean: drawn, sigma, .. } = &self.action else {
            unreachable!("only a vector has a mean")
        };
        let mean = self.over_kept(log_probs.exp()).mix(embedding.clone());
        let drawn = beside(drawn, &mean);
        (mean - drawn) * (1.0 / sigma)
    }
}

/// `d log(sigma sqrt(2 pi))`.
fn normalizer(width: usize, sigma: f64) -> f64 {
    width as f64 * (sigma * (2.0 * PI).sqrt()).ln()
}

/// The log-density of Dirichlet shares: `[batch, k]` to `[batch, 1]`.
fn dirichlet(log_probs: Tensor<2>, log_shares: &Tensor<2>, concentration: f64) -> Tensor<2> {
    let log_shares = beside(log_shares, &log_probs);
    let absent = log_shares.clone().equal_elem(f64::NEG_INFINITY);
    let log_shares = log_shares.mask_fill(absent.clone(), 0.0);
    let parameters = log_probs.exp() * concentration;
    let total = parameters.clone().mask_fill(absent.clone(), 0.0).sum_dim(1);
    let parameters = parameters.mask_fill(absent.clone(), 1.0);
    let terms = (parameters.clone() - 1.0) * log_shares - ln_gamma(parameters);
    ln_gamma(total) + terms.mask_fill(absent, 0.0).sum_dim(1)
}
