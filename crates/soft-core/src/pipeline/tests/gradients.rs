//! Gradients of the whole pipeline, through the mixture.

use super::*;
use crate::finite_difference::{assert_gradient, leaf, loss_of};

const TOKENS: usize = 12;
const D_MODEL: usize = 3;

fn configs() -> Vec<PipelineConfig> {
    let noise = Noise::Gumbel { temperature: 0.6 };
    let inputs = Feed::Inputs { beta: 0.8 };
    let warm = PipelineConfig { temperature: 1.7, noise, ..Default::default() };
    let filters_first = vec![MinP, TopK, Temperature, TopP, NoiseStage];
    vec![
        PipelineConfig { temperature: 0.7, ..Default::default() },
        warm.clone(),
        PipelineConfig { top_k: 5, ..warm.clone() },
        PipelineConfig { top_k: 9, top_p: 0.9, min_p: 0.05, max_top_k: 6, ..warm.clone() },
        PipelineConfig { top_p: 0.8, min_p: 0.02, order: filters_first, ..warm.clone() },
        PipelineConfig { norm_match: NormMatch::L2, ..warm.clone() },
        PipelineConfig { top_k: 5, norm_match: NormMatch::Rms, ..warm },
        PipelineConfig { feed: inputs, ..Default::default() },
        PipelineConfig { feed: inputs, top_k: 5, norm_match: NormMatch::L2, ..Default::default() },
    ]
}

#[test]
fn gradients_are_those_of_finite_differences() {
    let logits = spread(21, 2 * TOKENS, 6.0);
    let embedding = spread(22, TOKENS * D_MODEL, 3.0);
    for config in configs() {
        let pipeline = pipeline(config);
        let loss = |z, e| loss_of(pipeline.mix(pipeline.apply(z, &keys(2)).fed, &e).0);
        assert_gradient(&logits, [2, TOKENS], |z| loss(z, leaf(&embedding, [TOKENS, D_MODEL])));
        assert_gradient(&embedding, [TOKENS, D_MODEL], |e| loss(leaf(&logits, [2, TOKENS]), e));
    }
}

#[test]
fn impossible_tokens_leave_values_and_gradients_finite() {
    let mut logits = spread(23, 2 * TOKENS, 6.0);
    for (i, z) in [(0, f64::NEG_INFINITY), (3, -5e3), (4, f64::NEG_INFINITY), (14, 4e3)] {
        logits[i] = z;
    }
    let embedding = spread(24, TOKENS * D_MODEL, 3.0);
    for dtype in [DType::F32, DType::F64] {
        for config in configs() {
            let device = Device::flex().autodiff();
            let z = float_tensor(logits.clone(), [2, TOKENS], &device, dtype).require_grad();
            let e = float_tensor(embedding.clone(), [TOKENS, D_MODEL], &device, dtype);
            let pipeline = pipeline(config.clone());
            let (mixture, _) = pipeline.mix(pipeline.apply(z.clone(), &keys(2)).fed, &e);
            assert!(host_values(mixture.clone()).iter().all(|x| x.is_finite()), "{config:?}");
            let grads = loss_of(mixture).backward();
            let grad = host_values(z.grad(&grads).expect("tracked"));
            assert!(grad.iter().all(|g| g.is_finite()), "{config:?}: {grad:?}");
            assert_eq!([grad[0], grad[3], grad[4]], [0.0; 3], "{config:?}");
        }
    }
}

#[test]
fn a_token_that_the_filters_dropped_gets_no_gradient() {
    let logits = spread(25, TOKENS, 6.0);
    let embedding = leaf(&spread(26, TOKENS * D_MODEL, 3.0), [TOKENS, D_MODEL]);
    let filtered = pipeline(PipelineConfig { top_p: 0.8, ..Default::default() });
    let fed = filtered.apply(leaf(&logits, [1, TOKENS]), &[]).fed;
    let kept: Vec<u32> = fed.to_rows(TOKENS)[0].iter().map(|entry| entry.0).collect();
    assert!(kept.len() > 1 && kept.len() < TOKENS);
    let grad = crate::finite_difference::gradient(&logits, [1, TOKENS], |z| {
        loss_of(filtered.apply(z, &[]).fed.mix(embedding.clone()))
    });
    for (id, g) in (0..).zip(grad) {
        assert_eq!(g != 0.0, kept.contains(&id), "token {id}: {g}");
    }
}

#[test]
fn one_kept_token_has_weight_one_and_no_gradient() {
    let logits = leaf(&spread(27, TOKENS, 6.0), [1, TOKENS]);
    let embedding = leaf(&spread(28, TOKENS, 3.0), [TOKENS, 1]);
    for config in [
        PipelineConfig { temperature: 0.0, ..Default::default() },
        PipelineConfig { top_k: 1, ..Default::default() },
    ] {
        let fed = pipeline(config).apply(logits.clone(), &[]).fed;
        assert_eq!(fed.to_rows(9)[0][0].1, 1.0);
        let grads = fed.mix(embedding.clone()).sum().backward();
        assert!(logits.grad(&grads).is_none_or(|g| host_values(g).iter().all(|&g| g == 0.0)));
        assert!(embedding.grad(&grads).is_some());
    }
}
