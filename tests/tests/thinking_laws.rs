//! Generations that think softly for a while and then answer, in a batch whose rows do so at
//! different times.

use burn::tensor::DType;
use soft_core::{Feed, Noise, NormMatch, PipelineConfig, SoftPipeline, host_values};
use soft_model::{
    ColdStop, Family, Gate, GenerateOptions, Generation, Manner, Mode, Span, Stop, Thinking,
    Transformer, generate, replay,
};
use soft_tests::{device, tiny_model};

const MAX_NEW: usize = 10;

fn prompts() -> Vec<Vec<u32>> {
    vec![vec![1, 5, 6], vec![2, 12, 3, 4, 5], vec![7], vec![3, 9, 14, 2]]
}

fn pipeline(config: PipelineConfig) -> SoftPipeline {
    SoftPipeline::new(config).expect("valid settings")
}

fn greedy() -> SoftPipeline {
    pipeline(PipelineConfig { temperature: 0.0, ..Default::default() })
}

fn thinking(span: Span) -> Thinking {
    Thinking { span, gate: Gate::Open, answer: Manner::new(greedy(), Mode::Hard) }
}

/// A span with a cold stop of its thoughts.
fn cold(span: Span, cold_stop: Option<ColdStop>) -> GenerateOptions {
    let mut options = options(soft_config(), Some(thinking(span)));
    options.thoughts.cold_stop = cold_stop;
    options
}

fn options(config: PipelineConfig, thinking: Option<Thinking>) -> GenerateOptions {
    GenerateOptions {
        thoughts: Manner::new(pipeline(config), Mode::Soft),
        thinking,
        max_new: MAX_NEW,
        seed: 9,
        record: true,
        keep_inputs: true,
        top: 5,
        ..GenerateOptions::default()
    }
}

fn model() -> Transformer {
    tiny_model(Family::Llama, &device(), DType::F32)
}

fn run(prompts: &[Vec<u32>], options: &GenerateOptions) -> Vec<Generation> {
    generate(&model(), prompts, &|_, _| Mode::Soft, options, &mut |_, _, _| {}).expect("it fits")
}

fn soft_config() -> PipelineConfig {
    PipelineConfig { top_k: 6, ..Default::default() }
}

fn modes(generation: &Generation) -> Vec<Mode> {
    generation.steps.iter().map(|step| step.mode).collect()
}

/// What a generation chose and believed; f32 sums of another batch may round otherwise.
fn assert_same(a: &Generation, b: &Generation, what: &str) {
    assert_eq!((&a.token_ids, a.stop, modes(a)), (&b.token_ids, b.stop, modes(b)), "{what}");
    for (a, b) in a.steps.iter().zip(&b.steps) {
        assert!((a.entropy_nats - b.entropy_nats).abs() < 1e-4, "{what}: step {}", a.decode_step);
    }
}

#[test]
fn the_first_positions_are_soft_and_the_rest_is_the_answer() {
    let count = 4;
    let found = run(&prompts(), &options(soft_config(), Some(thinking(Span::First(count)))));
    let soft = run(&prompts(), &options(soft_config(), None));
    for (row, (found, soft)) in found.iter().zip(&soft).enumerate() {
        let expected: Vec<Mode> =
            (0..MAX_NEW).map(|t| if t < count { Mode::Soft } else { Mode::Hard }).collect();
        assert_eq!(modes(found), expected);
        assert_eq!(found.token_ids[..count], soft.token_ids[..count], "row {row}");
        // The answer is greedy: the likeliest token of what was believed.
        for step in &found.steps[count..] {
            assert_eq!((step.token_id, step.sampled_id), (step.top[0].0, step.top[0].0));
        }
    }
    let none = run(&prompts(), &options(soft_config(), Some(thinking(Span::First(0)))));
    let hard = GenerateOptions {
        thoughts: Manner::new(greedy(), Mode::Hard),
        ..options(soft_config(), None)
    };
    let hard = generate(&model(), &prompts(), &|_, _| Mode::Hard, &hard, &mut |_, _, _| {});
    for (none, hard) in none.iter().zip(&hard.expect("it fits")) {
        assert_same(none, hard, "no thought at all");
    }
}

#[test]
fn a_closing_tag_is_fed_hard_and_ends_the_thought_of_its_row_alone() {
    let soft = run(&prompts(), &options(soft_config(), None));
    // A token that some rows reach in their thoughts, at different steps, and others never.
    let at = |close: u32| -> Vec<Option<usize>> {
        soft.iter().map(|g| g.token_ids.iter().position(|&id| id == close)).collect()
    };
    let close = (0..20).find(|&id| {
        let places = at(id);
        places.iter().flatten().any(|&t| t > 0 && t + 1 < MAX_NEW) && places.contains(&None)
    });
    let close = close.expect("one of the tokens is such a tag");
    let tags = Span::Tags { open: vec![], close: vec![close] };
    let options = options(soft_config(), Some(thinking(tags)));
    let found = run(&prompts(), &options);
    for ((found, soft), place) in found.iter().zip(&soft).zip(at(close)) {
        let thought = place.unwrap_or(MAX_NEW);
        assert_eq!(found.token_ids[..thought], soft.token_ids[..thought]);
        for (t, mode) in modes(found).into_iter().enumerate() {
            assert_eq!(mode == Mode::Soft, t < thought, "step {t} of {place:?}");
        }
        assert!(place.is_none_or(|t| found.token_ids[t] == close));
    }
    for (row, together) in found.iter().enumerate() {
        let options = GenerateOptions { first_row: row as u32, ..options.clone() };
        let alone = &run(&prompts()[row..=row], &options)[0];
        assert_same(alone, together, &format!("row {row} alone and among others"));
    }
}

#[test]
fn a_tag_outside_the_vocabulary_is_refused_before_anything_is_generated() {
    for tags in [
        Span::Tags { open: vec![], close: vec![20] },
        Span::Tags { open: vec![20], close: vec![3] },
    ] {
        let options = options(soft_config(), Some(thinking(tags)));
        let made = generate(&model(), &prompts(), &|_, _| Mode::Soft, &options, &mut |_, _, _| {});
        assert_eq!(made.expect_err("there are 20 tokens").exit_code(), 4);
    }
}

#[test]
fn a_cold_stop_closes_the_thought_or_ends_the_row() {
    let always = Some(ColdStop { entropy: f64::INFINITY, length: 3 });
    let never = Some(ColdStop { entropy: 0.0, length: 1 });
    let plain = run(&prompts(), &options(soft_config(), None));
    let reached = |id: &u32| plain.iter().any(|row| row.token_ids[..3].contains(id));
    let close = (0..20).find(|id| !reached(id)).expect("twenty tokens, twelve steps");
    let tags = Span::Tags { open: vec![], close: vec![close] };
    for found in run(&prompts(), &cold(tags, always)) {
        let natural = found.token_ids.iter().position(|&id| id == close).expect("closed");
        assert_eq!(natural, 2, "the third certain step, which no row reaches by itself");
        assert_eq!(found.steps[natural].mode, Mode::Hard);
        assert!(modes(&found)[natural..].iter().all(|&mode| mode == Mode::Hard));
    }
    let mut circles = thinking(Span::First(2));
    circles.answer.cold_stop = always;
    for found in run(&prompts(), &options(soft_config(), Some(circles))) {
        assert_eq!((found.stop, found.token_ids.len()), (Stop::ColdStop, 5), "2 and then 3");
    }
    for found in run(&prompts(), &cold(Span::Everywhere, always)) {
        assert_eq!((found.stop, found.token_ids.len()), (Stop::ColdStop, 3));
    }
    let watched = cold(Span::Everywhere, never);
    for (found, plain) in run(&prompts(), &watched).iter().zip(&plain) {
        assert_same(found, plain, "a threshold of 0 never stops");
    }
}

#[test]
fn of_samples_that_weigh_the_same_the_draw_stands_for_the_step() {
    let config = PipelineConfig { feed: Feed::Samples { count: 3 }, ..Default::default() };
    let mut ties = 0;
    for seed in 0..20 {
        for found in run(&prompts(), &GenerateOptions { seed, ..options(config.clone(), None) }) {
            for step in &found.steps {
                let fed = step.fed.as_ref().expect("samples are not the distribution");
                let heaviest: Vec<u32> =
                    fed.iter().take_while(|entry| entry.1 == fed[0].1).map(|e| e.0).collect();
                assert!(heaviest.contains(&step.token_id));
                let drawn = heaviest.contains(&step.sampled_id);
                assert!(!drawn || step.token_id == step.sampled_id, "{step:?}");
                ties += usize::from(heaviest.len() > 1 && heaviest[0] != step.sampled_id);
            }
        }
    }
    assert!(ties > 50, "{ties} ties that the lowest id would have won");
}

#[test]
fn a_replay_of_thoughts_and_answer_gives_what_the_generation_believed() {
    let noise = Noise::Dirichlet { concentration: 3.0 };
    let configs = [
        soft_config(),
        PipelineConfig { norm_match: NormMatch::Rms, ..soft_config() },
        PipelineConfig { norm_match: NormMatch::L2, ..Default::default() },
        PipelineConfig { feed: Feed::Inputs { beta: 0.6 }, ..soft_config() },
        PipelineConfig { feed: Feed::Samples { count: 3 }, ..Default::default() },
        PipelineConfig { noise, ..soft_config() },
    ];
    let model = model();
    for config in configs {
        let options = options(config.clone(), Some(thinking(Span::First(5))));
        for (prompt, found) in prompts().iter().zip(run(&prompts(), &options)) {
            let logits = replay(&model, prompt, &found.inputs[..MAX_NEW - 1]);
            let entropy = host_values(soft_core::entropy_nats(logits, 1.0));
            for (step, believed) in found.steps.iter().enumerate() {
                let replayed = entropy[prompt.len() - 1 + step];
                let error = (replayed - believed.entropy_nats).abs();
                assert!(error < 1e-4, "{config:?}: step {step} differs by {error}");
            }
        }
    }
}
