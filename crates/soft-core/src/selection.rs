//! Finding the largest scores of each row.

use burn::tensor::{DType, Int, Tensor, TensorData};

use crate::is_host_device;

/// Ids of the `k` largest scores of each row, largest first; of equal ones the lower id first
/// (on a GPU, equal scores may come in any order).
///
/// On CPU backends this is a linear-time selection on the host, since Burn's `topk` sorts the
/// whole row there (2.1 ms against 0.1 ms on a vocabulary of 49152).
///
/// # Shapes
/// - scores: `[batch, vocab]`, without gradient
/// - output: `[batch, min(k, vocab)]`
pub fn top_k_ids(scores: Tensor<2>, k: usize) -> Tensor<2, Int> {
    let [batch, vocab] = scores.dims();
    let k = k.clamp(1, vocab);
    let device = scores.device();
    if !is_host_device(&device) {
        return scores.topk_with_indices(k, 1).1;
    }
    let data = scores.into_data().convert_dtype(DType::F32);
    let values = data.as_slice::<f32>().expect("converted to f32 just above");
    let ids: Vec<i32> = values.chunks_exact(vocab).flat_map(|row| largest(row, k)).collect();
    Tensor::from_data(TensorData::new(ids, [batch, k]), &device)
}

/// Ids of the `k` largest values, largest first, ties by lower id. NaN counts as the smallest.
fn largest(row: &[f32], k: usize) -> Vec<i32> {
    let ahead = |a: &(f32, i32), b: &(f32, i32)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
    let mut kept: Vec<(f32, i32)> = Vec::with_capacity(row.len().min(4 * k));
    // Only values over the k-th largest so far can matter; the buffer is cut back when full.
    let mut threshold = f32::NEG_INFINITY;
    for (id, &value) in row.iter().enumerate() {
        // Adding 0 makes -0 a plain 0, which it has to tie with.
        let value = if value.is_nan() { f32::NEG_INFINITY } else { value + 0.0 };
        if value > threshold || kept.len() < k {
            kept.push((value, id as i32));
            if kept.len() == 4 * k && k > 0 {
                kept.select_nth_unstable_by(k - 1, ahead);
                kept.truncate(k);
                threshold = kept[k - 1].0;
            }
        }
    }
    if kept.len() > k {
        kept.select_nth_unstable_by(k - 1, ahead);
        kept.truncate(k);
    }
    kept.sort_unstable_by(ahead);
    kept.into_iter().map(|(_, id)| id).collect()
}

#[cfg(test)]
mod tests {
    use super::largest;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn selection_equals_a_full_sort(
            row in prop::collection::vec(-3i8..3, 1..200),
            k in 1usize..200,
        ) {
            let row: Vec<f32> = row.into_iter().map(f32::from).collect();
            let k = k.min(row.len());
            let mut ids: Vec<i32> = (0..row.len() as i32).collect();
            ids.sort_by(|&a, &b| row[b as usize].total_cmp(&row[a as usize]).then(a.cmp(&b)));
            prop_assert_eq!(largest(&row, k), &ids[..k]);
        }
    }

    #[test]
    fn not_a_number_is_never_preferred() {
        assert_eq!(largest(&[f32::NAN, 1.0, -1.0, f32::NAN], 2), [1, 2]);
    }
}
