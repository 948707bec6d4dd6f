//! Learnable settings that get no gradient, or bounds of what is not learned.

use super::super::choices::{Arm, LearnableSetting, RolloutKind, SoftInputs};
use super::super::sections::Learnable;
use super::{Config, Found, Place, found, full, repeated};
use crate::task::TaskName;

/// Everything that contradicts the section `learnable`.
pub(super) fn contradictions(config: &Config, place: Place<'_>) -> Vec<Found> {
    let learnable = &config.learnable;
    let mut problems = repeated("learnable.settings", &learnable.settings, place);
    problems.extend(unread(config, place));
    if learnable.settings.is_empty() {
        return problems;
    }
    problems.extend(no_mixtures(config, place));
    problems.extend(no_gradient(config, place));
    if let Err(error) = learnable.config().check(&config.soft.pipeline()) {
        let keys = match &error {
            soft_core::Error::OutOfRange { name, .. } => {
                [full("learnable", name), "learnable.settings"]
            }
            soft_core::Error::StartOutOfBounds { name: "temperature", .. } => {
                ["soft.temperature", "learnable.least_temperature"]
            }
            soft_core::Error::StartOutOfBounds { name: "top_k", .. } => {
                ["soft.top_k", "learnable.least_top_k"]
            }
            soft_core::Error::StartOutOfBounds { .. } => ["soft.min_p", "learnable.most_min_p"],
            soft_core::Error::MissingTransform { .. } => ["soft.order", "learnable.settings"],
            _ => ["learnable.settings", "learnable.settings"],
        };
        let message = format!("`{}`: {error}", keys[0]);
        problems.push(found(place, &keys, message));
    }
    problems
}

/// A bound of what is not learned.
fn unread(config: &Config, place: Place<'_>) -> Vec<Found> {
    let (learnable, plain) = (&config.learnable, Learnable::default());
    let bounds = |own: &Learnable| {
        [
            ("learnable.least_temperature", LearnableSetting::Temperature, own.least_temperature),
            ("learnable.least_top_k", LearnableSetting::TopK, own.least_top_k),
            ("learnable.top_k_softness", LearnableSetting::TopK, own.top_k_softness),
            ("learnable.most_min_p", LearnableSetting::MinP, own.most_min_p),
            ("learnable.min_p_softness", LearnableSetting::MinP, own.min_p_softness),
        ]
    };
    let changed =
        bounds(learnable).into_iter().zip(bounds(&plain)).filter(|(own, plain)| own != plain);
    changed
        .map(|(own, _)| own)
        .filter(|(_, setting, _)| !learnable.settings.contains(setting))
        .map(|(key, setting, value)| {
            let message = format!(
                "`{key}` is {value} and `learnable.settings` does not name {:?}; expected it there",
                setting.as_str()
            );
            found(place, &[key, "learnable.settings"], message)
        })
        .collect()
}

/// A training whose inputs are tokens or the truth.
fn no_mixtures(config: &Config, place: Place<'_>) -> Vec<Found> {
    let mut problems = Vec::new();
    let rollout = &config.rollout;
    let kinds: Vec<RolloutKind> = match rollout.plan() {
        Ok(plan) => plan.stages().iter().map(|stage| stage.1).collect(),
        Err(_) => return problems,
    };
    if kinds.iter().all(|&kind| kind == RolloutKind::Teacher) {
        let message = "`learnable.settings` is set and `rollout.kind` is \"teacher\", which feeds the truth; expected \"parallel\" or \"sequential\", or a stage of one";
        let keys = ["learnable.settings", "rollout.kind", "rollout.stages"];
        problems.push(found(place, &keys, message.into()));
    }
    let guidance = &config.guidance;
    if guidance.start.min(guidance.end) == 1.0 {
        let message = "`learnable.settings` is set and `guidance.start` and `guidance.end` are 1, which feeds the truth; expected a share under 1";
        let keys = ["learnable.settings", "guidance.start", "guidance.end"];
        problems.push(found(place, &keys, message.into()));
    }
    if !config.eval.arms.contains(&Arm::Soft) {
        let message = "`learnable.settings` is set and `eval.arms` has no \"soft\", the arm that thinks in mixtures; expected it there";
        problems.push(found(place, &["learnable.settings", "eval.arms"], message.into()));
    }
    if config.task.name == TaskName::Text && config.data.soft == SoftInputs::None {
        let message = "`learnable.settings` is set and `data.soft` is \"none\", which feeds tokens; expected soft inputs";
        problems.push(found(place, &["learnable.settings", "data.soft"], message.into()));
    }
    problems
}

/// A rollout that cuts the gradient at every mixture.
fn no_gradient(config: &Config, place: Place<'_>) -> Option<Found> {
    let rollout = &config.rollout;
    let plan = rollout.plan().ok()?;
    let cut = |kind: RolloutKind| match kind {
        RolloutKind::Teacher => true,
        RolloutKind::Parallel => rollout.passes == 1 || rollout.grad_passes == 1,
        RolloutKind::Sequential => rollout.truncate == 1,
    };
    let kinds = || plan.stages().iter().map(|stage| stage.1);
    let all_cut = kinds().all(cut) && !kinds().all(|kind| kind == RolloutKind::Teacher);
    all_cut.then(|| {
        let message = format!(
            "`learnable.settings` is set and no gradient passes a mixture: `rollout.passes` is {}, `rollout.grad_passes` {} and `rollout.truncate` {}; expected two passes or more with gradients, or no cut after every position",
            rollout.passes, rollout.grad_passes, rollout.truncate
        );
        let keys = ["rollout.grad_passes", "rollout.truncate", "rollout.passes", "learnable.settings"];
        found(place, &keys, message)
    })
}
