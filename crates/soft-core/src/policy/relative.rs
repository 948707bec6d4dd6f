//! Differences that are small, to their own precision.

use burn::tensor::Tensor;

use super::draw::{Draw, beside};
use crate::log_softmax_rows;

impl Draw {
    /// `log p - r` of the tokens kept, `r` being the log-probabilities of the draw, 0 where that
    /// is minus infinity: `[batch, k]`. Its error is in proportion to the largest difference of
    /// the row, not to log p: a density adds these up over a vocabulary.
    ///
    /// # Gradient
    /// Flows to the scores.
    pub(super) fn log_ratios(&self, scores: Tensor<2>, drawn: &Tensor<2>) -> Tensor<2> {
        let scores = self.kept_scores(scores);
        let drawn = beside(drawn, &scores);
        let absent = drawn.clone().equal_elem(f64::NEG_INFINITY);
        let values = log_ratio_values(scores.clone().detach(), drawn);
        valued(values, log_softmax_rows(scores).mask_fill(absent, 0.0))
    }
}

/// `log softmax(z) - r` without a gradient, 0 where r is minus infinity.
///
/// With `t = z - r - k` for any k of a row, it is `t - log sum_i exp(r_i + t_i)`, and that sum is
/// `1 + sum_i exp(r_i) (exp(t_i) - 1)`: what is rounded is t, not z or r. With k the mean of
/// `z - r` under r the logarithm is never under 0 (Jensen), and `m` keeps it from overflow.
///
/// # Shapes
/// - z, r, output: `[batch, k]`; r is minus infinity at least where z is
fn log_ratio_values(z: Tensor<2>, r: Tensor<2>) -> Tensor<2> {
    let absent = r.clone().equal_elem(f64::NEG_INFINITY);
    let own = |x: &Tensor<2>| x.clone().mask_fill(absent.clone(), 0.0);
    let (own_z, own_r) = (own(&z), own(&r));
    // The rounding error of the difference, exactly (Knuth's two-sum).
    let difference = own_z.clone() - own_r.clone();
    let part = difference.clone() - own_z.clone();
    let error = (own_z - (difference.clone() - part.clone())) - (own_r.clone() + part);
    let k = (r.clone().exp() * difference.clone()).sum_dim(1);
    let t = (difference - k.clone()) + error;
    let moved = (own_r + t.clone()).mask_where(absent.clone(), z - k);
    let m = moved.clone().max_dim(1).clamp_min(0.0);
    let before = (r - m.clone()).exp();
    let gain = before.clone() * exp_m1_values(t.clone().clamp_max(1.0));
    let far = t.clone().greater_elem(1.0).bool_or(absent.clone());
    let gain = gain.mask_where(far, (moved - m.clone()).exp() - before);
    let total = gain.sum_dim(1) + exp_m1_values(-m.clone());
    (t - (m + total.log1p())).mask_fill(absent, 0.0)
}

/// `exp(x) - 1`, elementwise, with an error in proportion to itself.
///
/// # Gradient
/// Flows to x where x is under 80, over which f32 has no exponentials soon.
pub(super) fn exp_m1(x: Tensor<2>) -> Tensor<2> {
    let values = exp_m1_values(x.clone().detach());
    valued(values, x.clamp_max(80.0).exp())
}

/// `exp(x) - 1` without a gradient: Burn 0.22.1 has no such function.
fn exp_m1_values(x: Tensor<2>) -> Tensor<2> {
    const NEAR: f64 = 0.25;
    // What the next term of the series would add is under the rounding of f64.
    const TERMS: usize = 12;
    let far = x.clone().abs().greater_elem(NEAR);
    let near = x.clone().clamp(-NEAR, NEAR);
    let ones = near.ones_like();
    let series = (2..=TERMS).rev().fold(ones, |sum, n| sum * near.clone() * (1.0 / n as f64) + 1.0);
    (near * series).mask_where(far, x.exp() - 1.0)
}

/// The values of one tensor with the gradient of another.
fn valued(values: Tensor<2>, gradient: Tensor<2>) -> Tensor<2> {
    if !gradient.device().is_autodiff() {
        return values;
    }
    values + (gradient.clone() - gradient.detach())
}
