//! Passes in bf16 are those in f32 within the rounding of bf16, and what is trained stays f32.

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{DType, FloatDType, Tensor};
use safetensors::{Dtype, SafeTensors};
use soft_core::GuidanceForm;
use soft_model::{Family, Transformer};
use soft_tests::bench::{flat_gradients, relative_error};
use soft_tests::runs::{Runs, assert_same_outcome, checkpoint, read, series};
use soft_tests::steps::{adapted, differentiate, everything, many_lengths, three_layers};
use soft_train::objective::Normalize;
use soft_train::rollout::{Differentiated, Parallel, Rollout, Sequential, StepContext};
use soft_train::run::Resume;

/// Half the distance from 1 to the next number of bf16, which has 8 significant bits.
const ROUNDING: f64 = 1.0 / 256.0;

fn has_bf16() -> bool {
    let has = soft_tests::device().supports_dtype(FloatDType::BF16);
    if !has {
        eprintln!("SKIPPED: the device does not compute in bf16");
    }
    has
}

/// Without Gumbel noise: where two draws are close, rounding chooses between tokens.
fn smooth() -> StepContext {
    let pipeline = StepContext::default().pipeline;
    StepContext { pipeline, ..everything(GuidanceForm::Mix) }
}

/// Ids of the parameters, and whether each is trained.
fn parameters(model: &Transformer) -> Vec<(u64, bool)> {
    struct Collect(Vec<(u64, bool)>);
    impl ModuleVisitor for Collect {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0.push((param.id.val(), param.val().is_require_grad()));
        }
    }
    let mut collect = Collect(Vec::new());
    model.visit(&mut collect);
    collect.0
}

#[test]
fn a_copy_in_another_precision_has_the_same_parameters_and_leaves_the_model_alone() {
    for (name, model) in adapted(&three_layers(Family::Llama)) {
        let copy = model.cast(DType::F32);
        assert_eq!(parameters(&model), parameters(&copy), "{name}");
        assert_eq!((copy.dtype(), model.dtype()), (DType::F32, DType::F64));
        let step = |model: &Transformer| {
            let batch = many_lengths();
            differentiate(&Parallel::TEACHER, model, &batch, &smooth(), Normalize::Token)
        };
        let (a, b) = (step(&model), step(&copy));
        let apart = relative_error(
            &flat_gradients(&model, &a.gradients),
            &flat_gradients(&model, &b.gradients),
        );
        assert!(apart < 1e-4, "{name}: {apart:e}");
    }
}

/// Draws over which rounding is averaged.
const SEEDS: u64 = 6;

#[test]
fn a_step_in_bf16_is_the_step_in_f32_within_its_rounding() {
    if !has_bf16() {
        return;
    }
    let rollouts: [&dyn Rollout; 4] = [
        &Parallel::TEACHER,
        &Parallel { passes: 2, grad_passes: 0 },
        &Sequential { segment: 2, truncate: 0 },
        &Sequential::UNROLLED,
    ];
    let mut models = adapted(&three_layers(Family::Llama));
    models.push(("gpt2", three_layers(Family::Gpt2)));
    models.push(("llama", three_layers(Family::Llama)));
    for (name, model) in models {
        let (model, low) = (model.cast(DType::F32), model.cast(DType::BF16));
        for rollout in rollouts {
            for recompute in [0, 2] {
                let what = format!("{name}, {rollout:?}, recompute {recompute}");
                // Over several draws: what rounding does to one of them is a matter of chance.
                let [mut weights, mut all] = [0.0; 2];
                for seed in 1..=SEEDS {
                    let context = StepContext { recompute, seed, ..smooth() };
                    let step = |model: &Transformer| {
                        differentiate(rollout, model, &many_lengths(), &context, Normalize::Token)
                    };
                    let (exact, rounded) = (step(&model), step(&low));
                    let loss = (exact.loss - rounded.loss).abs() / exact.loss;
                    assert!(loss > 0.0 && loss < 4.0 * ROUNDING, "{what}: loss {loss:e}");
                    // What rounding the weights alone does: sharp models make more of it.
                    let coarse = step(&low.cast(DType::F32));
                    let flat = |step: &Differentiated| flat_gradients(&model, &step.gradients);
                    let error = |other| relative_error(&flat(&exact), &flat(other)) / SEEDS as f64;
                    weights += error(&coarse);
                    all += error(&rounded);
                }
                let bound = 4.0 * weights + 4.0 * ROUNDING;
                assert!(all > 0.0 && all < bound, "{what}: gradients {all:e}, {weights:e}");
            }
        }
    }
}

#[test]
fn a_training_in_bf16_learns_saves_f32_and_resumes_to_the_bit() {
    if !has_bf16() {
        return;
    }
    let runs = Runs::temporary();
    let settings = ["rollout.kind=parallel", "train.precision=bf16", "train.grad_accum=2"];
    let whole = runs.train("bf16", &settings).run_dir;
    let exact = runs.train("f32", &[settings[0], settings[2]]).run_dir;
    let [low, high] = [&whole, &exact].map(|run| series(run, "loss"));
    let first = (low[0] - high[0]).abs() / high[0];
    assert!(first > 0.0 && first < ROUNDING, "the first step: {first:e}");
    let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
    let (begin, end) = (mean(&low[..4]), mean(&low[16..]));
    assert!(end < 0.8 * begin, "it learns: {begin} to {end}");
    assert!((end - mean(&high[16..])).abs() < 0.05 * end, "as fast as f32: {end}");

    let bytes = read(&checkpoint(&whole, 20).join("model.safetensors"));
    let stored = SafeTensors::deserialize(&bytes).expect("safetensors");
    let mut finer = false;
    for (name, tensor) in stored.tensors() {
        assert_eq!(tensor.dtype(), Dtype::F32, "{name}");
        let entries = tensor.data().chunks_exact(4);
        finer |= entries.clone().any(|entry| entry[..2] != [0, 0]);
    }
    assert!(finer, "the saved weights are no rounded ones");

    runs.train("stopped", &[&settings[..], &["train.steps=7"]].concat());
    let resumed = runs.resumed("stopped", &settings, Resume::Auto).run_dir;
    assert_same_outcome(&whole, &resumed, 20, "bf16");
}
