//! Learnable filters in the rollouts: gradients through the whole recurrence, in f64.

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{DType, Device, Tensor};
use soft_core::{
    Estimator, GuidanceForm, LearnableConfig, LearnableFilters, LearnedValues, PipelineConfig,
    SoftPipeline, Transform, host_values,
};
use soft_model::{Family, Transformer};
use soft_tests::{ragged_batch, tiny_model};
use soft_train::objective::{BatchLoss, Normalize, Objective, StepTotals};
use soft_train::rollout::{Differentiated, Parallel, Rollout, Sequential, StepContext};

const LEARNABLE: LearnableConfig = LearnableConfig {
    temperature: true,
    top_k: true,
    min_p: true,
    least_temperature: 0.2,
    least_top_k: 1.0,
    most_min_p: 0.8,
    top_k_softness: 0.9,
    min_p_softness: 0.8,
};
const THETAS: [f64; 3] = [0.3, 1.4, -2.5];
/// The most soft inputs that a row of [`ragged_batch`] feeds.
const SOFT: usize = 3;

fn filters(thetas: [f64; 3], device: &Device) -> LearnableFilters {
    let [temperature, top_k, min_p] = thetas.map(Some);
    LEARNABLE.with_thetas(&LearnedValues { temperature, top_k, min_p }, device, DType::F64)
}

fn pipeline(order: &[Transform]) -> SoftPipeline {
    let config = PipelineConfig { order: order.to_vec(), ..Default::default() };
    SoftPipeline::new(config).expect("valid settings")
}

const USUAL: [Transform; 3] = [Transform::Temperature, Transform::TopK, Transform::MinP];
const FILTERS_FIRST: [Transform; 3] = [Transform::MinP, Transform::TopK, Transform::Temperature];

fn context(thetas: [f64; 3], order: &[Transform]) -> StepContext {
    let filters = filters(thetas, &Device::flex().autodiff());
    StepContext {
        pipeline: pipeline(order).with_learnable(filters),
        form: GuidanceForm::Mix,
        guidance: 0.3,
        seed: 3,
        step: 11,
        dropout: 0.2,
        ..StepContext::default()
    }
}

fn model() -> Transformer {
    tiny_model(Family::Llama, &Device::flex().autodiff(), DType::F64)
}

/// The temperature of the entropy term is that of `held`: it is constant there.
fn run(
    model: &Transformer,
    rollout: &dyn Rollout,
    context: &StepContext,
    held: &StepContext,
) -> Differentiated {
    let batch = ragged_batch();
    let temperature = held.pipeline.config().temperature;
    let objective = Objective { entropy_beta: 0.3, normalize: Normalize::Token };
    let totals = StepTotals::of([&batch]);
    let loss = BatchLoss { batch: &batch, objective, totals, temperature, other: None };
    rollout.differentiate(model, &loss, context)
}

/// The gradients of the parameters of a module, in order.
fn gradients_of<M: Module>(module: &M, gradients: &GradientsParams) -> Vec<f64> {
    struct Collect<'a>(&'a GradientsParams, Vec<f64>);
    impl ModuleVisitor for Collect<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if let Some(gradient) = self.0.get::<D>(param.id) {
                self.1.extend(host_values(gradient));
            }
        }
    }
    let mut collect = Collect(gradients, Vec::new());
    module.visit(&mut collect);
    collect.1
}

fn learned(context: &StepContext, found: &Differentiated) -> Vec<f64> {
    gradients_of(context.pipeline.learnable().expect("learnable"), &found.gradients)
}

fn assert_same(a: &[f64], b: &[f64], tolerance: f64, what: &str) {
    assert_eq!(a.len(), b.len(), "{what}");
    for (a, b) in a.iter().zip(b) {
        assert!((a - b).abs() < tolerance * b.abs().max(1e-2), "{what}: {a} against {b}");
    }
}

fn assert_finite_differences(rollout: &dyn Rollout, order: &[Transform]) {
    let model = model();
    let held = context(THETAS, order);
    let found = learned(&held, &run(&model, rollout, &held, &held));
    assert_eq!(found.len(), 3, "every parameter has a gradient");
    for (i, &found) in found.iter().enumerate() {
        let at = |by: f64| {
            let mut thetas = THETAS;
            thetas[i] += by;
            run(&model, rollout, &context(thetas, order), &held).loss
        };
        let expected = (at(1e-5) - at(-1e-5)) / 2e-5;
        assert!((found - expected).abs() < 1e-7, "{i}: {found}, expected {expected}");
        assert!(found.abs() > 1e-4, "nothing to test: {i} {found}");
    }
}

#[test]
fn gradients_through_the_segmented_recurrence_are_finite_differences() {
    for order in [USUAL, FILTERS_FIRST] {
        assert_finite_differences(&Sequential { segment: 2, truncate: 0 }, &order);
    }
}

#[test]
fn gradients_through_parallel_passes_are_finite_differences() {
    assert_finite_differences(&Parallel { passes: 2, grad_passes: 0 }, &USUAL);
}

#[test]
fn segments_passes_and_one_graph_give_the_same_gradients() {
    let model = model();
    let context = context(THETAS, &USUAL);
    let whole = run(&model, &Sequential::UNROLLED, &context, &context);
    for segment in [1, 2, 3] {
        let parts = run(&model, &Sequential { segment, truncate: 0 }, &context, &context);
        let what = format!("segments of {segment}");
        assert_same(&learned(&context, &parts), &learned(&context, &whole), 1e-9, &what);
        let [a, b] = [&parts, &whole].map(|found| gradients_of(&model, &found.gradients));
        assert_same(&a, &b, 1e-9, &what);
    }
    let passes = run(&model, &Parallel { passes: SOFT + 1, grad_passes: 0 }, &context, &context);
    assert_same(&learned(&context, &passes), &learned(&context, &whole), 1e-9, "passes");
    let chunked = StepContext { loss_chunk: 3, ..context.clone() };
    let chunks = run(&model, &Parallel { passes: SOFT + 1, grad_passes: 0 }, &chunked, &context);
    assert_same(&learned(&context, &chunks), &learned(&context, &whole), 1e-9, "chunks");
}

/// A cut takes the way through later inputs away; a cut after every position takes all.
#[test]
fn truncation_cuts_the_gradient_of_what_is_learned() {
    let model = model();
    let context = context(THETAS, &USUAL);
    let whole = learned(&context, &run(&model, &Sequential::UNROLLED, &context, &context));
    let cut = Sequential { segment: 16, truncate: 2 };
    let cut = learned(&context, &run(&model, &cut, &context, &context));
    assert_eq!(cut.len(), 3);
    assert!(whole.iter().zip(&cut).all(|(a, b)| (a - b).abs() > 1e-6), "{whole:?} {cut:?}");
    let every = Sequential { segment: 16, truncate: 1 };
    let none = learned(&context, &run(&model, &every, &context, &context));
    assert!(none.iter().all(|&g| g == 0.0), "no mixture is reached: {none:?}");
}

#[test]
fn teacher_forcing_gives_no_gradient_and_estimators_that_draw_give_one() {
    let model = model();
    let context = context(THETAS, &USUAL);
    let teacher = run(&model, &Parallel::TEACHER, &context, &context);
    assert!(learned(&context, &teacher).is_empty(), "the truth is fed");
    let temperature = 0.7;
    for estimator in [
        Estimator::Gumbel { temperature },
        Estimator::StraightThrough { temperature },
        Estimator::RaoBlackwell { temperature, samples: 2 },
    ] {
        let context = StepContext { estimator, ..context.clone() };
        let found = learned(
            &context,
            &run(&model, &Sequential { segment: 2, truncate: 0 }, &context, &context),
        );
        assert!(found.iter().filter(|g| g.abs() > 1e-6).count() == 3, "{estimator:?}: {found:?}");
    }
}

#[test]
fn without_softness_the_loss_is_that_of_the_hard_filters() {
    let model = model();
    let sharp = LearnableConfig { top_k_softness: 1e-12, min_p_softness: 1e-12, ..LEARNABLE };
    let config = PipelineConfig { temperature: 0.8, top_k: 6, min_p: 0.02, ..Default::default() };
    let device = Device::flex().autodiff();
    let filters = sharp.init(&config, &device, DType::F64).expect("valid settings");
    let hard = SoftPipeline::new(config).expect("valid settings");
    let of = |pipeline| StepContext { pipeline, ..context(THETAS, &USUAL) };
    let (soft, hard) = (of(hard.with_learnable(filters)), of(hard));
    let rollout = Sequential { segment: 2, truncate: 0 };
    let [a, b] = [soft, hard].map(|context| run(&model, &rollout, &context, &context));
    assert!((a.loss - b.loss).abs() < 1e-9, "{} {}", a.loss, b.loss);
    let [a, b] = [a, b].map(|found| gradients_of(&model, &found.gradients));
    assert_same(&a, &b, 1e-6, "the model's gradients");
}

#[test]
fn what_hard_filters_would_move_is_looked_at_where_asked() {
    let model = model();
    let plain = context(THETAS, &USUAL);
    let rollout = Sequential { segment: 2, truncate: 0 };
    assert_eq!(run(&model, &rollout, &plain, &plain).fed.compared, 0.0);
    let looking = StepContext { locate: true, ..plain.clone() };
    let [sequential, parallel] = [
        run(&model, &rollout, &looking, &plain).fed,
        run(&model, &Parallel { passes: SOFT + 1, grad_passes: 0 }, &looking, &plain).fed,
    ];
    // 3 + 2 + 3 soft inputs.
    assert_eq!(sequential.compared, 8.0);
    assert!(sequential.gap > 0.0 && sequential.gap < sequential.compared);
    assert_eq!(parallel.compared, 8.0);
    assert!((sequential.gap - parallel.gap).abs() < 1e-9);
}
