//! The Kullback-Leibler divergence of two policies at a state.

use burn::tensor::{Bool, Tensor};

use super::draw::{Action, Draw, beside};
use super::gamma::{digamma, ln_gamma_rise};
use super::relative::exp_m1;

impl Draw {
    /// `KL(pi || reference)` of each row, exactly: the mean over the draws of the policy, as it is
    /// under `scores`, of the difference of [`Self::log_prob`] under the two scores. Nothing of the
    /// draw is read but the policy it is from and the tokens kept, over which both have their
    /// softmax. With p and q those, and `d_i = log p_i - log q_i`:
    ///
    /// - tokens and the hybrid policy: `count sum_i p_i d_i`, a p of 0 adding nothing
    /// - Gumbel: `sum_i [d_i + exp(-d_i) - 1]`
    /// - Gaussian: `||p @ E - q @ E'||^2 / (2 sigma^2)`, E' the embedding of the reference
    /// - Dirichlet: `sum_i [log Gamma(c q_i) - log Gamma(c p_i) + c (p_i - q_i) digamma(c p_i)]`
    ///
    /// # Shapes
    /// - `scores`, `reference_scores`: `[batch, vocab]`, logits over the temperature
    /// - `embedding`, `reference_embedding`: `[vocab, d_model]`, read by the Gaussian policy alone
    /// - output: `[batch]`
    ///
    /// # Gradient
    /// Flows to the scores, and of a Gaussian policy also to the embedding; never to the reference.
    /// Exactly 0 where the two are the same, but for the rounding of tokens' and Dirichlet terms.
    pub fn kl(
        &self,
        scores: Tensor<2>,
        reference_scores: Tensor<2>,
        embedding: &Tensor<2>,
        reference_embedding: &Tensor<2>,
    ) -> Tensor<1> {
        let log_p = self.log_probs(scores);
        let log_q = self.log_probs(reference_scores.detach());
        let kl = match &self.action {
            Action::Tokens(tokens) => {
                let [_, count] = tokens.dims();
                of_tokens(log_p, &log_q) * count as f64
            }
            Action::Hybrid { .. } => of_tokens(log_p, &log_q),
            Action::Scores { log_probs: drawn, .. } => {
                let dropped = beside(drawn, &log_p).equal_elem(f64::NEG_INFINITY);
                let [log_p, log_q] = both(log_p, &log_q, dropped);
                of_ratios(log_p - log_q).sum_dim(1)
            }
            Action::Vectors { sigma, .. } => {
                let mean = self.over_kept(log_p.exp()).mix(embedding.clone());
                let other = self.over_kept(log_q.exp()).mix(reference_embedding.clone().detach());
                let other = beside(&other, &mean);
                (mean - other).square().sum_dim(1) * (0.5 / (sigma * sigma))
            }
            Action::Shares { log_probs: drawn, concentration, .. } => {
                let padding = beside(drawn, &log_p).equal_elem(f64::NEG_INFINITY);
                of_shares(log_p, &log_q, padding, *concentration)
            }
        };
        kl.squeeze_dim(1)
    }
}

/// `sum_i p_i (log p_i - log q_i)`: `[batch, k]` to `[batch, 1]`.
fn of_tokens(log_p: Tensor<2>, log_q: &Tensor<2>) -> Tensor<2> {
    let p = log_p.clone().exp();
    let none = log_p.clone().detach().equal_elem(f64::NEG_INFINITY);
    let [log_p, log_q] = both(log_p, log_q, none);
    (p * (log_p - log_q)).sum_dim(1)
}

/// `d + exp(-d) - 1`, elementwise.
fn of_ratios(d: Tensor<2>) -> Tensor<2> {
    d.clone() + exp_m1(-d)
}

/// `[batch, k]` to `[batch, 1]`. `log Gamma(x) = log Gamma(1 + x) - log x` and the same of its
/// derivative leave the terms of [`of_ratios`] and some that are finite where a parameter is 0.
fn of_shares(
    log_p: Tensor<2>,
    log_q: &Tensor<2>,
    padding: Tensor<2, Bool>,
    concentration: f64,
) -> Tensor<2> {
    let own = log_p.clone().exp() * concentration;
    let other = beside(log_q, &log_p).exp() * concentration;
    let [log_p, log_q] = both(log_p, log_q, padding);
    let h = other - own.clone();
    let above = own + 1.0;
    let rest = ln_gamma_rise(above.clone(), h.clone()) - h * digamma(above);
    (of_ratios(log_p - log_q) + rest).sum_dim(1)
}

/// The two, side by side, 0 where a token does not count or has no probability under either.
fn both(log_p: Tensor<2>, log_q: &Tensor<2>, uncounted: Tensor<2, Bool>) -> [Tensor<2>; 2] {
    let log_q = beside(log_q, &log_p);
    let none = |x: &Tensor<2>| x.clone().detach().equal_elem(f64::NEG_INFINITY);
    let uncounted = none(&log_p).bool_and(none(&log_q)).bool_or(uncounted);
    [log_p, log_q].map(|x| x.mask_fill(uncounted.clone(), 0.0))
}
