//! Rows of the embedding that are trained while the rest is frozen.

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{DType, Tensor};
use soft_core::{NormMatch, PipelineConfig, SoftPipeline, host_values};
use soft_model::{Family, ModelConfig, Transformer};
use soft_tests::bench::differentiate_in;
use soft_tests::{device, every_family, lively_model, ragged_batch, tiny_config};
use soft_train::rollout::{Parallel, Rollout, Sequential, StepContext};

/// Tokens that [`ragged_batch`] feeds, hard and in mixtures, and scores.
const ROWS: [u32; 3] = [9, 4, 12];

fn untied() -> ModelConfig {
    ModelConfig { tied_embeddings: false, ..tiny_config(Family::Llama) }
}

fn values(tensor: Tensor<2>) -> Vec<f64> {
    host_values(tensor)
}

fn pipelines() -> Vec<SoftPipeline> {
    let settings = [
        PipelineConfig::default(),
        PipelineConfig { top_k: 6, temperature: 0.7, ..PipelineConfig::default() },
        PipelineConfig { norm_match: NormMatch::Rms, ..PipelineConfig::default() },
    ];
    settings.into_iter().map(|config| SoftPipeline::new(config).expect("in range")).collect()
}

#[test]
fn a_model_with_trained_rows_computes_what_it_did_before() {
    for (name, config) in every_family() {
        let plain = lively_model(&config);
        let split = plain.clone().with_trained_rows(&ROWS).expect("rows of the model");
        let whole = values(plain.embedding());
        assert_eq!(values(split.embedding()), whole, "{name}: to the bit");
        let tensors = |model: &Transformer| {
            let all = model.named_tensors();
            all.into_iter().map(|t| (t.name, t.values)).collect::<Vec<_>>()
        };
        assert!(tensors(&plain) == tensors(&split), "{name}: what is saved is the same");
        let ids = [1, 9, 4, 4, 12, 3];
        let [a, b] = [&plain, &split].map(|model| values(model.logits(model.embed(&ids, 1))));
        let worst = a.iter().zip(&b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(worst < 1e-4, "{name}: logits differ by {worst}");
    }
}

/// Loss, and the gradient of each parameter that has one.
fn gradients(
    model: &Transformer,
    rollout: &dyn Rollout,
    context: &StepContext,
) -> (f64, Vec<Vec<f64>>) {
    struct Collect<'a>(&'a burn::optim::GradientsParams, Vec<Vec<f64>>);
    impl ModuleVisitor for Collect<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.1.extend(self.0.get::<D>(param.id).map(host_values));
        }
    }
    let done = differentiate_in(rollout, model, &ragged_batch(), context);
    let mut collect = Collect(&done.gradients, Vec::new());
    model.visit(&mut collect);
    (done.loss, collect.1)
}

#[test]
fn their_gradient_is_that_of_the_same_rows_of_a_model_trained_whole() {
    for config in [tiny_config(Family::Llama), untied(), tiny_config(Family::Gpt2)] {
        let tied = config.tied_embeddings;
        let plain = lively_model(&config);
        let split = plain.clone().freeze().with_trained_rows(&ROWS).expect("rows").train();
        let plain = plain.train();
        let d_model = config.d_model;
        for pipeline in pipelines() {
            for rollout in
                [&Parallel { passes: 3, grad_passes: 0 } as &dyn Rollout, &Sequential::UNROLLED]
            {
                let context = StepContext { pipeline: pipeline.clone(), ..StepContext::default() };
                let (loss, all) = gradients(&plain, rollout, &context);
                let (same, rows) = gradients(&split, rollout, &context);
                assert!((loss - same).abs() < 1e-4 * loss, "{loss} {same}");
                assert_eq!(rows.len(), if tied { 1 } else { 2 }, "nothing else is trained");
                // The embedding is the first parameter of a model, and a head the last.
                let of_whole = [&all[0], &all[all.len() - 1]];
                for (part, (whole, own)) in of_whole.into_iter().zip(&rows).enumerate() {
                    let vocab = config.vocab_size;
                    for (at, id) in [4_usize, 9, 12].into_iter().enumerate() {
                        for d in 0..d_model {
                            // A head is `[d_model, vocab]`.
                            let place = if part == 0 { id * d_model + d } else { d * vocab + id };
                            let (a, b) = (whole[place], own[at * d_model + d]);
                            assert!(
                                (a - b).abs() < 1e-3 * (1.0 + a.abs()),
                                "{part} {id} {d}: {a} {b}"
                            );
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn a_new_token_takes_a_mean_share_and_leaves_the_other_logits_alone() {
    for config in [tiny_config(Family::Llama), untied()] {
        let plain = lively_model(&config);
        let grown = plain.clone().with_vocabulary(22, 5);
        assert_eq!(grown.config().vocab_size, 22);
        let ids = [1, 5, 6];
        let before = values(plain.logits(plain.embed(&ids, 1)));
        let after = values(grown.logits(grown.embed(&ids, 1)));
        for (before, after) in before.chunks(20).zip(after.chunks(22)) {
            let close = before.iter().zip(after).all(|(a, b)| (a - b).abs() < 1e-4);
            assert!(close, "the old tokens keep their scores");
            let mean = before.iter().sum::<f64>() / 20.0;
            assert!(after[20..].iter().all(|score| (score - mean).abs() < 0.1), "{after:?} {mean}");
            assert_ne!(after[20], after[21], "no two new tokens are the same");
        }
        let fresh = plain.clone().with_fresh_rows(&[7], 5).expect("a row that it has");
        let same = values(fresh.logits(fresh.embed(&ids, 1)));
        for (before, after) in before.chunks(20).zip(same.chunks(20)) {
            let mean = before.iter().sum::<f64>() / 20.0;
            for (id, (before, after)) in before.iter().zip(after).enumerate() {
                let expected = if id == 7 { mean } else { *before };
                assert!((expected - after).abs() < 0.1, "token {id}: {after}, not {expected}");
            }
        }
        assert!(grown.with_vocabulary(22, 5).with_trained_rows(&[20, 21]).is_ok());
        assert_eq!(plain.with_vocabulary(3, 5).config().vocab_size, 20, "it never shrinks");
    }
}

#[test]
fn rows_that_cannot_be_trained_are_refused() {
    let model = lively_model(&tiny_config(Family::Llama));
    for bad in [&[][..], &[20]] {
        assert!(model.clone().with_trained_rows(bad).is_err(), "{bad:?}");
    }
    let once = model.with_trained_rows(&[3, 3]).expect("a token named twice is one row");
    assert_eq!(once.trained_rows(), [3]);
    let error = once.with_trained_rows(&[4]).expect_err("they would be split twice");
    assert!(error.to_string().contains("once"), "{error}");
}

#[test]
fn a_frozen_dtype_is_kept() {
    let device = device();
    let model = Transformer::from_seed(&untied(), 7, &device, DType::F64);
    let grown = model.with_vocabulary(25, 1).with_trained_rows(&[24]).expect("a row");
    assert_eq!(grown.dtype(), DType::F64);
    assert_eq!(grown.embedding().dtype(), DType::F64);
}
