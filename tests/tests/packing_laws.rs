//! Examples that share a row compute what they compute in rows of their own.

use std::collections::BTreeSet;

use burn::tensor::DType;
use proptest::prelude::*;
use soft_core::GuidanceForm;
use soft_model::{Family, Transformer};
use soft_tests::runs::{Runs, assert_same_outcome, series, write_counting_lines};
use soft_tests::steps::{
    adapted, apart, differentiate, everything, f64_model, many_lengths, three_layers,
};
use soft_tests::{every_family, tiny_model};
use soft_train::batch::{Batch, Place};
use soft_train::example::Example;
use soft_train::objective::Normalize;
use soft_train::rollout::{Differentiated, Parallel, Rollout, Sequential, StepContext};
use soft_train::run::Resume;

/// Columns of a row: as long as the longest example, with room for two, and for all of them.
const LENGTHS: [usize; 3] = [1, 12, 100];

fn rollouts() -> Vec<Box<dyn Rollout>> {
    vec![
        Box::new(Parallel::TEACHER),
        Box::new(Parallel { passes: 3, grad_passes: 2 }),
        Box::new(Parallel { passes: 4, grad_passes: 0 }),
        Box::new(Sequential { segment: 2, truncate: 0 }),
        Box::new(Sequential::UNROLLED),
    ]
}

fn run(
    rollout: &dyn Rollout,
    model: &Transformer,
    batch: &Batch,
    context: &StepContext,
) -> Differentiated {
    differentiate(rollout, model, batch, context, Normalize::Token)
}

fn assert_packing_changes_nothing(
    what: &str,
    model: &Transformer,
    context: &StepContext,
    bound: f64,
) {
    for rollout in rollouts() {
        let alone = run(rollout.as_ref(), model, &many_lengths(), context);
        for length in LENGTHS {
            let packed = run(rollout.as_ref(), model, &many_lengths().packed(length), context);
            let apart = apart(model, &alone, &packed);
            assert!(apart < bound, "{what}, {rollout:?}, rows of {length}: {apart:e}");
        }
    }
}

#[test]
fn t18_a_packed_batch_has_the_loss_and_the_gradients_of_the_unpacked_one() {
    let forms = [GuidanceForm::Mix, GuidanceForm::Clamp, GuidanceForm::Coin];
    for (form, family) in forms.into_iter().zip([Family::Gpt2, Family::Llama, Family::Llama]) {
        let context = everything(form);
        assert_packing_changes_nothing("f64", &three_layers(family), &context, 1e-9);
    }
    let model = tiny_model(Family::Llama, &soft_tests::device().autodiff(), DType::F32);
    assert_packing_changes_nothing("f32", &model, &everything(GuidanceForm::Mix), 1e-5);
}

#[test]
fn t18_packing_holds_for_sliding_windows_and_every_other_peculiarity() {
    let context = everything(GuidanceForm::Mix);
    for (name, config) in every_family() {
        let model = f64_model(&config);
        let rollout = Parallel { passes: 2, grad_passes: 0 };
        let alone = run(&rollout, &model, &many_lengths(), &context);
        let packed = run(&rollout, &model, &many_lengths().packed(14), &context);
        let apart = apart(&model, &alone, &packed);
        assert!(apart < 1e-9, "{name}: {apart:e}");
    }
}

#[test]
fn t18_every_packed_example_sees_the_learned_prefix() {
    for (name, model) in adapted(&three_layers(Family::Llama)) {
        assert_packing_changes_nothing(name, &model, &everything(GuidanceForm::Mix), 1e-9);
    }
}

#[test]
fn packing_keeps_the_divisor_of_each_sequence_and_the_loss_in_chunks() {
    let model = three_layers(Family::Gpt2);
    let context = StepContext { loss_chunk: 5, ..everything(GuidanceForm::Coin) };
    let of = |batch: &Batch| {
        differentiate(&Parallel::TEACHER, &model, batch, &context, Normalize::Sequence)
    };
    let apart = apart(&model, &of(&many_lengths()), &of(&many_lengths().packed(20)));
    assert!(apart < 1e-9, "{apart:e}");
}

/// What the laws above would miss if everything were keyed by the row of the tensors.
#[test]
fn noise_belongs_to_the_example_and_not_to_its_row() {
    let model = three_layers(Family::Llama);
    let context = everything(GuidanceForm::Mix);
    let rollout = Parallel { passes: 2, grad_passes: 0 };
    let Batch { examples, rows, .. } = many_lengths();
    let numbered = Batch::with_rows(examples.clone(), rows.iter().map(|row| row + 1).collect());
    let loss = |batch: &Batch| run(&rollout, &model, batch, &context).loss;
    assert!((loss(&many_lengths()) - loss(&numbered)).abs() > 1e-4, "the index matters");
    assert!((loss(&numbered) - loss(&numbered.clone().packed(30))).abs() < 1e-9);
}

#[test]
fn an_example_knows_nothing_of_what_stands_before_it_in_its_row() {
    let model = three_layers(Family::Llama);
    let context = StepContext { guidance: 0.0, ..everything(GuidanceForm::Mix) };
    let of = |first: &[u32]| {
        let mut before = Example::from_tokens(first, 1);
        before.weight.fill(0.0);
        let last = many_lengths().examples[2].as_ref().clone();
        let batch = Batch::new(vec![before, last]).packed(40);
        assert_eq!(batch.tensor_rows(), 1);
        run(&Parallel { passes: 3, grad_passes: 0 }, &model, &batch, &context)
    };
    // Longer than the other, so that it comes first.
    let one = of(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
    let other = of(&[19, 3, 3, 17, 8, 1, 0, 0, 2, 15, 16, 4]);
    assert!((one.cross_entropy - other.cross_entropy).abs() < 1e-12 * one.cross_entropy);
    assert!(one.cross_entropy > 1.0);
}

proptest! {
    #[test]
    fn every_place_is_fed_in_one_cell_and_found_there(
        lengths in prop::collection::vec(2..12_usize, 1..9), length in 0..40_usize,
    ) {
        let examples = lengths.iter().map(|&len| Example::from_tokens(&vec![3; len], 0));
        let batch = Batch::new(examples.collect()).packed(length);
        let mut cells = BTreeSet::new();
        for (row, example) in batch.examples.iter().enumerate() {
            for position in 0..example.len() - 1 {
                let place = Place { row, position };
                let cell = batch.cell(place);
                prop_assert!(cells.insert(cell), "two places in {cell:?}");
                prop_assert_eq!(batch.place_at(cell.0, cell.1), Some(place));
            }
        }
        let (rows, columns) = (batch.tensor_rows(), batch.columns());
        prop_assert_eq!(batch.filled(), (cells.len(), rows * columns));
        for (row, real) in batch.real(0..columns).into_iter().enumerate() {
            for (column, real) in real.into_iter().enumerate() {
                prop_assert_eq!(real, cells.contains(&(row, column)));
            }
        }
        let longest = lengths.iter().max().map_or(0, |longest| longest - 1);
        prop_assert!(columns <= length.max(longest));
    }
}

/// A whole training is the same but for rounding, whatever shares a row; a part of it that is
/// sequential is the same to the bit, for it is not packed.
#[test]
fn a_packed_training_takes_the_steps_of_the_unpacked_one_and_resumes_to_the_bit() {
    let runs = Runs::temporary();
    let data = write_counting_lines(&runs, true);
    let stages = "rollout.stages=[\"teacher 8\", \"parallel 8\", \"sequential\"]";
    let common = ["task.name=ids", &data[0], &data[1], stages, "guidance.start=0.5"];
    let noisy = ["model.dropout=0.1", "soft.noise=gumbel", "train.grad_accum=2"];
    let settings = [&common[..], &noisy[..]].concat();
    let alone = runs.train("alone", &settings).run_dir;
    let packed = [&settings[..], &["data.pack=24", "train.recompute=1"]].concat();
    let whole = runs.train("packed", &packed).run_dir;
    for key in ["loss", "cross_entropy", "entropy", "grad_norm"] {
        let [a, b] = [&alone, &whole].map(|run| series(run, key));
        for (step, (a, b)) in a.iter().zip(&b).enumerate() {
            assert!((a - b).abs() < 1e-3 * a.abs().max(1.0), "{key}, step {step}: {a} {b}");
        }
    }
    runs.train("stopped", &[&packed[..], &["train.steps=7"]].concat());
    let resumed = runs.resumed("stopped", &packed, Resume::Auto).run_dir;
    assert_same_outcome(&whole, &resumed, 20, "packed");
}
