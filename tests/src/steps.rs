//! One training step with everything in it, and how far two ways to compute it are apart.

use burn::module::Module;
use burn::tensor::DType;
use soft_core::{GuidanceForm, Noise, PipelineConfig, SoftPipeline};
use soft_model::{Family, LowRankSpec, ModelConfig, Transformer};
use soft_train::batch::Batch;
use soft_train::example::{Example, Truth};
use soft_train::objective::{BatchLoss, Normalize, Objective, StepTotals};
use soft_train::rollout::{Differentiated, Rollout, StepContext};

use crate::bench::{flat_gradients, relative_error};
use crate::{MoveTrained, lively_model, ragged_batch, tiny_config};

/// Guidance, entropy term, filters, noise and drop-out, all on.
///
/// # Panics
/// Never: the settings are valid.
pub fn everything(form: GuidanceForm) -> StepContext {
    let config = PipelineConfig {
        temperature: 0.8,
        top_k: 12,
        min_p: 1e-4,
        noise: Noise::Gumbel { temperature: 0.9 },
        ..PipelineConfig::default()
    };
    StepContext {
        pipeline: SoftPipeline::new(config).expect("valid settings"),
        form,
        guidance: 0.4,
        seed: 3,
        step: 11,
        dropout: 0.2,
        locate: true,
        ..StepContext::default()
    }
}

/// The rows of [`ragged_batch`] and four more: one of two positions, one without a soft input, and
/// two that differ in length only. At most three soft inputs a row.
pub fn many_lengths() -> Batch {
    let soft = |ids: &[u32], soft: &[usize]| {
        let mut example = Example::from_tokens(ids, 1);
        for &position in soft {
            example.soft[position] = true;
            example.truth[position] = Truth::Soft(vec![(6, 0.75), (2, 0.25)]);
        }
        example
    };
    let mut examples: Vec<Example> =
        ragged_batch().examples.iter().map(|example| example.as_ref().clone()).collect();
    examples.push(soft(&[9, 4], &[]));
    examples.push(soft(&[4, 2, 11, 3, 9, 17], &[]));
    examples.push(soft(&[5, 1, 8, 8, 13, 2, 19], &[2, 4]));
    examples.push(soft(&[5, 1, 8, 8], &[2]));
    examples[0].answer_from = Some(6);
    examples[5].answer_from = Some(5);
    Batch::new(examples)
}

/// A model of three layers in f64 on an autodiff device whose every parameter matters.
pub fn three_layers(family: Family) -> Transformer {
    let config = ModelConfig { n_layers: 3, ..tiny_config(family) };
    f64_model(&config)
}

/// A lively model of a configuration in f64 on an autodiff device.
pub fn f64_model(config: &ModelConfig) -> Transformer {
    lively_model(config).cast(DType::F64).train()
}

/// The model with each kind of addition, all moved away from where they start.
///
/// # Panics
/// Never: the settings are valid.
pub fn adapted(base: &Transformer) -> Vec<(&'static str, Transformer)> {
    let targets = ["q_proj", "v_proj", "down_proj"].map(str::to_owned);
    let branches = |dropout, dora| {
        let targets = targets.to_vec();
        let spec = LowRankSpec { rank: 2, alpha: 4.0, targets, dropout, dora, rslora: false };
        base.clone().with_branches(&spec, 5).expect("valid branches")
    };
    let all = vec![
        ("branches", branches(0.3, false)),
        ("decomposed branches", branches(0.0, true)),
        ("prefix", base.clone().with_prefix(3, 5).expect("valid")),
        ("prompt", base.clone().with_prompt(2, 5).expect("valid")),
        ("token rows", branches(0.0, false).with_trained_rows(&[3, 7]).expect("valid")),
    ];
    all.into_iter().map(|(name, model)| (name, model.map(&mut MoveTrained))).collect()
}

/// Loss and gradients of a batch, with an entropy term.
pub fn differentiate(
    rollout: &dyn Rollout,
    model: &Transformer,
    batch: &Batch,
    context: &StepContext,
    normalize: Normalize,
) -> Differentiated {
    let objective = Objective { entropy_beta: 0.3, normalize };
    let temperature = context.pipeline.config().temperature;
    let loss =
        BatchLoss { batch, objective, totals: StepTotals::of([batch]), temperature, other: None };
    rollout.differentiate(model, &loss, context)
}

/// The largest of the relative differences: gradients, loss and every sum beside it.
pub fn apart(model: &Transformer, a: &Differentiated, b: &Differentiated) -> f64 {
    let (ga, gb) = (flat_gradients(model, &a.gradients), flat_gradients(model, &b.gradients));
    assert!(ga.iter().any(|g| g.abs() > 1e-6), "there is a gradient");
    let pairs = [
        (a.loss, b.loss),
        (a.cross_entropy, b.cross_entropy),
        (a.answer, b.answer),
        (a.entropy, b.entropy),
        (a.fed.clamped, b.fed.clamped),
        (a.fed.located, b.fed.located),
        (a.fed.norm, b.fed.norm),
        (a.fed.distance, b.fed.distance),
    ];
    let differences = pairs.map(|(a, b)| (a - b).abs() / a.abs().max(1.0));
    differences.into_iter().fold(relative_error(&ga, &gb), f64::max)
}
