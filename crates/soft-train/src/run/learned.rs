//! Learned settings of the pipeline in a run: where they start, how they are optimized, and what a
//! checkpoint says of them.

use std::fs;
use std::path::Path;

use burn::lr_scheduler::module_lr_scheduler::ModuleLrScheduler;
use burn::module::ParamGroup;
use burn::tensor::{DType, Device};
use serde::{Deserialize, Serialize};
use soft_core::{LearnableFilters, LearnedValues, SoftPipeline};
use toml::{Table, Value};

use crate::config::{Arm, Config, Train};
use crate::error::Error;
use crate::learner::SoftLearner;
use crate::learning_rate::LearningRate;

/// File of a checkpoint that holds what is learned of the filters.
pub(super) const LEARNED: &str = "learned_filters.json";

/// Its contents.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    /// For people: the settings themselves.
    values: LearnedValues,
    /// What training goes on from.
    thetas: LearnedValues,
}

/// The learnable settings before the first step; none in an arm that feeds no mixtures.
pub(super) fn begin(
    config: &Config,
    arm: Arm,
    device: &Device,
) -> Result<Option<LearnableFilters>, Error> {
    let learnable = config.learnable.config();
    if learnable.is_off() || arm != Arm::Soft {
        return Ok(None);
    }
    Ok(Some(learnable.init(&config.soft.pipeline(), device, DType::F32)?))
}

/// Those of a checkpoint, to the bit.
///
/// # Errors
/// A checkpoint that has none, or a damaged one.
pub(super) fn restore(
    config: &Config,
    arm: Arm,
    checkpoint: &Path,
    device: &Device,
) -> Result<Option<LearnableFilters>, Error> {
    let learnable = config.learnable.config();
    if learnable.is_off() || arm != Arm::Soft {
        return Ok(None);
    }
    let path = checkpoint.join(LEARNED);
    let refuse = |problem: String| Error::checkpoint(&path, problem);
    let text = fs::read(&path).map_err(|error| refuse(format!("cannot be read: {error}")))?;
    let saved: Saved =
        serde_json::from_slice(&text).map_err(|error| refuse(format!("is damaged: {error}")))?;
    let thetas = saved.thetas;
    let learned = |theta: Option<f64>| theta.is_some_and(f64::is_finite);
    let found = [thetas.temperature, thetas.top_k, thetas.min_p].map(learned);
    let expected = [learnable.temperature, learnable.top_k, learnable.min_p];
    if found != expected {
        return Err(refuse(format!(
            "holds {found:?} of temperature, top_k and min_p, expected {expected:?} as in \
             `learnable.settings`"
        )));
    }
    Ok(Some(learnable.with_thetas(&thetas, device, DType::F32)))
}

/// What [`restore`] reads.
pub(super) fn to_json(filters: &LearnableFilters) -> impl Serialize + use<> {
    Saved { values: filters.values(), thetas: filters.thetas() }
}

/// Gives the learned settings their own learning rate, with the schedule of the run.
pub(super) fn with_rate(
    scheduler: ModuleLrScheduler,
    learner: &SoftLearner,
    config: &Config,
    step: usize,
) -> ModuleLrScheduler {
    let Some(filters) = &learner.filters else { return scheduler };
    let (train, lr) = (&config.train, config.learnable.lr);
    let min_lr = if train.lr > 0.0 { lr * train.min_lr / train.lr } else { lr };
    let rate = LearningRate::new(&Train { lr, min_lr, ..train.clone() }, step);
    scheduler.with_group(ParamGroup::ids_from_module(filters.clone()), rate)
}

/// The pipeline that a checkpoint of this model is decoded with: hard filters of what was learned.
pub(super) fn decoded(pipeline: &SoftPipeline, filters: Option<&LearnableFilters>) -> SoftPipeline {
    match filters {
        Some(filters) => pipeline.with_learnable(filters.clone()).hardened(),
        None => pipeline.clone(),
    }
}

/// The text of a checkpoint's `soft_config.toml` with what was learned in it.
pub(super) fn soft_config(text: &str, config: &Config, learner: &SoftLearner) -> String {
    let (Some(filters), Ok(mut table)) = (&learner.filters, text.parse::<Table>()) else {
        return text.to_owned();
    };
    let Ok(pipeline) = SoftPipeline::new(config.soft.pipeline()) else { return text.to_owned() };
    let decoded = decoded(&pipeline, Some(filters));
    let values = filters.values();
    if let Some(Value::Table(soft)) = table.get_mut("soft") {
        if values.temperature.is_some() {
            soft.insert("temperature".to_owned(), decoded.config().temperature.into());
        }
        if values.top_k.is_some() {
            soft.insert("top_k".to_owned(), (decoded.config().top_k as i64).into());
        }
        if values.min_p.is_some() {
            soft.insert("min_p".to_owned(), decoded.config().min_p.into());
        }
    }
    let comments = text.lines().take_while(|line| line.starts_with('#'));
    let comments: String = comments.map(|line| format!("{line}\n")).collect();
    format!("{comments}# {}\n{table}", note(learner).unwrap_or_default())
}

/// What was learned, and how far decoding is from it; none where nothing is learned.
pub(super) fn note(learner: &SoftLearner) -> Option<String> {
    let values = learner.filters.as_ref()?.values();
    let mut parts = Vec::new();
    parts.extend(values.temperature.map(|t| format!("temperature {t:.4}")));
    parts.extend(
        values.top_k.map(|k| format!("top_k {k:.2}, decoded as {:.0}", k.round().max(1.0))),
    );
    parts.extend(values.min_p.map(|m| format!("min_p {m:.5}")));
    let mut note = format!("learned: {}", parts.join("; "));
    let gap = learner.setup.exchange().filter_gap;
    if let (true, Some(gap)) = (values.top_k.or(values.min_p).is_some(), gap) {
        note += &format!(
            "; hard filters of these numbers move {:.1} % of the weight that the soft edges of the \
             training gave (mean over the soft inputs at the last look)",
            100.0 * gap
        );
    }
    Some(note)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_learned_float_survives_json_to_the_bit() {
        for theta in [0.1f32, -17.333_334, 1e-20, 12_345.678] {
            let thetas =
                LearnedValues { temperature: Some(f64::from(theta)), ..Default::default() };
            let text = serde_json::to_string(&Saved { values: thetas, thetas }).expect("JSON");
            let read: Saved = serde_json::from_str(&text).expect("what was written");
            assert_eq!(read.thetas.temperature.map(|x| x as f32), Some(theta));
        }
    }
}
