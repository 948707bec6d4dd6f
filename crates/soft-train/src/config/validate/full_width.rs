//! Settings of full-width passes where no step makes one.

use super::super::choices::{Arm, RolloutKind};
use super::{Config, Found, Place, found};

/// Packing or recomputation that nothing would use.
pub(super) fn contradictions(config: &Config, place: Place<'_>) -> Vec<Found> {
    let (pack, recompute) = (config.data.pack, config.train.recompute);
    let mut problems = Vec::new();
    if pack > 0 && config.train.micro_batch == 1 {
        let message = format!(
            "`data.pack` is {pack} and `train.micro_batch` is 1, which leaves one example a row; expected a larger micro-batch, or no packing"
        );
        problems.push(found(place, &["data.pack", "train.micro_batch"], message));
    }
    // A plan that cannot be read is told as that.
    let Ok(plan) = config.rollout.plan() else { return problems };
    let sequential = plan.stages().iter().all(|stage| stage.1 == RolloutKind::Sequential);
    // The other arms have nothing to roll out: they are trained as "teacher".
    let only_soft = config.eval.arms.iter().all(|arm| matches!(arm, Arm::Soft | Arm::SoftFedHard));
    if !(sequential && only_soft) {
        return problems;
    }
    let kind = |key, other| match config.rollout.stages.is_empty() {
        true => vec![key, "rollout.kind", other],
        false => vec![key, "rollout.stages", other],
    };
    if pack > 0 {
        let message = format!(
            "`data.pack` is {pack} and every step is a \"sequential\" rollout, whose rows are never packed; expected 0, or a \"teacher\" or \"parallel\" rollout"
        );
        problems.push(found(place, &kind("data.pack", "eval.arms"), message));
    }
    if recompute > 0 {
        let message = format!(
            "`train.recompute` is {recompute} and every step is a \"sequential\" rollout, which computes its segments again as `rollout.segment` says; expected 0, or a \"teacher\" or \"parallel\" rollout"
        );
        problems.push(found(place, &kind("train.recompute", "eval.arms"), message));
    }
    problems
}
