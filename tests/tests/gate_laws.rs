//! Generations whose thoughts are soft only in part, that feed hidden states, or that go on after
//! given thoughts; and where what they feed lies among the tokens.

use std::collections::BTreeSet;

use burn::tensor::DType;
use soft_core::{Feed, NormMatch, PipelineConfig, SoftPipeline, host_values};
use soft_model::{
    EntropyOf, Event, Family, Feedback, Gate, GenerateOptions, Generation, Manner, Mode, SoftInput,
    Span, Switch, Thinking, Transformer, embedding_norms, generate, generate_after, replay,
};
use soft_tests::{device, tiny_model};

const MAX_NEW: usize = 10;

fn prompts() -> Vec<Vec<u32>> {
    vec![vec![1, 5, 6], vec![2, 12, 3, 4, 5], vec![7], vec![3, 9, 14, 2]]
}

fn model() -> Transformer {
    tiny_model(Family::Llama, &device(), DType::F32)
}

fn pipeline(config: PipelineConfig) -> SoftPipeline {
    SoftPipeline::new(config).expect("valid settings")
}

fn top(k: usize) -> PipelineConfig {
    PipelineConfig { top_k: k, ..Default::default() }
}

fn drawn() -> Manner {
    Manner::new(pipeline(top(4)), Mode::Hard)
}

fn options(config: PipelineConfig, span: Span, gate: Gate, answer: Manner) -> GenerateOptions {
    GenerateOptions {
        thoughts: Manner::new(pipeline(config), Mode::Soft),
        thinking: Some(Thinking { span, gate, answer }),
        max_new: MAX_NEW,
        seed: 9,
        record: true,
        keep_inputs: true,
        ..GenerateOptions::default()
    }
}

fn run(options: &GenerateOptions) -> Vec<Generation> {
    let mode = options.thoughts.mode;
    generate(&model(), &prompts(), &|_, _| mode, options, &mut |_, _, _| {}).expect("it fits")
}

fn entropy_gate(of: EntropyOf, threshold: f64) -> Gate {
    Gate::Entropy { of, threshold, hard_ids: BTreeSet::new() }
}

fn modes(generation: &Generation) -> Vec<Mode> {
    generation.steps.iter().map(|step| step.mode).collect()
}

/// The same tokens and inputs; records may differ in what they watched.
fn assert_same(found: &[Generation], expected: &[Generation], what: &str) {
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!(found.token_ids, expected.token_ids, "{what}");
        assert_eq!(found.inputs, expected.inputs, "{what}");
    }
}

#[test]
fn a_gate_at_the_ends_of_its_range_gives_the_soft_or_the_hard_run() {
    let soft = run(&options(top(6), Span::Everywhere, Gate::Open, drawn()));
    let hard = GenerateOptions {
        thoughts: drawn(),
        thinking: None,
        ..options(top(6), Span::Everywhere, Gate::Open, drawn())
    };
    let hard = run(&hard);
    for of in [EntropyOf::Tempered, EntropyOf::Raw, EntropyOf::Kept] {
        let at = |threshold| {
            run(&options(top(6), Span::Everywhere, entropy_gate(of, threshold), drawn()))
        };
        assert_same(&at(0.0), &soft, "at 0 every position is soft");
        let most = if of == EntropyOf::Kept { 1.0 } else { 20f64.ln() };
        assert_same(&at(most), &hard, "at the largest entropy none is");
    }
}

#[test]
fn a_gate_is_soft_where_the_entropy_that_it_looks_at_is_high() {
    let config = PipelineConfig { temperature: 0.7, ..top(6) };
    let thresholds = [(EntropyOf::Tempered, 1.0), (EntropyOf::Raw, 1.3), (EntropyOf::Kept, 0.7)];
    for (of, threshold) in thresholds {
        let gate = entropy_gate(of, threshold);
        let found = run(&options(config.clone(), Span::First(8), gate, drawn()));
        let mut seen = BTreeSet::new();
        for (prompt, row) in prompts().iter().zip(&found) {
            let logits = replay(&model(), prompt, &row.inputs[..MAX_NEW - 1]);
            let own = pipeline(config.clone());
            let entropies = host_values(match of {
                EntropyOf::Tempered => own.entropy_nats(logits),
                EntropyOf::Raw => soft_core::entropy_nats(logits, 1.0),
                EntropyOf::Kept => own.entropy_share(&own.probs(logits)),
            });
            for (step, record) in row.steps.iter().enumerate() {
                let entropy = entropies[prompt.len() - 1 + step];
                let soft = step < 8 && entropy >= threshold;
                // Rounding may decide at the very threshold.
                assert!((entropy - threshold).abs() < 1e-4 || (record.mode == Mode::Soft) == soft);
                assert_eq!(record.thinks, step < 8);
                seen.insert(record.mode == Mode::Soft);
            }
            assert_eq!(row.tally.soft, modes(row).iter().filter(|&&m| m == Mode::Soft).count());
            assert_eq!(row.tally.thoughts, 8);
        }
        assert_eq!(seen.len(), 2, "{of:?}: some positions are soft and some are not");
    }
}

#[test]
fn tokens_that_are_always_hard_are_so_wherever_they_are_drawn() {
    let gate = |hard_ids| Gate::Entropy { of: EntropyOf::Kept, threshold: 0.0, hard_ids };
    let of = |ids| run(&options(top(6), Span::Everywhere, gate(ids), drawn()));
    let hard = run(&GenerateOptions {
        thoughts: drawn(),
        thinking: None,
        ..options(top(6), Span::Everywhere, Gate::Open, drawn())
    });
    assert_same(&of((0..20).collect()), &hard, "all tokens");
    let some: BTreeSet<u32> =
        hard.iter().flat_map(|row| row.token_ids.iter().copied()).take(5).collect();
    let rows = of(some.clone());
    let steps: Vec<_> = rows.iter().flat_map(|row| &row.steps).collect();
    assert!(steps.iter().any(|step| step.mode == Mode::Hard));
    assert!(steps.iter().any(|step| step.mode == Mode::Soft));
    for step in steps {
        assert!(step.mode == Mode::Soft || some.contains(&step.token_id), "{step:?}");
    }
}

#[test]
fn a_switch_turns_as_the_entropy_does_and_its_turns_mix_in_the_tags() {
    let switch = Switch {
        window: 2,
        max_switches: None,
        enter: 0.5,
        leave: 0.6,
        open: vec![17],
        close: vec![18],
        hard_ids: BTreeSet::new(),
    };
    let turns = |switch: Switch, span| {
        run(&options(PipelineConfig::default(), span, Gate::Switch(switch), drawn()))
    };
    let found = turns(switch.clone(), Span::Everywhere);
    let mut events = 0;
    for (prompt, row) in prompts().iter().zip(&found) {
        let logits = replay(&model(), prompt, &row.inputs[..MAX_NEW - 1]);
        let entropies = host_values(soft_core::entropy_nats(logits, 1.0));
        let (mut hard, mut stay, mut reference) = (false, 0, entropies[prompt.len() - 1]);
        for (step, record) in row.steps.iter().enumerate().skip(1) {
            let entropy = entropies[prompt.len() - 1 + step];
            stay += 1;
            let leaves = !hard && entropy < reference;
            let enters = hard && entropy > reference && stay >= 2;
            if leaves || enters {
                (hard, stay, reference) = (leaves, 0, entropy);
                events += 1;
                let (tag, event) = match leaves {
                    true => (18, Event::SwitchToHard),
                    false => (17, Event::SwitchToSoft),
                };
                assert_eq!(record.event, Some(event));
                let SoftInput::Dense(weights) = &row.inputs[step] else { panic!("a mixture") };
                let start = if leaves { 0.6 } else { 0.5 };
                let own = start + (1.0 - start) * step as f64 / MAX_NEW as f64;
                assert!(weights[tag] >= 1.0 - own - 1e-6, "{weights:?}");
                assert!((weights.iter().sum::<f64>() - 1.0).abs() < 1e-5);
            }
            let soft = !hard || leaves;
            assert_eq!(record.mode == Mode::Soft, soft, "step {step}");
        }
    }
    assert!(events > 3, "{events} turns");

    let span = Span::Tags { open: vec![], close: vec![18] };
    let limit = Switch { max_switches: Some(1), leave: 0.1, ..switch };
    let mut limits = 0;
    for row in turns(limit, span) {
        let Some(turn) = row.steps.iter().position(|s| s.event == Some(Event::SwitchLimit)) else {
            assert_eq!(row.tally.switches, 0);
            continue;
        };
        limits += 1;
        assert_eq!((row.token_ids[turn], row.steps[turn].mode), (18, Mode::Hard));
        assert!(row.steps[turn + 1..].iter().all(|step| !step.thinks));
    }
    assert!(limits > 0, "some thought is closed by the limit, and none by the tag mixed in");
}

#[test]
fn hidden_states_are_fed_as_they_are_and_the_answer_follows() {
    let mut options = options(top(6), Span::First(4), Gate::Open, drawn());
    options.thoughts.feedback = Feedback::Hidden;
    let model = model();
    for (prompt, row) in prompts().iter().zip(run(&options)) {
        let thoughts = row.inputs[..4].iter();
        let vectors = thoughts.map(|input| match input {
            SoftInput::Vector(values) => values.clone(),
            other => panic!("{other:?} is no hidden state"),
        });
        // A hidden state gives the logits of its position: that is what makes it one.
        let logits = host_values(replay(&model, prompt, &row.inputs[..3]));
        let vocab = 20;
        for (step, vector) in vectors.enumerate() {
            let hidden = SoftInput::Vector(vector).mix(&model.embedding());
            let own = host_values(model.output_head().logits(hidden));
            let place = (prompt.len() - 1 + step) * vocab;
            for (own, replayed) in own.iter().zip(&logits[place..place + vocab]) {
                assert!((own - replayed).abs() < 1e-3, "step {step}");
            }
        }
        assert!(row.steps[..4].iter().all(|step| step.fed == Some(Vec::new())));
        assert!(row.steps[4..].iter().all(|step| step.mode == Mode::Hard));
        assert!(row.steps[0].geometry.hull_distance > 0.0, "it is no mixture of tokens");
    }
}

#[test]
fn a_generation_goes_on_from_given_thoughts_as_it_did_from_its_own() {
    let greedy = Manner::new(
        pipeline(PipelineConfig { temperature: 0.0, ..Default::default() }),
        Mode::Hard,
    );
    let whole = run(&options(top(6), Span::First(4), Gate::Open, greedy.clone()));
    // Rows of different lengths, one of them with no thought at all.
    let thoughts: Vec<Vec<SoftInput>> =
        whole.iter().enumerate().map(|(row, g)| g.inputs[..[4, 2, 0, 3][row]].to_vec()).collect();
    let answer = options(top(6), Span::First(0), Gate::Open, greedy);
    let model = model();
    let made = generate_after(
        &model,
        &prompts(),
        &thoughts,
        &|_, _| Mode::Soft,
        &GenerateOptions { max_new: 6, ..answer.clone() },
        &mut |_, _, _| {},
    )
    .expect("it fits");
    assert_eq!(made[0].token_ids, whole[0].token_ids[4..], "the whole thought: the same answer");
    assert_eq!(made[0].steps[0].position, whole[0].steps[4].position);
    for (row, (prompt, made)) in prompts().iter().zip(&made).enumerate() {
        let inputs = [thoughts[row].clone(), made.inputs[..5].to_vec()].concat();
        let logits = replay(&model, prompt, &inputs);
        let entropies = host_values(soft_core::entropy_nats(logits, 1.0));
        for (step, record) in made.steps.iter().enumerate() {
            let replayed = entropies[prompt.len() + thoughts[row].len() - 1 + step];
            assert!((replayed - record.entropy_nats).abs() < 1e-4, "row {row} step {step}");
        }
    }
    let none = generate_after(
        &model,
        &prompts(),
        &vec![Vec::new(); 4],
        &|_, _| Mode::Soft,
        &answer,
        &mut |_, _, _| {},
    );
    let plain = generate(&model, &prompts(), &|_, _| Mode::Soft, &answer, &mut |_, _, _| {});
    assert_eq!(none.expect("it fits"), plain.expect("it fits"));
    let far = vec![vec![thoughts[0][0].clone(); 80]; 4];
    let made =
        generate_after(&model, &prompts(), &far, &|_, _| Mode::Soft, &answer, &mut |_, _, _| {});
    assert_eq!(made.expect_err("64 positions").exit_code(), 3);
}

#[test]
fn a_contrast_moves_away_from_the_likeliest_token_by_the_share_of_the_entropy() {
    let config = PipelineConfig { max_top_k: 3, feed: Feed::Contrast, ..top(6) };
    for row in run(&options(config, Span::Everywhere, Gate::Open, drawn())) {
        for (step, input) in row.steps.iter().zip(&row.inputs) {
            let p: Vec<f64> = step.top.iter().map(|entry| entry.1).collect();
            let share = -p.iter().map(|p| p * p.ln()).sum::<f64>() / 3f64.ln();
            let SoftInput::Tokens(fed) = input else { panic!("three tokens") };
            let weight = |id| fed.iter().find(|entry| entry.0 == id).map_or(0.0, |entry| entry.1);
            for (place, &(id, p)) in step.top.iter().enumerate() {
                let expected = (1.0 + share) * p - if place == 0 { share } else { 0.0 };
                assert!((weight(id) - expected).abs() < 1e-5, "{step:?}");
            }
            assert_eq!(step.token_id, step.top[0].0, "it stands for the likeliest token");
            let convex = step.top.iter().all(|&(id, _)| weight(id) >= 0.0);
            assert_eq!(step.geometry.hull_distance > 1e-6, !convex, "{step:?}");
        }
    }
}

#[test]
fn a_repetition_penalty_makes_what_the_row_holds_less_likely() {
    let greedy = pipeline(PipelineConfig { temperature: 0.0, ..Default::default() });
    let of = |penalty| {
        let thoughts =
            Manner { repetition_penalty: penalty, ..Manner::new(greedy.clone(), Mode::Hard) };
        let base = options(top(6), Span::Everywhere, Gate::Open, drawn());
        run(&GenerateOptions { thoughts, thinking: None, ..base })
    };
    let repeats = |rows: &[Generation]| -> usize {
        let of = |row: &Generation| {
            row.token_ids.len() - row.token_ids.iter().collect::<BTreeSet<_>>().len()
        };
        rows.iter().map(of).sum()
    };
    let (plain, strong) = (of(1.0), of(1e6));
    assert!(repeats(&strong) < repeats(&plain), "{} {}", repeats(&strong), repeats(&plain));
    // What is seen is as good as impossible while other tokens have logits above 0.
    let seen = |row: &Generation, prompt: &[u32]| {
        let first = row.token_ids[0];
        prompt.contains(&first)
    };
    for (row, prompt) in strong.iter().zip(prompts()) {
        assert!(!seen(row, &prompt), "{:?} after {prompt:?}", row.token_ids);
    }
}

#[test]
fn the_place_of_what_was_fed_is_that_of_its_vector() {
    let model = model();
    let embedding = model.embedding();
    let (values, width) = (host_values(embedding.clone()), 16);
    let rows: Vec<&[f64]> = values.chunks_exact(width).collect();
    let length = |x: &[f64]| x.iter().map(|x| x * x).sum::<f64>().sqrt();
    let apart =
        |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt();
    let scaled = PipelineConfig { norm_match: NormMatch::Rms, ..top(3) };
    for (config, convex) in [(top(3), true), (PipelineConfig::default(), true), (scaled, false)] {
        let mut beyond = 0;
        for row in run(&options(config.clone(), Span::First(6), Gate::Open, drawn())) {
            for (step, input) in row.steps.iter().zip(&row.inputs) {
                let fed = host_values(input.mix(&embedding));
                let place = step.geometry;
                let near = |id: usize| apart(&fed, rows[id]);
                let nearest = (0..20).min_by(|&a, &b| near(a).total_cmp(&near(b))).expect("20");
                assert!((near(nearest) - place.distance).abs() < 1e-4);
                assert!((near(place.nearest_id as usize) - place.distance).abs() < 1e-4);
                assert!((length(&fed) - place.norm).abs() < 1e-4);
                let dot: f64 =
                    fed.iter().zip(rows[place.nearest_id as usize]).map(|(a, b)| a * b).sum();
                let cosine = dot / length(&fed) / length(rows[place.nearest_id as usize]);
                assert!((cosine - place.cosine).abs() < 1e-4);
                if step.mode == Mode::Hard {
                    assert_eq!((place.nearest_id, place.hull_distance), (step.token_id, 0.0));
                    assert!(place.distance < 1e-4 && (place.token_norm - place.norm).abs() < 1e-4);
                }
                beyond += usize::from(place.hull_distance > 1e-3);
            }
        }
        assert_eq!(beyond == 0, convex, "{config:?}: {beyond} steps outside of their hull");
    }
    let [low, median, high] = embedding_norms(&model);
    let mut norms: Vec<f64> = rows.iter().map(|row| length(row)).collect();
    norms.sort_by(f64::total_cmp);
    assert!((low - norms[1]).abs() < 1e-4 && (high - norms[18]).abs() < 1e-4);
    assert!(low <= median && median <= high);
}

#[test]
fn records_take_memory_by_their_entries_and_not_by_the_vocabulary() {
    let dense = options(PipelineConfig::default(), Span::Everywhere, Gate::Open, drawn());
    let lean = GenerateOptions { keep_inputs: false, top: 3, ..dense };
    for row in run(&lean) {
        assert!(row.inputs.is_empty(), "no `[vocab]` row outlives its step");
        assert!(row.steps.iter().all(|step| step.top.len() == 3 && step.fed.is_none()));
    }
}
