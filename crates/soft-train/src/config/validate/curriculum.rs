//! The curriculum, and hidden states in the place of mixtures, against what else is set.

use super::{Found, Place, found};
use crate::config::{
    Active, Arm, Config, Curriculum, DataFormat, FeedKind, NoiseKind, NormMatch, RolloutKind,
    ScheduleForm, SoftInputs, TaskName,
};

/// A curriculum without reasoning to replace, or over settings that would undo it.
pub(super) fn curriculum(config: &Config, place: Place<'_>) -> Vec<Found> {
    let curriculum = &config.curriculum;
    let stages = curriculum.stages;
    let mut problems = Vec::new();
    if !curriculum.is_on() {
        let default = Curriculum::default();
        let changed = [
            ("curriculum.positions", curriculum.positions != default.positions),
            ("curriculum.first", curriculum.first != default.first),
            ("curriculum.steps", curriculum.steps != default.steps),
            ("curriculum.reset", curriculum.reset != default.reset),
        ];
        if let Some((key, _)) = changed.into_iter().find(|(_, changed)| *changed) {
            let message = format!(
                "`{key}` is set and `curriculum.stages` is 0, which is no curriculum; expected stages"
            );
            problems.push(found(place, &[key, "curriculum.stages"], message));
        }
        return problems;
    }
    let mut refuse = |keys: &[&'static str], message: String| {
        problems.push(found(place, keys, message));
    };
    match config.task.name {
        TaskName::Mnns if stages >= config.task.digits => refuse(
            &["curriculum.stages", "task.digits"],
            format!(
                "`curriculum.stages` is {stages} and `task.digits` is {}; expected fewer stages than digits: the last sum is the answer",
                config.task.digits
            ),
        ),
        name if name.is_generated() => {}
        TaskName::Text => {
            if config.data.soft != SoftInputs::Reasoning {
                let message = format!(
                    "`curriculum.stages` is {stages} and `data.soft` is {:?}; expected \"reasoning\", whose steps are replaced",
                    config.data.soft.as_str()
                );
                refuse(&["curriculum.stages", "data.soft"], message);
            }
            if !matches!(config.data.format, DataFormat::Auto | DataFormat::Reasoning) {
                let message = format!(
                    "`curriculum.stages` is {stages} and `data.format` is {:?}; expected \"reasoning\", which has steps",
                    config.data.format.as_str()
                );
                refuse(&["curriculum.stages", "data.format"], message);
            }
        }
        other => refuse(
            &["curriculum.stages", "task.name"],
            format!(
                "`curriculum.stages` is {stages} and `task.name` is {:?}, which has no reasoning in steps; expected a task that is generated, such as \"mnns\", or \"text\"",
                other.as_str()
            ),
        ),
    }
    let teaches = config
        .rollout
        .plan()
        .is_ok_and(|plan| plan.stages().iter().any(|(_, kind)| *kind == RolloutKind::Teacher));
    if teaches {
        let message = format!(
            "`curriculum.stages` is {stages} and the rollout is \"teacher\", which feeds a truth that replaced steps do not have; expected \"sequential\" or \"parallel\""
        );
        refuse(&["curriculum.stages", "rollout.kind", "rollout.stages"], message);
    }
    let apart = |arm: &&Arm| matches!(arm, Arm::Hard | Arm::NoThought);
    if let (true, Some(arm)) =
        (config.task.name.is_generated(), config.eval.arms.iter().find(apart))
    {
        let message = format!(
            "`curriculum.stages` is {stages} and `eval.arms` holds {:?}, which has no soft positions; expected \"soft\", with \"soft_fed_hard\" or without",
            arm.as_str()
        );
        refuse(&["curriculum.stages", "eval.arms"], message);
    }
    let last = curriculum.begin(stages);
    if last >= config.train.steps {
        let message = format!(
            "`curriculum.first` and `curriculum.steps` let stage {stages} begin after {last} steps, of {} in `train.steps`; expected fewer",
            config.train.steps
        );
        refuse(&["curriculum.steps", "curriculum.first", "train.steps"], message);
    }
    if config.adapter.active == Active::Soft && curriculum.first > 0 {
        let message = format!(
            "`curriculum.first` is {} and `adapter.active` is \"soft\": stage 0 has no soft input to train on; expected 0",
            curriculum.first
        );
        refuse(&["curriculum.first", "adapter.active"], message);
    }
    problems
}

/// Keys that make something of a distribution, where a training feeds hidden states. Estimators
/// that draw are refused beside every feed but the mixture already.
pub(super) fn hidden(config: &Config) -> Vec<(&'static str, String)> {
    if config.soft.feed != FeedKind::Hidden {
        return Vec::new();
    }
    let mut problems = Vec::new();
    let mut refuse = |key: &'static str, value: &str, expected: &str| {
        let message =
            format!("`soft.feed` is \"hidden\" and `{key}` is {value}; expected {expected}");
        problems.push((key, message));
    };
    let rollout = &config.rollout;
    let exact = |kind: RolloutKind| kind == RolloutKind::Sequential;
    let why = "\"sequential\": a hidden state exists once the position before it has run";
    if rollout.stages.is_empty() && !exact(rollout.kind) {
        refuse("rollout.kind", &format!("{:?}", rollout.kind.as_str()), why);
    } else if rollout.plan().is_ok_and(|plan| !plan.stages().iter().all(|(_, kind)| exact(*kind))) {
        refuse("rollout.stages", &format!("{:?}", rollout.stages), why);
    }
    let guidance = &config.guidance;
    let why = "0: there is no true hidden state to mix with";
    if guidance.start != 0.0 {
        refuse("guidance.start", &guidance.start.to_string(), why);
    } else if guidance.schedule != ScheduleForm::Constant && guidance.end != 0.0 {
        refuse("guidance.end", &guidance.end.to_string(), why);
    }
    let why = "no distribution is fed";
    if config.soft.noise != NoiseKind::None {
        let value = format!("{:?}", config.soft.noise.as_str());
        refuse("soft.noise", &value, &format!("\"none\": {why}"));
    }
    if config.soft.norm_match != NormMatch::None {
        let value = format!("{:?}", config.soft.norm_match.as_str());
        refuse("soft.norm_match", &value, &format!("\"none\": {why}"));
    }
    let objective = &config.objective;
    for (key, weight) in [
        ("objective.entropy_beta", objective.entropy_beta),
        ("objective.entropy_start", objective.entropy_start),
    ] {
        if weight != 0.0 {
            refuse(key, &weight.to_string(), &format!("0: {why}"));
        }
    }
    problems
}
