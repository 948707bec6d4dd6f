//! The divergence of two policies.

use super::*;

/// Another embedding than that of the draws.
fn other_embedding() -> Tensor<2> {
    embedding() * 0.7 + 0.2
}

#[test]
fn the_divergence_is_the_mean_difference_of_the_log_probabilities_of_draws() {
    let rows = 20_000;
    for policy in POLICIES {
        let draw = draw(policy, &filtered(rows));
        let own = log_probs(&draw, logits(rows));
        let other = host_values(draw.log_prob(moved_logits(rows), &other_embedding()));
        let terms: Vec<f64> = own.iter().zip(other).map(|(own, other)| own - other).collect();
        let mean = terms.iter().sum::<f64>() / rows as f64;
        let variance = terms.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / rows as f64;
        let error = (variance / rows as f64).sqrt();
        let some = draw.rows(&[0]);
        let kl = some.kl(logits(1), moved_logits(1), &embedding(), &other_embedding());
        let kl = host_values(kl)[0];
        assert!((mean - kl).abs() < 4.5 * error, "{policy:?}: {mean}, not {kl}");
        assert!(kl > 6.0 * error, "{policy:?}: {kl} is too small to tell from 0");
    }
}

#[test]
fn a_policy_has_no_divergence_from_itself_and_no_gradient_there() {
    for policy in POLICIES {
        for probs in [SoftPipeline::default().probs(logits(3)), filtered(3)] {
            let draw = draw(policy, &probs);
            let reference = Tensor::from_inner(moved_logits(3));
            let embedding = Tensor::from_inner(embedding());
            let kl = |z: Tensor<2>| draw.kl(z, reference.clone(), &embedding, &embedding);
            assert!(host_values(kl(reference.clone())).iter().all(|kl| kl.abs() < 1e-14));
            let at = host_values(moved_logits(3));
            let found = gradient(&at, [3, 4], |z| kl(z).sum());
            assert!(found.iter().all(|g| g.abs() < 1e-14), "{policy:?}: {found:?}");
        }
    }
}

#[test]
fn divergences_have_the_gradient_of_finite_differences_in_the_logits() {
    for policy in POLICIES {
        for probs in [SoftPipeline::default().probs(logits(2)), filtered(2)] {
            let draw = draw(policy, &probs);
            let weights = float_tensor(vec![1.0, -0.4], [2], &Device::flex(), DType::F64);
            let [own, other] = [embedding(), other_embedding()].map(Tensor::from_inner);
            assert_gradient(&LOGITS.repeat(2), [2, 4], |z| {
                let kl = draw.kl(z, Tensor::from_inner(moved_logits(2)), &own, &other);
                (kl * Tensor::from_inner(weights.clone())).sum()
            });
        }
    }
}

#[test]
fn of_a_gaussian_policy_the_gradient_flows_to_the_embedding_and_to_no_reference() {
    let draw = draw(Policy::Gaussian { sigma: 0.4 }, &filtered(2));
    let [z, other] = [logits(2), moved_logits(2)].map(Tensor::from_inner);
    let reference = Tensor::from_inner(other_embedding());
    assert_gradient(&EMBEDDING, [4, 2], |e| {
        draw.kl(z.clone(), other.clone(), &e, &reference).sum()
    });
    for policy in POLICIES {
        let draw = super::draw(policy, &filtered(2));
        let own = Tensor::from_inner(embedding());
        let found = gradient(&EMBEDDING, [4, 2], |e| {
            draw.kl(z.clone(), other.clone(), &own, &e).sum() + e.sum() * 0.0
        });
        assert!(found.iter().all(|&g| g == 0.0), "{policy:?}: {found:?}");
        let found = gradient(&LOGITS.repeat(2), [2, 4], |reference| {
            let kl = draw.kl(z.clone(), reference.clone(), &own, &own);
            kl.sum() + reference.sum() * 0.0
        });
        assert!(found.iter().all(|&g| g == 0.0), "{policy:?}: {found:?}");
    }
}

/// Masked tokens add nothing: the divergence is that of the logits without them.
#[test]
fn tokens_masked_in_the_logits_count_nowhere() {
    let least = f64::NEG_INFINITY;
    let (own, other) = ([0.3, least, 1.1, 0.2], [0.5, least, 0.9, -0.1]);
    let scores = tensor(&own, 4);
    let [e, reference] = [embedding(), tensor(&other, 4)].map(Tensor::from_inner);
    for policy in POLICIES {
        let draw = draw(policy, &SoftPipeline::default().probs(scores.clone()));
        let kl = |z: Tensor<2>| draw.kl(z, reference.clone(), &e, &e);
        let found = host_values(kl(Tensor::from_inner(scores.clone())))[0];
        let of_kept = super::draw(policy, &filtered(1));
        let expected = of_kept.kl(logits(1), moved_logits(1), &embedding(), &embedding());
        let expected = host_values(expected)[0];
        assert!((found - expected).abs() < 1e-12, "{policy:?}: {found}, not {expected}");
        let slope = gradient(&own, [1, 4], |z| kl(z).sum());
        let expected = gradient(&LOGITS, [1, 4], |z| {
            of_kept.kl(z, Tensor::from_inner(moved_logits(1)), &e, &e).sum()
        });
        for (found, expected) in slope.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-12, "{policy:?}: {slope:?}");
        }
    }
}
