//! Settings under which a training would need less memory.

use super::{Estimate, Workload, estimate};
use crate::config::{Config, Precision, RolloutKind, TooLong};

/// What a change of settings would save.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Saving {
    /// The settings, as they are put on the command line.
    pub settings: String,
    /// Bytes less at the peak.
    pub bytes: u64,
}

/// Settings that are named at most.
const NAMED: usize = 3;
/// Least share of the peak that a change is named for.
const LEAST: f64 = 0.01;

/// The changes that save most, each alone: the training is estimated anew under it.
pub(super) fn savings(config: &Config, workload: &Workload, now: &Estimate) -> Vec<Saving> {
    let before = now.bytes();
    // Settings of the quickstart that another task does not read are no fault of a change.
    let faults = |config: &Config| config.validate().err().map_or(0, |error| error.problems.len());
    let known = faults(config);
    let saved = |(settings, changed): (String, Config)| {
        if faults(&changed) > known {
            return None;
        }
        let after = estimate(&changed, workload).ok()?.bytes();
        let bytes = before.saturating_sub(after);
        (bytes as f64 > LEAST * before as f64).then_some(Saving { settings, bytes })
    };
    let mut savings: Vec<Saving> =
        candidates(config, workload).into_iter().filter_map(saved).collect();
    savings.sort_by_key(|saving| std::cmp::Reverse(saving.bytes));
    savings.truncate(NAMED);
    savings
}

/// Changes that may help; those that contradict other settings are sorted out later.
fn candidates(config: &Config, workload: &Workload) -> Vec<(String, Config)> {
    let mut all = Vec::new();
    let mut push = |settings: String, change: &dyn Fn(&mut Config)| {
        let mut changed = config.clone();
        change(&mut changed);
        all.push((settings, changed));
    };
    let train = &config.train;
    let half = train.micro_batch / 2;
    if half > 0 {
        let accum = (train.micro_batch * train.grad_accum).div_ceil(half);
        push(format!("train.micro_batch={half} train.grad_accum={accum}"), &|changed| {
            changed.train.micro_batch = half;
            changed.train.grad_accum = accum;
        });
    }
    let kinds: Vec<RolloutKind> =
        config.rollout.plan().map_or(Vec::new(), |p| p.stages().iter().map(|s| s.1).collect());
    let full_width = kinds.iter().any(|&kind| kind != RolloutKind::Sequential);
    if full_width && train.recompute != 1 {
        push("train.recompute=1".into(), &|changed| changed.train.recompute = 1);
    }
    if full_width && config.data.pack == 0 {
        push("data.pack=1".into(), &|changed| changed.data.pack = 1);
    }
    if train.loss_chunk == 0 || train.loss_chunk > 64 {
        push("train.loss_chunk=64".into(), &|changed| changed.train.loss_chunk = 64);
    }
    if kinds.contains(&RolloutKind::Sequential) || (config.rl.is_on() && config.rl.pathwise > 0.0) {
        let segment = match config.rollout.segment {
            0 => 8,
            length => (length / 2).max(1),
        };
        push(format!("rollout.segment={segment}"), &|changed| changed.rollout.segment = segment);
    }
    if kinds.contains(&RolloutKind::Parallel) {
        let passes = config.rollout.passes;
        if passes > 2 {
            push("rollout.passes=2".into(), &|changed| changed.rollout.passes = 2);
        }
        if passes > 1 && config.rollout.grad_passes != 1 {
            push("rollout.grad_passes=1".into(), &|changed| changed.rollout.grad_passes = 1);
        }
    }
    let shortened = workload.longest() / 2;
    if !workload.asks && shortened > 1 {
        // Longer ones are an error unless something is done with them.
        let (cut, long) = match config.data.long {
            TooLong::Error => (" data.long=truncate", TooLong::Truncate),
            other => ("", other),
        };
        push(format!("data.max_len={shortened}{cut}"), &|changed| {
            changed.data.max_len = shortened;
            changed.data.long = long;
        });
    }
    let adds = config.low_rank.rank + config.prefix.tokens + config.prompt.tokens;
    let half_width = config.model.d_model / 2;
    if config.model.path.is_none() && half_width > 0 {
        push(format!("model.d_model={half_width}"), &|changed| changed.model.d_model = half_width);
    }
    let is_whole = adds == 0 && workload.there == 0 && train.only.is_empty();
    if is_whole && config.model.path.is_some() {
        push("low_rank.rank=8".into(), &|changed| changed.low_rank.rank = 8);
    }
    if train.precision == Precision::F32 {
        push("train.precision=bf16".into(), &|changed| changed.train.precision = Precision::Bf16);
    }
    if config.eval.samples > 0 {
        push("eval.samples=0".into(), &|changed| changed.eval.samples = 0);
    }
    all
}
