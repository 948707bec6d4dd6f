//! Activations that are computed again in the backward pass change no result.

use burn::tensor::DType;
use soft_core::GuidanceForm;
use soft_model::{Family, Transformer};
use soft_tests::steps::{adapted, apart, differentiate, everything, many_lengths, three_layers};
use soft_tests::tiny_model;
use soft_train::batch::Batch;
use soft_train::objective::Normalize;
use soft_train::rollout::{Differentiated, Parallel, StepContext};

/// Teacher forcing, and several passes with gradients through some and all of them.
const ROLLOUTS: [Parallel; 4] = [
    Parallel::TEACHER,
    Parallel { passes: 3, grad_passes: 0 },
    Parallel { passes: 3, grad_passes: 2 },
    Parallel { passes: 3, grad_passes: 1 },
];

fn run(
    rollout: &Parallel,
    model: &Transformer,
    batch: &Batch,
    context: &StepContext,
) -> Differentiated {
    differentiate(rollout, model, batch, context, Normalize::Token)
}

/// For groups of one block, uneven ones, and one of all blocks, with the loss whole and in chunks.
fn assert_recomputing_changes_nothing(
    what: &str,
    model: &Transformer,
    context: &StepContext,
    bound: f64,
) {
    for rollout in ROLLOUTS {
        let kept = run(&rollout, model, &many_lengths(), context);
        for (recompute, loss_chunk) in [(1, 0), (2, 4), (99, 0)] {
            let context = StepContext { recompute, loss_chunk, ..context.clone() };
            let again = run(&rollout, model, &many_lengths(), &context);
            let apart = apart(model, &kept, &again);
            assert!(apart < bound, "{what}, {rollout:?}, {recompute} blocks: {apart:e}");
        }
    }
}

#[test]
fn t18_loss_and_gradients_are_those_of_kept_activations() {
    let forms = [GuidanceForm::Mix, GuidanceForm::Clamp, GuidanceForm::Coin];
    for (form, family) in forms.into_iter().zip([Family::Gpt2, Family::Llama, Family::Llama]) {
        let model = three_layers(family);
        assert_recomputing_changes_nothing("f64", &model, &everything(form), 1e-9);
    }
    let model = tiny_model(Family::Gpt2, &soft_tests::device().autodiff(), DType::F32);
    assert_recomputing_changes_nothing("f32", &model, &everything(GuidanceForm::Mix), 1e-6);
}

#[test]
fn t18_recomputing_holds_for_branches_prefixes_prompts_and_rows() {
    for (name, model) in adapted(&three_layers(Family::Llama)) {
        assert_recomputing_changes_nothing(name, &model, &everything(GuidanceForm::Mix), 1e-9);
    }
}

#[test]
fn t18_recomputing_holds_for_packed_rows() {
    let model = three_layers(Family::Llama);
    let context = everything(GuidanceForm::Mix);
    let rollout = Parallel { passes: 3, grad_passes: 2 };
    let kept = run(&rollout, &model, &many_lengths(), &context);
    let context = StepContext { recompute: 1, ..context };
    let again = run(&rollout, &model, &many_lengths().packed(16), &context);
    let apart = apart(&model, &kept, &again);
    assert!(apart < 1e-9, "{apart:e}");
}
