//! How truth enters what a rollout feeds, over the steps and over the positions.

use std::sync::Arc;

use burn::tensor::DType;
use soft_core::{GuidanceForm, Schedule, ScheduleKind};
use soft_model::Family;
use soft_tests::bench::differentiate_in;
use soft_tests::{device, ragged_batch, tiny_model};
use soft_train::batch::Batch;
use soft_train::example::Example;
use soft_train::rollout::{Parallel, Rollout, Sequential, Stages, StepContext};

/// Soft inputs that are fed in [`ragged_batch`], and those of them whose truth is known.
const FED: f64 = 8.0;
const WITH_TRUTH: f64 = 7.0;

const LINEAR: Schedule =
    Schedule { kind: ScheduleKind::Linear, start: 1.0, end: 0.0, hold: 0, steps: 10 };

fn swept(step: u64) -> StepContext {
    StepContext { sweep: Some(LINEAR), step, ..StepContext::default() }
}

#[test]
fn a_sweep_begins_and_ends_as_the_whole_step_does() {
    let model = tiny_model(Family::Llama, &device().autodiff(), DType::F32);
    let sequential = Sequential { segment: 2, truncate: 0 };
    for (step, guidance) in [(0, 1.0), (10, 0.0)] {
        let even = StepContext { guidance, step, ..StepContext::default() };
        let a = differentiate_in(&sequential, &model, &ragged_batch(), &swept(step));
        let b = differentiate_in(&sequential, &model, &ragged_batch(), &even);
        assert_eq!(a.loss, b.loss, "step {step}");
    }
}

#[test]
fn half_way_the_first_soft_input_runs_free_and_the_last_is_the_truth() {
    let model = tiny_model(Family::Llama, &device().autodiff(), DType::F32);
    // Two soft inputs at 2 and 4; what is fed at 4 alone decides the loss at 5.
    let row = |soft: &[usize]| {
        let mut example = Example::from_tokens(&[1, 5, 6, 7, 8, 9], 5);
        soft.iter().for_each(|&t| example.soft[t] = true);
        Batch::new(vec![example])
    };
    let loss = |batch: &Batch, context: &StepContext| {
        differentiate_in(&Sequential::UNROLLED, &model, batch, context).loss
    };
    let free = StepContext::default();
    let half = loss(&row(&[2, 4]), &swept(5));
    assert_eq!(half, loss(&row(&[2]), &free), "the last of two is fed its truth, as a hard token");
    assert_ne!(half, loss(&row(&[2, 4]), &free));
    assert_ne!(half, loss(&row(&[2, 4]), &StepContext { guidance: 0.5, ..free.clone() }));
}

#[test]
fn the_clamp_acts_where_the_model_believes_less_of_the_truth_than_the_share() {
    let model = tiny_model(Family::Llama, &device().autodiff(), DType::F32);
    let clamped = |guidance, rollout: &dyn Rollout| {
        let form = GuidanceForm::Clamp;
        let context = StepContext { form, guidance, ..StepContext::default() };
        differentiate_in(rollout, &model, &ragged_batch(), &context).fed.clamped
    };
    for rollout in [&Sequential { segment: 1, truncate: 0 } as &dyn Rollout, &Sequential::UNROLLED]
    {
        assert_eq!(clamped(0.0, rollout), 0.0);
        assert_eq!(clamped(1e-9, rollout), 0.0, "no token is as unlikely as that");
        assert_eq!(clamped(0.999, rollout), WITH_TRUTH);
    }
    let passes = Parallel { passes: 4, grad_passes: 0 };
    assert_eq!(clamped(0.999, &passes), WITH_TRUTH, "a place counts once, however many passes");
}

#[test]
fn mixtures_are_located_once_each_and_tokens_lie_on_tokens() {
    let model = tiny_model(Family::Llama, &device().autodiff(), DType::F32);
    let located = |guidance, rollout: &dyn Rollout| {
        let context = StepContext { guidance, locate: true, ..StepContext::default() };
        differentiate_in(rollout, &model, &hard_truths(), &context).fed
    };
    let sequential = Sequential { segment: 2, truncate: 0 };
    for rollout in [&sequential as &dyn Rollout, &Parallel { passes: 3, grad_passes: 1 }] {
        let truth = located(1.0, rollout);
        assert_eq!(truth.located, FED);
        assert!(truth.distance < 1e-4 * truth.norm, "{truth:?}");
        let free = located(0.0, rollout);
        assert_eq!(free.located, FED);
        assert!(free.distance > 0.1 * free.norm && free.norm < truth.norm, "{free:?}");
    }
    let unseen = differentiate_in(&sequential, &model, &hard_truths(), &StepContext::default());
    assert_eq!(unseen.fed.located, 0.0, "it is dear, so it is done where it is asked for");
}

/// [`ragged_batch`] whose every truth is one token.
fn hard_truths() -> Batch {
    let mut batch = ragged_batch();
    for example in &mut batch.examples {
        let example = Arc::make_mut(example);
        let scored = Example::from_tokens(&example.input_ids, 1);
        *example = Example { soft: example.soft.clone(), ..scored };
    }
    batch
}

#[test]
fn stages_take_turns_by_the_step() {
    let model = tiny_model(Family::Gpt2, &device().autodiff(), DType::F32);
    let passes = Parallel { passes: 2, grad_passes: 0 };
    let stages = Stages::new(vec![
        (3, Box::new(Parallel::TEACHER)),
        (5, Box::new(passes)),
        (usize::MAX, Box::new(Sequential::UNROLLED)),
    ]);
    let expected: [(&[u64], &dyn Rollout); 3] =
        [(&[0, 2], &Parallel::TEACHER), (&[3, 4], &passes), (&[5, 999], &Sequential::UNROLLED)];
    let mut losses = Vec::new();
    for (steps, rollout) in expected {
        for &step in steps {
            let context = StepContext { step, ..StepContext::default() };
            let found = differentiate_in(&stages, &model, &ragged_batch(), &context).loss;
            let alone = differentiate_in(rollout, &model, &ragged_batch(), &context).loss;
            assert_eq!(found, alone, "step {step}");
            losses.push(found);
        }
    }
    assert!(losses[0] != losses[2] && losses[2] != losses[4], "the stages differ: {losses:?}");
}
