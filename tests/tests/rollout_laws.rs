//! What the three rollouts must have in common, in f64 where numbers decide.

use std::sync::Arc;

use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::{DType, Device, Tensor};
use soft_core::{Feed, GuidanceForm, Noise, NormMatch, PipelineConfig, SoftPipeline, host_values};
use soft_model::{Family, GenerateOptions, Manner, Mode, Transformer, generate};
use soft_tests::nudge::Nudge;
use soft_tests::steps::{self, everything};
use soft_tests::{ragged_batch, tiny_model};
use soft_train::batch::Batch;
use soft_train::example::Example;
use soft_train::objective::{BatchLoss, Normalize, Objective, StepTotals};
use soft_train::rollout::{Differentiated, Parallel, Rollout, Sequential, StepContext};

fn model(family: Family, dtype: DType) -> Transformer {
    tiny_model(family, &Device::flex().autodiff(), dtype)
}

fn context(guidance: f64) -> StepContext {
    StepContext {
        pipeline: SoftPipeline::new(PipelineConfig::default()).expect("defaults"),
        form: GuidanceForm::Mix,
        guidance,
        seed: 3,
        step: 11,
        dropout: 0.0,
        ..StepContext::default()
    }
}

fn objective() -> Objective {
    Objective { entropy_beta: 0.3, normalize: Normalize::Token }
}

fn run(
    rollout: &dyn Rollout,
    model: &Transformer,
    batch: &Batch,
    context: &StepContext,
) -> Differentiated {
    steps::differentiate(rollout, model, batch, context, Normalize::Token)
}

/// All gradients as one list, in the order of the parameters; those without one are absent.
fn flat(model: &Transformer, gradients: &GradientsParams) -> Vec<f64> {
    struct Collect<'a>(&'a GradientsParams, Vec<f64>);
    impl ModuleVisitor for Collect<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if let Some(gradient) = self.0.get::<D>(param.id) {
                self.1.extend(host_values(gradient));
            }
        }
    }
    let mut collect = Collect(gradients, Vec::new());
    model.visit(&mut collect);
    collect.1
}

fn assert_same(model: &Transformer, a: &Differentiated, b: &Differentiated, tolerance: f64) {
    let (ga, gb) = (flat(model, &a.gradients), flat(model, &b.gradients));
    assert_eq!(ga.len(), gb.len(), "the same parameters have gradients");
    assert!(ga.iter().any(|g| g.abs() > 1e-6), "there is a gradient");
    let norm = |g: &[f64]| g.iter().map(|x| x * x).sum::<f64>().sqrt();
    let difference: Vec<f64> = ga.iter().zip(&gb).map(|(a, b)| a - b).collect();
    let relative = norm(&difference) / norm(&ga);
    assert!(relative < tolerance, "gradients differ by {relative:e}");
    assert!((a.loss - b.loss).abs() < tolerance * a.loss.abs().max(1.0), "{} {}", a.loss, b.loss);
    assert!((a.cross_entropy - b.cross_entropy).abs() < tolerance * a.cross_entropy.abs());
    assert!((a.entropy - b.entropy).abs() < tolerance * a.entropy.abs().max(1.0));
}

const FORMS: [GuidanceForm; 3] = [GuidanceForm::Mix, GuidanceForm::Clamp, GuidanceForm::Coin];

/// The most soft inputs that a row of [`ragged_batch`] feeds.
const SOFT: usize = 3;

#[test]
fn segments_of_any_length_equal_one_unrolled_graph_in_f32() {
    for family in [Family::Gpt2, Family::Llama] {
        let model = model(family, DType::F32);
        for form in FORMS {
            let context = everything(form);
            let whole = run(&Sequential::UNROLLED, &model, &ragged_batch(), &context);
            for segment in [0, 1, 2, 3, 4] {
                let rollout = Sequential { segment, truncate: 0 };
                let parts = run(&rollout, &model, &ragged_batch(), &context);
                assert_same(&model, &whole, &parts, 1e-5);
            }
        }
    }
}

/// Feeding of every kind, with what can stand beside it.
fn feeds() -> Vec<StepContext> {
    let dirichlet = Noise::Dirichlet { concentration: 4.0 };
    let configs = [
        PipelineConfig { norm_match: NormMatch::Rms, top_k: 7, ..Default::default() },
        PipelineConfig { feed: Feed::Inputs { beta: 0.5 }, ..Default::default() },
        PipelineConfig {
            feed: Feed::Inputs { beta: 0.5 },
            norm_match: NormMatch::L2,
            top_k: 7,
            ..Default::default()
        },
        PipelineConfig { feed: Feed::Samples { count: 3 }, ..Default::default() },
        PipelineConfig { noise: dirichlet, norm_match: NormMatch::L2, ..Default::default() },
        // As many tokens as it takes: another number at each position.
        PipelineConfig { top_p: 0.6, norm_match: NormMatch::Rms, ..Default::default() },
    ];
    let of = |config| StepContext {
        pipeline: SoftPipeline::new(config).expect("valid settings"),
        dropout: 0.2,
        ..context(0.4)
    };
    configs.into_iter().map(of).collect()
}

#[test]
fn every_way_to_feed_is_the_same_in_segments_in_passes_and_in_one_graph() {
    let model = model(Family::Llama, DType::F64);
    for context in feeds() {
        let whole = run(&Sequential::UNROLLED, &model, &ragged_batch(), &context);
        let parts = Sequential { segment: 2, truncate: 0 };
        assert_same(&model, &whole, &run(&parts, &model, &ragged_batch(), &context), 1e-9);
        let passes = Parallel { passes: SOFT + 1, grad_passes: 0 };
        assert_same(&model, &whole, &run(&passes, &model, &ragged_batch(), &context), 1e-9);
    }
}

/// One object makes what is fed, in training as in generation: the same seed, row and position see
/// the same noise, so a free-running rollout believes what a generation does.
#[test]
fn a_free_rollout_believes_what_a_generation_believes() {
    let model = model(Family::Llama, DType::F64);
    let (prompt, thoughts) = ([3u32, 7, 12, 5], 5);
    let mut example = Example::from_tokens(&[&prompt[..], &[1; 6]].concat(), 1);
    for position in prompt.len()..prompt.len() + thoughts {
        example.soft[position] = true;
    }
    let batch = Batch::new(vec![example]);
    for context in feeds() {
        let context = StepContext { guidance: 0.0, dropout: 0.0, step: 0, ..context };
        let trained = run(&Sequential { segment: 2, truncate: 0 }, &model, &batch, &context);
        let options = GenerateOptions {
            thoughts: Manner::new(context.pipeline.clone(), Mode::Soft),
            max_new: thoughts,
            seed: context.seed,
            record: true,
            keep_inputs: true,
            ..GenerateOptions::default()
        };
        let frozen = model.valid();
        let made =
            generate(&frozen, &[prompt.to_vec()], &|_, _| Mode::Soft, &options, &mut |_, _, _| {});
        let made = &made.expect("it fits")[0];
        let generated: f64 = made.steps.iter().map(|step| step.entropy_nats).sum();
        assert!((trained.entropy - generated).abs() < 1e-9, "{} {generated}", trained.entropy);
    }
}

#[test]
fn gradients_through_inputs_and_norms_are_finite_differences_in_f64() {
    for context in &feeds()[..3] {
        assert_finite_differences(&Sequential { segment: 2, truncate: 0 }, context);
    }
}

#[test]
fn truncation_changes_the_gradient_and_nothing_else() {
    let model = model(Family::Gpt2, DType::F64);
    let whole = run(&Sequential::UNROLLED, &model, &ragged_batch(), &context(0.2));
    let cut = Sequential { segment: 16, truncate: 2 };
    let cut = run(&cut, &model, &ragged_batch(), &context(0.2));
    assert!((whole.loss - cut.loss).abs() < 1e-12);
    let (a, b) = (flat(&model, &whole.gradients), flat(&model, &cut.gradients));
    assert!(a.iter().zip(&b).any(|(a, b)| (a - b).abs() > 1e-6), "something was cut");
}

/// Every parameter's id, number of entries and gradient.
fn gradients_of(model: &Transformer, gradients: &GradientsParams) -> Vec<(ParamId, Vec<f64>)> {
    struct Collect<'a>(&'a GradientsParams, Vec<(ParamId, Vec<f64>)>);
    impl ModuleVisitor for Collect<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let gradient = self.0.get::<D>(param.id).expect("every parameter has a gradient");
            self.1.push((param.id, host_values(gradient)));
        }
    }
    let mut collect = Collect(gradients, Vec::new());
    model.visit(&mut collect);
    collect.1
}

fn assert_finite_differences(rollout: &dyn Rollout, context: &StepContext) {
    let model = model(Family::Llama, DType::F64);
    let batch = ragged_batch();
    let all = run(rollout, &model, &batch, context);
    let delta = 1e-5;
    for (id, gradient) in gradients_of(&model, &all.gradients) {
        // The steepest entry of each parameter and one in the middle.
        let steepest = (0..gradient.len())
            .max_by(|&a, &b| gradient[a].abs().total_cmp(&gradient[b].abs()))
            .expect("parameters are not empty");
        for entry in [steepest, gradient.len() / 2] {
            let at = |delta| {
                let nudged = model.clone().map(&mut Nudge { id, entry, delta });
                run(rollout, &nudged, &batch, context).loss
            };
            let numeric = (at(delta) - at(-delta)) / (2.0 * delta);
            let exact = gradient[entry];
            let scale = exact.abs().max(1e-2);
            assert!((numeric - exact).abs() < 1e-5 * scale, "{numeric} against {exact}");
        }
    }
}

#[test]
fn sequential_gradients_are_finite_differences_in_f64() {
    for form in [GuidanceForm::Mix, GuidanceForm::Clamp] {
        assert_finite_differences(&Sequential { segment: 2, truncate: 0 }, &everything(form));
    }
}

#[test]
fn parallel_gradients_are_finite_differences_in_f64() {
    let rollout = Parallel { passes: 2, grad_passes: 0 };
    assert_finite_differences(&rollout, &everything(GuidanceForm::Mix));
}

#[test]
fn parallel_at_one_pass_is_teacher_forcing_to_the_bit() {
    let model = model(Family::Gpt2, DType::F32);
    let free = run(&Parallel { passes: 1, grad_passes: 0 }, &model, &ragged_batch(), &context(0.0));
    let teacher = run(&Parallel::TEACHER, &model, &ragged_batch(), &context(1.0));
    assert_eq!(free.loss, teacher.loss);
    assert_eq!(flat(&model, &free.gradients), flat(&model, &teacher.gradients));
}

#[test]
fn parallel_equals_sequential_one_pass_after_the_last_soft_input() {
    for family in [Family::Gpt2, Family::Llama] {
        let model = model(family, DType::F64);
        for form in FORMS {
            let context = everything(form);
            let exact = run(&Sequential::UNROLLED, &model, &ragged_batch(), &context);
            let passes = |passes| {
                run(&Parallel { passes, grad_passes: 0 }, &model, &ragged_batch(), &context)
            };
            assert_same(&model, &exact, &passes(SOFT + 1), 1e-9);
            let early = passes(SOFT);
            let (a, b) = (flat(&model, &exact.gradients), flat(&model, &early.gradients));
            let same = a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-9);
            assert!(form == GuidanceForm::Coin || !same, "one pass less is not enough");
        }
    }
}

/// After pass r the first r-1 soft inputs are exact, so scoring only what they decide gives the
/// sequential loss.
#[test]
fn parallel_has_its_exact_prefix_at_every_number_of_passes() {
    let model = model(Family::Llama, DType::F64);
    for passes in 1..=SOFT + 1 {
        let mut batch = ragged_batch();
        for example in &mut batch.examples {
            let example = Arc::make_mut(example);
            let soft: Vec<usize> = (0..example.len()).filter(|&t| example.soft[t]).collect();
            // Targets up to and including that of the first inexact soft input.
            let end = soft.get(passes - 1).map_or(example.len(), |&first| first + 1);
            for t in end..example.len() {
                example.weight[t] = 0.0;
                example.soft[t] = example.soft[t] && t < end;
            }
        }
        let context = context(0.0);
        let exact = run(&Sequential::UNROLLED, &model, &batch, &context);
        let parallel = run(&Parallel { passes, grad_passes: 0 }, &model, &batch, &context);
        assert!((exact.loss - parallel.loss).abs() < 1e-11, "{passes} passes");
    }
}

#[test]
fn at_full_guidance_every_rollout_is_teacher_forcing() {
    let model = model(Family::Llama, DType::F64);
    let mut batch = ragged_batch();
    for example in &mut batch.examples {
        let example = Arc::make_mut(example);
        for t in 1..example.len() {
            let id = example.input_ids[t];
            if example.truth[t] == soft_train::example::Truth::None {
                example.truth[t] = soft_train::example::Truth::Token(id);
            }
        }
    }
    let teacher = run(&Parallel::TEACHER, &model, &batch, &context(1.0));
    for form in FORMS {
        let context = StepContext { form, ..context(1.0) };
        let parallel = run(&Parallel { passes: 3, grad_passes: 0 }, &model, &batch, &context);
        assert_eq!(teacher.loss, parallel.loss);
        let sequential = run(&Sequential { segment: 2, truncate: 0 }, &model, &batch, &context);
        assert_same(&model, &teacher, &sequential, 1e-9);
    }
}

#[test]
fn grad_passes_cut_the_distribution_and_keep_the_lookup() {
    let model = model(Family::Gpt2, DType::F64);
    let all = run(&Parallel { passes: 3, grad_passes: 0 }, &model, &ragged_batch(), &context(0.0));
    let all3 = run(&Parallel { passes: 3, grad_passes: 3 }, &model, &ragged_batch(), &context(0.0));
    let last = run(&Parallel { passes: 3, grad_passes: 1 }, &model, &ragged_batch(), &context(0.0));
    assert_same(&model, &all, &all3, 1e-12);
    assert!((all.loss - last.loss).abs() < 1e-12);
    let (a, b) = (flat(&model, &all.gradients), flat(&model, &last.gradients));
    assert_eq!(a.len(), b.len(), "the embedding keeps its gradient");
    assert!(a.iter().zip(&b).any(|(a, b)| (a - b).abs() > 1e-6));
}

/// Micro-batches add up to the big batch: divisors and noise are those of the step.
#[test]
fn t18_micro_batches_sum_to_the_whole_batch() {
    let model = model(Family::Llama, DType::F64);
    let batch = ragged_batch();
    let context = everything(GuidanceForm::Coin);
    for normalize in [Normalize::Token, Normalize::Sequence] {
        let objective = Objective { entropy_beta: 0.3, normalize };
        let totals = StepTotals::of([&batch]);
        let temperature = context.pipeline.config().temperature;
        let rollout = Sequential { segment: 2, truncate: 0 };
        let of = |batch: &Batch| {
            let loss = BatchLoss { batch, objective, totals, temperature, other: None };
            rollout.differentiate(&model, &loss, &context)
        };
        let whole = of(&batch);
        let rows: Vec<Differentiated> = (0..batch.len())
            .map(|row| of(&Batch::with_rows(vec![batch.examples[row].clone()], vec![row as u32])))
            .collect();
        let loss: f64 = rows.iter().map(|row| row.loss).sum();
        assert!((whole.loss - loss).abs() < 1e-10, "{} against {loss}", whole.loss);
        let parts: Vec<Vec<f64>> = rows.iter().map(|row| flat(&model, &row.gradients)).collect();
        for (i, &g) in flat(&model, &whole.gradients).iter().enumerate() {
            let sum: f64 = parts.iter().map(|part| part[i]).sum();
            assert!((g - sum).abs() < 1e-9, "entry {i}: {g} against {sum}");
        }
    }
}

#[test]
fn a_token_is_divided_by_all_of_the_step_or_by_its_rows_length() {
    let model = model(Family::Llama, DType::F64);
    let batch = ragged_batch();
    let of = |batch: &Batch, normalize| {
        let objective = Objective { entropy_beta: 0.0, normalize };
        let loss = BatchLoss {
            batch,
            objective,
            totals: StepTotals::of([batch]),
            temperature: 1.0,
            other: None,
        };
        Parallel::TEACHER.differentiate(&model, &loss, &context(1.0))
    };
    let weight: f64 = batch.examples.iter().flat_map(|e| &e.weight).map(|&w| f64::from(w)).sum();
    let token = of(&batch, Normalize::Token);
    assert!((token.loss - token.cross_entropy / weight).abs() < 1e-12);
    let mut mean = 0.0;
    for example in &batch.examples {
        let row = of(&Batch::new(vec![example.as_ref().clone()]), Normalize::Sequence);
        assert!((row.loss - row.cross_entropy / example.len() as f64).abs() < 1e-12);
        mean += row.loss / batch.len() as f64;
    }
    assert!((of(&batch, Normalize::Sequence).loss - mean).abs() < 1e-12);
}

#[test]
fn only_low_rank_branches_and_the_prefix_get_gradients() {
    let base = model(Family::Llama, DType::F64);
    let targets = ["q_proj", "v_proj", "down_proj"].map(str::to_owned);
    let adapted = base
        .clone()
        .with_low_rank(2, 4.0, &targets, 5)
        .and_then(|model| model.with_prefix(3, 5))
        .expect("valid adapters");
    let context = everything(GuidanceForm::Mix);
    let whole = run(&Sequential::UNROLLED, &adapted, &ragged_batch(), &context);
    let parts = run(&Sequential { segment: 1, truncate: 0 }, &adapted, &ragged_batch(), &context);
    // A and B of three projections, keys and values of the prefix, in two layers.
    assert_eq!(whole.gradients.len(), 2 * (3 * 2 + 2));
    assert_same(&adapted, &whole, &parts, 1e-9);
    let parallel = Parallel { passes: SOFT + 1, grad_passes: 0 };
    let parallel = run(&parallel, &adapted, &ragged_batch(), &context);
    assert_same(&adapted, &whole, &parallel, 1e-9);
}

#[test]
fn a_fresh_low_rank_branch_changes_nothing() {
    let base = model(Family::Llama, DType::F32);
    let targets = soft_model::TARGETS.map(str::to_owned);
    let mut adapted = base.clone().with_low_rank(2, 4.0, &targets, 5).expect("valid");
    let ids = [1, 2, 3, 4];
    let logits = |model: &Transformer| host_values(model.logits(model.embed(&ids, 1)).inner());
    assert_eq!(logits(&base), logits(&adapted));
    adapted.set_low_rank(false);
    assert_eq!(logits(&base), logits(&adapted));
}

#[test]
fn t18_a_loss_in_chunks_is_the_whole_loss() {
    for family in [Family::Gpt2, Family::Llama] {
        let model = model(family, DType::F64);
        for rollout in [Parallel::TEACHER, Parallel { passes: 3, grad_passes: 2 }] {
            let context = everything(GuidanceForm::Mix);
            let whole = run(&rollout, &model, &ragged_batch(), &context);
            for loss_chunk in [1, 4, 7] {
                let context = StepContext { loss_chunk, ..context.clone() };
                let parts = run(&rollout, &model, &ragged_batch(), &context);
                assert_same(&model, &whole, &parts, 1e-9);
            }
        }
    }
}

#[test]
fn the_loss_of_the_answers_alone_is_the_loss_where_nothing_else_counts() {
    let model = model(Family::Llama, DType::F64);
    let mut batch = ragged_batch();
    Arc::make_mut(&mut batch.examples[0]).answer_from = Some(6);
    Arc::make_mut(&mut batch.examples[2]).answer_from = Some(8);
    let mut answers = batch.clone();
    for example in &mut answers.examples {
        let example = Arc::make_mut(example);
        let from = example.answer_from.unwrap_or(example.len());
        example.weight[..from].fill(0.0);
    }
    for rollout in [&Sequential { segment: 2, truncate: 0 } as &dyn Rollout, &Parallel::TEACHER] {
        let found = run(rollout, &model, &batch, &context(0.3)).answer;
        let expected = run(rollout, &model, &answers, &context(0.3)).cross_entropy;
        assert!((found - expected).abs() < 1e-9 && expected > 1.0, "{found} {expected}");
    }
}

#[test]
fn the_loss_alone_is_that_of_the_differentiated_recurrence() {
    let model = model(Family::Gpt2, DType::F64);
    let (batch, context) = (ragged_batch(), everything(GuidanceForm::Mix));
    let whole = run(&Sequential::UNROLLED, &model, &batch, &context);
    let totals = StepTotals::of([&batch]);
    let temperature = context.pipeline.config().temperature;
    let loss =
        BatchLoss { batch: &batch, objective: objective(), totals, temperature, other: None };
    let alone = Sequential::forward(&model.valid(), &loss, &context);
    let pairs = [(alone.loss, whole.loss), (alone.cross_entropy, whole.cross_entropy)];
    for (alone, whole) in pairs {
        let alone = host_values(alone)[0];
        assert!((alone - whole).abs() < 1e-9, "{alone} {whole}");
    }
}
