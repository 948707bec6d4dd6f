//! What reinforcement learning cannot be combined with.

use super::super::choices::{
    EstimatorKind, FeedKind, GateKind, NoiseKind, NormMatch, Precision, RewardKind, RlAlgorithm,
    RlDiscretize, RlPolicy, SoftInputs, TrainOn,
};
use super::super::sections::Rl;
use super::{Config, Found, Place, found};
use crate::task::TaskName;

/// Settings that a rewarded step has no use for, or no way to honour.
pub(super) fn contradictions(config: &Config, place: Place<'_>) -> Vec<Found> {
    let rl = &config.rl;
    if !rl.is_on() {
        return unused(config, place);
    }
    if !rl.draws() {
        return without_draws(config, place);
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
        let used = rl.rewards(kind);
        if kind == RewardKind::Model && rl.pathwise > 0.0 {
            // It is used by that.
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
    if rl.group < 2 && rl.algorithm != RlAlgorithm::Ppo {
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
    problems.extend(no_reward_model(config, place));
    problems
}

/// A reward model that is to be differentiated, and is not named.
fn no_reward_model(config: &Config, place: Place<'_>) -> Option<Found> {
    let rl = &config.rl;
    (rl.pathwise > 0.0 && rl.reward_model.is_empty()).then(|| {
        let message = format!(
            "`rl.reward_model` is not set and `rl.pathwise` is {}, which differentiates it; expected it \
             to be set",
            rl.pathwise
        );
        found(place, &["rl.reward_model", "rl.pathwise"], message)
    })
}

/// A reward without the algorithm that would look at it.
fn unused(config: &Config, place: Place<'_>) -> Vec<Found> {
    let weight = config.rl.pathwise;
    if weight == 0.0 {
        return Vec::new();
    }
    let message = format!(
        "`rl.pathwise` is {weight} and `rl.algorithm` is \"off\", which trains on the truth alone; \
         expected \"pathwise\", or an algorithm that draws"
    );
    vec![found(place, &["rl.pathwise", "rl.algorithm"], message)]
}

/// What the algorithm "pathwise" has no use for.
fn without_draws(config: &Config, place: Place<'_>) -> Vec<Found> {
    let (rl, none) = (&config.rl, Rl::default());
    let mut problems: Vec<Found> = no_reward_model(config, place).into_iter().collect();
    problems.extend(of_any_algorithm(config, place));
    if rl.pathwise == 0.0 {
        let message = "`rl.pathwise` is 0 and `rl.algorithm` is \"pathwise\", which does nothing else; \
                       expected more than 0";
        problems.push(found(place, &["rl.pathwise", "rl.algorithm"], message.into()));
    }
    for (key, is_set) in [
        ("rl.rewards", rl.rewards != none.rewards),
        ("rl.command", !rl.command.is_empty()),
        ("rl.updates", rl.updates != none.updates),
        ("rl.beta", rl.beta != none.beta),
        ("rl.reference", !rl.reference.is_empty()),
        ("rl.kl_stop", rl.kl_stop != none.kl_stop),
        ("rl.entropy", rl.entropy != none.entropy),
        ("rl.loss", rl.loss != none.loss),
        ("rl.scale", rl.scale != none.scale),
        ("rl.mask_truncated", rl.mask_truncated != none.mask_truncated),
        ("rl.clip_low", rl.clip_low != none.clip_low),
        ("rl.clip_high", rl.clip_high != none.clip_high),
    ] {
        if is_set {
            let message = format!(
                "`{key}` is set and `rl.algorithm` is \"pathwise\", which draws nothing; expected it \
                 not to be, or another algorithm"
            );
            problems.push(found(place, &[key, "rl.algorithm"], message));
        }
    }
    if config.soft.noise == NoiseKind::Dirichlet {
        let message = "`soft.noise` is \"dirichlet\" and `rl.algorithm` is \"pathwise\", whose gradient does \
                       not pass it; expected \"gumbel\" or \"none\"";
        problems.push(found(place, &["soft.noise", "rl.algorithm"], message.into()));
    }
    if rl.discretize == RlDiscretize::Samples {
        let message = "`rl.discretize` is \"samples\" and `rl.algorithm` is \"pathwise\", which feeds \
                       mixtures; expected \"top\", which reads them, or \"drop\"";
        problems.push(found(place, &["rl.discretize", "rl.algorithm"], message.into()));
    }
    problems
}

/// Settings of other sections that draws have no use for.
fn with_the_rest(config: &Config, place: Place<'_>) -> Vec<Found> {
    let mut refusals =
        Refusals::new(config, place, "which draws thoughts and answers from the model");
    let (soft, is_text) = (&config.soft, config.task.name == TaskName::Text);
    if is_text && config.answer.temperature == 0.0 {
        refusals.add("answer.temperature", "0", "more: at 0 nothing is drawn");
    }
    if soft.noise != NoiseKind::None {
        let noise = format!("\"{}\"", soft.noise);
        refusals.add("soft.noise", &noise, "\"none\": `rl.policy` has its own");
    }
    if soft.norm_match != NormMatch::None {
        let norm = format!("\"{}\"", soft.norm_match);
        refusals.add("soft.norm_match", &norm, "\"none\": `rl.policy` says what is fed");
    }
    refusals.found.extend(of_any_algorithm(config, place));
    refusals.found
}

/// Settings of other sections that no algorithm has a use for.
fn of_any_algorithm(config: &Config, place: Place<'_>) -> Vec<Found> {
    let mut refusals = Refusals::new(config, place, "which runs the model free from a prompt");
    let (soft, name) = (&config.soft, config.task.name);
    let is_text = name == TaskName::Text;
    if !name.is_generated() && !is_text {
        let expected = "\"text\" or a generated task, whose prompts are known";
        refusals.add("task.name", &format!("\"{name}\""), expected);
    }
    if soft.temperature == 0.0 {
        refusals.add(
            "soft.temperature",
            "0",
            "more: at 0 nothing is drawn and nothing has a slope",
        );
    }
    if soft.feed != FeedKind::Mixture {
        let expected = "\"mixture\": the algorithm says what is fed";
        refusals.add("soft.feed", &format!("\"{}\"", soft.feed), expected);
    }
    if soft.cold_stop {
        refusals.add("soft.cold_stop", "true", "false");
    }
    if soft.repetition_penalty != 1.0 {
        refusals.add("soft.repetition_penalty", &soft.repetition_penalty.to_string(), "1");
    }
    if config.gate.kind != GateKind::Open {
        refusals.add("gate.kind", &format!("\"{}\"", config.gate.kind), "\"open\"");
    }
    if is_text && config.data.train_on == TrainOn::All {
        refusals.add("data.train_on", "\"all\"", "prompts that are not trained on");
    }
    if is_text && config.data.soft == SoftInputs::All {
        refusals.add("data.soft", "\"all\"", "an answer that is no thought");
    }
    if is_text && config.data.soft == SoftInputs::First && config.rl.pathwise > 0.0 {
        let expected = "\"reasoning\" or \"none\", or `rl.pathwise` 0: what follows the first positions \
                        would be fed as the example has it";
        refusals.add("data.soft", "\"first\"", expected);
    }
    if config.rl.supervised == 0.0 {
        let none = "0, or `rl.supervised` over 0: only the training loss has it";
        for (key, value) in [
            ("model.dropout", config.model.dropout),
            ("low_rank.dropout", config.low_rank.dropout),
            ("objective.entropy_beta", config.objective.entropy_beta),
        ] {
            if value != 0.0 {
                refusals.add(key, &value.to_string(), none);
            }
        }
    }
    if config.rl.supervised == 0.0 && config.estimator.kind != EstimatorKind::Exact {
        let kind = format!("\"{}\"", config.estimator.kind);
        refusals.add("estimator.kind", &kind, "\"exact\", or `rl.supervised` over 0");
    }
    if config.curriculum.is_on() {
        refusals.add("curriculum.stages", &config.curriculum.stages.to_string(), "0");
    }
    if !config.learnable.settings.is_empty() {
        refusals.add("learnable.settings", "not empty", "[]");
    }
    if config.train.precision != Precision::F32 {
        let precision = format!("\"{}\"", config.train.precision);
        refusals.add("train.precision", &precision, "\"f32\"");
    }
    refusals.found
}

/// Settings that an algorithm cannot be combined with.
struct Refusals<'a> {
    config: &'a Config,
    place: Place<'a>,
    /// What the algorithm does.
    what: &'static str,
    found: Vec<Found>,
}

impl<'a> Refusals<'a> {
    fn new(config: &'a Config, place: Place<'a>, what: &'static str) -> Self {
        Self { config, place, what, found: Vec::new() }
    }

    fn add(&mut self, key: &'static str, is: &str, expected: &str) {
        let (algorithm, what) = (self.config.rl.algorithm, self.what);
        let message = format!(
            "`{key}` is {is} and `rl.algorithm` is \"{algorithm}\", {what}; expected {expected}"
        );
        self.found.push(found(self.place, &[key, "rl.algorithm"], message));
    }
}
