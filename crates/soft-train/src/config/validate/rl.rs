//! What reinforcement learning cannot be combined with.

use super::super::choices::{FeedKind, Precision};
use super::{Config, Found, Place, found};

/// Settings that a rewarded step has no use for, or no way to honour.
pub(super) fn contradictions(config: &Config, place: Place<'_>) -> Vec<Found> {
    if !config.rl.is_on() {
        return Vec::new();
    }
    let algorithm = config.rl.algorithm;
    let mut problems = Vec::new();
    let mut refuse = |key: &'static str, is: String, expected: &str| {
        let message = format!(
            "`{key}` is {is} and `rl.algorithm` is \"{algorithm}\", which draws thoughts and answers from the model; expected {expected}"
        );
        problems.push(found(place, &[key, "rl.algorithm"], message));
    };
    if !config.task.name.is_generated() {
        let name = config.task.name;
        refuse("task.name", format!("\"{name}\""), "a generated task, which checks its answers");
    }
    if config.soft.feed == FeedKind::Hidden {
        refuse("soft.feed", "\"hidden\"".into(), "\"mixture\": a hidden state is no draw");
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
