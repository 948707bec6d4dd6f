//! The repetition penalty: tokens that were seen become less likely.

use burn::tensor::{IndexingUpdateOp, Tensor};

use crate::int_tensor;

/// Logits with those of the `seen` tokens of each row divided by `penalty` where they are above 0,
/// and multiplied by it where they are below. A penalty of 1 changes nothing.
///
/// # Shapes
/// - logits: `[batch, vocab]`; seen, penalties: a list and a number a row; a token may stand in a
///   list many times
///
/// # Panics
/// If there is not one list a row.
///
/// # Source
/// CTRL (Keskar et al. 2019, arXiv:1909.05858), in the form of transformers: a logit below 0
/// divided by the penalty would become likelier.
pub fn penalized(logits: Tensor<2>, seen: &[Vec<u32>], penalties: &[f64]) -> Tensor<2> {
    let [batch, _] = logits.dims();
    assert!(seen.len() == batch && penalties.len() == batch, "one list and one penalty a row");
    let mut seen: Vec<Vec<u32>> = seen.to_vec();
    for (ids, &penalty) in seen.iter_mut().zip(penalties) {
        ids.sort_unstable();
        ids.dedup();
        if penalty == 1.0 {
            ids.clear();
        }
    }
    let widest = seen.iter().map(Vec::len).max().unwrap_or(0);
    if widest == 0 {
        return logits;
    }
    // Shorter lists are filled up with a token whose change is 0.
    let own: Vec<f64> =
        seen.iter().flat_map(|ids| (0..widest).map(|i| f64::from(i < ids.len()))).collect();
    let ids: Vec<u32> = seen
        .iter()
        .flat_map(|ids| ids.iter().copied().chain(std::iter::repeat(0)).take(widest))
        .collect();
    let (device, dtype) = (logits.device(), logits.dtype());
    let ids = int_tensor(&ids, [batch, widest], &device);
    let own = crate::float_tensor(own, [batch, widest], &device, dtype);
    let factor = crate::float_tensor(penalties.to_vec(), [batch, 1], &device, dtype);
    let old = logits.clone().gather(1, ids.clone());
    let below = old.clone().lower_elem(0.0);
    let new = (old.clone() / factor.clone()).mask_where(below, old.clone() * factor);
    logits.scatter(1, ids, (new - old) * own, IndexingUpdateOp::Add)
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::{float_tensor, host_values};
    use burn::tensor::{DType, Device};

    #[test]
    fn what_was_seen_becomes_less_likely_and_nothing_else_changes() {
        let values = vec![2.0, -2.0, 0.0, 4.0, 1.0, -1.0, 3.0, 5.0];
        let logits = float_tensor(values, [2, 4], &Device::flex(), DType::F64);
        let seen = [vec![3, 1, 3], vec![0, 2, 1]];
        let both = host_values(penalized(logits.clone(), &seen, &[2.0, 1.0]));
        assert_eq!(both, [2.0, -4.0, 0.0, 2.0, 1.0, -1.0, 3.0, 5.0]);
        let other = host_values(penalized(logits.clone(), &seen, &[1.0, 2.0]));
        assert_eq!(other, [2.0, -2.0, 0.0, 4.0, 0.5, -2.0, 1.5, 5.0]);
        let none = [vec![], vec![]];
        assert_eq!(host_values(penalized(logits.clone(), &none, &[2.0, 2.0])).len(), 8);
        let same = penalized(logits.clone(), &seen, &[1.0, 1.0]);
        assert_eq!(host_values(same), host_values(logits));
    }
}
