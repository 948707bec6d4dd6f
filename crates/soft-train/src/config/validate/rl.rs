//! What reinforcement learning cannot be combined with.

use super::super::choices::{
    FeedKind, GateKind, NoiseKind, NormMatch, Precision, RewardKind, RlAlgorithm, RlDiscretize,
    RlPolicy, SoftInputs, TrainOn,
};
use super::super::sections::Rl;
use super::{Config, Found, Place, found};
use crate::task::TaskName;

/// Settings that a rewarded step has no use for, or no way to honour.
pub(super) fn contradictions(config: &Config, place: Place<'_>) -> Vec<Found> {
    let rl = &config.rl;
    if !rl.is_on() {
        return Vec::new();
    }
    let mut problems = with_the_rest(config, place);
    let mut say = |keys: &[&'static str], message: String| {
        problems.push(found(place, keys, message));
    };
    match rl.weighted_rewards() {
        Err(report) => say(&["rl.rewards"], report),
        Ok(rewards) if rewards.is_empty() => {
            say(&["rl.rewards"], "`rl.rewards` is empty; expected one reward or more".into());
        }
        Ok(_) => {}
    }
    for (kind, key, is_set) in [
        (RewardKind::Command, "rl.command", !rl.command.is_empty()),
        (RewardKind::Model, "rl.reward_model", !rl.reward_model.is_empty()),
    ] {
        let used = rl.draws() && rl.rewards(kind);
        if kind == RewardKind::Model && rl.pathwise > 0.0 {
            // It is used by that.
            if !is_set {
                say(
                    &[key, "rl.pathwise"],
                    format!(
                        "`{key}` is not set and `rl.pathwise` is {}, which differentiates it; \
                         expected it to be set",
                        rl.pathwise
                    ),
                );
            }
            continue;
        }
        match (used, is_set) {
            (true, false) => say(
                &[key, "rl.rewards"],
                format!(
                    "`{key}` is not set and `rl.rewards` holds \"{kind}\"; expected it to be set"
                ),
            ),
            (false, true) => say(
                &[key, "rl.rewards"],
                format!(
                    "`{key}` is set and `rl.rewards` does not use it; expected \"{kind} 1\" in it"
                ),
            ),
            _ => {}
        }
    }
    if rl.group < 2 && rl.draws() && rl.algorithm != RlAlgorithm::Ppo {
        let algorithm = rl.algorithm;
        say(
            &["rl.group", "rl.algorithm"],
            format!(
                "`rl.group` is {} and `rl.algorithm` is \"{algorithm}\", which compares the rows of a \
                 group; expected at least 2, or \"ppo\"",
                rl.group
            ),
        );
    }
    if !rl.reference.is_empty() && rl.beta == 0.0 {
        say(
            &["rl.reference", "rl.beta"],
            "`rl.reference` is set and `rl.beta` is 0, which uses none; expected more than 0"
                .into(),
        );
    }
    if rl.kl_stop > 0.0 && rl.beta == 0.0 && rl.updates == 1 {
        say(
            &["rl.kl_stop", "rl.beta"],
            "`rl.kl_stop` is set, and with `rl.beta` 0 and `rl.updates` 1 no divergence is measured; \
             expected more of one of them"
                .into(),
        );
    }
    if rl.discretize == RlDiscretize::Samples && rl.policy != RlPolicy::Samples {
        say(
            &["rl.discretize", "rl.policy"],
            format!(
                "`rl.discretize` is \"samples\" and `rl.policy` is \"{}\", which draws no tokens that \
                 a thought is a mean of; expected the policy \"samples\", or \"top\"",
                rl.policy
            ),
        );
    }
    if !rl.draws() {
        if rl.pathwise == 0.0 {
            say(
                &["rl.pathwise", "rl.algorithm"],
                "`rl.pathwise` is 0 and `rl.algorithm` is \"pathwise\", which does nothing else; \
                 expected more than 0"
                    .into(),
            );
        }
        let none = Rl::default();
        for (key, is_set) in [
            ("rl.rewards", rl.rewards != none.rewards),
            ("rl.updates", rl.updates != 1),
            ("rl.beta", rl.beta != 0.0),
            ("rl.entropy", rl.entropy != 0.0),
        ] {
            if is_set {
                say(
                    &[key, "rl.algorithm"],
                    format!(
                        "`{key}` is set and `rl.algorithm` is \"pathwise\", which draws nothing; \
                         expected it not to be, or another algorithm"
                    ),
                );
            }
        }
    }
    problems
}

/// Settings of other sections.
fn with_the_rest(config: &Config, place: Place<'_>) -> Vec<Found> {
    let algorithm = config.rl.algorithm;
    let mut problems = Vec::new();
    let mut refuse = |key: &'static str, is: String, expected: &str| {
        let message = format!(
            "`{key}` is {is} and `rl.algorithm` is \"{algorithm}\", which draws thoughts and answers from the model; expected {expected}"
        );
        problems.push(found(place, &[key, "rl.algorithm"], message));
    };
    let name = config.task.name;
    let is_text = name == TaskName::Text;
    if !name.is_generated() && !is_text {
        let expected = "\"text\" or a generated task, whose answers can be checked";
        refuse("task.name", format!("\"{name}\""), expected);
    }
    if is_text && config.answer.temperature == 0.0 {
        refuse("answer.temperature", "0".into(), "more: at 0 nothing is drawn");
    }
    let soft = &config.soft;
    if soft.temperature == 0.0 {
        refuse("soft.temperature", "0".into(), "more: at 0 nothing is drawn");
    }
    if soft.feed != FeedKind::Mixture {
        refuse(
            "soft.feed",
            format!("\"{}\"", soft.feed),
            "\"mixture\": `rl.policy` says what is fed",
        );
    }
    if soft.noise != NoiseKind::None {
        refuse("soft.noise", format!("\"{}\"", soft.noise), "\"none\": `rl.policy` has its own");
    }
    if soft.cold_stop {
        refuse("soft.cold_stop", "true".into(), "false");
    }
    if soft.repetition_penalty != 1.0 {
        refuse("soft.repetition_penalty", soft.repetition_penalty.to_string(), "1");
    }
    if soft.norm_match != NormMatch::None {
        let expected = "\"none\": `rl.policy` says what is fed";
        refuse("soft.norm_match", format!("\"{}\"", soft.norm_match), expected);
    }
    if config.gate.kind != GateKind::Open {
        refuse("gate.kind", format!("\"{}\"", config.gate.kind), "\"open\"");
    }
    if is_text && config.data.train_on == TrainOn::All {
        refuse("data.train_on", "\"all\"".into(), "prompts that are not trained on");
    }
    if is_text && config.data.soft == SoftInputs::All {
        refuse("data.soft", "\"all\"".into(), "an answer that is no thought");
    }
    if config.rl.supervised == 0.0 {
        let none = "0, or `rl.supervised` over 0: only the training loss has it";
        for (key, value) in [
            ("model.dropout", config.model.dropout),
            ("low_rank.dropout", config.low_rank.dropout),
            ("objective.entropy_beta", config.objective.entropy_beta),
        ] {
            if value != 0.0 {
                refuse(key, value.to_string(), none);
            }
        }
    }
    if config.curriculum.is_on() {
        refuse("curriculum.stages", config.curriculum.stages.to_string(), "0");
    }
    if !config.learnable.settings.is_empty() {
        refuse("learnable.settings", "not empty".into(), "[]");
    }
    if config.train.precision != Precision::F32 {
        refuse("train.precision", format!("\"{}\"", config.train.precision), "\"f32\"");
    }
    problems
}
