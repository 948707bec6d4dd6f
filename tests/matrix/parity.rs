//! The device under test against flex: values and gradients within 1e-4, tokens the same.

use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Tensor};
use soft_core::{PipelineConfig, host_values};
use soft_model::Mode;
use soft_train::rollout::{Parallel, Rollout, Sequential};

use crate::generation::run;
use crate::tiny::{PROMPTS, model};
use crate::training_step::loss_and_gradients;
use crate::{assert_values_close, device, reference};

const TOLERANCE: f64 = 1e-4;

/// Logits of one pass, and the gradient of a loss through all of it for the embedding matrix.
fn pass(device: &Device) -> (Vec<f64>, Vec<f64>) {
    let model = model(&device.clone().autodiff());
    let logits = model.logits(model.embed(PROMPTS[0], 1));
    let loss: Tensor<1> = -log_softmax(logits.clone(), 1).narrow(1, 2, 1).sum();
    let gradients = loss.backward();
    let gradient = model.embedding().grad(&gradients).expect("the embedding is trained");
    (host_values(logits), host_values(gradient))
}

#[test]
fn logits_and_gradients_of_a_pass_equal_those_of_flex() {
    let (logits, gradient) = pass(&device());
    let (expected_logits, expected_gradient) = pass(&reference());
    assert!(expected_gradient.iter().any(|g| g.abs() > 100.0 * TOLERANCE), "too small to compare");
    assert_values_close("logits", &logits, &expected_logits, TOLERANCE);
    assert_values_close("gradient of E", &gradient, &expected_gradient, TOLERANCE);
}

#[test]
fn a_soft_generation_equals_that_of_flex() {
    let settings = PipelineConfig { top_k: 5, ..PipelineConfig::default() };
    let found = run(&model(&device()), Mode::Soft, settings.clone());
    let expected = run(&model(&reference()), Mode::Soft, settings);
    for (found, expected) in found.iter().zip(&expected) {
        assert_eq!(found.token_ids, expected.token_ids);
        for (found, expected) in found.steps.iter().zip(&expected.steps) {
            let weights = |top: &[(u32, f64)]| top.iter().map(|entry| entry.1).collect::<Vec<_>>();
            let entropies = [found.entropy_nats, expected.entropy_nats];
            assert_values_close("entropy", &entropies[..1], &entropies[1..], TOLERANCE);
            let (found, expected) = (weights(&found.top), weights(&expected.top));
            assert_values_close("weights", &found, &expected, TOLERANCE);
        }
    }
}

#[test]
fn loss_and_gradients_of_every_rollout_equal_those_of_flex() {
    let rollouts: [&dyn Rollout; 3] = [
        &Parallel::TEACHER,
        &Sequential { segment: 1, truncate: 0 },
        &Parallel { passes: 2, grad_passes: 0 },
    ];
    for rollout in rollouts {
        let (loss, gradients) = loss_and_gradients(rollout, &device());
        let (expected_loss, expected_gradients) = loss_and_gradients(rollout, &reference());
        let what = format!("{rollout:?}");
        assert_values_close(&what, &[loss], &[expected_loss], TOLERANCE);
        assert_values_close(&what, &gradients, &expected_gradients, TOLERANCE);
    }
}
