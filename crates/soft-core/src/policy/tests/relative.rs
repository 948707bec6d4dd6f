//! Densities relative to that of the draw.

use super::super::relative::exp_m1;
use super::*;

fn relative(draw: &Draw, scores: Tensor<2>, embedding: &Tensor<2>) -> Vec<f64> {
    host_values(draw.relative_log_prob(scores, embedding))
}

fn assert_sum(draw: &Draw, scores: &Tensor<2>, of: &str) {
    let relative = relative(draw, scores.clone(), &embedding());
    let expected = log_probs(draw, scores.clone());
    for ((relative, base), expected) in relative.iter().zip(draw.base()).zip(expected) {
        let error = (relative + base - expected).abs();
        assert!(error < 1e-11 * (1.0 + expected.abs()), "{of}: {relative} + {base}: {expected}");
    }
}

#[test]
fn a_relative_density_and_the_base_are_the_density() {
    let masked = [0.3, f64::NEG_INFINITY, 1.1, 0.2];
    let far = [200.0, -40.0, 0.0, 190.0];
    for policy in POLICIES {
        for probs in [SoftPipeline::default().probs(logits(3)), filtered(3)] {
            let draw = draw(policy, &probs);
            assert_sum(&draw, &logits(3), &format!("{policy:?} at the draw"));
            assert_sum(&draw, &moved_logits(3), &format!("{policy:?} moved"));
            assert_sum(&draw, &tensor(&far.repeat(3), 4), &format!("{policy:?} far"));
        }
        let scores = tensor(&masked.repeat(3), 4);
        let draw = draw(policy, &SoftPipeline::default().probs(scores.clone()));
        assert_sum(&draw, &scores, &format!("{policy:?} masked"));
    }
    // A token without weight at the draw, which has one now.
    let probs = Distribution::Dense(tensor(&[0.25, 0.0, 0.5, 0.25], 4));
    assert_sum(&draw(POLICIES[3], &probs), &logits(1), "a token that was away");
}

#[test]
fn under_the_logits_of_the_draw_a_relative_density_is_zero() {
    for policy in [POLICIES[3], POLICIES[4], POLICIES[6]] {
        let draw = draw(policy, &filtered(20));
        let found = relative(&draw, logits(20), &embedding());
        assert!(found.iter().all(|x| x.abs() < 1e-13), "{policy:?}: {found:?}");
    }
}

/// Two passes over the same inputs differ by the rounding of their logits. How far that moves a
/// ratio of the two is told by f64; f32 must add nothing to it.
#[test]
fn in_f32_ratios_of_nearby_policies_are_those_of_f64() {
    let (rows, vocab, width) = (8, 5000, 16);
    let key = |row| NoiseKey { row, ..keys(1)[0] };
    let noise = |row, count| normal(key(row), Place::Control, count);
    let single = |values: Vec<f64>, width: usize| {
        let shape = [values.len() / width, width];
        float_tensor(values, shape, &Device::flex(), DType::F32)
    };
    let logits: Vec<f64> = noise(0, rows * vocab).iter().map(|x| 2.0 * x).collect();
    let pass = |row| {
        let moved = logits.iter().zip(noise(row, rows * vocab)).map(|(z, n)| z + 1e-6 * n);
        single(moved.collect(), vocab)
    };
    let embedding = single(noise(3, vocab * width), width);
    let few = PipelineConfig { top_k: 300, ..PipelineConfig::default() };
    for policy in POLICIES {
        for config in [PipelineConfig::default(), few.clone()] {
            let probs = SoftPipeline::new(config).expect("valid").probs(pass(4));
            let draw = policy.sample(&probs, &embedding, &keys(rows));
            let of = |row| relative(&draw, pass(row), &embedding);
            let in_f64 = |row| {
                let embedding = embedding.clone().cast(DType::F64);
                host_values(draw.log_prob(pass(row).cast(DType::F64), &embedding))
            };
            let (new, old, new_in_f64, old_in_f64) = (of(1), of(2), in_f64(1), in_f64(2));
            let mut seen: f64 = 0.0;
            for row in 0..rows {
                let expected = new_in_f64[row] - old_in_f64[row];
                let error = ((new[row] - old[row]) - expected).abs();
                seen = seen.max(expected.abs());
                assert!(error < 1e-5, "{policy:?}: wrong by {error} of {expected}");
            }
            assert!(seen > 1e-8, "{policy:?}: the two passes are the same");
        }
    }
}

#[test]
fn exponentials_less_one_are_exact_near_zero_and_have_the_exponential_as_gradient() {
    let values = [-1e3, -3.0, -0.26, -0.25, -0.1, -1e-9, 0.0, 1e-12, 3e-5, 0.2, 0.25, 0.3, 20.0];
    for (dtype, rounding) in [(DType::F64, f64::EPSILON), (DType::F32, f64::from(f32::EPSILON))] {
        let x = float_tensor(values.to_vec(), [1, values.len()], &Device::flex(), dtype);
        for (x, found) in host_values(x.clone()).iter().zip(host_values(exp_m1(x))) {
            let expected = x.exp_m1();
            assert!((found - expected).abs() <= 8.0 * rounding * expected.abs(), "{x}: {found}");
        }
    }
    let found = gradient(&values, [1, values.len()], |x| exp_m1(x).sum());
    for (x, found) in values.iter().zip(found) {
        assert!((found - x.exp()).abs() <= 1e-15 * x.exp(), "{x}: {found}");
    }
}
