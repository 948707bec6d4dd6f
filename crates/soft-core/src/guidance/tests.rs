use burn::tensor::{DType, Device};
use proptest::prelude::*;

use super::*;
use crate::finite_difference::{assert_gradient, gradient, leaf, loss_of};
use crate::{PipelineConfig, SoftPipeline, float_tensor, host_values, int_tensor};

const FORMS: [GuidanceForm; 3] = [GuidanceForm::Mix, GuidanceForm::Clamp, GuidanceForm::Coin];
const VOCAB: usize = 6;
const LOGITS: [f64; 12] = [0.3, -1.2, 0.9, 0.1, 2.0, -0.4, 1.1, 0.2, -0.7, 0.6, -2.0, 0.5];

fn truth(rows: &[&[(u32, f64)]], dtype: DType) -> Distribution {
    let shape = [rows.len(), rows[0].len()];
    let ids: Vec<u32> = rows.iter().flat_map(|row| row.iter().map(|entry| entry.0)).collect();
    let weights = rows.iter().flat_map(|row| row.iter().map(|entry| entry.1)).collect();
    Distribution::Sparse {
        ids: int_tensor(&ids, shape, &Device::flex()),
        weights: float_tensor(weights, shape, &Device::flex(), dtype),
    }
}

fn filtered(logits: Tensor<2>, top_k: usize) -> Distribution {
    let config = PipelineConfig { top_k, ..Default::default() };
    SoftPipeline::new(config).expect("valid settings").apply(logits, &[]).fed
}

fn logits(dtype: DType) -> Tensor<2> {
    float_tensor(LOGITS.to_vec(), [2, VOCAB], &Device::flex(), dtype)
}

/// Every token's weight, row-major.
fn full(distribution: &Distribution, vocab: usize) -> Vec<f64> {
    let rows = distribution.to_rows(usize::MAX);
    let mut all = vec![0.0; rows.len() * vocab];
    for (row, entries) in rows.iter().enumerate() {
        for &(id, weight) in entries {
            all[row * vocab + id as usize] = weight;
        }
    }
    all
}

#[test]
fn share_one_is_the_truth_and_share_zero_the_model_to_the_bit() {
    let y = truth(&[&[(4, 0.7), (1, 0.3)], &[(2, 1.0), (0, 0.0)]], DType::F32);
    for form in FORMS {
        for top_k in [0, 1, 3] {
            let p = || filtered(logits(DType::F32), top_k);
            let rows = |share: [f64; 2]| full(&guide(p(), &y, &share, form), VOCAB);
            let (p, y) = (full(&p(), VOCAB), full(&y, VOCAB));
            assert_eq!(rows([1.0, 1.0]), y);
            assert_eq!(rows([0.0, 0.0]), p);
            assert_eq!(rows([1.0, 0.0]), [&y[..VOCAB], &p[VOCAB..]].concat());
            assert_eq!(rows([0.0, 1.0]), [&p[..VOCAB], &y[VOCAB..]].concat());
        }
    }
}

#[test]
fn mixing_is_the_weighted_mean_row_by_row() {
    let y = truth(&[&[(4, 0.7), (1, 0.3)], &[(2, 1.0), (0, 0.0)]], DType::F64);
    for top_k in [0, 2] {
        let p = filtered(logits(DType::F64), top_k);
        let share = [0.25, 0.6];
        let found = full(&guide(p.clone(), &y, &share, GuidanceForm::Mix), VOCAB);
        let (p, y) = (full(&p, VOCAB), full(&y, VOCAB));
        for (i, found) in found.iter().enumerate() {
            let a = share[i / VOCAB];
            assert!((found - ((1.0 - a) * p[i] + a * y[i])).abs() < 1e-15);
        }
    }
}

#[test]
fn a_truth_that_the_filters_dropped_gets_its_share_and_the_weights_add_up_to_one() {
    let y = truth(&[&[(1, 1.0)], &[(4, 1.0)]], DType::F64);
    for form in [GuidanceForm::Mix, GuidanceForm::Clamp] {
        let fed = guide(filtered(logits(DType::F64), 2), &y, &[0.3, 0.45], form);
        let Distribution::Sparse { weights, .. } = &fed else { panic!("sparse stays sparse") };
        assert_eq!(weights.dims(), [2, 3]);
        let rows = full(&fed, VOCAB);
        assert!((rows[1] - 0.3).abs() < 1e-15, "{form:?}: {rows:?}");
        assert!((rows[VOCAB + 4] - 0.45).abs() < 1e-15);
        for row in rows.chunks_exact(VOCAB) {
            assert!((row.iter().sum::<f64>() - 1.0).abs() < 1e-14);
        }
    }
}

#[test]
fn a_truth_that_the_filters_kept_is_one_entry_on_the_host() {
    let y = truth(&[&[(4, 1.0)], &[(0, 1.0)]], DType::F64);
    let p = filtered(logits(DType::F64), 3);
    let fed = guide(p.clone(), &y, &[0.5, 0.5], GuidanceForm::Mix);
    let heaviest = p.to_rows(1);
    for (row, top) in fed.to_rows(9).iter().zip(heaviest) {
        assert_eq!(row.len(), 3);
        assert!((row[0].1 - (0.5 + 0.5 * top[0].1)).abs() < 1e-15);
    }
}

#[test]
fn clamp_leaves_a_model_that_gives_the_truth_enough() {
    let y = truth(&[&[(4, 0.6), (2, 0.4)], &[(0, 1.0), (5, 0.0)]], DType::F64);
    for top_k in [0, 4] {
        let p = filtered(logits(DType::F64), top_k);
        let fed = guide(p.clone(), &y, &[0.3, 0.2], GuidanceForm::Clamp);
        assert_eq!(full(&fed, VOCAB), full(&p, VOCAB));
    }
}

#[test]
fn clamp_of_one_token_has_the_closed_form() {
    let y = truth(&[&[(1, 1.0)], &[(0, 1.0)]], DType::F64);
    for top_k in [0, 4] {
        let p = filtered(logits(DType::F64), top_k);
        let share = [0.35, 0.8];
        let fed = full(&guide(p.clone(), &y, &share, GuidanceForm::Clamp), VOCAB);
        let (p, y) = (full(&p, VOCAB), full(&y, VOCAB));
        for (row, share) in share.iter().enumerate() {
            let at = row * VOCAB..(row + 1) * VOCAB;
            let p_y: f64 = p[at.clone()].iter().zip(&y[at.clone()]).map(|(p, y)| p * y).sum();
            let l = f64::max(0.0, (share - p_y) / (1.0 - p_y));
            assert!(l > 0.1);
            for i in at {
                assert!((fed[i] - ((1.0 - l) * p[i] + l * y[i])).abs() < 1e-15);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..Default::default() })]

    #[test]
    fn clamp_takes_the_smallest_share_that_serves_every_token(
        z in prop::collection::vec(-3.0..3.0f64, VOCAB),
        y in prop::collection::vec(0.01..1.0f64, 3),
        a in 0.01..0.99f64,
        top_k in prop::sample::select(vec![0usize, 4]),
    ) {
        let sum: f64 = y.iter().sum();
        // Token 0 in two entries, a padding entry, and tokens 3, 4 and 5 without truth.
        let half = 0.5 * y[0] / sum;
        let y = [(0, half), (1, y[1] / sum), (1, 0.0), (0, half), (2, y[2] / sum)];
        let y = truth(&[&y], DType::F64);
        let p = filtered(float_tensor(z, [1, VOCAB], &Device::flex(), DType::F64), top_k);
        let fed = full(&guide(p.clone(), &y, &[a], GuidanceForm::Clamp), VOCAB);
        let (p, y) = (full(&p, VOCAB), full(&y, VOCAB));
        // l can be read off any token: (1 - l) p + l y, here the one that moved most.
        let moved = (0..VOCAB).max_by(|&i, &j| (y[i] - p[i]).abs().total_cmp(&(y[j] - p[j]).abs()));
        let i = moved.expect("the vocabulary is not empty");
        let l = (fed[i] - p[i]) / (y[i] - p[i]);
        let serves = |l: f64, slack: f64| {
            (0..VOCAB).all(|i| (1.0 - l) * p[i] + l * y[i] >= a * y[i] - slack)
        };
        prop_assert!((-1e-12..=1.0).contains(&l), "l = {l}");
        prop_assert!(serves(l, 1e-13), "q is under a y: {fed:?}");
        prop_assert!(l < 1e-12 || !serves(l - 1e-6, 0.0), "a smaller l than {l} serves too");
        prop_assert!((fed.iter().sum::<f64>() - 1.0).abs() < 1e-12);
    }
}

#[test]
fn certainty_of_the_truth_gives_no_nan_in_value_or_gradient() {
    let certain = [60.0, 0.0, -60.0, f64::NEG_INFINITY, 1.0, 0.0];
    let y = truth(&[&[(0, 1.0)], &[(0, 1.0)], &[(0, 1.0)]], DType::F32);
    for top_k in [0, 4] {
        for form in FORMS {
            let share =
                if form == GuidanceForm::Coin { [1.0, 0.0, 1.0] } else { [1.0, 0.9999999, 0.5] };
            let device = Device::flex().autodiff();
            let z = float_tensor(certain.repeat(3), [3, VOCAB], &device, DType::F32);
            let z = z.require_grad();
            let embedding = Tensor::ones([VOCAB, 2], (&device, DType::F32));
            let fed = guide(filtered(z.clone(), top_k), &y, &share, form);
            let rows = full(&fed, VOCAB);
            assert_eq!(&rows[..VOCAB], [1.0, 0.0, 0.0, 0.0, 0.0, 0.0], "{form:?}");
            assert!(rows.iter().all(|w| w.is_finite()));
            let grads = loss_of(fed.mix(embedding)).backward();
            let grad = host_values(z.grad(&grads).expect("tracked"));
            assert!(grad.iter().all(|g| g.is_finite()), "{form:?}, top_k {top_k}: {grad:?}");
        }
    }
}

#[test]
fn gradients_are_those_of_finite_differences() {
    let embedding: Vec<f64> = (0..VOCAB * 3).map(|i| (0.7 * i as f64).cos()).collect();
    // The second row's clamp is free: p is enough.
    let soft = truth(&[&[(3, 0.6), (1, 0.4)], &[(0, 1.0), (0, 0.0)]], DType::F64);
    for form in [GuidanceForm::Mix, GuidanceForm::Clamp] {
        for top_k in [0, 4] {
            let fed = |z, e| guide(filtered(z, top_k), &soft, &[0.7, 0.2], form).mix(e);
            assert_gradient(&LOGITS, [2, VOCAB], |z| loss_of(fed(z, leaf(&embedding, [VOCAB, 3]))));
            assert_gradient(&embedding, [VOCAB, 3], |e| loss_of(fed(leaf(&LOGITS, [2, VOCAB]), e)));
        }
    }
}

#[test]
fn the_share_of_a_mix_is_a_constant_of_the_gradient() {
    let embedding = leaf(&[0.3, -1.0, 0.5, 2.0, -0.2, 0.9], [VOCAB, 1]);
    let y = truth(&[&[(3, 1.0)], &[(0, 1.0)]], DType::F64);
    let at = |share: [f64; 2]| {
        gradient(&LOGITS, [2, VOCAB], |z| {
            guide(filtered(z, 0), &y, &share, GuidanceForm::Mix).mix(embedding.clone()).sum()
        })
    };
    let (free, guided) = (at([0.0, 0.0]), at([0.25, 1.0]));
    for i in 0..VOCAB {
        assert!((guided[i] - 0.75 * free[i]).abs() < 1e-14);
        assert_eq!(guided[VOCAB + i], 0.0);
    }
}

#[test]
fn clamp_sends_no_gradient_to_the_logit_of_the_token_it_lifts() {
    let y = truth(&[&[(1, 1.0)], &[(4, 1.0)]], DType::F64);
    let embedding = leaf(&[0.3, -1.0, 0.5, 2.0, -0.2, 0.9], [VOCAB, 1]);
    let grad = gradient(&LOGITS, [2, VOCAB], |z| {
        loss_of(guide(filtered(z, 0), &y, &[0.6, 0.9], GuidanceForm::Clamp).mix(embedding.clone()))
    });
    assert!(grad[1].abs() < 1e-15 && grad[VOCAB + 4].abs() < 1e-15, "{grad:?}");
    assert!(grad[0].abs() > 1e-3);
}

#[test]
#[should_panic(expected = "the share of a coin is its outcome, 0 or 1: [0.5, 1.0]")]
fn a_coin_that_was_not_tossed_is_refused() {
    let y = truth(&[&[(1, 1.0)], &[(4, 1.0)]], DType::F64);
    guide(filtered(logits(DType::F64), 0), &y, &[0.5, 1.0], GuidanceForm::Coin);
}
