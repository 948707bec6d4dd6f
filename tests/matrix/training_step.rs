//! One optimizer step of each rollout: gradients that are numbers, and a loss that falls.

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::{AdamWConfig, GradientsParams};
use burn::tensor::{Device, Tensor};
use soft_core::{GuidanceForm, PipelineConfig, SoftPipeline, host_values};
use soft_model::Transformer;
use soft_train::batch::Batch;
use soft_train::example::Example;
use soft_train::objective::{BatchLoss, Objective, StepTotals};
use soft_train::rollout::{Differentiated, Parallel, Rollout, Sequential, StepContext};

use crate::device;
use crate::tiny::model;

/// A prompt of two tokens, two soft positions, a closing tag and an answer.
fn batch() -> Batch {
    let mut example = Example::from_tokens(&[3, 7, 5, 8, 2, 6], 2);
    example.soft[2] = true;
    example.soft[3] = true;
    Batch::new(vec![example])
}

fn differentiate(rollout: &dyn Rollout, model: &Transformer) -> Differentiated {
    let batch = batch();
    let context = StepContext {
        pipeline: SoftPipeline::new(PipelineConfig::default()).expect("the defaults"),
        form: GuidanceForm::Mix,
        guidance: 0.25,
        seed: 9,
        step: 0,
        dropout: 0.0,
        ..StepContext::default()
    };
    let loss = BatchLoss {
        batch: &batch,
        objective: Objective { entropy_beta: 0.1, ..Objective::default() },
        totals: StepTotals::of([&batch]),
        temperature: 1.0,
        other: None,
    };
    rollout.differentiate(model, &loss, &context)
}

/// Loss and every gradient of a fresh model, in the order of its parameters.
pub(crate) fn loss_and_gradients(rollout: &dyn Rollout, device: &Device) -> (f64, Vec<f64>) {
    let model = model(&device.clone().autodiff());
    let step = differentiate(rollout, &model);
    (step.loss, values_of(&model, &step.gradients))
}

fn values_of(model: &Transformer, gradients: &GradientsParams) -> Vec<f64> {
    struct Gather<'a> {
        gradients: &'a GradientsParams,
        values: Vec<f64>,
    }
    impl ModuleVisitor for Gather<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let gradient = self.gradients.get::<D>(param.id);
            self.values.extend(host_values(gradient.expect("every parameter is trained")));
        }
    }
    let mut gather = Gather { gradients, values: Vec::new() };
    model.visit(&mut gather);
    gather.values
}

fn a_step_lowers_the_loss(rollout: &dyn Rollout) {
    let model = model(&device().autodiff());
    let before = differentiate(rollout, &model);
    let gradients = values_of(&model, &before.gradients);
    assert!(gradients.iter().all(|g| g.is_finite()), "{rollout:?}");
    assert!(gradients.iter().any(|g| g.abs() > 1e-3), "{rollout:?}: no gradient arrived");
    let model = AdamWConfig::new().init().step(0.01, model, before.gradients);
    let after = differentiate(rollout, &model);
    assert!(after.loss < before.loss, "{rollout:?}: {} to {}", before.loss, after.loss);
}

#[test]
fn a_teacher_step_lowers_the_loss() {
    a_step_lowers_the_loss(&Parallel::TEACHER);
}

#[test]
fn a_sequential_step_lowers_the_loss() {
    a_step_lowers_the_loss(&Sequential { segment: 1, truncate: 0 });
}

#[test]
fn a_parallel_step_lowers_the_loss() {
    a_step_lowers_the_loss(&Parallel { passes: 2, grad_passes: 0 });
}
