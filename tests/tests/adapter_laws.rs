//! What low-rank branches, DoRA, prompts and their drop-out must keep, in f64 where numbers decide.

use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::activation::softmax;
use burn::tensor::{DType, Device, Tensor};
use soft_core::{GuidanceForm, PipelineConfig, SoftPipeline, float_tensor, host_values};
use soft_model::{
    Family, GenerateOptions, LowRankSpec, Manner, Mode, Transformer, generate, replay,
};
use soft_tests::nudge::{Nudge, gradients_by_parameter};
use soft_tests::steps;
use soft_tests::{MoveTrained, ragged_batch, tiny_model};
use soft_train::batch::Batch;
use soft_train::objective::Normalize;
use soft_train::rollout::{Differentiated, Parallel, Rollout, Sequential, StepContext};

/// The most soft inputs that a row of [`ragged_batch`] feeds.
const SOFT: usize = 3;

fn base(dtype: DType) -> Transformer {
    tiny_model(Family::Llama, &Device::flex().autodiff(), dtype)
}

fn spec() -> LowRankSpec {
    let targets = ["q_proj", r"model\.layers\.1\.mlp\..*"].map(str::to_owned).to_vec();
    LowRankSpec { rank: 2, alpha: 4.0, targets, ..LowRankSpec::default() }
}

fn trained(spec: &LowRankSpec) -> Transformer {
    base(DType::F64).with_branches(spec, 5).expect("valid").map(&mut MoveTrained)
}

fn context(dropout: f64, guidance: f64) -> StepContext {
    StepContext {
        pipeline: SoftPipeline::new(PipelineConfig::default()).expect("defaults"),
        form: GuidanceForm::Mix,
        guidance,
        seed: 3,
        step: 11,
        dropout,
        ..StepContext::default()
    }
}

fn run(
    rollout: &dyn Rollout,
    model: &Transformer,
    batch: &Batch,
    context: &StepContext,
) -> Differentiated {
    steps::differentiate(rollout, model, batch, context, Normalize::Token)
}

fn assert_same(model: &Transformer, a: &Differentiated, b: &Differentiated) {
    let (ga, gb) =
        (gradients_by_parameter(model, &a.gradients), gradients_by_parameter(model, &b.gradients));
    assert_eq!(ga.len(), gb.len());
    assert!((a.loss - b.loss).abs() < 1e-9, "{} {}", a.loss, b.loss);
    for ((id, a), (other, b)) in ga.iter().zip(&gb) {
        assert_eq!(id, other);
        let worst = a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(worst < 1e-9, "gradients differ by {worst:e}");
    }
}

/// Every way to add something that has drop-out, a norm or positions of its own.
fn adapted() -> Vec<(&'static str, Transformer)> {
    let dropout = 0.3;
    vec![
        ("low rank", trained(&LowRankSpec { dropout, ..spec() })),
        ("dora", trained(&LowRankSpec { dropout, rslora: true, dora: true, ..spec() })),
        ("prompt", base(DType::F64).with_prompt(3, 5).expect("valid")),
        (
            "dora and a prompt",
            trained(&LowRankSpec { dropout, dora: true, ..spec() })
                .with_prompt(3, 5)
                .expect("valid"),
        ),
    ]
}

#[test]
fn every_rollout_sees_the_same_branches_drop_out_and_prompt() {
    let batch = ragged_batch();
    for (name, model) in adapted() {
        // With and without drop-out of the model's own sites beside that of the branches.
        for context in [context(0.0, 0.4), context(0.2, 0.4)] {
            let whole = run(&Sequential::UNROLLED, &model, &batch, &context);
            for segment in [1, 2] {
                let parts = Sequential { segment, truncate: 0 };
                assert_same(&model, &whole, &run(&parts, &model, &batch, &context));
            }
            let passes = Parallel { passes: SOFT + 1, grad_passes: 0 };
            assert_same(&model, &whole, &run(&passes, &model, &batch, &context));
            let still = model.clone().without_branch_dropout();
            let still = run(&Sequential::UNROLLED, &still, &batch, &context).loss;
            assert_eq!((still - whole.loss).abs() > 1e-6, name != "prompt", "{name}");
        }
    }
}

#[test]
fn only_the_additions_are_trained() {
    let context = context(0.0, 0.4);
    // A and B of q_proj in two layers and of three matrices in one; DoRA has a magnitude each.
    for ((name, model), trained) in adapted().into_iter().zip([10, 15, 1, 16]) {
        let found = run(&Parallel::TEACHER, &model, &ragged_batch(), &context);
        assert_eq!(found.gradients.len(), trained, "{name}");
        let all = gradients_by_parameter(&model, &found.gradients);
        assert!(all.iter().all(|(_, g)| g.iter().any(|g| g.abs() > 1e-9)), "{name}");
    }
}

/// Compares gradients with central differences of `loss`, at the steepest entry of each parameter
/// and one in the middle.
fn assert_finite_differences(
    model: &Transformer,
    gradients: Vec<(ParamId, Vec<f64>)>,
    loss: &dyn Fn(&Transformer) -> f64,
) {
    assert!(!gradients.is_empty());
    for (id, gradient) in gradients {
        let steepest = (0..gradient.len())
            .max_by(|&a, &b| gradient[a].abs().total_cmp(&gradient[b].abs()))
            .expect("parameters are not empty");
        for entry in [steepest, gradient.len() / 2] {
            let at = |delta| loss(&model.clone().map(&mut Nudge { id, entry, delta }));
            let numeric = (at(1e-5) - at(-1e-5)) / 2e-5;
            let exact = gradient[entry];
            let scale = exact.abs().max(1e-2);
            assert!((numeric - exact).abs() < 1e-5 * scale, "{numeric} against {exact}");
        }
    }
}

#[test]
fn gradients_of_low_rank_branches_and_prompts_are_finite_differences() {
    let (batch, context) = (ragged_batch(), context(0.0, 0.4));
    let model = trained(&LowRankSpec { dropout: 0.3, rslora: true, ..spec() });
    let model = model.with_prompt(2, 5).expect("valid");
    let rollout = Sequential { segment: 2, truncate: 0 };
    let found = run(&rollout, &model, &batch, &context);
    let loss = |model: &Transformer| run(&rollout, model, &batch, &context).loss;
    assert_finite_differences(&model, gradients_by_parameter(&model, &found.gradients), &loss);
}

/// DoRA's norm is a constant of the gradient: a cache keeps the norms that the matrices had when
/// it was made, so a nudged model is run in the cache of the one that was not nudged.
#[test]
fn gradients_of_dora_are_finite_differences_at_constant_norms() {
    let model = trained(&LowRankSpec { dora: true, ..spec() });
    let ids = [1, 5, 6, 7, 8];
    let cache = model.new_cache(1);
    let loss = |model: &Transformer| {
        let (embeds, real) = (model.embed(&ids, 1), vec![vec![true; ids.len()]]);
        let hidden = model.forward(embeds, &real, &mut cache.clone(), None);
        let logits = model.output_head().logits(hidden);
        let dims = logits.dims();
        let weights = (0..dims[0] * dims[1]).map(|i| (0.3 * i as f64).cos()).collect();
        (logits.clone() * float_tensor(weights, dims, &logits.device(), logits.dtype())).sum()
    };
    let found = GradientsParams::from_grads(loss(&model).backward(), &model);
    let number = |model: &Transformer| host_values(loss(model).detach())[0];
    assert_finite_differences(&model, gradients_by_parameter(&model, &found), &number);
}

#[test]
fn a_fresh_branch_of_any_kind_changes_nothing() {
    let base = base(DType::F32);
    let logits =
        |model: &Transformer| host_values(model.logits(model.embed(&[1, 2, 3], 1)).inner());
    for (rslora, dora) in [(false, false), (true, false), (false, true), (true, true)] {
        let targets = vec!["all-linear".to_owned()];
        let spec = LowRankSpec { rslora, dora, targets, dropout: 0.5, ..spec() };
        let mut model = base.clone().with_branches(&spec, 5).expect("valid");
        assert_eq!(logits(&model), logits(&base), "rslora {rslora}, dora {dora}");
        model = model.map(&mut MoveTrained);
        assert_ne!(logits(&model), logits(&base));
        model.set_low_rank(false);
        assert_eq!(logits(&model), logits(&base));
    }
}

/// The scale is `alpha / rank`, with rsLoRA `alpha / sqrt(rank)`.
#[test]
fn scales_follow_their_definitions() {
    let logits =
        |model: &Transformer| host_values(model.logits(model.embed(&[1, 2, 3], 1)).inner());
    // alpha / sqrt(4) of rsLoRA is alpha / 4 of twice the alpha.
    let of = |alpha, rslora| trained(&LowRankSpec { rank: 4, alpha, rslora, ..spec() });
    assert_eq!(logits(&of(3.0, true)), logits(&of(6.0, false)));
    assert_ne!(logits(&of(3.0, true)), logits(&of(3.0, false)));
}

/// A prompt is tokens before the sequence: as embeddings of real tokens, it gives the logits that
/// those tokens give.
#[test]
fn a_fresh_prompt_is_a_run_of_tokens_before_the_sequence() {
    for family in [Family::Llama, Family::Gpt2] {
        let base = tiny_model(family, &Device::flex().autodiff(), DType::F64);
        let model = base.clone().with_prompt(3, 5).expect("valid");
        assert_eq!((model.prefix_len(), model.new_cache(2).prefix_len()), (3, 3));
        let vocab: Vec<Vec<f64>> = {
            let rows = host_values(base.embedding());
            rows.chunks(16).map(<[f64]>::to_vec).collect()
        };
        struct Find(Vec<f64>);
        impl ModuleVisitor for Find {
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
                if param.is_require_grad() {
                    self.0 = host_values(param.val());
                }
            }
        }
        let mut found = Find(Vec::new());
        model.visit(&mut found);
        let row_of = |row: &[f64]| vocab.iter().position(|v| v == row).expect("a real row") as u32;
        let mut ids: Vec<u32> = found.0.chunks(16).map(row_of).collect();
        assert_eq!(ids.len(), 3);
        let own = [1, 2, 3, 4];
        ids.extend(own);
        let (base, model) = (base.valid(), model.valid());
        let expected = host_values(base.logits(base.embed(&ids, 1)));
        let logits = host_values(model.logits(model.embed(&own, 1)));
        let worst = expected[3 * 20..].iter().zip(&logits).map(|(a, b)| (a - b).abs());
        assert!(worst.fold(0.0, f64::max) < 1e-9, "{family:?}");
    }
}

/// Generation in a ragged batch and one parallel pass over what it fed agree with every addition.
#[test]
fn a_soft_generation_with_additions_is_replayed() {
    for (name, model) in adapted() {
        let model = model.valid();
        let prompts = vec![vec![1, 5, 6], vec![2, 7, 8, 9, 3]];
        let pipeline = SoftPipeline::new(PipelineConfig::default()).expect("defaults");
        let options = GenerateOptions {
            thoughts: Manner::new(pipeline, Mode::Soft),
            max_new: 6,
            record: true,
            keep_inputs: true,
            top: 20,
            ..GenerateOptions::default()
        };
        let made = generate(&model, &prompts, &|_, _| Mode::Soft, &options, &mut |_, _, _| {})
            .expect("it runs");
        for (prompt, row) in prompts.iter().zip(&made) {
            let logits = replay(&model, prompt, &row.inputs);
            let probs = host_values(softmax(logits, 1));
            assert_eq!(row.steps.len(), 6, "{name}");
            for (i, step) in row.steps.iter().enumerate() {
                let seen = &probs[(prompt.len() - 1 + i) * 20..][..20];
                for &(id, weight) in &step.top {
                    assert!((seen[id as usize] - weight).abs() < 1e-6, "{name}, step {i}");
                }
            }
        }
    }
}
