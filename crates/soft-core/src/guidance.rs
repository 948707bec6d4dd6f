//! Mixing the truth into what the model would feed itself.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::Distribution;

/// How a share `a` of truth `y` enters the fed distribution `q`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GuidanceForm {
    /// `q = (1 - a) p + a y`.
    #[default]
    Mix,
    /// `q = (1 - l) p + l y` with the smallest `l >= 0` such that `q >= a y` everywhere.
    Clamp,
    /// `y` with probability `a`, else `p` (scheduled sampling, Bengio et al. 2015): give the
    /// outcome of each row's coin as its share, 0 or 1.
    Coin,
}

/// The fed distribution `q` of each row.
///
/// # Shapes
/// - probs: `p`, one distribution a row
/// - truth: `y`, sparse `[batch, k]`; padding has weight 0 and any id
/// - share: `a` of each row, in 0..=1; 0 where a row has no truth
///
/// A row of share 1 is `y` to the bit, one of share 0 is `p`; where all rows are, that one is
/// returned as it came.
///
/// # Gradient
/// Flows through `p`, for `clamp` through `l(p)` too; not through the share.
///
/// # Panics
/// If the truth is dense, the rows differ in number, or a share of `coin` is neither 0 nor 1.
pub fn guide(
    probs: Distribution,
    truth: &Distribution,
    share: &[f64],
    form: GuidanceForm,
) -> Distribution {
    assert_eq!(probs.batch(), share.len(), "one share of truth a row");
    if share.iter().all(|&a| a == 1.0) {
        return truth.clone();
    }
    if share.iter().all(|&a| a == 0.0) {
        return probs;
    }
    let Distribution::Sparse { ids: truth_ids, weights: truth_weights } = truth else {
        panic!("truth names its tokens: a sparse distribution");
    };
    let tossed = form != GuidanceForm::Coin || share.iter().all(|&a| a == 0.0 || a == 1.0);
    assert!(tossed, "the share of a coin is its outcome, 0 or 1: {share:?}");
    let share = crate::float_tensor(
        share.to_vec(),
        [share.len(), 1],
        &truth_weights.device(),
        truth_weights.dtype(),
    );
    let share = match form {
        GuidanceForm::Mix | GuidanceForm::Coin => share,
        GuidanceForm::Clamp => {
            let at_truth = |q: &Distribution| q.weights_at(truth_ids.clone());
            clamp_share(at_truth(&probs), at_truth(truth), share)
        }
    };
    let kept = -share.clone() + 1.0;
    match probs {
        Distribution::Dense(probs) => {
            let [batch, vocab] = probs.dims();
            let empty = Tensor::zeros([batch, vocab], (&probs.device(), probs.dtype()));
            let y = empty.scatter(
                1,
                truth_ids.clone(),
                truth_weights.clone(),
                burn::tensor::IndexingUpdateOp::Add,
            );
            Distribution::Dense(probs * kept + y * share)
        }
        Distribution::Sparse { ids, weights } => Distribution::Sparse {
            ids: Tensor::cat(vec![ids, truth_ids.clone()], 1),
            weights: Tensor::cat(vec![weights * kept, truth_weights.clone() * share], 1),
        },
    }
}

/// Whether the clamp moves each row: some token of its truth has less than `a y`.
///
/// # Shapes
/// - truth: sparse, as [`guide`] takes it; share: `a` of each row
///
/// # Panics
/// If the truth is dense, or the rows differ in number.
pub fn clamp_acts(probs: &Distribution, truth: &Distribution, share: &[f64]) -> Vec<bool> {
    let Distribution::Sparse { ids, weights } = truth else {
        panic!("truth names its tokens: a sparse distribution");
    };
    assert_eq!(probs.batch(), share.len(), "one share of truth a row");
    let k = weights.dims()[1];
    let values = |weights: Tensor<2>| crate::host_values(weights.detach());
    let found = values(probs.weights_at(ids.clone()));
    let wanted = values(truth.weights_at(ids.clone()));
    let rows = found.chunks_exact(k).zip(wanted.chunks_exact(k)).zip(share);
    rows.map(|((p, y), a)| p.iter().zip(y).any(|(p, y)| *p < a * y)).collect()
}

/// The smallest `l` with `(1 - l) p_i + l y_i >= a y_i` for every i: the largest of
/// `(a y_i - p_i) / (y_i - p_i)` over the tokens with `p_i < a y_i`, else 0; at a = 1 it is 1.
///
/// # Shapes
/// - p, y: `[batch, k]` at the tokens of the truth; a: `[batch, 1]`; output: `[batch, 1]`
fn clamp_share(p: Tensor<2>, y: Tensor<2>, a: Tensor<2>) -> Tensor<2> {
    let wanted = y.clone() * a.clone();
    let lacking = p.clone().detach().lower(wanted.clone());
    let enough = lacking.bool_not();
    // Where p is enough the quotient is not used, and its denominator may be 0.
    let room = (y - p.clone()).mask_fill(enough.clone(), 1.0);
    let least = ((wanted - p) / room).mask_fill(enough, 0.0).max_dim(1);
    // By construction: where p equals y to rounding, the quotient above is 0 / 0.
    least.mask_fill(a.equal_elem(1.0), 1.0)
}

#[cfg(all(test, feature = "flex"))]
mod tests;
