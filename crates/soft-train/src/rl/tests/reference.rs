//! The divergence from the model that training began with.

use super::*;

fn with_reference(
    model: &Transformer,
    reference: &Transformer,
    experience: &Experience,
    loss: &PolicyLoss,
) -> Update {
    let reference = reference.valid();
    differentiate(Actors { model, value: None, reference: Some(&reference) }, experience, loss)
}

#[test]
fn a_model_does_not_diverge_from_itself_and_has_no_gradient_there() {
    let model = model(&task(), 3);
    for &policy in POLICIES {
        for kl in [RlKl::Exact, RlKl::K3] {
            let mut drawn = drawn(&drawing(policy, Arm::Soft), &model, &[0, 1], 0);
            let rows = drawn[0].rows();
            advantages_of(&mut drawn[0], vec![0.0; rows]);
            let wanted = PolicyLoss { beta: 1.0, kl, ..loss(&drawn) };
            let update = with_reference(&model, &model, &drawn[0], &wanted);
            assert!(update.kl.abs() < 1e-9 && update.loss.abs() < 1e-9, "{policy} {kl}");
            let largest = flat(&model, update).into_iter().map(f64::abs).fold(0.0, f64::max);
            assert!(largest < 1e-9, "{policy} {kl}: {largest}");
        }
    }
}

/// Its weight in the loss is `beta`, and it has the gradient of finite differences.
#[test]
fn the_divergence_has_the_gradient_of_finite_differences() {
    let (old, other) = (model(&task(), 3), model(&task(), 4));
    for &policy in POLICIES {
        for kl in [RlKl::Exact, RlKl::K3] {
            let near = blended(&old, &other, 0.05);
            let mut drawn = drawn(&drawing(policy, Arm::Soft), &near, &[0, 1], 0);
            let rows = drawn[0].rows();
            advantages_of(&mut drawn[0], vec![0.0; rows]);
            let wanted = PolicyLoss { beta: 0.7, kl, ..loss(&drawn) };
            let found = with_reference(&near, &old, &drawn[0], &wanted);
            assert!(found.kl > 0.0, "{policy} {kl}");
            assert!((found.loss - 0.7 * found.kl).abs() < 1e-9 * found.kl.max(1.0));
            let direction = flat(&near, found);
            let length = direction.iter().map(|g| g * g).sum::<f64>().sqrt();
            let at = |step: f64| {
                let moved = shifted(&near, &direction, step / length);
                with_reference(&moved, &old, &drawn[0], &wanted).loss
            };
            let slope = (at(1e-6) - at(-1e-6)) / 2e-6;
            assert!((slope - length).abs() < 1e-4 * length, "{policy} {kl}: {slope} {length}");
        }
    }
}

/// What the draws say (k3) is the closed form in the mean, over draws of the model itself.
#[test]
fn the_mean_of_what_draws_say_is_the_closed_form() {
    let (old, other) = (model(&task(), 3), model(&task(), 4));
    let near = blended(&old, &other, 1.0);
    for policy in [RlPolicy::Token, RlPolicy::Samples, RlPolicy::Gaussian] {
        let mut drawing = drawing(policy, Arm::Soft);
        drawing.rl.group = 2000;
        let drawn = drawn(&drawing, &near, &[1], 0);
        let of = |kl| with_reference(&near, &old, &drawn[0], &PolicyLoss { kl, ..loss(&drawn) }).kl;
        let (exact, drawn) = (of(RlKl::Exact), of(RlKl::K3));
        assert!(exact > 1e-3, "{policy}: {exact} is too little to see");
        assert!((exact - drawn).abs() < 0.15 * exact, "{policy}: {exact} {drawn}");
    }
}
