use burn::tensor::{DType, Device};
use soft_core::{Action, Policy, SoftPipeline};

use super::*;
use crate::active::Active;
use crate::config::tests::config;
use crate::config::{Family, ModelConfig};
use crate::gate::Gate;
use crate::generate::{GenerateOptions, draw};
use crate::record::Mode;
use crate::thinking::{Manner, Span, Thinking};

const POLICIES: [Policy; 6] = [
    Policy::Token,
    Policy::Samples { count: 3 },
    Policy::Gumbel { temperature: 0.7 },
    Policy::Gaussian { sigma: 0.4 },
    Policy::Hybrid,
    Policy::Dirichlet { concentration: 3.0 },
];

fn model(device: &Device) -> Transformer {
    Transformer::from_seed(&config(Family::Llama), 3, device, DType::F64)
}

fn prompts() -> Vec<Vec<u32>> {
    vec![vec![1, 2, 3, 4], vec![5], vec![6, 7], vec![1, 2, 3, 4]]
}

fn thinking(span: Span) -> GenerateOptions {
    let manner = |mode| Manner::new(SoftPipeline::default(), mode);
    GenerateOptions {
        thoughts: manner(Mode::Soft),
        thinking: Some(Thinking { span, gate: Gate::Open, answer: manner(Mode::Hard) }),
        max_new: 6,
        eos_ids: vec![3],
        seed: 11,
        ..GenerateOptions::default()
    }
}

/// What is scored in one pass is what was drawn step by step: the log-probability of each draw
/// under the logits of a generation that goes on from its own inputs.
#[test]
fn one_pass_scores_what_was_drawn_step_by_step() {
    let model = model(&Device::flex());
    let tags = Span::Tags { open: vec![], close: vec![2, 9] };
    for (policy, span) in POLICIES.into_iter().flat_map(|policy| {
        [Span::First(3), tags.clone(), Span::Everywhere].map(|span| (policy, span))
    }) {
        let mut options = thinking(span);
        options.keep_inputs = !matches!(policy, Policy::Gaussian { .. });
        let (rows, drawn) =
            draw(&model, &prompts(), Mode::Soft, policy, &options).expect("valid settings");
        let found = drawn.log_probs(&model);
        let embedding = model.embedding();
        let mut scored = 0;
        for (row, generation) in rows.iter().enumerate() {
            let steps = generation.token_ids.len();
            for (step, drawn_step) in drawn.steps.iter().enumerate() {
                let used = drawn_step.uses[row];
                assert_eq!(used == Use::Over, step >= steps, "{policy:?}, row {row}, step {step}");
                let Some(place) = used.draw() else {
                    assert_eq!(found[step][row], 0.0);
                    continue;
                };
                // The row alone, from what was fed to it.
                let one = drawn.clone().row(row);
                let alone = one.log_probs(&model);
                assert!((alone[step][0] - found[step][row]).abs() < 1e-9);
                if options.keep_inputs {
                    let inputs = &generation.inputs[..step];
                    let logits = crate::replay(&model, &drawn.prompts[row], inputs);
                    let last = logits.dims()[0] - 1;
                    let logits = logits.narrow(0, last, 1).repeat_dim(0, drawn.batch());
                    let expected = drawn_step.draws[place].as_ref().expect("a draw");
                    let expected = host_values(expected.relative_log_prob(logits, &embedding))[row];
                    assert!((expected - found[step][row]).abs() < 1e-9, "{policy:?}");
                    scored += 1;
                }
            }
        }
        assert!(scored > 8 || !options.keep_inputs, "{scored}");
    }
}

/// A row that ends at the last position that the model has is scored as it was drawn.
#[test]
fn rows_that_end_at_different_positions_are_scored_to_the_end() {
    let config = ModelConfig { max_positions: 8, ..config(Family::Gpt2) };
    let model = Transformer::from_seed(&config, 3, &Device::flex(), DType::F64);
    let options = GenerateOptions { eos_ids: Vec::new(), ..thinking(Span::First(2)) };
    let prompts = [vec![1, 2, 3, 4, 5, 6], vec![7]];
    let (rows, drawn) = draw(&model, &prompts, Mode::Soft, Policy::Token, &options).expect("fine");
    assert!(rows[0].token_ids.len() < rows[1].token_ids.len());
    let log_probs = drawn.log_probs(&model);
    for row in 0..drawn.batch() {
        let alone = drawn.row(row).log_probs(&model);
        for (alone, together) in alone.iter().zip(&log_probs) {
            assert!((alone[0] - together[row]).abs() < 1e-9);
            assert!(alone[0] < 0.0);
        }
    }
}

/// Additions that act on soft inputs act in the pass that scores as in the one that drew, whatever
/// the policy: a thought of one token is a soft input too.
#[test]
fn thoughts_of_one_token_are_scored_as_soft_inputs() {
    let bare = model(&Device::flex());
    let mut model = bare.clone().with_low_rank(2, 4.0, &["q_proj".to_owned()], 5).expect("fits");
    for block in &mut model.blocks {
        let branch = block.attention.query.low_rank.as_mut().expect("attached");
        branch.b = branch.b.clone().map(|b| b + 0.7);
    }
    let model = model.with_active(Active::Soft);
    let options = GenerateOptions { keep_inputs: true, ..thinking(Span::First(3)) };
    let (rows, drawn) =
        draw(&model, &prompts(), Mode::Soft, Policy::Token, &options).expect("valid settings");
    let (found, without) = (drawn.log_probs(&model), drawn.log_probs(&bare));
    // The second thought comes after a soft input, the first after the prompt alone.
    assert!((found[0][0] - without[0][0]).abs() < 1e-12);
    assert!((found[1][0] - without[1][0]).abs() > 1e-6, "the branch acts");
    for (step, drawn_step) in drawn.steps.iter().enumerate().take(3) {
        let logits = crate::replay(&model, &drawn.prompts[0], &rows[0].inputs[..step]);
        let last = logits.dims()[0] - 1;
        let logits = logits.narrow(0, last, 1).repeat_dim(0, drawn.batch());
        let draw = drawn_step.draws[0].as_ref().expect("a thought");
        let expected = host_values(draw.log_prob(logits, &model.embedding()))[0];
        assert!((expected - found[step][0]).abs() < 1e-9, "step {step}");
    }
}

#[test]
fn hard_rows_draw_tokens_alone() {
    let model = model(&Device::flex());
    let options = thinking(Span::First(3));
    let (rows, drawn) =
        draw(&model, &prompts(), Mode::Hard, Policy::Gumbel { temperature: 1.0 }, &options)
            .expect("valid settings");
    for (step, drawn_step) in drawn.steps.iter().enumerate() {
        for (row, used) in drawn_step.uses.iter().enumerate() {
            let Some(place) = used.draw() else { continue };
            let draw = drawn_step.draws[place].as_ref().expect("a draw");
            let Action::Tokens(tokens) = &draw.action else { panic!("tokens") };
            let ids: Vec<i64> = tokens.to_data().iter::<i64>().collect();
            assert_eq!(ids[row] as u32, rows[row].token_ids[step]);
        }
    }
}

/// A hybrid thought feeds a mixture, and the token that was drawn stands for it: in the first step
/// that of a generation that draws tokens alone.
#[test]
fn the_token_of_a_hybrid_thought_stands_for_it() {
    let model = model(&Device::flex());
    let options = GenerateOptions { keep_inputs: true, ..thinking(Span::First(3)) };
    let first = |policy| {
        let (rows, drawn) =
            draw(&model, &prompts(), Mode::Soft, policy, &options).expect("valid settings");
        let ids: Vec<u32> = rows.iter().map(|row| row.token_ids[0]).collect();
        (ids, rows, drawn)
    };
    let (tokens, ..) = first(Policy::Token);
    let (found, rows, drawn) = first(Policy::Hybrid);
    assert_eq!(found, tokens);
    let draw = drawn.steps[0].draws[0].as_ref().expect("a thought");
    let Action::Hybrid { weights, .. } = &draw.action else { panic!("a mixture is fed") };
    let heaviest: Vec<i64> = weights.clone().argmax(1).to_data().iter::<i64>().collect();
    let same = heaviest.iter().zip(&found).filter(|(a, b)| **a == i64::from(**b)).count();
    assert!(same < rows.len(), "the test wants a draw that is not the likeliest token");
}

#[test]
fn what_is_no_draw_is_refused() {
    let model = model(&Device::flex());
    let refused = |options: &GenerateOptions, part: &str| {
        let error = draw(&model, &prompts(), Mode::Soft, Policy::Token, options);
        let error = error.expect_err("refused").to_string();
        assert!(error.contains(part), "{error}");
    };
    let mut options = thinking(Span::First(2));
    options.thoughts.repetition_penalty = 1.1;
    refused(&options, "penalized");
    let mut options = thinking(Span::First(2));
    options.thoughts.feedback = crate::Feedback::Hidden;
    refused(&options, "hidden");
    let mut options = thinking(Span::First(2));
    options.thinking.as_mut().expect("there is one").answer.mode = Mode::Soft;
    refused(&options, "the answer is soft");
    let policy = Policy::Samples { count: 0 };
    let error = draw(&model, &prompts(), Mode::Soft, policy, &thinking(Span::First(2)));
    assert!(error.expect_err("refused").to_string().contains("count"));
}
