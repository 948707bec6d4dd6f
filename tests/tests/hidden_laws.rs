//! Hidden states in the place of mixtures: the recurrence, its gradients, and that generation
//! does what was trained.

use burn::module::Module;
use burn::tensor::activation::log_softmax;
use burn::tensor::{DType, Device};
use soft_core::host_values;
use soft_model::{
    Active, Family, Feedback, Gate, GenerateOptions, LowRankSpec, Manner, Mode, SoftInput, Span,
    Thinking, Transformer, generate, replay,
};
use soft_tests::nudge::{Nudge, gradients_by_parameter};
use soft_tests::{MoveTrained, ragged_batch, tiny_model};
use soft_train::batch::Batch;
use soft_train::example::{Example, Truth};
use soft_train::objective::{BatchLoss, Normalize, Objective, StepTotals};
use soft_train::rollout::{Differentiated, Parallel, Rollout, Sequential, StepContext};

fn model(family: Family, dtype: DType) -> Transformer {
    tiny_model(family, &Device::flex().autodiff(), dtype)
}

fn context(dropout: f64) -> StepContext {
    StepContext {
        feedback: Feedback::Hidden,
        guidance: 0.0,
        seed: 3,
        step: 11,
        dropout,
        ..StepContext::default()
    }
}

fn loss<'a>(batch: &'a Batch) -> BatchLoss<'a> {
    let objective = Objective { entropy_beta: 0.0, normalize: Normalize::Token };
    BatchLoss { batch, objective, totals: StepTotals::of([batch]), temperature: 1.0, other: None }
}

fn run(
    rollout: &dyn Rollout,
    model: &Transformer,
    batch: &Batch,
    context: &StepContext,
) -> Differentiated {
    rollout.differentiate(model, &loss(batch), context)
}

fn assert_same(model: &Transformer, a: &Differentiated, b: &Differentiated, tolerance: f64) {
    let flat = |found: &Differentiated| -> Vec<f64> {
        gradients_by_parameter(model, &found.gradients).into_iter().flat_map(|(_, g)| g).collect()
    };
    let (ga, gb) = (flat(a), flat(b));
    assert_eq!(ga.len(), gb.len());
    let norm = |g: &[f64]| g.iter().map(|x| x * x).sum::<f64>().sqrt();
    let difference: Vec<f64> = ga.iter().zip(&gb).map(|(a, b)| a - b).collect();
    let relative = norm(&difference) / norm(&ga);
    assert!(norm(&ga) > 1e-3 && relative < tolerance, "gradients differ by {relative:e}");
    assert!((a.loss - b.loss).abs() < tolerance * a.loss.abs().max(1.0), "{} {}", a.loss, b.loss);
}

#[test]
fn segments_of_any_length_equal_one_unrolled_graph() {
    for (dtype, tolerance) in [(DType::F64, 1e-9), (DType::F32, 1e-5)] {
        for family in [Family::Gpt2, Family::Llama] {
            let (model, batch) = (model(family, dtype), ragged_batch());
            let context = context(0.2);
            let whole = run(&Sequential::UNROLLED, &model, &batch, &context);
            for segment in 1..=4 {
                let parts = Sequential { segment, truncate: 0 };
                assert_same(&model, &whole, &run(&parts, &model, &batch, &context), tolerance);
            }
            let mixtures = StepContext { feedback: Feedback::Mixture, ..context };
            let mixtures = run(&Sequential::UNROLLED, &model, &batch, &mixtures);
            assert!((mixtures.loss - whole.loss).abs() > 1e-3, "something else is fed");
        }
    }
}

fn assert_finite_differences(model: &Transformer, context: &StepContext) {
    let batch = ragged_batch();
    let rollout = Sequential { segment: 2, truncate: 0 };
    let found = run(&rollout, model, &batch, context);
    for (id, gradient) in gradients_by_parameter(model, &found.gradients) {
        let steepest =
            (0..gradient.len()).max_by(|&a, &b| gradient[a].abs().total_cmp(&gradient[b].abs()));
        let entry = steepest.expect("parameters are not empty");
        let at = |delta| {
            let nudged = model.clone().map(&mut Nudge { id, entry, delta });
            host_values(Sequential::forward(&nudged.valid(), &loss(&batch), context).loss)[0]
        };
        let numeric = (at(1e-5) - at(-1e-5)) / 2e-5;
        let exact = gradient[entry];
        assert!((numeric - exact).abs() < 1e-5 * exact.abs().max(1e-2), "{numeric} {exact}");
    }
}

#[test]
fn gradients_are_finite_differences() {
    assert_finite_differences(&model(Family::Llama, DType::F64), &context(0.2));
    // Branches that act on hidden states alone.
    let spec = LowRankSpec { rank: 2, ..LowRankSpec::default() };
    let branches = model(Family::Llama, DType::F64).with_branches(&spec, 5).expect("valid");
    let softly = branches.map(&mut MoveTrained).with_active(Active::Soft);
    assert_finite_differences(&softly, &context(0.2));
}

/// The gradient reaches what was thought first: it is cut where it is asked to be.
#[test]
fn truncation_changes_the_gradient_and_nothing_else() {
    let (model, batch) = (model(Family::Gpt2, DType::F64), ragged_batch());
    let whole = run(&Sequential::UNROLLED, &model, &batch, &context(0.0));
    let cut = run(&Sequential { segment: 4, truncate: 1 }, &model, &batch, &context(0.0));
    assert!((whole.loss - cut.loss).abs() < 1e-12);
    let (a, b) = (
        gradients_by_parameter(&model, &whole.gradients),
        gradients_by_parameter(&model, &cut.gradients),
    );
    let differ = a.iter().zip(&b).any(|(a, b)| a.1.iter().zip(&b.1).any(|(a, b)| a != b));
    assert!(differ, "something was cut");
}

/// A row of hidden thoughts with nothing known of them, then an answer that is scored.
fn thought(prompt: &[u32], thoughts: usize, answer: &[u32]) -> Example {
    let ids = [prompt, &vec![1; thoughts], answer].concat();
    let mut example = Example::from_tokens(&ids, prompt.len());
    for t in prompt.len()..prompt.len() + thoughts {
        example.soft[t] = true;
        example.weight[t] = 0.0;
        example.truth[t] = Truth::None;
    }
    example
}

/// Generation feeds what training fed: what it believes of each thought, and the loss of an answer
/// after its thoughts.
#[test]
fn a_rollout_is_what_the_generation_of_the_same_model_does() {
    let (prompt, thoughts, answer) = ([3u32, 7, 12, 5], 4, [6u32, 1, 9]);
    let batch = Batch::new(vec![thought(&prompt, thoughts, &answer)]);
    for family in [Family::Llama, Family::Gpt2] {
        let model = model(family, DType::F64);
        let trained = run(&Sequential { segment: 2, truncate: 0 }, &model, &batch, &context(0.0));
        let model = model.valid();
        let hidden = |mode| {
            let manner = Manner::new(soft_core::SoftPipeline::default(), mode);
            Manner { feedback: Feedback::Hidden, ..manner }
        };
        let answering = Manner::new(soft_core::SoftPipeline::default(), Mode::Hard);
        let options = GenerateOptions {
            thoughts: hidden(Mode::Soft),
            thinking: Some(Thinking {
                span: Span::First(thoughts),
                gate: Gate::Open,
                answer: answering,
            }),
            max_new: thoughts,
            record: true,
            keep_inputs: true,
            ..GenerateOptions::default()
        };
        // A second row of another length, that nothing depends on.
        let prompts = [prompt.to_vec(), vec![2, 2]];
        let made = generate(&model, &prompts, &|_, _| Mode::Soft, &options, &mut |_, _, _| {});
        let made = &made.expect("it fits")[0];
        let believed: f64 = made.steps.iter().map(|step| step.entropy_nats).sum();
        assert!((trained.entropy - believed).abs() < 1e-9, "{} {believed}", trained.entropy);
        let tokens = answer.iter().map(|&id| SoftInput::token(id));
        let inputs: Vec<SoftInput> = made.inputs.iter().cloned().chain(tokens).collect();
        let scores = host_values(log_softmax(replay(&model, &prompt, &inputs), 1));
        let first = prompt.len() + thoughts - 1;
        let of = |(i, &id): (usize, &u32)| -scores[(first + i) * 20 + id as usize];
        let expected: f64 = answer.iter().enumerate().map(of).sum();
        assert!((trained.cross_entropy - expected).abs() < 1e-9);
    }
}

/// Rows of a stage with other spans, and rows without a thought, add up.
#[test]
fn rows_are_trained_as_alone() {
    let model = model(Family::Llama, DType::F64);
    let rows = [thought(&[1, 2, 3], 2, &[4]), thought(&[5], 4, &[6, 7]), thought(&[8, 9], 0, &[2])];
    let whole = Batch::new(rows.to_vec());
    let totals = StepTotals::of([&whole]);
    let rollout = Sequential { segment: 2, truncate: 0 };
    let of = |batch: &Batch| {
        let loss = BatchLoss { totals, ..loss(batch) };
        rollout.differentiate(&model, &loss, &context(0.2)).loss
    };
    let alone = |row: usize| of(&Batch::with_rows(vec![rows[row].clone()], vec![row as u32]));
    let sum: f64 = (0..rows.len()).map(alone).sum();
    assert!((of(&whole) - sum).abs() < 1e-10);
}

#[test]
#[should_panic(expected = "hidden states are fed by the sequential rollout")]
fn full_width_passes_have_no_hidden_states_to_feed() {
    let model = model(Family::Gpt2, DType::F64);
    run(&Parallel::TEACHER, &model, &ragged_batch(), &context(0.0));
}
