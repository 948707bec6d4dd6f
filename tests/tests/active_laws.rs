//! Additions that act where the input is soft: the bare base without soft inputs, the whole
//! addition with nothing else, and the same in training, in generation and in every batch.

use std::sync::Arc;

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::activation::log_softmax;
use burn::tensor::{DType, Device, Tensor};
use soft_core::{GuidanceForm, PipelineConfig, SoftPipeline, host_values};
use soft_model::{
    Active, BeamKind, BeamOptions, Cells, Family, Gate, GenerateOptions, Generation, LowRankSpec,
    Manner, Mode, ModelConfig, SoftInput, Span, Thinking, Transformer, beam_search, generate,
    replay,
};
use soft_tests::nudge::{Nudge, gradients_by_parameter};
use soft_tests::steps;
use soft_tests::{MoveTrained, ragged_batch, tiny_config, tiny_model};
use soft_train::batch::Batch;
use soft_train::example::Example;
use soft_train::objective::{BatchLoss, Normalize, Objective, StepTotals};
use soft_train::rollout::{Differentiated, Parallel, Rollout, Sequential, StepContext};

/// The most soft inputs that a row of [`ragged_batch`] feeds.
const SOFT: usize = 3;
/// Positions of each prefix and prompt.
const ADDED: usize = 3;

fn base(family: Family, dtype: DType) -> Transformer {
    tiny_model(family, &Device::flex().autodiff(), dtype)
}

fn spec() -> LowRankSpec {
    let targets = ["q_proj", "v_proj", "up_proj", "down_proj"].map(str::to_owned).to_vec();
    LowRankSpec { rank: 2, alpha: 4.0, targets, ..LowRankSpec::default() }
}

/// Every kind of addition over a base, moved away from where it starts.
fn additions(base: &Transformer) -> Vec<(&'static str, Transformer)> {
    let branches = |spec: &LowRankSpec| base.clone().with_branches(spec, 5).expect("valid");
    let dora = LowRankSpec { dora: true, rslora: true, ..spec() };
    let kinds = [
        ("low rank", branches(&spec())),
        ("dora", branches(&dora)),
        ("prefix", base.clone().with_prefix(ADDED, 5).expect("valid")),
        ("prompt", base.clone().with_prompt(ADDED, 5).expect("valid")),
        ("dora and a prompt", branches(&dora).with_prompt(ADDED, 5).expect("valid")),
        ("low rank and a prefix", branches(&spec()).with_prefix(ADDED, 5).expect("valid")),
    ];
    let moved = |(name, model): (_, Transformer)| (name, model.map(&mut MoveTrained));
    kinds.into_iter().map(moved).collect()
}

fn softly(model: &Transformer) -> Transformer {
    model.clone().with_active(Active::Soft)
}

/// Logits of rows of ids that are padded on the left, `[row][column][vocab]`, with these inputs
/// soft.
fn logits(model: &Transformer, rows: &[&[u32]], soft: &[&[usize]]) -> Vec<Vec<Vec<f64>>> {
    let longest = rows.iter().map(|row| row.len()).max().unwrap_or(0);
    let padding = |row: &[u32]| longest - row.len();
    let padded = |row: &&[u32]| [vec![row[0]; padding(row)], row.to_vec()].concat();
    let ids: Vec<u32> = rows.iter().flat_map(padded).collect();
    let real = |row: &&[u32]| (0..longest).map(|c| c >= padding(row)).collect::<Vec<bool>>();
    let real: Vec<Vec<bool>> = rows.iter().map(real).collect();
    let flags = |(row, soft): (&&[u32], &&[usize])| {
        (0..longest).map(|c| soft.iter().any(|&t| t + padding(row) == c)).collect::<Vec<bool>>()
    };
    let soft: Vec<Vec<bool>> = rows.iter().zip(soft).map(flags).collect();
    let cells = Cells { real: &real, soft: Some(&soft) };
    let mut cache = model.new_cache(rows.len());
    let embeds = model.embed(&ids, rows.len());
    let hidden = model.forward_cells(embeds, cells, &mut cache, None);
    let values = host_values(model.output_head().logits(hidden).detach());
    let columns: Vec<Vec<f64>> = values.chunks(20).map(<[f64]>::to_vec).collect();
    let own = |(i, all): (usize, &[Vec<f64>])| all[padding(rows[i])..].to_vec();
    columns.chunks(longest).enumerate().map(own).collect()
}

fn worst(a: &[Vec<f64>], b: &[Vec<f64>]) -> f64 {
    assert_eq!(a.len(), b.len());
    let pairs = a.iter().flatten().zip(b.iter().flatten());
    pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

#[test]
fn without_a_soft_input_the_model_is_its_bare_base_to_the_bit() {
    let window = ModelConfig { sliding_window: Some(3), ..tiny_config(Family::Mistral) };
    let windowed = Transformer::from_seed(&window, 7, &Device::flex().autodiff(), DType::F32);
    let bases = [base(Family::Llama, DType::F32), base(Family::Gpt2, DType::F32), windowed];
    let rows: [&[u32]; 3] = [&[1, 5, 6, 7, 8], &[2, 12], &[7]];
    for base in bases {
        let bare = logits(&base, &rows, &[&[], &[], &[]]);
        for (name, model) in additions(&base) {
            let found = logits(&softly(&model), &rows, &[&[], &[], &[]]);
            assert_eq!(found, bare, "{name}");
            assert_ne!(logits(&model, &rows, &[&[], &[], &[]]), bare, "{name} acts everywhere");
            // Generation feeds column by column, with padding in the cache.
            let generated = |model: &Transformer| {
                let options = GenerateOptions { record: true, ..options(None) };
                let prompts = rows.map(<[u32]>::to_vec);
                let hard = &|_: usize, _: usize| Mode::Hard;
                generate(&model.valid(), &prompts, hard, &options, &mut |_, _, _| {})
                    .expect("it fits")
            };
            assert_eq!(generated(&softly(&model)), generated(&base), "{name}");
        }
    }
}

#[test]
fn the_whole_context_is_left_to_the_tokens() {
    let base = base(Family::Gpt2, DType::F32);
    let ids = vec![3; base.config().max_positions];
    for (name, model) in additions(&base) {
        let soft = softly(&model);
        assert_eq!(soft.taken_positions(), 0);
        let scored = soft_model::score(&soft.valid(), &ids).expect(name);
        assert_eq!(scored, soft_model::score(&base.valid(), &ids).expect("it fits"), "{name}");
        assert_eq!(model.taken_positions(), model.prefix_len(), "{name}");
        let fits = soft_model::score(&model.valid(), &ids).is_ok();
        assert_eq!(fits, model.prefix_len() == 0, "{name}");
    }
}

/// Moves the learned positions of GPT-2 by the length of a prefix.
struct MoveTable;

impl ModuleMapper for MoveTable {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if param.val().dims()[..] != [64, 16] {
            return param;
        }
        param.map(|x| {
            let first = x.clone().narrow(0, 0, ADDED);
            Tensor::cat(vec![first, x.narrow(0, 0, 64 - ADDED)], 0)
        })
    }
}

#[test]
fn with_every_input_soft_the_additions_act_as_they_do_everywhere() {
    let window = ModelConfig { sliding_window: Some(4), ..tiny_config(Family::Mistral) };
    let windowed = Transformer::from_seed(&window, 7, &Device::flex().autodiff(), DType::F64);
    let bases = [base(Family::Llama, DType::F64), base(Family::Gpt2, DType::F64), windowed];
    let rows: [&[u32]; 2] = [&[1, 5, 6, 7, 8], &[2, 12, 4]];
    let all: [&[usize]; 2] = [&[0, 1, 2, 3, 4], &[0, 1, 2]];
    for base in bases {
        for (name, model) in additions(&base) {
            let learned = base.config().family == Family::Gpt2;
            // With learned positions the tokens stand where they do in the base.
            let everywhere = match learned && model.prefix_len() > 0 {
                true => model.valid().map(&mut MoveTable),
                false => model.valid(),
            };
            let expected = logits(&everywhere, &rows, &all);
            let found = logits(&softly(&model).valid(), &rows, &all);
            for (found, expected) in found.iter().zip(&expected) {
                let worst = worst(found, expected);
                let bound = if model.prefix_len() == 0 { 0.0 } else { 1e-9 };
                assert!(worst <= bound, "{name}: {worst:e}");
            }
        }
    }
}

#[test]
fn a_row_does_not_depend_on_where_its_neighbours_are_soft() {
    let base = base(Family::Llama, DType::F64);
    let rows: [&[u32]; 4] = [&[1, 5, 6, 7, 8], &[2, 12, 4], &[7, 9, 9, 1], &[3, 4, 5, 6, 7]];
    let soft: [&[usize]; 4] = [&[2, 3], &[], &[1, 2, 3], &[4]];
    for (name, model) in additions(&base) {
        let model = softly(&model);
        let together = logits(&model, &rows, &soft);
        for row in 0..rows.len() {
            let alone = logits(&model, &rows[row..=row], &soft[row..=row]);
            let worst = worst(&together[row], &alone[0]);
            assert!(worst < 1e-10, "{name}, row {row}: {worst:e}");
        }
        let bare = logits(&base, &rows, &soft);
        assert!(worst(&together[1], &bare[1]) < 1e-10, "{name}: a row of tokens");
        // Up to its first soft input a row is the base, after it is not.
        assert!(worst(&together[0][..2], &bare[0][..2]) < 1e-10, "{name}");
        assert!(worst(&together[0][4..], &bare[0][4..]) > 1e-6, "{name}");
    }
}

fn options(span: Option<Span>) -> GenerateOptions {
    let greedy = PipelineConfig { temperature: 0.0, ..PipelineConfig::default() };
    let answer = Manner::new(SoftPipeline::new(greedy).expect("valid"), Mode::Hard);
    let thoughts = PipelineConfig { top_k: 6, ..PipelineConfig::default() };
    GenerateOptions {
        thoughts: Manner::new(SoftPipeline::new(thoughts).expect("valid"), Mode::Soft),
        thinking: span.map(|span| Thinking { span, gate: Gate::Open, answer }),
        max_new: 8,
        seed: 9,
        keep_inputs: true,
        top: 20,
        ..GenerateOptions::default()
    }
}

fn prompts() -> Vec<Vec<u32>> {
    vec![vec![1, 5, 6], vec![2, 12, 3, 4, 5], vec![7], vec![3, 9, 14, 2]]
}

fn thought(model: &Transformer, prompts: &[Vec<u32>], span: Span) -> Vec<Generation> {
    let options = options(Some(span));
    generate(model, prompts, &|_, _| Mode::Soft, &options, &mut |_, _, _| {}).expect("it fits")
}

/// Rows leave their thoughts at different steps; the inputs say which of them were soft.
#[test]
fn a_generation_is_that_of_its_row_alone_and_is_replayed() {
    let base = base(Family::Llama, DType::F64);
    for (name, model) in additions(&base) {
        let model = softly(&model).valid();
        // A tag that some rows reach, at different steps.
        let freely = thought(&model, &prompts(), Span::Everywhere);
        let at = |id: u32| freely.iter().map(move |g| g.token_ids.iter().position(|&t| t == id));
        let tag = (0..20).max_by_key(|&id| {
            let steps: std::collections::BTreeSet<_> = at(id).flatten().collect();
            steps.len()
        });
        let close = vec![tag.expect("a token")];
        let tags = Span::Tags { open: vec![], close };
        let together = thought(&model, &prompts(), tags.clone());
        let softs = together.iter().map(|row| row.tally.soft);
        assert!(softs.collect::<std::collections::BTreeSet<_>>().len() > 1, "{name}: ragged");
        for (prompt, row) in prompts().iter().zip(&together) {
            let alone = thought(&model, std::slice::from_ref(prompt), tags.clone());
            assert_eq!((&alone[0].token_ids, &alone[0].modes), (&row.token_ids, &row.modes));
            let soft = row.inputs.iter().map(SoftInput::is_soft);
            let modes = row.modes.iter().map(|&mode| mode == Mode::Soft);
            assert!(soft.eq(modes), "{name}: the inputs say how they were fed");
            let seen = host_values(replay(&model, prompt, &row.inputs));
            for (step, &token) in row.token_ids.iter().enumerate() {
                let scores = &seen[(prompt.len() - 1 + step) * 20..][..20];
                let best = (0..20).max_by(|&a, &b| scores[a].total_cmp(&scores[b]));
                let forced = row.modes[step] == Mode::Hard && step == row.tally.soft;
                assert!(forced || best == Some(token as usize), "{name}, step {step}");
            }
        }
    }
}

#[test]
fn one_beam_of_mixtures_is_the_plain_generation() {
    let base = base(Family::Llama, DType::F64);
    for (name, model) in additions(&base) {
        let model = softly(&model).valid();
        let plain = thought(&model, &prompts(), Span::First(4));
        let kind = BeamKind::Mixtures;
        let beams = BeamOptions { kind, beams: 1, length_penalty: 1.0 };
        let options = options(Some(Span::First(4)));
        let found = beam_search(&model, &prompts(), &options, &beams).expect("it fits");
        for (plain, beams) in plain.iter().zip(&found) {
            assert_eq!(plain.token_ids, beams.sequences[0].0.token_ids, "{name}");
        }
    }
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

fn assert_same(model: &Transformer, a: &Differentiated, b: &Differentiated, what: &str) {
    let (ga, gb) =
        (gradients_by_parameter(model, &a.gradients), gradients_by_parameter(model, &b.gradients));
    assert_eq!(ga.len(), gb.len(), "{what}");
    assert!((a.loss - b.loss).abs() < 1e-9, "{what}: {} {}", a.loss, b.loss);
    for ((_, a), (_, b)) in ga.iter().zip(&gb) {
        let worst = a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(worst < 1e-9, "{what}: gradients differ by {worst:e}");
    }
}

#[test]
fn every_rollout_trains_the_additions_where_they_act() {
    let batch = ragged_batch();
    for (name, model) in additions(&base(Family::Llama, DType::F64)) {
        let everywhere = run(&Sequential::UNROLLED, &model, &batch, &context(0.0, 0.4));
        let model = softly(&model);
        for context in [context(0.0, 0.4), context(0.2, 0.4)] {
            let whole = run(&Sequential::UNROLLED, &model, &batch, &context);
            let all = gradients_by_parameter(&model, &whole.gradients);
            assert!(all.iter().all(|(_, g)| g.iter().any(|g| g.abs() > 1e-9)), "{name}");
            assert!((whole.loss - everywhere.loss).abs() > 1e-6, "{name}");
            for segment in [1, 2] {
                let parts = Sequential { segment, truncate: 0 };
                assert_same(&model, &whole, &run(&parts, &model, &batch, &context), name);
            }
            let passes = Parallel { passes: SOFT + 1, grad_passes: 0 };
            assert_same(&model, &whole, &run(&passes, &model, &batch, &context), name);
        }
    }
}

/// Where no row has a soft input, there is nothing to train: the loss is the base's.
#[test]
fn a_batch_of_tokens_has_the_loss_of_the_base_and_no_gradient() {
    let base = base(Family::Llama, DType::F64);
    let mut batch = ragged_batch();
    for example in &mut batch.examples {
        let example = Arc::make_mut(example);
        example.soft.fill(false);
    }
    let bare = run(&Parallel::TEACHER, &base, &batch, &context(0.0, 0.4)).loss;
    for (name, model) in additions(&base) {
        let loss = BatchLoss {
            batch: &batch,
            objective: Objective::default(),
            totals: StepTotals::of([&batch]),
            temperature: 1.0,
            other: None,
        };
        let found = Parallel::TEACHER.forward(&softly(&model), &loss, &context(0.0, 0.4)).loss;
        let found = host_values(found.detach())[0];
        assert!((found - bare).abs() < 1e-12, "{name}: {found} {bare}");
        let rollouts = [&Parallel::TEACHER as &dyn Rollout, &Sequential::UNROLLED];
        for rollout in rollouts {
            for loss_chunk in [0, 4] {
                let context = StepContext { loss_chunk, ..context(0.0, 0.4) };
                let found = run(rollout, &softly(&model), &batch, &context);
                let all = gradients_by_parameter(&model, &found.gradients);
                // A sum over nothing may be a gradient of zeros.
                assert!(all.iter().all(|(_, g)| g.iter().all(|&g| g == 0.0)), "{name}");
            }
        }
    }
}

#[test]
fn gradients_are_finite_differences() {
    let (batch, context) = (ragged_batch(), context(0.2, 0.4));
    let base = base(Family::Llama, DType::F64);
    let low_rank = base.clone().with_branches(&spec(), 5).expect("valid").map(&mut MoveTrained);
    let kinds = [
        softly(&low_rank.clone().with_prompt(ADDED, 5).expect("valid")),
        softly(&low_rank.with_prefix(ADDED, 5).expect("valid")),
    ];
    let rollout = Sequential { segment: 2, truncate: 0 };
    for model in kinds {
        let found = run(&rollout, &model, &batch, &context);
        for (id, gradient) in gradients_by_parameter(&model, &found.gradients) {
            let steepest = (0..gradient.len())
                .max_by(|&a, &b| gradient[a].abs().total_cmp(&gradient[b].abs()));
            let entry = steepest.expect("parameters are not empty");
            let at = |delta| {
                let nudged = model.clone().map(&mut Nudge { id, entry, delta });
                run(&rollout, &nudged, &batch, &context).loss
            };
            let numeric = (at(1e-5) - at(-1e-5)) / 2e-5;
            let exact = gradient[entry];
            assert!((numeric - exact).abs() < 1e-5 * exact.abs().max(1e-2), "{numeric} {exact}");
        }
    }
}

/// What is trained is what decodes: the free rollout of an example is the generation of its
/// thoughts, and the loss of its answer is that after them.
#[test]
fn a_free_rollout_is_what_the_generation_of_the_same_model_does() {
    let (prompt, thoughts, answer) = ([3u32, 7, 12, 5], 4, [6u32, 1, 9]);
    let mut example =
        Example::from_tokens(&[&prompt[..], &vec![1; thoughts], &answer].concat(), prompt.len());
    for t in prompt.len()..prompt.len() + thoughts {
        example.soft[t] = true;
        example.weight[t] = 0.0;
    }
    let batch = Batch::new(vec![example]);
    let context = StepContext { step: 0, ..context(0.0, 0.0) };
    for (name, model) in additions(&base(Family::Llama, DType::F64)) {
        let model = softly(&model);
        let trained = run(&Sequential { segment: 2, truncate: 0 }, &model, &batch, &context);
        let model = model.valid();
        let options = GenerateOptions {
            thoughts: Manner::new(context.pipeline.clone(), Mode::Soft),
            max_new: thoughts,
            seed: context.seed,
            record: true,
            ..options(None)
        };
        let made =
            generate(&model, &[prompt.to_vec()], &|_, _| Mode::Soft, &options, &mut |_, _, _| {});
        let made = &made.expect("it fits")[0];
        let believed: f64 = made.steps.iter().map(|step| step.entropy_nats).sum();
        assert!((trained.entropy - believed).abs() < 1e-9, "{name}");
        let tokens = answer.iter().map(|&id| SoftInput::token(id));
        let inputs: Vec<SoftInput> = made.inputs.iter().cloned().chain(tokens).collect();
        let scores = host_values(log_softmax(replay(&model, &prompt, &inputs), 1));
        let first = prompt.len() + thoughts - 1;
        let of = |(i, &id): (usize, &u32)| -scores[(first + i) * 20 + id as usize];
        let expected: f64 = answer.iter().enumerate().map(of).sum();
        assert!((trained.cross_entropy - expected).abs() < 1e-9, "{name}");
    }
}
