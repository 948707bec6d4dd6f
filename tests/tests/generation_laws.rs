//! Laws of generation: modes, records, replay, stops, errors, for every family.

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{DType, Tensor};
use soft_core::{Distribution, Noise, PipelineConfig, SoftPipeline, float_tensor, host_values};
use soft_model::{
    Error, Family, GenerateOptions, Generation, Manner, Mode, ModelConfig, ModelFiles, SoftInput,
    Stop, Transformer, generate, replay, save_safetensors,
};
use soft_tests::{device, every_family, lively_model, tiny_config};

const VOCAB: usize = 20;

fn models() -> Vec<(&'static str, Transformer)> {
    every_family().iter().map(|(name, config)| (*name, lively_model(config))).collect()
}

fn llama() -> Transformer {
    lively_model(&tiny_config(Family::Llama))
}

fn options(config: PipelineConfig) -> GenerateOptions {
    let pipeline = SoftPipeline::new(config).expect("valid settings");
    GenerateOptions {
        thoughts: Manner::new(pipeline, Mode::Soft),
        max_new: 6,
        seed: 3,
        record: true,
        keep_inputs: true,
        top: VOCAB,
        ..GenerateOptions::default()
    }
}

fn plain() -> PipelineConfig {
    PipelineConfig::default()
}

fn noisy() -> PipelineConfig {
    PipelineConfig { top_k: 8, noise: Noise::Gumbel { temperature: 0.5 }, ..plain() }
}

fn run(
    model: &Transformer,
    prompts: &[&[u32]],
    mode: impl Fn(usize, usize) -> Mode,
    options: &GenerateOptions,
) -> Vec<Generation> {
    let prompts: Vec<Vec<u32>> = prompts.iter().map(|ids| ids.to_vec()).collect();
    generate(model, &prompts, &mode, options, &mut |_, _, _| {}).expect("the prompts fit")
}

fn soft(_: usize, _: usize) -> Mode {
    Mode::Soft
}

fn hard(_: usize, _: usize) -> Mode {
    Mode::Hard
}

/// Mode by row, and in row 2 by step.
fn mixed(row: usize, step: usize) -> Mode {
    if row == 0 || (row == 2 && step.is_multiple_of(2)) { Mode::Soft } else { Mode::Hard }
}

fn entropies(generation: &Generation) -> Vec<f64> {
    generation.steps.iter().map(|step| step.entropy_nats).collect()
}

const PROMPTS: [&[u32]; 3] = [&[3, 17, 1, 9], &[5, 5], &[2, 11, 7]];

#[test]
fn t18_a_soft_run_that_keeps_one_token_is_a_greedy_run_to_the_bit() {
    for (name, model) in models() {
        let greedy =
            run(&model, &PROMPTS, hard, &options(PipelineConfig { temperature: 0.0, ..plain() }));
        let one = |config| run(&model, &PROMPTS, soft, &options(config));
        for (what, found) in [
            ("top_k 1", one(PipelineConfig { top_k: 1, ..plain() })),
            ("max_top_k 1", one(PipelineConfig { max_top_k: 1, ..plain() })),
            ("top_p 0", one(PipelineConfig { top_p: 0.0, ..plain() })),
            ("temperature 0", one(PipelineConfig { temperature: 0.0, ..plain() })),
        ] {
            for (a, b) in found.iter().zip(&greedy) {
                assert_eq!(a.token_ids, b.token_ids, "{name} {what}");
                assert_eq!(entropies(a), entropies(b), "{name} {what}");
                // The one token of a soft input is not a hard token, and weighs as much.
                for (a, b) in a.inputs.iter().zip(&b.inputs) {
                    let embedding = model.embedding();
                    let mixed = |input: &SoftInput| host_values(input.mix(&embedding));
                    assert_eq!((a.is_soft(), b.is_soft()), (true, false), "{name} {what}");
                    assert_eq!(mixed(a), mixed(b), "{name} {what}");
                }
                for step in &a.steps {
                    let fed = step.fed.as_ref().unwrap_or(&step.top);
                    assert_eq!(*fed, [(step.token_id, 1.0)], "{name} {what}");
                    assert_eq!(step.top[0].0, step.token_id, "{name} {what}");
                    // At temperature 0 the record still shows what the model believed.
                    assert_eq!(step.top.len() > 4, what == "temperature 0", "{name} {what}");
                }
            }
        }
    }
}

#[test]
fn t18_a_one_hot_mixture_is_the_tokens_embedding_to_the_bit() {
    for (name, model) in models() {
        let ids: Vec<u32> = (0..VOCAB as u32).collect();
        let embedding = model.embedding();
        let mixtures = Distribution::one_hot(&ids, &embedding).mix(embedding.clone());
        assert_eq!(host_values(mixtures), host_values(model.embed(&ids, 1)), "{name}");
        // As inputs too: a replay of tokens is a pass over the tokens.
        let inputs: Vec<SoftInput> = ids[4..9].iter().map(|&id| SoftInput::token(id)).collect();
        let replayed = host_values(replay(&model, &ids[..4], &inputs));
        assert_eq!(replayed, host_values(model.logits(model.embed(&ids[..9], 1))), "{name}");
    }
}

#[test]
fn hard_and_soft_runs_differ_where_the_model_is_unsure() {
    for (name, model) in models() {
        let a = run(&model, &PROMPTS, soft, &options(plain()));
        let b = run(&model, &PROMPTS, hard, &options(plain()));
        // The first step sees the same prompt, the second another input.
        for (a, b) in a.iter().zip(&b) {
            assert_eq!(a.steps[0].entropy_nats, b.steps[0].entropy_nats, "{name}");
        }
        let differ = a
            .iter()
            .zip(&b)
            .any(|(a, b)| (a.steps[1].entropy_nats - b.steps[1].entropy_nats).abs() > 1e-3);
        assert!(differ, "{name}: the mixture is fed");
    }
}

fn assert_same_run(what: &str, a: &Generation, b: &Generation) {
    assert_eq!(a.token_ids, b.token_ids, "{what}");
    assert_eq!(a.stop, b.stop, "{what}");
    for (a, b) in a.steps.iter().zip(&b.steps) {
        assert_eq!((a.mode, a.position, a.sampled_id), (b.mode, b.position, b.sampled_id));
        assert!((a.entropy_nats - b.entropy_nats).abs() < 1e-4, "{what}");
        assert!((a.kept_mass - b.kept_mass).abs() < 1e-4, "{what}");
    }
}

/// A row by itself, with the noise that it has in the batch.
fn alone(model: &Transformer, row: usize, config: PipelineConfig) -> Generation {
    let options = GenerateOptions { first_row: row as u32, ..options(config) };
    run(model, &PROMPTS[row..=row], |_, step| mixed(row, step), &options).remove(0)
}

#[test]
fn each_row_of_a_mixed_batch_is_that_row_alone_in_its_mode() {
    for (name, model) in models() {
        for config in [plain(), PipelineConfig { top_k: 5, ..plain() }, noisy()] {
            let together = run(&model, &PROMPTS, mixed, &options(config.clone()));
            for (row, found) in together.iter().enumerate() {
                let what = format!("{name} row {row} {config:?}");
                assert_same_run(&what, found, &alone(&model, row, config.clone()));
                let modes: Vec<Mode> = found.steps.iter().map(|step| step.mode).collect();
                let expected: Vec<Mode> = (0..6).map(|step| mixed(row, step)).collect();
                assert_eq!(modes, expected);
            }
        }
    }
}

#[test]
fn a_rows_bits_do_not_depend_on_its_neighbours_contents() {
    for (name, model) in models() {
        for config in [plain(), noisy()] {
            let options = options(config);
            let base = run(&model, &[&[1, 2, 3, 4], &[5, 6], &[7, 8, 9]], mixed, &options);
            let other = run(&model, &[&[19, 0, 0, 18], &[5, 6], &[4]], mixed, &options);
            assert_eq!(base[1], other[1], "{name}");
            // Another mode and an early end beside it.
            let flipped = |row, step| if row == 1 { mixed(row, step) } else { Mode::Soft };
            let ends = GenerateOptions { eos_ids: vec![base[0].token_ids[0]], ..options };
            let other = run(&model, &[&[1, 2, 3, 4], &[5, 6], &[7, 8, 9]], flipped, &ends);
            let shared = other[1].steps.len();
            assert_eq!(base[1].steps[..shared], other[1].steps[..], "{name}");
        }
    }
}

#[test]
fn a_row_that_has_stopped_does_not_stop_or_change_the_others() {
    let model = llama();
    let options = options(PipelineConfig { temperature: 0.0, ..plain() });
    let free = run(&model, &PROMPTS, hard, &options);
    // A token that ends one row and that another never chooses before its end.
    let eos = free.iter().flat_map(|row| row.token_ids[..3].iter().copied()).find(|id| {
        let ends = free.iter().filter(|row| row.token_ids[..5].contains(id)).count();
        (1..3).contains(&ends)
    });
    let eos = eos.expect("the rows do not all choose the same tokens");
    let stopped = run(&model, &PROMPTS, hard, &GenerateOptions { eos_ids: vec![eos], ..options });
    let mut ended = 0;
    for (free, stopped) in free.iter().zip(&stopped) {
        let len = match free.token_ids.iter().position(|&id| id == eos) {
            Some(at) => at + 1,
            None => free.token_ids.len(),
        };
        assert_eq!(stopped.token_ids, free.token_ids[..len]);
        assert_eq!(stopped.steps, free.steps[..len]);
        assert_eq!((stopped.steps.len(), stopped.inputs.len()), (len, len));
        ended += usize::from(stopped.stop == Stop::Eos);
    }
    assert!((1..3).contains(&ended), "{ended} of 3 rows ended");
}

#[test]
fn a_replay_of_the_recorded_inputs_gives_the_rollouts_beliefs() {
    type ModeOf = fn(usize, usize) -> Mode;
    let modes: [(&str, ModeOf); 3] = [("soft", soft), ("hard", hard), ("mixed", mixed)];
    for (name, model) in models() {
        for config in [plain(), noisy(), PipelineConfig { min_p: 0.05, ..noisy() }] {
            for (mode_name, mode) in modes {
                let options = options(config.clone());
                let out = run(&model, &PROMPTS, mode, &options);
                for (prompt, row) in PROMPTS.iter().zip(&out) {
                    let logits = replay(&model, prompt, &row.inputs[..5]);
                    let logits = logits.narrow(0, prompt.len() - 1, 6);
                    let what = format!("{name} {mode_name}");
                    assert_replayed(&what, &options.thoughts.pipeline, logits, row, 1e-5);
                }
            }
        }
    }
}

/// Entropy and every recorded probability, which fix the logits up to a constant.
fn assert_replayed(
    what: &str,
    pipeline: &SoftPipeline,
    logits: Tensor<2>,
    row: &Generation,
    tolerance: f64,
) {
    let entropy = host_values(pipeline.entropy_nats(logits.clone()));
    let log_probs = host_values(burn::tensor::activation::log_softmax(logits, 1));
    for (t, step) in row.steps.iter().enumerate() {
        assert!((entropy[t] - step.entropy_nats).abs() < tolerance, "{what}: entropy of step {t}");
        let log_probs = &log_probs[t * VOCAB..(t + 1) * VOCAB];
        for &(id, weight) in &step.top {
            let replayed = log_probs[id as usize].exp();
            let found = weight * step.kept_mass;
            assert!((found - replayed).abs() < tolerance, "{what}: token {id} of step {t}");
        }
    }
}

#[test]
fn prompts_over_one_chunk_are_continued_as_after_one_pass() {
    let long: Vec<u32> = (0..700u32).map(|i| (i * i * 7 + i) % 20).collect();
    let prompts: [&[u32]; 3] = [&long, &long[..90], &long[..600]];
    for (name, config) in every_family() {
        let model = lively_model(&ModelConfig { max_positions: 800, ..config });
        let options = options(plain());
        let out = run(&model, &prompts, mixed, &options);
        for (prompt, row) in prompts.iter().zip(&out) {
            let logits = replay(&model, prompt, &row.inputs[..5]).narrow(0, prompt.len() - 1, 6);
            assert_replayed(name, &options.thoughts.pipeline, logits, row, 1e-4);
        }
    }
}

#[test]
fn another_input_replayed_is_another_belief() {
    let model = llama();
    let out = run(&model, &PROMPTS, soft, &options(plain())).remove(0);
    let mut inputs = out.inputs[..5].to_vec();
    inputs[0] = SoftInput::token(out.token_ids[0]);
    let entropy = |inputs: &[SoftInput]| {
        let logits = replay(&model, PROMPTS[0], inputs);
        host_values(soft_core::entropy_nats(logits, 1.0))
    };
    let (a, b) = (entropy(&out.inputs[..5]), entropy(&inputs));
    assert_eq!(a[..4], b[..4], "nothing before it moves");
    assert!((a[4] - b[4]).abs() > 1e-4, "{} {}", a[4], b[4]);
}

#[test]
fn the_seed_decides_the_output_and_nothing_else_does() {
    for (name, model) in models() {
        for (config, mode) in [(plain(), hard as fn(usize, usize) -> Mode), (noisy(), soft)] {
            let seeded = |seed| {
                let options = GenerateOptions { seed, ..options(config.clone()) };
                run(&model, &PROMPTS, mode, &options)
            };
            assert_eq!(seeded(3), seeded(3), "{name}");
            assert_ne!(seeded(3), seeded(4), "{name}");
        }
        let quiet = |seed| {
            let greedy = PipelineConfig { temperature: 0.0, ..plain() };
            run(&model, &PROMPTS, soft, &GenerateOptions { seed, ..options(greedy) })
        };
        assert_eq!(quiet(3), quiet(4), "{name}: without noise there is nothing to seed");
    }
}

#[test]
fn equal_prompts_in_different_rows_draw_different_noise() {
    let out = run(&llama(), &[PROMPTS[0]; 4], hard, &options(plain()));
    assert!(out.iter().any(|row| row.token_ids != out[0].token_ids));
    assert!(out.iter().all(|row| row.steps[0].top == out[0].steps[0].top));
}

#[test]
fn the_sampled_id_of_a_soft_step_is_what_a_hard_step_draws() {
    for (name, model) in models() {
        for seed in 0..8 {
            let of = |mode: fn(usize, usize) -> Mode| {
                let options = GenerateOptions { seed, max_new: 1, ..options(noisy()) };
                run(&model, &PROMPTS, mode, &options)
            };
            for (soft, hard) in of(soft).iter().zip(&of(hard)) {
                assert_eq!(soft.steps[0].sampled_id, hard.token_ids[0], "{name} seed {seed}");
                assert_eq!(hard.steps[0].sampled_id, hard.token_ids[0], "{name} seed {seed}");
            }
        }
    }
}

#[test]
fn a_step_records_what_it_believed_chose_and_fed() {
    for (name, model) in models() {
        let mut seen = Vec::new();
        let prompts: Vec<Vec<u32>> = PROMPTS.iter().map(|ids| ids.to_vec()).collect();
        let config = noisy();
        let out = generate(&model, &prompts, &mixed, &options(config), &mut |row, token, step| {
            let step = step.expect("steps are recorded");
            assert_eq!(step.token_id, token);
            seen.push((row, step.clone()));
        })
        .expect("the prompts fit");
        assert_eq!(seen.len(), 18, "{name}: the observer sees every step");
        for (row, step) in &seen {
            assert_eq!(&out[*row].steps[step.decode_step], step);
            assert_eq!(step.position, PROMPTS[*row].len() + step.decode_step);
            assert_eq!(step.top.len(), 8);
            assert!(step.top.windows(2).all(|pair| pair[0].1 >= pair[1].1), "heaviest first");
            let sum: f64 = step.top.iter().map(|entry| entry.1).sum();
            assert!((sum - 1.0).abs() < 1e-5 && step.kept_mass < 1.0 + 1e-5);
            assert!(step.top.iter().any(|entry| entry.0 == step.sampled_id));
            assert!((0.0..=(VOCAB as f64).ln() + 1e-5).contains(&step.entropy_nats));
            let input = &out[*row].inputs[step.decode_step];
            match (step.mode, &step.fed) {
                (Mode::Soft, Some(fed)) => {
                    assert_eq!(input, &SoftInput::Tokens(fed.clone()));
                    assert_eq!(step.token_id, fed[0].0);
                }
                (Mode::Hard, None) => assert_eq!(input, &SoftInput::token(step.token_id)),
                (mode, fed) => panic!("{mode:?} with {fed:?}"),
            }
        }
    }
}

#[test]
fn what_was_fed_is_recorded_whole_however_few_entries_are_asked_for() {
    let two = |config| GenerateOptions { top: 2, ..options(config) };
    for row in run(&llama(), &PROMPTS, soft, &two(noisy())) {
        for (step, input) in row.steps.iter().zip(&row.inputs) {
            let fed = step.fed.as_ref().expect("with noise it is not `top`");
            assert_eq!((step.top.len(), input), (2, &SoftInput::Tokens(fed.clone())));
        }
    }
    let dense = PipelineConfig { top_k: 0, ..noisy() };
    for row in run(&llama(), &PROMPTS, soft, &two(dense)) {
        assert!(row.steps.iter().all(|step| step.fed.as_ref().is_some_and(|fed| fed.len() == 2)));
    }
}

#[test]
fn without_a_record_the_tokens_are_the_same() {
    for config in [plain(), noisy()] {
        for mode in [soft as fn(usize, usize) -> Mode, hard, mixed] {
            let model = llama();
            let kept = run(&model, &PROMPTS, mode, &options(config.clone()));
            let silent =
                GenerateOptions { record: false, keep_inputs: false, ..options(config.clone()) };
            let silent = run(&model, &PROMPTS, mode, &silent);
            for (kept, silent) in kept.iter().zip(&silent) {
                assert_eq!(kept.token_ids, silent.token_ids);
                assert!(silent.steps.is_empty() && silent.inputs.is_empty());
            }
        }
    }
}

#[test]
fn the_rows_that_are_recorded_are_recorded_as_among_all() {
    for config in [plain(), noisy()] {
        let all = run(&llama(), &PROMPTS, mixed, &options(config.clone()));
        for record_rows in [0, 1, 2] {
            let some = GenerateOptions { record_rows, ..options(config.clone()) };
            let some = run(&llama(), &PROMPTS, mixed, &some);
            for (row, (some, all)) in some.iter().zip(&all).enumerate() {
                assert_eq!(some.token_ids, all.token_ids);
                match row < record_rows {
                    true => assert_eq!(some.steps, all.steps),
                    false => assert!(some.steps.is_empty()),
                }
            }
        }
    }
}

#[test]
fn a_dense_step_feeds_the_whole_vocabulary() {
    let out = run(&llama(), &PROMPTS, soft, &options(plain()));
    for row in &out {
        for (step, input) in row.steps.iter().zip(&row.inputs) {
            let SoftInput::Dense(weights) = input else { panic!("nothing is filtered: {input:?}") };
            assert_eq!((weights.len(), step.top.len(), step.kept_mass), (VOCAB, VOCAB, 1.0));
            assert!((weights.iter().sum::<f64>() - 1.0).abs() < 1e-5);
            assert_eq!(weights[step.token_id as usize], step.top[0].1);
        }
    }
}

#[test]
fn a_run_ends_at_eos_at_max_new_and_at_the_last_position() {
    let greedy = || options(PipelineConfig { temperature: 0.0, ..plain() });
    for (name, model) in models() {
        let free = run(&model, &PROMPTS[..1], hard, &greedy()).remove(0);
        assert_eq!((free.stop, free.token_ids.len()), (Stop::MaxNew, 6), "{name}");

        let eos = free.token_ids[2];
        let first = free.token_ids.iter().position(|&id| id == eos).expect("it is there");
        for mode in [soft as fn(usize, usize) -> Mode, hard] {
            let options = GenerateOptions { eos_ids: vec![19, eos], ..greedy() };
            let ended = run(&model, &PROMPTS[..1], mode, &options).remove(0);
            let len = free.token_ids.iter().position(|&id| id == 19 || id == eos);
            assert_eq!(ended.token_ids.len(), len.unwrap_or(first) + 1, "{name}");
            assert_eq!(ended.stop, Stop::Eos, "{name}");
        }
        let none = GenerateOptions { max_new: 0, ..greedy() };
        let none = run(&model, &PROMPTS[..1], hard, &none).remove(0);
        assert_eq!((none.stop, none.token_ids.len()), (Stop::MaxNew, 0), "{name}");
    }
}

/// 8 positions hold 8 tokens; the token after the last one is chosen and never fed.
#[test]
fn the_last_position_ends_a_row_and_not_its_neighbour() {
    for (name, config) in every_family() {
        let model = lively_model(&ModelConfig { max_positions: 8, ..config });
        let long = GenerateOptions { max_new: 30, ..options(plain()) };
        let out = run(&model, &[&[1; 8], &[2; 3], &[3; 7]], soft, &long);
        let lengths: Vec<usize> = out.iter().map(|row| row.token_ids.len()).collect();
        assert_eq!(lengths, [1, 6, 2], "{name}");
        assert!(out.iter().all(|row| row.stop == Stop::MaxPositions), "{name}");
        let prefixed = model.with_prefix(3, 5).expect("3 of 8 positions");
        let out = run(&prefixed, &[&[1; 5], &[2; 3]], hard, &long);
        assert_eq!([out[0].token_ids.len(), out[1].token_ids.len()], [1, 3], "{name}");
    }
}

#[test]
fn a_prompt_that_cannot_be_run_is_refused_before_anything_runs() {
    let model = llama();
    let refused = |prompts: &[Vec<u32>]| {
        let options = options(plain());
        generate(&model, prompts, &soft, &options, &mut |_, _, _| panic!("nothing may run"))
            .expect_err("refused")
    };
    let none = refused(&[]);
    assert!(none.to_string().contains("no prompt was given"), "{none}");
    let empty = refused(&[vec![1], vec![]]);
    assert!(empty.to_string().contains("prompt 1 has no tokens"), "{empty}");
    let unknown = refused(&[vec![1, 2], vec![3, 20]]);
    let Error::TokenOutOfVocabulary { token: 20, vocab_size: 20, position: 1 } = unknown else {
        panic!("{unknown}");
    };
    let long = refused(&[vec![1], vec![2; 65]]);
    let Error::PromptTooLong { len: 65, prefix_len: 0, max_positions: 64 } = long else {
        panic!("{long}");
    };
    let prefixed = model.clone().with_prefix(4, 5).expect("4 of 64 positions");
    let long = generate(&prefixed, &[vec![2; 61]], &soft, &options(plain()), &mut |_, _, _| {});
    assert!(matches!(long, Err(Error::PromptTooLong { len: 61, prefix_len: 4, .. })));
}

#[test]
fn a_saved_model_generates_what_it_did() {
    for (name, config) in every_family() {
        let model = lively_model(&config);
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(folder.path().join("config.json"), config.to_hf().to_string())
            .expect("written");
        let path = folder.path().join("model.safetensors");
        save_safetensors(&path, &model.named_tensors()).expect("written");
        let files = ModelFiles::open(folder.path()).expect("what was written opens");
        let read = Transformer::from_weights(&files.config, &files.weights, &device(), DType::F32)
            .expect("the tensors fit");
        let greedy = options(PipelineConfig { temperature: 0.0, ..plain() });
        for options in [greedy, options(noisy())] {
            let (a, b) =
                (run(&read, &PROMPTS, mixed, &options), run(&model, &PROMPTS, mixed, &options));
            a.iter().zip(&b).for_each(|(a, b)| assert_same_run(name, a, b));
        }
    }
}

#[test]
fn adapters_are_heard_in_generation() {
    struct Nudge;
    impl ModuleMapper for Nudge {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let dims = param.val().dims();
            if dims[0] != 3 {
                return param;
            }
            param.map(|x| {
                let nudges = (0..dims.iter().product::<usize>()).map(|i| (i as f64).cos() * 0.1);
                x.clone() + float_tensor(nudges.collect(), dims, &x.device(), x.dtype())
            })
        }
    }
    for (name, base) in models() {
        let targets = ["q_proj", "down_proj"].map(str::to_owned);
        let fresh = base.clone().with_low_rank(3, 6.0, &targets, 5).expect("valid");
        let of = |model: &Transformer| run(model, &PROMPTS, soft, &options(plain()));
        assert_eq!(of(&base), of(&fresh), "{name}");
        let mut trained = fresh.map(&mut Nudge);
        assert_ne!(of(&base), of(&trained), "{name}");
        trained.set_low_rank(false);
        assert_eq!(of(&base), of(&trained), "{name}");
    }
}
