//! What is recorded of a step that was rewarded.

use crate::config::{Rl, RlAlgorithm};
use crate::learner::metric_name;

/// Names on the dashboard, and keys in `metrics.jsonl`: those of TRL where it has them.
pub(crate) const NAMES: [(&str, &str); 19] = [
    (metric_name::REWARD, "reward"),
    (metric_name::REWARD_STD, "reward_std"),
    (metric_name::SILENT, "frac_reward_zero_std"),
    (metric_name::CLIP_LOW, "clip_ratio/low_mean"),
    (metric_name::CLIP_HIGH, "clip_ratio/high_mean"),
    (metric_name::CLIPPED, "clip_ratio/region_mean"),
    (metric_name::KL, "kl"),
    (metric_name::KL_OLD, "kl_old"),
    (metric_name::RATIO_MIN, "ratio/min"),
    (metric_name::RATIO_MAX, "ratio/max"),
    (metric_name::VALUE_LOSS, "loss/value"),
    (metric_name::PATHWISE, "reward/pathwise"),
    (metric_name::SUPERVISED, "loss/supervised"),
    (metric_name::MEAN_LENGTH, "completions/mean_length"),
    (metric_name::MIN_LENGTH, "completions/min_length"),
    (metric_name::MAX_LENGTH, "completions/max_length"),
    (metric_name::TRUNCATED, "completions/clipped_ratio"),
    (metric_name::THOUGHT_LENGTH, "thoughts/mean_length"),
    (metric_name::BUFFER, "buffer_bytes"),
];

/// The names that a run with these settings has figures of.
pub(crate) fn names(rl: &Rl) -> impl Iterator<Item = (&'static str, &'static str)> {
    let (beta, ppo) = (rl.beta > 0.0, rl.algorithm == RlAlgorithm::Ppo);
    let (supervised, pathwise, draws) = (rl.supervised > 0.0, rl.pathwise > 0.0, rl.draws());
    NAMES.into_iter().filter(move |(name, _)| match *name {
        metric_name::SUPERVISED => supervised,
        metric_name::PATHWISE => pathwise,
        metric_name::REWARD => true,
        _ if !draws => false,
        metric_name::KL => beta,
        metric_name::VALUE_LOSS => ppo,
        _ => true,
    })
}

/// How a step went, from its figures.
pub(crate) fn in_words(rl: &Rl, value: &dyn Fn(&str) -> f64) -> String {
    let [reward, entropy] = [metric_name::REWARD, metric_name::ENTROPY].map(value);
    if !rl.draws() {
        return format!("reward {reward:.3} | entropy {entropy:.3}");
    }
    format!(
        "reward {:.3} | groups without signal {:.0} % | entropy {:.3} | ratio {:.3} to {:.3} | \
         clipped {:.1} %",
        reward,
        100.0 * value(metric_name::SILENT),
        entropy,
        value(metric_name::RATIO_MIN),
        value(metric_name::RATIO_MAX),
        100.0 * (value(metric_name::CLIP_LOW) + value(metric_name::CLIP_HIGH)),
    )
}
