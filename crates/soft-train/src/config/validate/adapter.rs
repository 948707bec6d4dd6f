//! Additions that act where the input is soft, and settings under which no input is.

use super::{Found, Place, found};
use crate::config::{Active, Arm, Config, EstimatorKind, SoftInputs, TaskName};

/// Additions that would never act, or not where they did in training.
pub(super) fn active(config: &Config, place: Place<'_>) -> Vec<Found> {
    let mut problems = Vec::new();
    if config.adapter.active == Active::Always {
        return problems;
    }
    let estimator = config.estimator.kind;
    if matches!(estimator, EstimatorKind::StraightThrough | EstimatorKind::RaoBlackwell) {
        let message = format!(
            "`adapter.active` is \"soft\" and `estimator.kind` is {:?}, after which tokens are fed in generation; expected \"exact\" or \"gumbel\"",
            estimator.as_str()
        );
        problems.push(found(place, &["adapter.active", "estimator.kind"], message));
    }
    if config.task.name == TaskName::Text && config.data.soft == SoftInputs::None {
        let message = "`adapter.active` is \"soft\" and `data.soft` is \"none\": nothing would be trained; expected soft inputs";
        problems.push(found(place, &["adapter.active", "data.soft"], message.into()));
    }
    let hard = [Arm::Hard, Arm::NoThought].into_iter().find(|arm| config.eval.arms.contains(arm));
    if let (true, Some(arm)) = (config.task.name.is_generated(), hard) {
        let message = format!(
            "`adapter.active` is \"soft\" and `eval.arms` holds {:?}, which has no soft input: nothing would be trained; expected [\"soft\"]",
            arm.as_str()
        );
        problems.push(found(place, &["adapter.active", "eval.arms"], message));
    }
    problems
}

/// Whether a training adds something to a frozen base.
pub(crate) fn adds(config: &Config) -> bool {
    config.low_rank.rank > 0 || config.prefix.tokens > 0 || config.prompt.tokens > 0
}

/// Why a training with a place for additions, and without any, is refused.
pub(super) fn nothing_added(config: &Config) -> Option<&'static str> {
    (config.adapter.active == Active::Soft && !adds(config)).then_some(
        "`adapter.active` is \"soft\" and nothing is added; expected `low_rank.rank`, `prefix.tokens` or `prompt.tokens` above 0 (what `model.path` has of its own acts where it did)",
    )
}
