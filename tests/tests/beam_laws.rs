//! Beam search over tokens and mixtures, and votes.

use burn::tensor::DType;
use burn::tensor::activation::log_softmax;
use soft_core::{NormMatch, PipelineConfig, SoftPipeline, host_values};
use soft_model::{
    BeamKind, BeamOptions, Beams, ColdStop, Family, Gate, GenerateOptions, Generation, Manner,
    Mode, SoftInput, Span, Stop, Thinking, Transformer, beam_search, generate, replay,
};
use soft_tests::{device, tiny_model};

const MAX_NEW: usize = 6;
const VOCAB: usize = 20;

fn prompts() -> Vec<Vec<u32>> {
    vec![vec![1, 5, 6], vec![2, 12, 3, 4, 5], vec![7], vec![3, 9, 14, 2]]
}

fn model() -> Transformer {
    tiny_model(Family::Llama, &device(), DType::F32)
}

fn manner(config: PipelineConfig, mode: Mode) -> Manner {
    Manner::new(SoftPipeline::new(config).expect("valid settings"), mode)
}

fn options(config: PipelineConfig) -> GenerateOptions {
    GenerateOptions {
        thoughts: manner(config, Mode::Soft),
        max_new: MAX_NEW,
        seed: 4,
        ..GenerateOptions::default()
    }
}

fn search(options: &GenerateOptions, kind: BeamKind, beams: usize) -> Vec<Beams> {
    let beams = BeamOptions { kind, beams, length_penalty: 0.0 };
    beam_search(&model(), &prompts(), options, &beams).expect("it fits")
}

fn run(options: &GenerateOptions) -> Vec<Generation> {
    let mode = options.thoughts.mode;
    generate(&model(), &prompts(), &|_, _| mode, options, &mut |_, _, _| {}).expect("it fits")
}

fn tokens(beams: &[Beams]) -> Vec<Vec<u32>> {
    beams.iter().map(|beams| beams.sequences[0].0.token_ids.clone()).collect()
}

fn greedy() -> PipelineConfig {
    PipelineConfig { temperature: 0.0, ..Default::default() }
}

#[test]
fn one_beam_of_tokens_is_greedy_and_stops_where_it_does() {
    let plain =
        run(&GenerateOptions { thoughts: manner(greedy(), Mode::Hard), ..options(greedy()) });
    for eos_ids in [vec![], vec![plain[0].token_ids[2], plain[2].token_ids[1]]] {
        let options = GenerateOptions { eos_ids, ..options(PipelineConfig::default()) };
        let hard = GenerateOptions { thoughts: manner(greedy(), Mode::Hard), ..options.clone() };
        for (beams, greedy) in search(&options, BeamKind::Tokens, 1).iter().zip(run(&hard)) {
            let (row, _) = &beams.sequences[0];
            assert_eq!((beams.sequences.len(), &row.token_ids), (1, &greedy.token_ids));
            assert_eq!(row.stop, greedy.stop);
        }
    }
}

#[test]
fn enough_beams_find_the_likeliest_of_all_sequences() {
    // Two tokens more, of 20 each: 400 sequences, every first token kept.
    let options = GenerateOptions { max_new: 2, ..options(PipelineConfig::default()) };
    let model = model();
    for (prompt, beams) in prompts().iter().zip(search(&options, BeamKind::Tokens, VOCAB)) {
        let log_probs = |ids: &[u32]| {
            let logits = model.logits(model.embed(ids, 1));
            host_values(log_softmax(logits.narrow(0, ids.len() - 1, 1), 1))
        };
        let first = log_probs(prompt);
        let mut all: Vec<(f64, [u32; 2])> = (0..VOCAB as u32)
            .flat_map(|a| {
                let second = log_probs(&[&prompt[..], &[a]].concat());
                let score = first[a as usize];
                (0..VOCAB as u32)
                    .map(move |b| (score + second[b as usize], [a, b]))
                    .collect::<Vec<_>>()
            })
            .collect();
        all.sort_by(|a, b| b.0.total_cmp(&a.0));
        assert_eq!(beams.sequences.len(), VOCAB);
        for ((row, score), (expected, ids)) in beams.sequences.iter().zip(&all).take(5) {
            assert!((score - expected).abs() < 1e-4, "{score} {expected}");
            assert_eq!(row.token_ids, ids);
        }
        assert_eq!(beams.forward_tokens, 2 * VOCAB, "two tokens of every beam");
    }
}

#[test]
fn a_soft_beam_that_mixes_nothing_is_beam_search() {
    for beams in [1, 3] {
        let options = options(PipelineConfig { top_k: 8, ..Default::default() });
        let plain = search(&options, BeamKind::Tokens, beams);
        assert_eq!(search(&options, BeamKind::Around { mixing: 0.0 }, beams), with_soft(&plain));
        let mixed = search(&options, BeamKind::Around { mixing: 0.5 }, beams);
        let score = |found: &[Beams]| found.iter().map(|b| b.sequences[0].1).collect::<Vec<_>>();
        assert_ne!(score(&mixed), score(&plain), "what is fed matters");
        let hard = GenerateOptions {
            thoughts: Manner { mode: Mode::Hard, ..options.thoughts.clone() },
            ..options
        };
        assert_eq!(search(&hard, BeamKind::Around { mixing: 0.5 }, beams), plain);
    }
}

#[test]
fn a_child_feeds_its_token_mixed_with_its_parents_distribution() {
    let (model, mixing) = (model(), 0.4);
    let found = search(&options(PipelineConfig::default()), BeamKind::Around { mixing }, 1);
    for (prompt, beams) in prompts().iter().zip(&found) {
        let (row, score) = &beams.sequences[0];
        let (mut inputs, mut sum) = (Vec::new(), 0.0);
        for &token in &row.token_ids {
            let logits = replay(&model, prompt, &inputs);
            let last = logits.dims()[0] - 1;
            let log_probs = host_values(log_softmax(logits.narrow(0, last, 1), 1));
            sum += log_probs[token as usize];
            let mut weights: Vec<f64> = log_probs.iter().map(|log| mixing * log.exp()).collect();
            weights[token as usize] += 1.0 - mixing;
            inputs.push(SoftInput::Dense(weights));
        }
        assert!((score - sum).abs() < 1e-3, "{score} {sum}");
    }
}

/// The same beams, whose positions are called soft.
fn with_soft(beams: &[Beams]) -> Vec<Beams> {
    let mut beams = beams.to_vec();
    for (row, _) in beams.iter_mut().flat_map(|beams| &mut beams.sequences) {
        row.tally.soft = row.token_ids.len();
    }
    beams
}

#[test]
fn one_beam_of_mixtures_is_the_plain_mixture() {
    for config in [
        PipelineConfig { top_k: 6, ..Default::default() },
        PipelineConfig::default(),
        PipelineConfig { top_k: 6, norm_match: NormMatch::L2, ..Default::default() },
    ] {
        let options = options(config);
        let found = search(&options, BeamKind::Mixtures, 1);
        let soft: Vec<Vec<u32>> = run(&options).into_iter().map(|row| row.token_ids).collect();
        assert_eq!(tokens(&found), soft);
        assert!(found.iter().all(|beams| beams.sequences[0].1.abs() < 1e-4), "it has all the mass");
    }
}

#[test]
fn several_beams_of_mixtures_share_the_mass_and_part_by_direction() {
    let options = options(PipelineConfig::default());
    let two = GenerateOptions { max_new: 1, ..options.clone() };
    for beams in search(&two, BeamKind::Mixtures, 2) {
        let mass: f64 = beams.sequences.iter().map(|(_, score)| score.exp()).sum();
        assert_eq!(beams.sequences.len(), 2);
        assert!((mass - 1.0).abs() < 1e-5, "two parts are the whole: {mass}");
    }
    for beams in search(&options, BeamKind::Mixtures, 4) {
        let mass: f64 = beams.sequences.iter().map(|(_, score)| score.exp()).sum();
        assert!(beams.sequences.len() == 4 && mass < 1.0 + 1e-5 && mass > 0.05, "{mass}");
        assert!(beams.sequences.windows(2).all(|pair| pair[0].1 >= pair[1].1));
    }
}

#[test]
fn beams_think_and_then_answer_in_tokens() {
    let answer = manner(PipelineConfig::default(), Mode::Hard);
    let thinking = |span| Some(Thinking { span, gate: Gate::Open, answer: answer.clone() });
    let config = PipelineConfig { top_k: 6, ..Default::default() };
    for kind in [BeamKind::Around { mixing: 0.5 }, BeamKind::Mixtures] {
        let first =
            GenerateOptions { thinking: thinking(Span::First(3)), ..options(config.clone()) };
        for (row, _) in search(&first, kind, 3).iter().flat_map(|beams| &beams.sequences) {
            assert_eq!((row.tally.thoughts, row.tally.soft), (3, 3));
            assert_eq!((row.token_ids.len(), row.stop), (MAX_NEW, Stop::MaxNew));
        }
        let mut tags = GenerateOptions {
            thinking: thinking(Span::Tags { open: vec![], close: vec![18, 19] }),
            ..options(config.clone())
        };
        tags.thoughts.cold_stop = Some(ColdStop { entropy: f64::INFINITY, length: 2 });
        for (row, _) in search(&tags, kind, 3).iter().flat_map(|beams| &beams.sequences) {
            assert_eq!(row.token_ids[1..3], [18, 19], "the second certain step closes the thought");
            assert_eq!((row.tally.thoughts, row.tally.soft, row.tally.cold_stops), (2, 1, 1));
        }
        for beams in search(&tags, kind, 3) {
            let rows: Vec<_> = beams.sequences.iter().map(|(row, _)| &row.token_ids).collect();
            assert!((1..rows.len()).all(|i| !rows[..i].contains(&rows[i])), "{rows:?}");
        }
    }
}

#[test]
fn a_prompt_alone_has_the_beams_that_it_has_among_others() {
    let options = options(PipelineConfig { top_k: 8, ..Default::default() });
    let beams =
        BeamOptions { kind: BeamKind::Around { mixing: 0.3 }, beams: 3, length_penalty: 1.0 };
    let together = beam_search(&model(), &prompts(), &options, &beams).expect("it fits");
    for (row, prompt) in prompts().into_iter().enumerate() {
        let alone = &beam_search(&model(), &[prompt], &options, &beams).expect("it fits")[0];
        for ((a, score), (b, other)) in alone.sequences.iter().zip(&together[row].sequences) {
            assert_eq!(a.token_ids, b.token_ids);
            assert!((score - other).abs() < 1e-4);
        }
    }
    let none = BeamOptions { beams: 0, ..beams };
    let error = beam_search(&model(), &prompts(), &options, &none).expect_err("no beam");
    assert_eq!(error.exit_code(), 2);
}
