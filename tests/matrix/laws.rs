//! Laws of the soft-token pipeline, which hold on every backend.

use burn::tensor::{Int, Tensor};
use soft_core::{
    Distribution, GuidanceForm, PipelineConfig, SoftPipeline, entropy_nats, float_tensor, guide,
    host_values, int_tensor,
};

use crate::{assert_close, assert_values_close, device, numbers};

const BATCH: usize = 2;
const VOCAB: usize = 7;
const D_MODEL: usize = 4;

fn soft(logits: Tensor<2>, config: PipelineConfig) -> Distribution {
    SoftPipeline::new(config).expect("valid settings").apply(logits, &[]).probs
}

fn dense(distribution: &Distribution) -> Vec<f64> {
    match distribution {
        Distribution::Dense(weights) => host_values(weights.clone()),
        sparse => {
            let mut weights = vec![0.0; BATCH * VOCAB];
            for (row, entries) in sparse.to_rows(VOCAB).iter().enumerate() {
                entries.iter().for_each(|(id, w)| weights[row * VOCAB + *id as usize] += w);
            }
            weights
        }
    }
}

#[test]
fn a_one_hot_mixture_is_the_embedding_row_to_the_bit() {
    let embedding = numbers([VOCAB, D_MODEL], 0.3, &device());
    let mixture = Distribution::one_hot(&[5, 2], &embedding).mix(embedding.clone());
    let ids = int_tensor(&[5, 2], [BATCH], &device());
    assert_eq!(host_values(mixture), host_values(embedding.select(0, ids)));
}

#[test]
fn sparse_equals_dense_when_k_is_the_vocabulary() {
    let logits = numbers([BATCH, VOCAB], 1.0, &device()) * 3.0;
    let embedding = numbers([VOCAB, D_MODEL], 0.3, &device());
    let whole = PipelineConfig { top_k: VOCAB, ..PipelineConfig::default() };
    let sparse = soft(logits.clone(), whole).mix(embedding.clone());
    let dense = soft(logits, PipelineConfig::default()).mix(embedding);
    assert_close("mixture", sparse, dense, 1e-6);
}

#[test]
fn filters_keep_the_likeliest_tokens_and_their_weights_sum_to_one() {
    let logits = numbers([BATCH, VOCAB], 2.0, &device()) * 4.0;
    let all = dense(&soft(logits.clone(), PipelineConfig::default()));
    let settings = PipelineConfig { top_k: 3, top_p: 0.99, ..PipelineConfig::default() };
    let kept = dense(&soft(logits, settings));
    for (all, kept) in all.chunks(VOCAB).zip(kept.chunks(VOCAB)) {
        assert_values_close("sum", &[kept.iter().sum()], &[1.0], 1e-5);
        let fewest = kept.iter().zip(all).filter(|(w, _)| **w > 0.0).map(|(_, p)| *p);
        let dropped = kept.iter().zip(all).filter(|(w, _)| **w == 0.0).map(|(_, p)| *p);
        assert!(dropped.clone().count() >= VOCAB - 3);
        assert!(fewest.fold(1.0, f64::min) >= dropped.fold(0.0, f64::max));
    }
}

#[test]
fn guidance_ends_at_the_prediction_and_at_the_truth() {
    let logits = numbers([BATCH, VOCAB], 3.0, &device());
    let probs = soft(logits, PipelineConfig::default());
    let truth = Distribution::one_hot(&[1, 6], &numbers([1, 1], 0.0, &device()));
    for form in [GuidanceForm::Mix, GuidanceForm::Clamp] {
        let fed = |share: f64| dense(&guide(probs.clone(), &truth, &[share; BATCH], form));
        assert_eq!(fed(1.0), dense(&truth), "{form:?} at 1");
        assert_eq!(fed(0.0), dense(&probs), "{form:?} at 0");
        let half = fed(0.5);
        assert_values_close("rows", &sums(&half), &[1.0; BATCH], 1e-5);
        assert!(half[1] >= 0.5 - 1e-5 && half[VOCAB + 6] >= 0.5 - 1e-5, "{form:?}: {half:?}");
    }
}

fn sums(values: &[f64]) -> Vec<f64> {
    values.chunks(VOCAB).map(|row| row.iter().sum()).collect()
}

#[test]
fn the_entropy_gradient_is_finite_where_a_probability_is_zero() {
    let values = vec![1.0, -0.5, f64::NEG_INFINITY, -200.0, 0.3];
    let logits = float_tensor(values, [1, 5], &device().autodiff(), burn::tensor::DType::F32);
    let logits = logits.require_grad();
    let entropy = entropy_nats(logits.clone(), 1.0);
    let h = host_values(entropy.clone())[0];
    let gradients = entropy.sum().backward();
    let found = host_values(logits.grad(&gradients).expect("logits are tracked"));
    let sum: f64 = [1.0, -0.5, 0.3].iter().map(|z: &f64| z.exp()).sum();
    let expected = [1.0, -0.5, f64::NEG_INFINITY, -200.0, 0.3].map(|z: f64| {
        let p = z.exp() / sum;
        if p < 1e-30 { 0.0 } else { -p * (p.ln() + h) }
    });
    assert_values_close("dH/dz", &found, &expected, 1e-5);
}

#[test]
fn a_sparse_mixture_sends_gradients_to_weights_and_gathered_rows() {
    let device = device().autodiff();
    let logits = (numbers([1, VOCAB], 1.0, &device) * 3.0).require_grad();
    let embedding = numbers([VOCAB, D_MODEL], 0.3, &device).require_grad();
    let settings = PipelineConfig { top_k: 2, ..PipelineConfig::default() };
    let fed = soft(logits.clone(), settings);
    let Distribution::Sparse { ids, weights } = fed.clone() else { panic!("filters are sparse") };
    let gradients = fed.mix(embedding.clone()).sum().backward();
    let rows = host_values(embedding.grad(&gradients).expect("the embedding is tracked"));
    let mut expected = vec![0.0; VOCAB * D_MODEL];
    for (id, weight) in host_ids(ids).into_iter().zip(host_values(weights)) {
        expected[id * D_MODEL..(id + 1) * D_MODEL].fill(weight);
    }
    assert_values_close("dL/dE", &rows, &expected, 1e-5);
    let scores = host_values(logits.grad(&gradients).expect("the logits are tracked"));
    assert!(scores.iter().any(|g| g.abs() > 1e-3), "{scores:?}");
    assert_values_close("softmax gradients sum to 0", &[scores.iter().sum()], &[0.0], 1e-5);
}

fn host_ids(ids: Tensor<2, Int>) -> Vec<usize> {
    ids.into_data().iter::<i64>().map(|id| id as usize).collect()
}
