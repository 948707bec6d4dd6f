use burn::tensor::{DType, Device};

use super::*;
use crate::finite_difference::{gradient, leaf, loss_of};
use crate::{PipelineConfig, SoftPipeline, float_tensor, uniform_stream};

const VOCAB: usize = 37;
const D_MODEL: usize = 19;

fn values(seed: u64, count: usize) -> Vec<f64> {
    let key = crate::NoiseKey { seed, step: 0, row: 0, position: 0 };
    uniform_stream(key, crate::Place::Feed).take(count).map(|u| 4.0 * u - 2.0).collect()
}

fn tensor(seed: u64, shape: [usize; 2], dtype: DType) -> Tensor<2> {
    float_tensor(values(seed, shape[0] * shape[1]), shape, &Device::flex(), dtype)
}

fn softmax_at(top_k: usize) -> SoftPipeline {
    SoftPipeline::new(PipelineConfig { top_k, ..Default::default() }).expect("valid settings")
}

#[test]
fn a_one_hot_mixture_is_the_embedding_row_to_the_bit() {
    let embedding = tensor(1, [VOCAB, D_MODEL], DType::F32);
    let ids = [5, 0, 36, 5];
    let row_ids = int_tensor(&ids, [4], &Device::flex());
    let lookup = host_values(embedding.clone().select(0, row_ids.clone()));

    let sparse = Distribution::one_hot(&ids, &embedding);
    assert_eq!(host_values(sparse.mix(embedding.clone())), lookup);

    let dense = Tensor::<2>::eye(VOCAB, &Device::flex()).select(0, row_ids);
    assert_eq!(host_values(Distribution::Dense(dense).mix(embedding.clone())), lookup);

    let padded = Distribution::Sparse {
        ids: int_tensor(&[9, 5, 0, 1, 36, 36, 5, 2], [4, 2], &Device::flex()),
        weights: float_tensor(
            vec![0.0, 1.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0],
            [4, 2],
            &Device::flex(),
            DType::F32,
        ),
    };
    assert_eq!(host_values(padded.mix(embedding)), lookup);
}

#[test]
fn a_sparse_mixture_of_the_whole_vocabulary_is_the_dense_one() {
    for (dtype, tolerance) in [(DType::F32, 1e-5), (DType::F64, 1e-13)] {
        let logits = tensor(2, [3, VOCAB], dtype);
        let embedding = tensor(3, [VOCAB, D_MODEL], dtype);
        let dense = softmax_at(0).apply(logits.clone(), &[]).fed;
        let sparse = softmax_at(VOCAB).apply(logits, &[]).fed;
        assert!(matches!(dense, Distribution::Dense(_)));
        assert!(matches!(sparse, Distribution::Sparse { .. }));
        let dense = host_values(dense.mix(embedding.clone()));
        let sparse = host_values(sparse.mix(embedding));
        assert_close(&dense, &sparse, tolerance);
    }
}

#[test]
fn gradients_of_the_sparse_and_the_dense_mixture_agree() {
    let (logits, embedding) = (values(4, 2 * VOCAB), values(5, VOCAB * D_MODEL));
    let in_logits = |top_k| {
        gradient(&logits, [2, VOCAB], |z| {
            loss_of(softmax_at(top_k).apply(z, &[]).fed.mix(leaf(&embedding, [VOCAB, D_MODEL])))
        })
    };
    assert_close(&in_logits(0), &in_logits(VOCAB), 1e-12);
    let in_embedding = |top_k| {
        gradient(&embedding, [VOCAB, D_MODEL], |e| {
            loss_of(softmax_at(top_k).apply(leaf(&logits, [2, VOCAB]), &[]).fed.mix(e))
        })
    };
    assert_close(&in_embedding(0), &in_embedding(VOCAB), 1e-12);
}

#[test]
fn a_token_named_twice_counts_twice_in_value_and_gradient() {
    let twice = Distribution::Sparse {
        ids: int_tensor(&[3, 1, 3], [1, 3], &Device::flex()),
        weights: leaf(&[0.2, 0.5, 0.3], [1, 3]),
    };
    let embedding = leaf(&values(6, VOCAB * 2), [VOCAB, 2]);
    let grads = twice.mix(embedding.clone()).sum().backward();
    let grad = host_values(embedding.grad(&grads).expect("tracked"));
    let expected = |row: usize| if row == 1 || row == 3 { 0.5 } else { 0.0 };
    for (i, grad) in grad.iter().enumerate() {
        assert!((grad - expected(i / 2)).abs() < 1e-15, "entry {i}: {grad}");
    }
    assert_eq!(twice.to_rows(9), [[(1, 0.5), (3, 0.5)]]);
    assert_eq!(twice.to_rows(1), [[(1, 0.5)]]);
}

#[test]
fn detaching_cuts_the_weights_and_keeps_the_lookup() {
    for top_k in [0, 4] {
        let logits = leaf(&values(7, VOCAB), [1, VOCAB]);
        let embedding = leaf(&values(8, VOCAB * 2), [VOCAB, 2]);
        let fed = softmax_at(top_k).apply(logits.clone(), &[]).fed.detach();
        let grads = fed.mix(embedding.clone()).sum().backward();
        assert!(logits.grad(&grads).is_none());
        let grad = host_values(embedding.grad(&grads).expect("the lookup keeps its gradient"));
        assert!((grad.iter().sum::<f64>() - 2.0).abs() < 1e-12);
    }
}

#[test]
fn weights_of_named_tokens_are_the_same_dense_and_sparse() {
    let dense = float_tensor(
        vec![0.5, 0.25, 0.0, 0.25, 0.0, 1.0, 0.0, 0.0],
        [2, 4],
        &Device::flex(),
        DType::F64,
    );
    let sparse = Distribution::Sparse {
        ids: int_tensor(&[3, 0, 1, 0, 1, 2, 1, 0], [2, 4], &Device::flex()),
        weights: float_tensor(
            vec![0.25, 0.125, 0.25, 0.375, 0.75, 0.0, 0.25, 0.0],
            [2, 4],
            &Device::flex(),
            DType::F64,
        ),
    };
    let wanted = int_tensor(&[0, 2, 1, 1, 1, 3], [2, 3], &Device::flex());
    for distribution in [Distribution::Dense(dense), sparse] {
        let found = host_values(distribution.weights_at(wanted.clone()));
        assert_eq!(found, [0.5, 0.0, 0.25, 1.0, 1.0, 0.0]);
        assert_eq!(distribution.to_rows(2), [vec![(0, 0.5), (1, 0.25)], vec![(1, 1.0)]]);
        assert_eq!(distribution.to_rows(0), [vec![], vec![]]);
        assert_eq!(distribution.batch(), 2);
    }
}

fn assert_close(a: &[f64], b: &[f64], tolerance: f64) {
    assert_eq!(a.len(), b.len());
    for (i, (a, b)) in a.iter().zip(b).enumerate() {
        assert!((a - b).abs() <= tolerance, "entry {i}: {a} and {b}");
    }
}
